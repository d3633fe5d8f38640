"""What a deploy takes from a bundle for each host, and what a bundle lacks for it."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dap.bundle.archive import Bundle, write_tar
from dap.bundle.saved import plain, write_loadable
from dap.configuration.inventory import Host
from dap.errors import Finding, Problems
from dap.hosts.facts import HostFacts
from dap.images.distribution import Distribution
from dap.layout import shown
from dap.site import Site

PACKAGES = "packages"


@dataclass(frozen=True)
class Supply:
    """What a host gets from a bundle.

    Attributes:
        images: references of those that it lacks.
        release: whose packages it gets; empty where it needs none.
    """

    images: tuple[str, ...] = ()
    release: str = ""

    @property
    def images_archive(self) -> str:
        """The file that the images are brought in: the same for hosts that lack the same."""
        digest = hashlib.sha256("\n".join(self.images).encode()).hexdigest()[:12]
        return f"images-{digest}.tar" if self.images else ""

    @property
    def packages_archive(self) -> str:
        """The file that the packages are brought in."""
        return f"{PACKAGES}-{self.release}.tar" if self.release else ""

    def as_variables(self, site: Site) -> dict[str, Any]:
        """What the roles `bundle`, `packages` and `images` take."""
        return {
            "bundled_images": list(self.images),
            "images_archive": self.images_archive,
            "packages_archive": self.packages_archive,
            "packages_folder": str(_folder(site)) if self.release else "",
        }


def _folder(site: Site) -> Path:
    """Where packages lie on a host while they are installed: what is left there goes with the next deploy."""
    return site.platform.paths.root / ".build" / PACKAGES


def _lacking_images(distribution: Distribution, host: Host, facts: HostFacts) -> list[str]:
    """Of the images that a host does not get from the service host, those that are not there."""
    own = distribution.of(host).own
    built = [build.tag for build in own.builds if build.tag in facts.missing_tags]
    return [*built, *(pull.reference for pull in own.pulls if pull.name in facts.absent_images)]


def supplies_of(
    bundle: Bundle, distribution: Distribution, facts: Mapping[str, HostFacts]
) -> dict[str, Supply]:
    """What each host gets, by its name; only hosts that lack something."""
    found = {}
    for host in (host for host in distribution.site.inventory.hosts if host.name in facts):
        lacking = _lacking_images(distribution, host, facts[host.name])
        supply = Supply(
            tuple(one for one in lacking if plain(one) in bundle.images),
            facts[host.name].release if facts[host.name].lacking else "",
        )
        if supply != Supply():
            found[host.name] = supply
    return found


def find_lacking(
    bundle: Bundle, distribution: Distribution, facts: Mapping[str, HostFacts], problems: Problems
) -> None:
    """Find what hosts lack and the bundle does not have either."""
    for host in (host for host in distribution.site.inventory.hosts if host.name in facts):
        for finding in _of_host(bundle, distribution, host, facts[host.name]):
            problems.add(finding)


def _of_host(bundle: Bundle, distribution: Distribution, host: Host, facts: HostFacts) -> Iterator[Finding]:
    file = shown(bundle.path)
    again = (
        f"make the bundle anew: dap -e {distribution.site.inventory.name} bundle create {bundle.path.name}"
    )
    lacking = _lacking_images(distribution, host, facts)
    if facts.architecture != bundle.architecture and (lacking or facts.lacking):
        reason = f"{host.name} has another architecture: {facts.architecture}"
        advice = f"make a bundle on a machine with {facts.architecture}"
        yield Finding(file, "architecture", bundle.architecture, reason, advice)
        return
    built = {build.tag for build in distribution.of(host).own.builds}
    # What comes from registries is judged where services may be left out.
    for tag in (one for one in lacking if one in built and one not in bundle.images):
        name = tag.rpartition(":")[0]
        others = [one for one in bundle.images if one.rpartition(":")[0] == name]
        reason = f"is not in this bundle, and {host.name} does not have it"
        if others:
            reason += f"; it has {', '.join(others)}, which dap {bundle.program} has built from other files"
        yield Finding(file, "images", tag, reason, again)
    if facts.lacking and facts.release not in bundle.packages:
        reason = f"{host.name} needs packages of {facts.release}: {', '.join(facts.lacking)}"
        there = ", ".join(bundle.packages) or "none"
        yield Finding(file, PACKAGES, there, reason, f"{again} --release {facts.release}")


def stage(bundle: Bundle, supplies: Iterable[Supply], site: Site, staging: Path) -> None:
    """Write what hosts get into a folder here, each checksum compared.

    Raises:
        RefusedError: the bundle is damaged.
        DapError: there is no room.
    """
    for supply in supplies:
        images, packages = staging / supply.images_archive, staging / supply.packages_archive
        if supply.images and not images.exists():
            write_loadable(bundle, supply.images, images)
        if supply.release and not packages.exists():
            _write_packages(bundle, supply.release, _folder(site), packages)


def _write_packages(bundle: Bundle, release: str, folder: Path, path: Path) -> None:
    """Write an archive with a repository, and what makes apt use it and nothing else."""
    # That the packages are what their archives have signed, apt has seen where the bundle was made.
    source = f"deb [trusted=yes] file:{folder} ./\n".encode()
    settings = {
        "Dir::Etc::sourcelist": folder / "sources.list",
        "Dir::Etc::sourceparts": "/dev/null",
        "Dir::Etc::preferences": "/dev/null",
        "Dir::Etc::preferencesparts": "/dev/null",
        "Dir::State::lists": folder / "lists",
        "Dir::Cache": folder / "cache",
        "Acquire::Languages": "none",
        "APT::Sandbox::User": "root",
    }
    text = "".join(f'{name} "{value}";\n' for name, value in settings.items()).encode()
    files: dict[str, tuple[int, Iterable[bytes]]] = {
        "apt.conf": (len(text), [text]),
        "sources.list": (len(source), [source]),
    }
    for member in bundle.below(f"{PACKAGES}/{release}"):
        files[member.rpartition("/")[2]] = (bundle.size(member), bundle.read(member))
    write_tar(path, files)
