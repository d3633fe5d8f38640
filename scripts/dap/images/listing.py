"""The images that the service host has of what is built here, and the packages in them."""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any
from urllib.parse import quote

from dap.configuration import wording
from dap.containers import output_on
from dap.errors import DapError, RefusedError
from dap.images.builds import Build
from dap.site import Site

_NAME, _UPON = "dap.image", "dap.upon"
_LIMIT_S = 120
# It reads what package managers keep of themselves, so it cannot be older than the image, and needs nothing
# in it but awk, which every Debian has.
_READ = r"""
dpkg-query -W -f='deb\t${Package}\t${Version}\t${Architecture}\n'
find /usr/local/lib /opt -path '*.dist-info/METADATA' -exec awk '
  FNR == 1 { name = "" } { sub(/\r$/, "") } /^$/ { nextfile } /^Name: / { name = $2 }
  /^Version: / { print "pypi\t" name "\t" $2 "\t"; nextfile }' {} + 2>/dev/null
find /usr/local/lib/R -path '*/site-library/*/DESCRIPTION' -exec awk '
  FNR == 1 { name = "" } { sub(/\r$/, "") } /^Package: / { name = $2 }
  /^Version: / { print "cran\t" name "\t" $2 "\t"; nextfile }' {} + 2>/dev/null
find /opt -path '*/node_modules/.package-lock.json' -exec awk -F '"' '
  /^    "node_modules\// { name = $2; sub(/.*node_modules\//, "", name) }
  /^      "version": / { print "npm\t" name "\t" $4 "\t" }' {} + 2>/dev/null
true
"""


@dataclass(frozen=True)
class Known:
    """An image that was built by the platform, or is to be.

    Attributes:
        use: whether hosts have it by the configuration as it is now: used, unused, or older than such a one.
        digest: empty while it is not built.
        size: in bytes, with all that it is built upon.
        parent: tag of what it is built upon.
        created: when it was built, as the engine tells it (ISO 8601).
    """

    name: str
    tag: str
    use: str
    parent: str
    digest: str = ""
    size: int = 0
    created: str = ""

    def as_json(self) -> dict[str, Any]:
        """For ``--json``."""
        return asdict(self)


@dataclass(frozen=True, order=True)
class Package:
    """A package in an image: ``deb`` of Debian, ``pypi`` of Python, ``cran`` of R, ``npm`` of Node."""

    kind: str
    name: str
    version: str
    architecture: str = ""

    @property
    def purl(self) -> str:
        """Its name everywhere, as https://github.com/package-url/purl-spec has it."""
        kind = "deb/debian" if self.kind == "deb" else self.kind
        name = re.sub(r"[-_.]+", "-", self.name).lower() if self.kind == "pypi" else self.name
        suffix = f"?arch={self.architecture}" if self.architecture else ""
        # Only npm's have a slash, after the name of who publishes them.
        return f"pkg:{kind}/{quote(name, safe='/')}@{quote(self.version, safe='~')}{suffix}"


def known_images(site: Site, builds: Sequence[Build], used: Collection[str]) -> list[Known]:
    """The images of the builds, and older ones of the same names, as the service host has them.

    Args:
        used: tags of those that hosts have, or that such are built upon.

    Raises:
        DapError: its engine cannot be asked.
    """
    told = _asked(site, ["docker", "image", "ls", "--quiet", "--no-trunc", "--filter", f"label={_NAME}"])
    numbers = sorted({*told.split()})
    there = json.loads(_asked(site, ["docker", "image", "inspect", *numbers])) if numbers else []
    return list(_known(builds, used, there))


