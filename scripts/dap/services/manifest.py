"""Service manifests: how service folders are found and read, and everything that is wrong in them at once."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Literal

from dap import layout
from dap.configuration import wording
from dap.configuration.schema import Ports
from dap.configuration.wording import Fault, Location, Wording, dotted
from dap.configuration.yamlfile import YamlFile, read_yaml
from dap.errors import ConfigurationError, Finding
from dap.services.manifest_document import checked, finding
from dap.services.manifest_schema import (
    EXCEPTIONS,
    Manifest,
    Port,
    Web,
)
from dap.services.manifest_values import NAME_PATTERN, NAME_RULE

__all__ = ["FRAGMENT", "MANIFEST", "Manifest", "Port", "Service", "Web", "find_folders", "load_services"]

MANIFEST = "service.yml"
FRAGMENT = "compose.yaml.j2"

_SHORTEST = "title: Guestbook"


@dataclass(frozen=True)
class Service:
    """A service folder and what its manifest says.

    Attributes:
        name: the folder's name; also the container's name on the platform's network.
        folder: where it stands (in the product or in the operator's inventory).
    """

    name: str
    folder: Path
    manifest: Manifest

    @cached_property
    def fragment(self) -> Path:
        """The Compose fragment, a Jinja template."""
        return self.folder / FRAGMENT

    def templates(self, kind: Literal["config", "secrets", "live"]) -> list[Path]:
        """Files to render (``.j2``) or copy for this service; ``secrets`` and ``live`` become 0400 files.

        Names that start with ``_`` are parts that others import.
        """
        folder = self.folder / kind
        return sorted(path for path in folder.rglob("*") if path.is_file() and not path.name.startswith("_"))


def find_folders(roots: Iterable[Path], marker: str = MANIFEST) -> dict[str, Path]:
    """Service folders by name: every folder in ``roots`` that holds a manifest; later roots win.

    Args:
        marker: the file that another kind of folder is known by.
    """
    return {
        folder.name: folder
        for root in roots
        if root.is_dir()
        for folder in sorted(root.iterdir())
        if (folder / marker).is_file()
    }


def load_services(folders: Mapping[str, Path]) -> dict[str, Service]:
    """Read the manifests of all ``folders``.

    Raises:
        ConfigurationError: with everything that is wrong in any of them.
    """
    findings: list[Finding] = []
    services: dict[str, Service] = {}
    documents: dict[str, YamlFile] = {}
    for name, folder in folders.items():
        documents[name] = document = read_yaml(folder / MANIFEST)
        manifest, faults = _check(name, document)
        if manifest:
            services[name] = Service(name, folder, manifest)
        findings += [_finding(folder, fault, document) for fault in faults]
    for name, service in services.items():
        faults = [*_unknown_services(service, services, folders), *_missing_parts(service)]
        findings += [_finding(service.folder, fault, documents[name]) for fault in faults]
    for name, fault in [*_taken_names(services), *_circles(services)]:
        findings.append(_finding(folders[name], fault, documents[name]))
    if findings:
        raise ConfigurationError(findings)
    return services


def _check(name: str, document: YamlFile) -> tuple[Manifest | None, list[Fault]]:
    """What a manifest says, if nothing is wrong in it or in its folder's name, and otherwise the faults."""
    manifest, faults = checked(document, Manifest, _SHORTEST)
    if re.fullmatch(NAME_PATTERN, name):
        return manifest, faults
    text = Wording(f"stands in the folder {name}, which is not a name of {NAME_RULE}", "rename the folder")
    return None, [Fault((), text), *faults]


def _finding(folder: Path, fault: Fault, document: YamlFile) -> Finding:
    return finding(folder / MANIFEST, fault, document, Manifest)


# --- manifests together ----------------------------------------------------------------------------------


def _unknown_services(
    service: Service, services: Mapping[str, Service], folders: Mapping[str, Path]
) -> Iterator[Fault]:
    """References to services that are not there or cannot do what is asked of them."""
    manifest = service.manifest
    references: list[tuple[Location, str]] = [
        (("needs", index), name) for index, name in enumerate(manifest.needs)
    ]
    references += [
        (("databases", index, "server"), database.server) for index, database in enumerate(manifest.databases)
    ]
    references += [(("only_with", index), name) for index, name in enumerate(manifest.only_with)]
    references += [(("shared_secrets", key), name) for key, name in manifest.shared_secrets.items()]
    if manifest.image.same_as:
        references.append((("image", "same_as"), manifest.image.same_as))
    for location, name in references:
        other = services.get(name)
        if name not in folders:
            yield Fault(location, wording.unknown_service(wording.one_of(name, folders)))
        elif other and location[0] == "shared_secrets" and location[1] not in other.manifest.secrets:
            text = Wording(
                f"has no secret {location[1]}", wording.one_of(str(location[1]), other.manifest.secrets)
            )
            yield Fault(location, text, value=name)
        elif other and location[0] == "databases" and other.manifest.provides != "postgres":
            postgres = [name for name, each in services.items() if each.manifest.provides == "postgres"]
            yield Fault(location, Wording("does not provide postgres", wording.one_of(name, postgres)))
        elif other and location[0] == "image" and not other.manifest.image.build:
            yield Fault(location, Wording("has no image of its own", "name a service with image.build"))


def _missing_parts(service: Service) -> Iterator[Fault]:
    """What a manifest speaks of and neither it nor the service's folder has."""
    manifest = service.manifest
    for index, credential in enumerate(manifest.credentials):
        if credential.secret not in manifest.secrets:
            guess = wording.closest(credential.secret, manifest.secrets)
            suggestion = (
                f"did you mean {guess}?" if guess else f"add it to secrets: {{{credential.secret}: 40}}"
            )
            text = Wording("is not one of the service's secrets", suggestion)
            yield Fault(("credentials", index, "secret"), text, value=credential.secret)
    for index, rotation in enumerate(manifest.rotation):
        if rotation.secret not in manifest.secrets:
            suggestion = wording.one_of(rotation.secret, manifest.secrets)
            text = Wording("is not one of the service's secrets", suggestion)
            yield Fault(("rotation", index, "secret"), text, value=rotation.secret)
        if rotation.input:
            yield from _missing_input(service, ("rotation", index, "input"), rotation.input)
    for index, token in enumerate(manifest.tokens):
        if token.name in manifest.secrets:
            text = Wording("is the name of one of its secrets too", "write another name")
            yield Fault(("tokens", index, "name"), text, value=token.name)
        yield from _missing_input(service, ("tokens", index, "input"), token.input)
    for index, port in enumerate(manifest.ports):
        if port.container is None and port.name not in Ports.model_fields:
            text = Wording(
                f"is required, as the configuration has no ports.{port.name}",
                f"write container: {wording.EXAMPLE}",
            )
            yield Fault(("ports", index, "container"), text)
    for name in manifest.secrets.keys() & manifest.shared_secrets.keys():
        text = Wording("is the name of one of its own secrets too", "write another name there")
        yield Fault(("shared_secrets", name), text, value="")
    if manifest.user == 0 and "user" not in manifest.exceptions:
        reason = Wording("is root, for which no reason is given", "write why under exceptions.user")
        yield Fault(("user",), reason)
    for key in manifest.exceptions:
        if key not in EXCEPTIONS:
            guess = wording.closest(key, EXCEPTIONS)
            suggestion = f"did you mean {guess}?" if guess else f"there are: {', '.join(EXCEPTIONS)}"
            yield Fault(("exceptions", key), Wording("is not a rule of the platform", suggestion))
    for name, path in manifest.image.include.items():
        if not (layout.ROOT / path).is_dir():
            yield Fault(
                ("image", "include", name), Wording("is not a folder of the repository", "correct the path")
            )
    wanted = [FRAGMENT, *["image/Dockerfile"] * bool(manifest.image.build)]
    for file in wanted:
        if not (service.folder / file).is_file():
            path = layout.shown(service.folder / file)
            yield Fault(
                (),
                Wording(f"has no {file} beside it", f"write {path}, as docs/how-to/add-a-service.md shows"),
            )


def _missing_input(service: Service, location: Location, file: str) -> Iterator[Fault]:
    if not (service.folder / file).is_file():
        path = layout.shown(service.folder / file)
        yield Fault(location, Wording("is not a file", f"write {path}"))


def _taken_names(services: Mapping[str, Service]) -> Iterator[tuple[str, Fault]]:
    """Names that two services claim, each with the second one."""
    owners: dict[tuple[str, str], str] = {}
    for name, service in services.items():
        manifest = service.manifest
        claims: list[tuple[Location, str, str]] = []
        if manifest.tls and manifest.tls.names == "own":
            claims.append((("tls", "names"), "a web name", name))
        claims += [(("web", index, "name"), "a web name", web.name) for index, web in enumerate(manifest.web)]
        claims += [
            (("ports", index, "name"), "a port", port.name) for index, port in enumerate(manifest.ports)
        ]
        claims += [
            (("databases", index, "name"), f"on {database.server} the database", database.name)
            for index, database in enumerate(manifest.databases)
        ]
        for location, kind, claimed in claims:
            owner = owners.setdefault((kind, claimed), f"{name}: {dotted(location)}")
            if owner != f"{name}: {dotted(location)}":
                by = owner.partition(":")[0]
                text = Wording(f"is already {kind} of {by}", "write another name")
                yield name, Fault(location, text, value=claimed)


def _circles(services: Mapping[str, Service]) -> Iterator[tuple[str, Fault]]:
    """Services that wait for each other, so that none could ever start: each circle once, with its first."""
    found = set()
    for name in services:
        if circle := _circle(name, services):
            first = circle.index(min(circle))
            found.add((*circle[first:], *circle[:first]))
    for names in sorted(found):
        round_trip = " needs ".join([*names, names[0]])
        text = Wording(f"goes round in a circle: {round_trip}", "remove one of them: none could ever start")
        yield names[0], Fault(("needs",), text, value="")


def _circle(start: str, services: Mapping[str, Service]) -> list[str]:
    """The shortest way from a service over what it needs back to itself; empty if there is none."""
    ways, seen = [[start]], set()
    for way in ways:
        for need in services[way[-1]].manifest.needs:
            if need == start:
                return way
            if need in services and need not in seen:
                seen.add(need)
                ways.append([*way, need])
    return []
