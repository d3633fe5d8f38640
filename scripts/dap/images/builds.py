"""Images: build contexts, the content-addressed tags made of them, and what each is built upon.

Every image of the platform is built upon ``compose/debian/image``, and that one upon Debian's own; an
environment may be built upon another one.
"""

from __future__ import annotations

import hashlib
import io
import re
import tarfile
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from dap.files import required
from dap.images.environments import Environment, with_parents
from dap.layout import ROOT, compose_dir
from dap.services.manifest import Service

DEBIAN_TAG = "debian:trixie-slim"
DEBIAN_SUITE = "trixie"
BASE = "debian"
"""What every image of the platform is built upon: its folder, and its name."""
_IGNORED = {"__pycache__", ".mypy_cache", ".ruff_cache", ".DS_Store"}


@dataclass(frozen=True)
class Build:
    """An image that is built here.

    Attributes:
        name: service or environment whose folder it is built from.
        tag: ``dap/<name>:<version>-<hash of the build context>``.
        upon: tag of the image that it is built upon.
        context: the build context as an uncompressed tar archive, the same bytes for the same files.
    """

    name: str
    tag: str
    upon: str
    context: bytes


def context_of(sources: Iterable[tuple[str, Path]], without: Collection[Path] = ()) -> bytes:
    """A build context as a tar archive.

    Args:
        sources: folder in the context (empty for its top) and folder here; of files of one name the last
            wins.
        without: folders in those that are left out, unless they are one of them.
    """
    files = {
        (Path(prefix) / path.relative_to(folder)).as_posix(): path
        for prefix, folder in sources
        for path in folder.rglob("*")
        if path.is_file()
        and not _IGNORED.intersection(path.parts)
        and not any(other != folder and path.is_relative_to(other) for other in without)
    }
    archive = io.BytesIO()
    with tarfile.open(fileobj=archive, mode="w", format=tarfile.PAX_FORMAT) as tar:
        for name, path in sorted(files.items()):
            _add(tar, path, name)
    return archive.getvalue()


def _add(tar: tarfile.TarFile, path: Path, name: str) -> None:
    """Add a file without what differs between two checkouts: owner, times, umask."""
    content = required(path)
    entry = tarfile.TarInfo(name)
    entry.size = len(content)
    entry.mode = 0o755 if path.stat().st_mode & 0o100 else 0o644
    tar.addfile(entry, io.BytesIO(content))


def build_of(
    name: str,
    version: str,
    sources: Iterable[tuple[str, Path]],
    upon: str,
    without: Collection[Path] = (),
) -> Build:
    """An image to build; its tag changes with any file of the context and with what it is built upon."""
    context = context_of(sources, without)
    digest = hashlib.sha256(upon.encode() + b"\0" + context).hexdigest()[:12]
    return Build(name, f"dap/{name}:{version}-{digest}", upon, context)


def with_bases(builds: Sequence[Build], names: Collection[str]) -> list[Build]:
    """The builds of these names, and those that they are built upon, in the order of building."""
    kept: list[Build] = []
    wanted: set[str] = set()
    for build in reversed(builds):
        if build.name in names or build.tag in wanted:
            kept.append(build)
            wanted.add(build.upon)
    return kept[::-1]


@dataclass(frozen=True)
class Pull:
    """An image that comes from a registry.

    Attributes:
        services: the services that run it; ``<service>.<name>`` for one that a service starts itself.
        reference: what Compose names.
        source: what is pulled: the same, or where the site's mirror has it.
    """

    services: tuple[str, ...]
    reference: str
    source: str

    @property
    def name(self) -> str:
        """The first of the services."""
        return self.services[0]

    @property
    def users(self) -> set[str]:
        """The services that cannot run without it."""
        return {name.partition(".")[0] for name in self.services}


def pulls(references: Mapping[str, str], builds: Sequence[Build], mirror: str | None) -> list[Pull]:
    """The images to pull for services with these ``references``, each once.

    Args:
        mirror: registry, with its path, that has the images of Docker Hub.
    """
    built = {build.tag for build in builds}
    by_reference: dict[str, list[str]] = {}
    for name, reference in sorted(references.items()):
        if reference not in built:
            by_reference.setdefault(reference, []).append(name)
    return [
        Pull(tuple(names), reference, source_of(reference, mirror))
        for reference, names in by_reference.items()
    ]


