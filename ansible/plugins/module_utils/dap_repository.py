"""Making an apt repository of a few packages with all that they depend on, for hosts without a network.

The machine's own apt is not touched: lists, packages and the state of installed ones lie in another folder.
That state is empty, so whatever a host has already, nothing is missing. The folder is kept: what was fetched
once is not fetched again.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import re
import shutil
import subprocess
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path

from .dap_apt import AptSource, deb822, next_release_files, parse_sources
from .dap_bootstrap import chosen_mirrors, host_mirrors
from .dap_build import excerpt, run_logged
from .dap_engine import distribution_packages, from_next_release

DEBIAN_KEYS = Path("/usr/share/keyrings/debian-archive-keyring.gpg")
RELEASES = {
    "bookworm": ("debian", "12"),
    "trixie": ("debian", "13"),
    "jammy": ("ubuntu", "22.04"),
    "noble": ("ubuntu", "24.04"),
}
# Beside Docker: what hosts may lack, and the machine that one deploys from.
_BESIDE = ("apparmor", "ca-certificates", "make", "python3-apt", "python3-venv")
DOWNLOAD_SECONDS = 3600
# What apt would install: name, version, where it comes from, architecture.
_PLANNED = re.compile(r"^Inst (\S+) \((\S+) .*\[(\w+)\]\)", re.M)


class RepositoryError(Exception):
    """Packages cannot be had."""


def wanted_packages(release: str) -> tuple[str, ...]:
    """The packages that a bundle has for a release."""
    return (*distribution_packages(*RELEASES[release]), *_BESIDE)


def sources_of(
    release: str,
    system: Mapping[str, str],
    own: Sequence[AptSource],
    environment: Mapping[str, str],
    keys: Path = DEBIAN_KEYS,
) -> list[AptSource]:
    """Where the packages of a release come from.

    Args:
        system: this machine's ``os-release``.
        own: its sources.
        environment: the site's mirrors.

    Raises:
        RepositoryError: there is no way to them from here.
    """
    suites = (release, f"{release}-updates", f"{release}-security")
    named = environment.get("DEBIAN_MIRROR") or environment.get("DEBIAN_SECURITY_MIRROR")
    os_id, _ = RELEASES[release]
    if release == system.get("VERSION_CODENAME") and not (named and os_id == "debian"):
        found = [source for source in own if source.suite in suites and "main" in source.components]
        if any(source.suite == release for source in found):
            return found
    if os_id != "debian":
        raise RepositoryError(
            f"packages of {release} can be had on a machine with {release} only, and this one has"
            f" {system.get('VERSION_CODENAME', 'another system')}"
        )
    if not keys.exists():
        raise RepositoryError(
            f"packages of {release} cannot be checked without {keys}: apt-get install debian-archive-keyring"
        )
    mirrors = chosen_mirrors(environment, host_mirrors(system, own))
    lines = mirrors.sources(release).replace("deb ", f"deb [signed-by={keys}] ")
    return parse_sources({"bundle.list": lines})


class Repository:
    """A repository of packages of one release.

    Args:
        kept: folder that is kept, for this release.
    """

    def __init__(
        self, kept: Path, release: str, sources: Sequence[AptSource], environment: Mapping[str, str]
    ) -> None:
        self.release = release
        self._work = kept
        self._environment = environment
        self._planned: list[str] = []
        for name in ("archives/partial", "lists/partial", "sources"):
            (kept / name).mkdir(parents=True, exist_ok=True)
        (kept / "status").touch()
        stanzas = [deb822(one.uri, one.suite, " ".join(one.components), one.options) for one in sources]
        suite, foreign = from_next_release(*RELEASES[release])
        if suite:
            base = next(one for one in sources if one.suite == release)
            pins, source = next_release_files("bundle", base, suite, foreign, known_already=False)
            (self._work / "preferences").write_text(pins.content, encoding="utf-8")
            stanzas.append(source.content)
        (self._work / "sources" / "bundle.sources").write_text("\n".join(stanzas), encoding="utf-8")

    def _apt(self, log: Path, *arguments: str) -> None:
        work = self._work
        options = {
            "Dir::State": work,
            "Dir::State::lists": work / "lists",
            "Dir::State::status": work / "status",
            "Dir::Cache": work,
            "Dir::Cache::archives": work / "archives",
            "Dir::Etc::sourcelist": "/dev/null",
            "Dir::Etc::sourceparts": work / "sources",
            "Dir::Etc::preferences": work / "preferences",
            "Dir::Etc::preferencesparts": "/dev/null",
            "Acquire::Languages": "none",
            "Acquire::Retries": "3",
            "APT::Install-Recommends": "false",
            "APT::Sandbox::User": "root",
            "Debug::NoLocking": "true",
        }
        words = [word for name, value in options.items() for word in ("-o", f"{name}={value}")]
        argv = ["apt-get", "--yes", "--quiet", *words, *arguments]
        if run_logged(argv, log, timeout=DOWNLOAD_SECONDS, environment=self._environment):
            raise RepositoryError(f"packages of {self.release} cannot be had\n{excerpt(log)}")

    def download(self, names: Iterable[str], logs: Path) -> None:
        """Fetch packages and all that they depend on; apt compares each with what its archive signs.

        Raises:
            RepositoryError: they cannot be had.
            BuildError: it takes too long.
        """
        self._apt(logs / f"packages-{self.release}-lists.log", "-o", "APT::Update::Error-Mode=any", "update")
        log = logs / f"packages-{self.release}.log"
        self._apt(log, "install", "--simulate", *names)
        planned = _PLANNED.findall(log.read_text(encoding="utf-8"))
        # The way apt names its files.
        self._planned = sorted(
            f"{name}_{version.replace(':', '%3a')}_{kind}.deb" for name, version, kind in planned
        )
        self._apt(log, "install", "--download-only", *names)

    def write(self, folder: Path) -> list[str]:
        """Put what was fetched into a folder, with the list that apt on the hosts reads; the files in there.

        What was fetched for an earlier bundle only goes.
        """
        folder.mkdir(parents=True)
        for path in (self._work / "archives").glob("*.deb"):
            if path.name not in self._planned:
                path.unlink()
        # Some releases of apt take the sign of a colon in a path for the colon itself.
        names = {name: name.replace("%3a", ".") for name in self._planned}
        for name, plain in names.items():
            shutil.copyfile(self._work / "archives" / name, folder / plain)
        stanzas = [_stanza(folder / plain) for plain in names.values()]
        (folder / "Packages").write_text("\n".join(stanzas), encoding="utf-8")
        return ["Packages", *names.values()]


@contextlib.contextmanager
def kept_folder(path: Path) -> Iterator[Path]:
    """A folder that is kept, and nobody else's while the body runs."""
    path.mkdir(parents=True, exist_ok=True)
    with (path / "lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield path


def _stanza(path: Path) -> str:
    fields = subprocess.run(  # noqa: S603 - fixed command
        ["dpkg-deb", "--field", str(path)],  # noqa: S607
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    return f"{fields.rstrip()}\nFilename: ./{path.name}\nSize: {os.stat(path).st_size}\nSHA256: {digest}\n"
