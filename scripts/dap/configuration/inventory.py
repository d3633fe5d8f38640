"""Reads an inventory: the operator's settings and hosts, and everything that is wrong in them at once."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError

from dap import layout
from dap.configuration import wording
from dap.configuration.hostsfile import OPAQUE_TAGS, RUNNER_HOSTS, SERVICE_HOST, SHORTEST, Host, find_hosts
from dap.configuration.rules import Settings, broken_rules
from dap.configuration.schema import Platform, default_at, field_at, section_at
from dap.configuration.section import Section
from dap.configuration.values import REFUSED
from dap.configuration.wording import Fault, Location, Wording, dotted
from dap.configuration.yamlfile import HIDDEN, YamlFile, read_yaml
from dap.errors import ConfigurationError, Finding
from dap.files import read

__all__ = ["Host", "Inventory", "load_inventory"]

HOSTS_FILE = "hosts.yml"
PLATFORM_FILE = "group_vars/all/platform.yml"
SHORTEST_PLATFORM = "domain: dap.example.com"

_INVENTORY_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")


@dataclass(frozen=True)
class Inventory:
    """One installation: its settings and its hosts, checked.

    Attributes:
        name: the name of its folder.
        directory: its folder.
        platform_file: the file with the settings.
        hosts_file: the file with the hosts.
        platform: the settings.
        hosts: all hosts, in the order of the hosts file.
    """

    name: str
    directory: Path
    platform_file: Path
    hosts_file: Path
    platform: Platform
    hosts: tuple[Host, ...]

    @property
    def service_host(self) -> Host:
        """The host that all services run on."""
        return next(host for host in self.hosts if SERVICE_HOST in host.groups)

    @property
    def runner_hosts(self) -> tuple[Host, ...]:
        """The hosts for CI jobs and development containers; the service host may be one of them."""
        return tuple(host for host in self.hosts if RUNNER_HOSTS in host.groups)

    def resolve(self, path: Path) -> Path:
        """The file that a path in the settings names: relative paths start at the inventory's folder."""
        return self.directory / path


def load_inventory(name: str, known_services: Collection[str]) -> Inventory:
    """Read and check an inventory.

    Args:
        name: the name of its folder.
        known_services: the names of all services, the inventory's own included.

    Raises:
        ConfigurationError: with everything that is wrong in both files.
    """
    directory = _existing_inventory(name)
    platform_file, hosts_file = directory / PLATFORM_FILE, directory / HOSTS_FILE
    platform, findings = _read_platform(platform_file, directory, known_services)
    hosts, more_findings = _read_hosts(hosts_file)
    if platform is None or findings or more_findings:
        raise ConfigurationError(findings + more_findings)
    return Inventory(name, directory, platform_file, hosts_file, platform, hosts)


def inventory_names() -> list[str]:
    """The names of the inventories there are."""
    folder = layout.inventories_dir()
    return sorted(path.name for path in folder.iterdir() if path.is_dir()) if folder.is_dir() else []


def _existing_inventory(name: str) -> Path:
    directory = layout.inventory_dir(name)
    if not _INVENTORY_NAME.fullmatch(name) or not directory.is_dir():
        text = wording.no_such_inventory(wording.one_of(name, inventory_names()), name)
        raise ConfigurationError([_finding(layout.inventories_dir(), Fault((), text, value=name))])
    return directory


def _finding(file: Path, fault: Fault, document: YamlFile | None = None) -> Finding:
    value = fault.value
    if value is None:
        value = document.written.get(fault.location, "") if document and fault.location else ""
    text = fault.wording
    return Finding(layout.shown(file), dotted(fault.location), value, text.reason, text.suggestion)


def _read_hosts(file: Path) -> tuple[tuple[Host, ...], list[Finding]]:
    if not file.exists():
        others = [name for name in ("hosts.yaml", "hosts", "hosts.ini") if (file.parent / name).exists()]
        suggestion = f"write it with at least {SHORTEST}"
        if others:
            suggestion = f"rename {others[0]} to {file.name}" + (
                "" if others[0] == "hosts.yaml" else " and write it in YAML"
            )
        return (), [_finding(file, Fault((), wording.no_such_file(suggestion)))]
    document = read_yaml(file, OPAQUE_TAGS)
    hosts, faults = find_hosts(document)
    return hosts, [_finding(file, fault, document) for fault in faults]


