"""Building the platform's images: in which order, with which command, and from which base."""

from __future__ import annotations

import os
import re
import subprocess
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .dap_apt import AptSource, base_source
from .dap_probe import search_path

CA_BUNDLE = Path("/etc/ssl/certs/ca-certificates.crt")
DEBIAN_MIRROR = "http://deb.debian.org/debian"
DEBIAN_SECURITY_MIRROR = "http://deb.debian.org/debian-security"
NAME_LABEL = "dap.image"


# How apt, pip, uv, npm and Go say that the network, and not the build, is at fault.
_NETWORK_TROUBLE = re.compile(
    r"i/o timeout|no such host|temporary failure|could not (resolve|connect)"
    r"|connection (reset|refused|timed out)"
    r"|tls handshake timeout|unexpected eof|dns error|operation timed out|read timed out|newconnectionerror"
    r"|eai_again|econnreset|etimedout|50[234] (bad gateway|service unavailable|gateway time)",
    re.IGNORECASE,
)


def network_trouble(output: str) -> bool:
    """Whether what a build wrote last looks as if it may work a moment later."""
    return _NETWORK_TROUBLE.search(output) is not None


class BuildError(Exception):
    """An image could not be made."""


@dataclass(frozen=True)
class Image:
    """An image that is built here, from a tar file with its build context."""

    name: str
    tag: str
    context: str
    base: str
    depends_on: tuple[str, ...] = ()

    @classmethod
    def of(cls, given: Mapping[str, Any]) -> Image:
        """Read one entry of a module's parameters."""
        return cls(given["name"], given["tag"], given["context"], given["base"], tuple(given["depends_on"]))


@dataclass(frozen=True)
class Outcome:
    """How the building of one image ended; ``error`` is empty when it succeeded."""

    name: str
    seconds: int
    error: str = ""


def normal_tag(tag: str) -> str:
    """A tag the way the engine lists it: without the default registry, with ``latest`` spelled out."""
    for prefix in ("docker.io/library/", "docker.io/"):
        tag = tag.removeprefix(prefix)
    return tag if ":" in tag.rpartition("/")[2] else f"{tag}:latest"


def build_argv(image: Image, ca_bundle: Path | None, passed_on: Iterable[str]) -> list[str]:
    """The command that builds an image from a context on its standard input.

    ``passed_on`` names variables of the environment that become build arguments: without a value in the
    command, because the value may hold a password and every user may read the arguments of a process.
    """
    argv = ["docker", "build", "--progress", "plain", "--tag", image.tag]
    argv += ["--label", f"{NAME_LABEL}={image.name}", "--build-arg", f"BASE_IMAGE={image.base}"]
    for name in sorted(passed_on):
        argv += ["--build-arg", name]
    if ca_bundle:
        argv += ["--secret", f"id=ca,src={ca_bundle}"]
    return [*argv, "-"]


def run_logged(
    argv: Sequence[str],
    log: Path,
    *,
    timeout: float,
    environment: Mapping[str, str] | None = None,
    stdin: Path | None = None,
) -> int:
    """Run a command with all it writes going to a log that only its owner reads; returns its exit status.

    Raises:
        BuildError: it did not end in time, or is not installed.
    """
    log.parent.mkdir(parents=True, exist_ok=True)
    log.unlink(missing_ok=True)
    descriptor = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "wb") as output, open(stdin or os.devnull, "rb") as given:
        try:
            return subprocess.run(  # noqa: S603 - the modules' own commands
                list(argv),
                stdin=given,
                stdout=output,
                stderr=subprocess.STDOUT,
                env={**os.environ, "PATH": search_path(), **(environment or {})},
                timeout=timeout,
                check=False,
            ).returncode
        except FileNotFoundError:
            raise BuildError(f"{argv[0]} is not installed") from None
        except subprocess.TimeoutExpired:
            raise BuildError(f"{argv[0]} did not end within {timeout:.0f} s") from None


def build_all(
    images: Sequence[Image],
    build: Callable[[Image], None],
    parallel: int,
    watch: Callable[[Mapping[str, float], int], None],
) -> list[Outcome]:
    """Build images side by side, each one after those that it depends on.

    A failure stops only the images that depend on it.

    Args:
        images: what to build; dependencies on images that are not among them are taken as met.
        build: builds one, or raises BuildError.
        parallel: how many at a time.
        watch: told about once a second what is running (name to ``time.monotonic()`` of its start) and
            how many have ended.

    Returns:
        One outcome per image, in the order in which they ended.
    """
    waiting = {image.name: image for image in images}
    started: dict[str, float] = {}
    running: dict[Future[None], str] = {}
    outcomes: list[Outcome] = []
    with ThreadPoolExecutor(max_workers=max(1, parallel)) as pool:
        while waiting or running:
            failed = {outcome.name for outcome in outcomes if outcome.error}
            for name, image in list(waiting.items()):
                culprits = failed.intersection(image.depends_on)
                if culprits:
                    del waiting[name]
                    outcomes.append(Outcome(name, 0, f"not built, because {min(culprits)} failed"))
                    break
                ahead = {*waiting, *running.values()} - {name}
                if len(running) < max(1, parallel) and not ahead.intersection(image.depends_on):
                    del waiting[name]
                    started[name] = time.monotonic()
                    running[pool.submit(build, image)] = name
            else:
                if not running:
                    outcomes += [Outcome(name, 0, "depends on itself") for name in waiting]
                    break
                watch({name: started[name] for name in running.values()}, len(outcomes))
                for future in wait(running, timeout=1, return_when=FIRST_COMPLETED).done:
                    name = running.pop(future)
                    error = future.exception()
                    if error and not isinstance(error, (BuildError, OSError)):
                        raise error
                    outcomes.append(
                        Outcome(name, round(time.monotonic() - started[name]), str(error) if error else "")
                    )
    return outcomes


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