@dataclass(frozen=True)
class Images:
    """The images of a platform.

    Attributes:
        references: of every service, and as ``<service>.<name>`` of what a service starts itself.
        builds: those that are built, in the order of building.
        pulls: those that come from registries.
        environments: names of the environments that hosts run, all of which are built.
        for_jobs: those of them that every host has that runs jobs.
    """

    references: Mapping[str, str]
    builds: list[Build]
    pulls: list[Pull]
    environments: frozenset[str] = frozenset()
    for_jobs: frozenset[str] = frozenset()

    def of(self, services: Mapping[str, Service], environments: Collection[str] = ()) -> Images:
        """What is needed for ``services``, and what that is built upon.

        Args:
            environments: those that are needed besides.
        """
        needed = {*environments} | {
            service.manifest.image.same_as or name for name, service in services.items()
        }
        if any(service.manifest.environments for service in services.values()):
            needed |= self.for_jobs
        return Images(
            {
                name: reference
                for name, reference in self.references.items()
                if name.partition(".")[0] in services
            },
            with_bases(self.builds, needed),
            [pull for pull in self.pulls if services.keys() & pull.users],
            self.environments & needed,
            self.for_jobs & needed,
        )

    @property
    def run(self) -> list[Build]:
        """The built images that containers are started of; on the others these are only built."""
        return [
            build
            for build in self.builds
            if build.name in self.environments or build.tag in self.references.values()
        ]


def source_of(reference: str, mirror: str | None) -> str:
    """Where to pull an image from: a first part with a dot or a port is the name of a registry."""
    first, slash, _ = reference.partition("/")
    if mirror is None or (slash and (re.search(r"[.:]", first) or first == "localhost")):
        return reference
    return f"{mirror}/{reference if slash else f'library/{reference}'}"


def tags_of(environments: Mapping[str, Environment]) -> dict[str, str]:
    """The image of each environment, by name."""
    tags = {build.name: build.tag for build in resolve({}, environments=environments)[1]}
    return {name: tags[name] for name in environments}


def resolve(
    services: Mapping[str, Service],
    chosen: Mapping[str, str] | None = None,
    absent: Mapping[str, Service] | None = None,
    environments: Mapping[str, Environment] | None = None,
) -> tuple[dict[str, str], list[Build]]:
    """The image reference of every service, and the images to build for them, the base first.

    Args:
        chosen: images that the operator wants in place of the services' own.
        absent: services that do not run, whose images others may run.
        environments: those whose images are wanted, by name.
    """
    chosen = chosen or {}
    base = build_of(BASE, DEBIAN_SUITE, [("", compose_dir() / BASE / "image")], DEBIAN_TAG)
    wanted = {
        service.manifest.image.same_as or name
        for name, service in services.items()
        if name not in chosen and not service.manifest.image.pull
    }
    builds: dict[str, Build] = {}
    for name in sorted(wanted):
        service = services.get(name) or (absent or {})[name]
        image = service.manifest.image
        included = [(key, ROOT / path) for key, path in image.include.items()]
        sources = [("", service.folder / "image"), *included]
        builds[name] = build_of(name, image.build or "", sources, base.tag)
    for one in with_parents((environments or {}).values()):
        upon = builds[one.parent.name].tag if one.parent else base.tag
        version = f"{DEBIAN_SUITE}-{one.variant}" if one.variant else DEBIAN_SUITE
        sources = [("", folder) for folder in one.sources]
        builds[one.name] = build_of(one.name, version, sources, upon, one.variants)
    references = {}
    for name, service in services.items():
        image = service.manifest.image
        references[name] = chosen.get(name) or image.pull or builds[image.same_as or name].tag
        for own, reference in image.more.items():
            references[f"{name}.{own}"] = chosen.get(f"{name}.{own}", reference)
    return references, [base, *builds.values()] if builds else []