def _read_platform(
    file: Path, directory: Path, known_services: Collection[str]
) -> tuple[Platform | None, list[Finding]]:
    if not file.exists():
        other = file.with_suffix(".yaml")
        suggestion = (
            f"rename {other.name} to {file.name}"
            if other.exists()
            else f"write it with at least {SHORTEST_PLATFORM}"
        )
        return None, [_finding(file, Fault((), wording.no_such_file(suggestion)))]
    document = read_yaml(file)
    platform, faults = check_platform(document, directory, known_services)
    return platform, [_finding(file, fault, document) for fault in faults]


def check_platform(
    document: YamlFile, directory: Path, known_services: Collection[str]
) -> tuple[Platform | None, list[Fault]]:
    """Check the settings that a file holds; relative paths in them start at ``directory``.

    Returns:
        The settings where all is well, and otherwise the faults, each with the value as written.
    """
    data = document.data
    if not document.parsed or (document.faults and not isinstance(data, dict)):
        return None, document.faults
    if data is None:
        return None, [Fault((), wording.empty_file(SHORTEST_PLATFORM))]
    if not isinstance(data, dict):
        return None, [Fault((), wording.file_not_a_mapping(SHORTEST_PLATFORM))]
    platform, faults, meant = _validate(data)
    faults = [_discreet(fault, document) for fault in faults]
    faults = wording.first_causes(document.faults + _surprises(document, faults) + faults)
    settings = Settings(data, default_at, {fault.location for fault in faults} | meant, known_services)
    faults = wording.first_causes(
        faults + _file_faults(settings, document, directory) + broken_rules(settings)
    )
    return (None if faults else platform), [_completed(fault, document) for fault in faults]


def _discreet(fault: Fault, document: YamlFile) -> Fault:
    """The fault without advice that might repeat a value that is not shown."""
    if document.written.get(fault.location) != HIDDEN or not field_at(fault.location):
        return fault
    return Fault(fault.location, wording.hidden(fault.wording))


def _surprises(document: YamlFile, faults: list[Fault]) -> list[Fault]:
    """The values that mean something else to YAML than to people, unless more is wrong with them."""
    wrong = {fault.location: fault.wording for fault in faults}
    found = []
    for location, meaning in document.surprising.items():
        if any(location[:length] in wrong for length in range(len(location))):
            continue
        text_wanted = location in wrong and wrong[location].reason == wording.not_text(None).reason
        quoted = document.written[location] if text_wanted else None
        if (text_wanted or location not in wrong) and document.written[location] != HIDDEN:
            found.append(Fault(location, wording.surprising_scalar(meaning, quoted)))
    return found


def _completed(fault: Fault, document: YamlFile) -> Fault:
    """The fault with the value as written and with the key's example filled in."""
    value = fault.value
    if value is None:
        value = document.written.get(fault.location, "") if fault.location else ""
    return Fault(fault.location, fault.wording.with_example(_example(fault.location)), value)


def _validate(data: Mapping[str, object]) -> tuple[Platform | None, list[Fault], set[Location]]:
    """Check the values one by one.

    Returns:
        The settings where all is well, the faults, and the locations that misspelt keys were meant for.
    """
    try:
        return Platform.model_validate(data), [], set()
    except ValidationError as error:
        errors = error.errors(include_url=False, include_input=True)
    faults: list[Fault] = []
    meant: set[Location] = set()
    for entry in errors:
        if entry["type"] == "extra_forbidden":
            fault, guess = _unknown_key(entry["loc"])
            faults.append(fault)
            meant |= {guess} if guess else set()
    for entry in errors:
        location = entry["loc"]
        if entry["type"] == "missing" and location not in meant:
            faults.append(Fault(location, wording.missing(f"{location[-1]}: {_example(location)}")))
        elif entry["type"] not in ("missing", "extra_forbidden", "rules", "default_factory_not_called"):
            faults.append(_fault_of(entry))
    return None, faults, meant


def _fault_of(entry: Any) -> Fault:
    """The fault behind one of pydantic's errors about a value or about the key of a mapping."""
    location, text = entry["loc"], _wording_of(entry)
    if location[-1] == "[key]":
        field = field_at(location[:-2])
        example = next(iter(field.examples[0]), "") if field and field.examples else ""
        return Fault(location[:-1], text.with_example(example), value="")
    # A password in an address is not to be repeated.
    return Fault(location, text, value=HIDDEN if text == wording.login_in_url() else None)


