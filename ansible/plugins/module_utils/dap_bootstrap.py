"""Where Debian packages come from, and making a base image of them where no registry has one."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from .dap_apt import AptSource, base_source
from .dap_build import BuildError, excerpt, run_logged
from .dap_docker import Run
from .dap_host import parse_os_release
from .dap_probe import apt_sources, text_of

DEBIAN_MIRROR = "http://deb.debian.org/debian"
DEBIAN_SECURITY_MIRROR = "http://deb.debian.org/debian-security"
BOOTSTRAP_SECONDS = 1800


@dataclass(frozen=True)
class Mirrors:
    """Where Debian packages come from; ``security`` is empty where there is no such mirror."""

    main: str = DEBIAN_MIRROR
    security: str = DEBIAN_SECURITY_MIRROR

    def sources(self, suite: str) -> str:
        """The ``sources.list`` of an image of a Debian release."""
        lines = [f"deb {self.main} {suite} main", f"deb {self.main} {suite}-updates main"]
        if self.security:
            lines.append(f"deb {self.security} {suite}-security main")
        return "\n".join(lines) + "\n"


def chosen_mirrors(environment: Mapping[str, str], present: Mirrors) -> Mirrors:
    """The mirrors that the configuration names, in place of those that a host uses itself."""
    main, security = environment.get("DEBIAN_MIRROR", ""), environment.get("DEBIAN_SECURITY_MIRROR", "")
    return Mirrors(main.rstrip("/") or present.main, security.rstrip("/") or present.security)


def mirrors_mark(environment: Mapping[str, str]) -> str:
    """A short text that is another for other mirrors, and empty without any."""
    named = [environment.get(name, "") for name in ("DEBIAN_MIRROR", "DEBIAN_SECURITY_MIRROR")]
    return hashlib.sha256("\n".join(named).encode()).hexdigest()[:12] if any(named) else ""


def host_mirrors(os_release: Mapping[str, str], sources: Iterable[AptSource]) -> Mirrors:
    """The Debian mirrors that a host uses itself; Debian's own where it uses none, as on Ubuntu.

    Args:
        os_release: the variables of ``/etc/os-release``.
        sources: what the host's own packages come from. An address that leads to a file of the host (a list
            of mirrors, a disc) means nothing inside an image, and is passed over.
    """
    codename = os_release.get("VERSION_CODENAME", "")
    if os_release.get("ID") != "debian":
        return Mirrors()
    usable = [source for source in sources if source.uri.startswith(("http://", "https://"))]
    main = base_source(usable, codename)
    if main is None:
        return Mirrors()
    security = base_source(usable, f"{codename}-security")
    return Mirrors(main.uri.rstrip("/"), security.uri.rstrip("/") if security else "")


def bootstrap_argv(suite: str, archive: Path, sources: Path) -> list[str]:
    """The command that makes the file system of a minimal Debian release."""
    return [
        "mmdebstrap",
        "--variant=minbase",
        "--include=ca-certificates,tzdata",
        "--format=tar",
        suite,
        str(archive),
        str(sources),
    ]


def make_base(
    tag: str, suite: str, folder: Path, logs: Path, environment: Mapping[str, str], run: Run
) -> None:
    """Make a base image from Debian packages.

    The file system goes to a file first: a pipe into ``docker import`` would tag whatever came through
    before a failure.

    Args:
        suite: the Debian release.
        folder: for what is needed on the way.
        environment: mirrors and proxies.
        run: runs Docker.

    Raises:
        BuildError: it cannot be made; says why.
    """
    archive, sources = folder / f"{suite}.tar", folder / f"{suite}.list"
    log = logs / f"bootstrap-{suite}.log"
    own = host_mirrors(parse_os_release(text_of("/etc/os-release")), apt_sources())
    sources.write_text(chosen_mirrors(environment, own).sources(suite), encoding="utf-8")
    archive.unlink(missing_ok=True)
    argv = bootstrap_argv(suite, archive, sources)
    status = run_logged(argv, log, timeout=BOOTSTRAP_SECONDS, environment=environment)
    if status:
        raise BuildError(f"mmdebstrap ended with status {status}\n{excerpt(log)}")
    change = ["--change", 'CMD ["bash"]', "--change", f"LABEL dap.base={suite}"]
    imported = run(["import", *change, str(archive), tag])
    archive.unlink()
    if imported.returncode:
        raise BuildError(f"docker import: {imported.last_words}")
