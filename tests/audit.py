"""Asks for known holes in everything that is pinned: ``python -m tests.audit``.

It asks https://osv.dev, which gathers what PyPI's, npm's and Go's own databases hold. Debian's packages are
not pinned: each build takes the newest of the release, with its fixes.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import httpx

ROOT = Path(__file__).resolve().parents[1]
SERVICE = "https://api.osv.dev"
AT_ONCE = 1000
# Holes that do not concern the platform, by their identifiers, with the reason.
ACCEPTED: dict[str, str] = {}
_REQUIREMENT = re.compile(r"^([A-Za-z0-9][A-Za-z0-9._-]*)(?:\[[^]]*\])?==([^\s;\\]+)", re.M)
_MODULE = re.compile(r"^(?:require)?\s+(\S+/\S+) v(\S+)", re.M)


@dataclass(frozen=True, order=True)
class Package:
    """A package in the version that a file pins; ``ecosystem`` as the service names it."""

    ecosystem: str
    name: str
    version: str
    file: str


def packages_of(path: str, text: str) -> Iterator[Package]:
    """What a file pins, if it is one that pins."""
    name = Path(path).name
    if name == "go.mod":
        yield from (Package("Go", module, version, path) for module, version in _MODULE.findall(text))
    elif name == "package-lock.json":
        for folder, entry in json.loads(text)["packages"].items():
            # The first stands for the package that has the others; a link leads to another folder of its own.
            if folder and "version" in entry:
                found = entry.get("name") or folder.rpartition("node_modules/")[2]
                yield Package("npm", found, entry["version"], path)
    elif name.endswith((".txt", ".lock")):
        yield from (Package("PyPI", found, version, path) for found, version in _REQUIREMENT.findall(text))


def pinned() -> list[Package]:
    """What all files of the project pin.

    Raises:
        ValueError: an ecosystem has nothing: the listing is broken then.
    """
    listed = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True)
    found = {
        package
        for path in listed.stdout.splitlines()
        if path.endswith((".txt", ".lock", "go.mod", "package-lock.json"))
        for package in packages_of(path, (ROOT / path).read_text(encoding="utf-8"))
    }
    if {package.ecosystem for package in found} != {"Go", "PyPI", "npm"}:
        raise ValueError("a kind of packages is not pinned anywhere")
    return sorted(found)


def holes_in(packages: Iterable[Package], client: httpx.Client) -> Iterator[tuple[Package, str]]:
    """Every package with a known hole, and the hole's identifier.

    Raises:
        httpx.HTTPError: the service cannot be reached, or refuses.
    """
    left: list[tuple[Package, str]] = [(package, "") for package in packages]
    while left:
        asked, left = left[:AT_ONCE], left[AT_ONCE:]
        queries = [
            {"package": {"ecosystem": one.ecosystem, "name": one.name}, "version": one.version}
            | ({"page_token": page} if page else {})
            for one, page in asked
        ]
        answer = client.post(f"{SERVICE}/v1/querybatch", json={"queries": queries}).raise_for_status()
        for (package, _), result in zip(asked, answer.json()["results"], strict=True):
            yield from ((package, hole["id"]) for hole in result.get("vulns", ()))
            if page := result.get("next_page_token"):
                left.append((package, page))


def main() -> int:
    """Print what has holes; 1 if there are any that are not accepted, 2 if nobody can be asked."""
    packages = pinned()
    try:
        with httpx.Client(timeout=60) as client:
            found = sorted({*holes_in(packages, client)})
    except httpx.HTTPError as error:
        print(f"{SERVICE} cannot be asked: {error}", file=sys.stderr)
        return 2
    for package, hole in found:
        accepted = f"  (accepted: {ACCEPTED[hole]})" if hole in ACCEPTED else ""
        print(f"{package.ecosystem:<4}  {package.name} {package.version}  {hole}  {package.file}{accepted}")
    new = [hole for _, hole in found if hole not in ACCEPTED]
    print(f"packages: {len(packages)}, holes: {len(found)}, accepted: {len(found) - len(new)}")
    return int(bool(new))


if __name__ == "__main__":
    sys.exit(main())