def _unknown_key(location: Location) -> tuple[Fault, Location | None]:
    """The fault of an unknown key, and the location that was probably meant in the same section."""
    *above, key = location
    section = section_at(tuple(above))
    known = section.model_fields if section else {}
    guess = wording.closest(str(key), known)
    elsewhere = [] if guess else [dotted(place) for place in _places() if place[-1] == key]
    suggestion = f"did you mean {elsewhere[0]}?" if elsewhere else wording.one_of(str(key), known)
    fault = Fault(location, wording.unknown_key(dotted(tuple(above)), suggestion))
    return fault, (*above, guess) if guess else None


def _places(section: type[Section] = Platform, above: Location = ()) -> list[Location]:
    """The locations of all keys outside lists."""
    places: list[Location] = []
    for name in section.model_fields:
        here = (*above, name)
        below = section_at(here)
        places += [here, *(_places(below, here) if below else [])]
    return places


def _wording_of(entry: Any) -> Wording:
    """Our words for one of pydantic's errors."""
    location: Location = entry["loc"]
    known = field_at(location)
    context = entry.get("ctx", {})
    if entry["type"] == REFUSED:
        text = Wording(context["reason"], context["suggestion"])
        if (known is None or known.is_required()) and text == wording.no_value(removable=True):
            text = wording.no_value(removable=False)
    elif entry["input"] is None:
        text = wording.no_value(removable=isinstance(location[-1], str))
    elif entry["type"] in ("tuple_type", "list_type"):
        text = wording.not_a_list()
    elif entry["type"] in ("model_type", "model_attributes_type", "dict_type"):
        text = wording.not_a_mapping()
    else:
        text = Wording(entry["msg"], f"write a value such as {wording.EXAMPLE}")
    return text


def _example(location: Location) -> str:
    """The example of a key, or of the list or mapping that an item belongs to, as it would be written."""
    known = field_at(location)
    if known is None:
        parent = field_at(location[:-1])
        content = parent.examples[0] if parent and parent.examples else ""
        example = next(iter(content.values() if isinstance(content, dict) else content), "")
    else:
        example = known.examples[0] if known.examples else ""
    written: str = yaml.safe_dump(example, default_flow_style=True, sort_keys=False, width=1000)
    return written.removesuffix("\n").removesuffix("\n...")


def _file_faults(settings: Settings, document: YamlFile, directory: Path) -> list[Fault]:
    """What is wrong with the files that the settings name; what is in `tls.*` is checked at deploy."""
    faults = []
    if settings.get("tls", "mode") == "files":
        for key in ("certificate", "key"):
            faults += _missing_file(settings, ("tls", key), document, directory)
    for index in range(settings.size("trust", "extra_cas")):
        location: Location = ("trust", "extra_cas", index)
        missing = _missing_file(settings, location, document, directory)
        faults += missing or _bad_authority(settings, location, directory)
    return faults


def _missing_file(settings: Settings, location: Location, document: YamlFile, directory: Path) -> list[Fault]:
    written = settings.get(*location)
    if not isinstance(written, str) or (directory / written).is_file():
        return []
    if document.written.get(location) == HIDDEN:
        return [Fault(location, wording.referenced_content())]
    path = directory / written
    return [Fault(location, wording.referenced_file_missing(layout.shown(path), folder=path.is_dir()))]


def _bad_authority(settings: Settings, location: Location, directory: Path) -> list[Fault]:
    # A fifth of a second to import, and few inventories have such files.
    from dap.trust import pem

    written = settings.get(*location)
    if not isinstance(written, str):
        return []
    try:
        content = read(directory / written)
    except OSError as error:
        return [Fault(location, wording.unreadable(error.strerror or "unknown error"))]
    if b"PRIVATE KEY-----" in content:
        return [Fault(location, wording.holds_private_key())]
    try:
        content.decode()
    except UnicodeDecodeError:
        return [Fault(location, wording.unreadable("not UTF-8"))]
    try:
        pem.load_certificates(content)
    except ValueError:
        return [Fault(location, wording.no_certificate())]
    return []
