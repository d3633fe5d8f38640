"""Newer versions of what the platform pins: packages of Python and Go, and images of other makers.

What Debian has is not pinned: every build takes the newest of the release.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path

from dap.files import required
from dap.images.environments import with_parents
from dap.layout import ROOT, shown
from dap.outdated.sources import Sources, UnknownError
from dap.site import Site

_REQUIREMENT = re.compile(r"^([A-Za-z0-9][A-Za-z0-9._-]*)(?:\[[^]]*\])?==([^\s;\\]+)", re.M)
_MODULE = re.compile(r"^(?:require)?\s+(\S+/\S+) (v\S+)$", re.M)
_AT_ONCE = 8


@dataclass(frozen=True, order=True)
class Pin:
    """A version that is pinned.

    Attributes:
        kind: ``python``, ``go`` or ``image``.
        where: the files, as the operator would open them.
        newest: the newest version that there is; empty where that is unknown.
        unknown: why it is unknown.
    """

    kind: str
    name: str
    version: str
    where: tuple[str, ...]
    newest: str = ""
    unknown: str = ""

    @property
    def outdated(self) -> bool:
        """Whether there is a newer version."""
        return self.newest not in ("", self.version)

    def as_json(self) -> dict[str, object]:
        return {
            "kind": self.kind,
            "name": self.name,
            "pinned": self.version,
            "newest": self.newest or None,
            "outdated": self.outdated,
            "unknown": self.unknown or None,
            "where": list(self.where),
        }


def pins_of(site: Site) -> list[Pin]:
    """All that is pinned: by the program, by the images that are built, and in manifests.

    Raises:
        RefusedError: a file cannot be read.
    """
    found: dict[tuple[str, str, str], list[str]] = {}
    for kind, name, version, file in _written(site):
        places = found.setdefault((kind, name, version), [])
        if file not in places:
            places.append(file)
    return sorted(Pin(*key, tuple(places)) for key, places in found.items())


def compared(pins: Iterable[Pin], sources: Sources) -> list[Pin]:
    """The pins with their newest versions, as far as their sources can be asked."""

    def ask(pin: Pin) -> Pin:
        try:
            return replace(pin, newest=sources.newest(pin.kind, pin.name, pin.version))
        except UnknownError as error:
            return replace(pin, unknown=str(error))

    with ThreadPoolExecutor(_AT_ONCE) as pool:
        return list(pool.map(ask, pins))


def _written(site: Site) -> Iterator[tuple[str, str, str, str]]:
    services = {**site.services, **{name: service for name, (service, _) in site.left_out.items()}}
    folders = [service.folder / "image" for service in services.values()]
    folders += [one for item in with_parents(site.known_environments.values()) for one in item.sources]
    for file in [ROOT / "requirements.lock", *_files(folders, "*.txt")]:
        for name, version in _REQUIREMENT.findall(_text(file)):
            yield "python", name, version, shown(file)
    for file in _files(folders, "go.mod"):
        # The others come with them, as they are chosen there.
        for name, version in _MODULE.findall(_text(file)):
            yield "go", name, version, shown(file)
    for service in services.values():
        image, manifest = service.manifest.image, shown(service.folder / "service.yml")
        for reference in [*([image.pull] if image.pull else []), *image.more.values()]:
            name, _, tag = reference.partition("@")[0].rpartition(":")
            yield "image", name, tag, manifest


def _files(folders: Iterable[Path], pattern: str) -> list[Path]:
    return sorted({path for folder in folders for path in folder.glob(pattern) if path.is_file()})


def _text(file: Path) -> str:
    return required(file).decode("utf-8", "replace")