def _known(
    builds: Sequence[Build], used: Collection[str], there: Iterable[Mapping[str, Any]]
) -> Iterator[Known]:
    """The images of each build, newest first, from what ``docker image inspect`` printed."""

    def use(tag: str) -> str:
        return ("used" if tag in used else "unused") if tag in wanted else "older"

    by_name: dict[str, list[Known]] = {}
    wanted = {build.tag: build.upon for build in builds}
    for entry in there:
        labels = entry["Config"]["Labels"]
        for tag in entry["RepoTags"] or ():
            if tag.startswith(f"dap/{labels[_NAME]}:"):
                parent = labels.get(_UPON) or wanted.get(tag, "")
                one = Known(
                    *(labels[_NAME], tag, use(tag), parent),
                    *(entry["Id"], entry["Size"], entry["Created"]),
                )
                by_name.setdefault(one.name, []).append(one)
    for build in builds:
        found = by_name.get(build.name, [])
        if not any(one.tag == build.tag for one in found):
            found.append(Known(build.name, build.tag, use(build.tag), build.upon))
        yield from sorted(found, key=lambda one: (one.use != "older", one.created), reverse=True)


def chosen(images: Sequence[Known], name: str) -> list[Known]:
    """Those of one name that are there, the wanted one first.

    Args:
        name: of an image, or one of its tags, then only that one.

    Raises:
        RefusedError: there is none.
    """
    names = sorted({one.name for one in images})
    if name not in names and name not in {one.tag for one in images}:
        raise RefusedError(f"{name!r} is no image that is built here", wording.one_of(name, names))
    found = [one for one in images if name in (one.name, one.tag) and one.digest]
    if not found:
        raise RefusedError(f"{name} is not built yet", f"dap image build {name.partition(':')[0]}")
    return found


def packages_of(site: Site, image: Known) -> list[Package]:
    """The packages in an image, which is asked on the service host, in a container without a network.

    Raises:
        DapError: it cannot be asked.
    """
    run = ["docker", "run", "--rm", "--network", "none", "--read-only", "--cap-drop", "ALL"]
    run += ["--security-opt", "no-new-privileges", "--user", "65534:65534", "--workdir", "/"]
    told = _asked(site, [*run, "--entrypoint", "sh", image.digest, "-c", _READ])
    return sorted({Package(*line.split("\t")) for line in told.splitlines()})


def bill_of_materials(image: Known, packages: Iterable[Package]) -> dict[str, Any]:
    """What is in an image, as CycloneDX 1.5 has it: the same for the same image, so without a time."""
    name, _, version = image.tag.rpartition(":")
    component = {"type": "container", "bom-ref": image.digest, "name": name, "version": version}
    return {
        "$schema": "http://cyclonedx.org/schema/bom-1.5.schema.json",
        "bomFormat": "CycloneDX",
        "specVersion": "1.5",
        "version": 1,
        "metadata": {"component": component},
        "components": [
            {
                "type": "library",
                "bom-ref": one.purl,
                "name": one.name,
                "version": one.version,
                "purl": one.purl,
            }
            for one in packages
        ],
    }


@dataclass(frozen=True)
class Change:
    """A package that differs between two images; empty versions where it is not there."""

    kind: str
    name: str
    before: str
    after: str

    def as_json(self) -> dict[str, str]:
        """For ``--json``."""
        return asdict(self)


def changes(before: Iterable[Package], after: Iterable[Package]) -> list[Change]:
    """What differs between the packages of two images, by kind and name."""
    old, new = _by_name(before), _by_name(after)
    return [
        Change(*key, old.get(key, ""), new.get(key, ""))
        for key in sorted({*old, *new})
        if old.get(key) != new.get(key)
    ]


def _by_name(packages: Iterable[Package]) -> dict[tuple[str, str], str]:
    found: dict[tuple[str, str], list[str]] = {}
    for one in packages:
        found.setdefault((one.kind, one.name), []).append(one.version)
    return {key: ", ".join(sorted({*versions})) for key, versions in found.items()}


def _asked(site: Site, argv: Sequence[str]) -> str:
    host, again = site.inventory.service_host, f"dap -e {site.inventory.name} status"

    def failure(why: str) -> DapError:
        return DapError(f"{host.name}: images cannot be looked at: {why}", again)

    return output_on(host, argv, _LIMIT_S, failure)
