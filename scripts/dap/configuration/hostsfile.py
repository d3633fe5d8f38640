"""Reads an inventory's `hosts.yml`: a plain Ansible inventory in YAML with the platform's two groups."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from dap.configuration import wording
from dap.configuration.wording import Fault, Location
from dap.configuration.yamlfile import YamlFile

SERVICE_HOST = "service_host"
RUNNER_HOSTS = "runner_hosts"
GROUPS = {
    SERVICE_HOST: "Exactly one host: all services run on it.",
    RUNNER_HOSTS: "Any number of hosts, or none, for CI jobs and development containers.",
}
CONNECTIONS = ("local", "ssh")
SHORTEST = "all: {children: {service_host: {hosts: {localhost: {ansible_connection: local}}}}}"

# Ansible decrypts single values by itself.
OPAQUE_TAGS = ("!vault", "!unsafe")

_HOLDERS = ("all", "ungrouped")
_GROUP_KEYS = ("children", "hosts", "vars")
_HOST_NAME = re.compile(r"[A-Za-z0-9]([A-Za-z0-9._-]{0,251}[A-Za-z0-9])?")
# Ansible takes any variable; these are the ones for which a misspelling means an unreachable host.
_CONNECTION_VARIABLES = {
    f"ansible_{name}"
    for name in """
    become become_exe become_flags become_method become_pass become_password become_password_file
    become_user connection host password pipelining port python_interpreter remote_tmp shell_executable
    shell_type ssh_args ssh_common_args ssh_extra_args ssh_host ssh_pass ssh_pipelining ssh_port
    ssh_private_key ssh_private_key_file ssh_timeout ssh_user timeout user
    """.split()  # noqa: SIM905 - as a list they take thirty lines
}
_MAPPING_EXAMPLES = {
    "hosts": "{alpha: {ansible_host: 192.0.2.10}}",
    "children": "{service_host: {hosts: {alpha: {}}}}",
    "vars": "{ansible_user: admin}",
}


@dataclass(frozen=True)
class Host:
    """A machine of the inventory.

    Attributes:
        name: its name in the inventory.
        groups: the groups it is in, without `all`.
        variables: its Ansible variables as `hosts.yml` gives them, those of its groups included.
    """

    name: str
    groups: frozenset[str]
    variables: Mapping[str, object]

    @property
    def is_local(self) -> bool:
        """Whether it is the machine that this program runs on."""
        return self.variables.get("ansible_connection") == "local"


@dataclass
class _Group:
    location: Location
    hosts: dict[str, Location] = field(default_factory=dict)
    variables: dict[str, object] = field(default_factory=dict)
    parents: set[str] = field(default_factory=set)
    faulty: bool = False


def find_hosts(document: YamlFile) -> tuple[tuple[Host, ...], list[Fault]]:
    """The hosts of an inventory file in the order in which they stand there, and what is wrong with it."""
    other_format = _other_format(document)
    if other_format:
        return (), [Fault((), wording.other_inventory_format(other_format, SHORTEST), value="")]
    if not document.parsed or (document.faults and document.data is None):
        return (), document.faults
    if document.data is None:
        return (), [Fault((), wording.empty_file(SHORTEST))]
    if not isinstance(document.data, dict):
        return (), [Fault((), wording.file_not_a_mapping(SHORTEST))]
    reader = _HostsReader()
    reader.read_groups(document.data, (), parent=None)
    reader.check_groups()
    return tuple(reader.hosts()), wording.first_causes(document.faults + reader.faults)


def _other_format(document: YamlFile) -> str | None:
    """What the file is where it is one of Ansible's other kinds of inventory."""
    for beginning, kind in (("#!", "a script"), ("$ANSIBLE_VAULT", "an encrypted file")):
        if document.text.startswith(beginning):
            return kind
    if isinstance(document.data, dict):
        return "the configuration of an inventory plugin" if "plugin" in document.data else None
    lines = (line.strip() for line in document.text.splitlines())
    first = next((line for line in lines if line and line[0] not in "#;"), "")
    ini = re.match(r"\[[\w.-]+(:(vars|children))?\]$|[\w.-]+\s+ansible_\w+\s*=", first)
    return "an INI file" if ini else None


class _HostsReader:
    """Collects groups and hosts from the nested mappings of an inventory file."""

    def __init__(self) -> None:
        self.faults: list[Fault] = []
        self._groups: dict[str, _Group] = {}
        self._host_variables: dict[str, dict[str, object]] = {}
        self._host_locations: dict[str, Location] = {}

    def read_groups(self, groups: Mapping[str, object], location: Location, parent: str | None) -> None:
        for name, body in groups.items():
            here = (*location, name)
            if name not in GROUPS and name not in _HOLDERS:
                self._refuse_group(name, here, body, top=parent is None)
                continue
            group = self._groups.setdefault(name, _Group(here))
            if parent and parent != name:
                group.parents.add(parent)
            if body is None:
                continue
            if isinstance(body, dict):
                self._read_group(name, group, body, here)
            else:
                group.faulty = True
                example = f"{{hosts: {_MAPPING_EXAMPLES['hosts']}}}"
                self._fault(here, wording.not_a_mapping().with_example(example))

    def _refuse_group(self, name: str, location: Location, body: object, *, top: bool) -> None:
        guess = wording.closest(name, GROUPS)
        if guess:
            # The group is there, only misspelt: no word about a missing one.
            self._groups.setdefault(guess, _Group(location)).faulty = True
        if top and name in _GROUP_KEYS:
            suggestion = f"write it below all: all: {{{name}: …}}"
            self._groups.setdefault(SERVICE_HOST, _Group(location)).faulty = True
        elif name in _GROUP_KEYS or (
            isinstance(body, dict) and "children" not in body and "hosts" not in body
        ):
            suggestion = wording.one_of(name, GROUPS)
        else:
            suggestion = f"did you mean {guess}?" if guess else f"write {' or '.join(sorted(GROUPS))}"
        self._fault(location, wording.unknown_group(suggestion))

    def _read_group(self, name: str, group: _Group, body: Mapping[str, object], location: Location) -> None:
        for key, value in body.items():
            here = (*location, key)
            if key not in _GROUP_KEYS:
                group.faulty = True
                self._fault(here, wording.unknown_key(f"the group {name}", wording.one_of(key, _GROUP_KEYS)))
            elif value is None:
                continue
            elif not isinstance(value, dict):
                group.faulty = True
                self._fault(here, wording.not_a_mapping().with_example(_MAPPING_EXAMPLES[key]))
            elif key == "children":
                self.read_groups(value, here, parent=name)
            elif key == "vars":
                group.variables.update(value)
                self._check_variables(value, here)
            else:
                self._read_hosts(group, value, here)

    def _read_hosts(self, group: _Group, hosts: Mapping[str, object], location: Location) -> None:
        for name, variables in hosts.items():
            here = (*location, name)
            problem = _wrong_host_name(name)
            if problem:
                group.faulty = True
                self._fault(here, wording.not_a_host_name(problem), value="")
                continue
            group.hosts[name] = here
            self._host_locations.setdefault(name, here)
            known = self._host_variables.setdefault(name, {})
            if isinstance(variables, dict):
                known.update(variables)
                self._check_variables(variables, here)
            elif variables is not None:
                self._fault(here, wording.not_a_mapping().with_example("{ansible_host: 192.0.2.10}"))

    def _check_variables(self, variables: Mapping[str, object], location: Location) -> None:
        for key, value in variables.items():
            here = (*location, key)
            guess = wording.closest(key, _CONNECTION_VARIABLES, cutoff=0.9)
            if guess and key not in _CONNECTION_VARIABLES:
                self._fault(here, wording.unknown_key("a host", f"did you mean {guess}?"))
            elif key == "ansible_connection" and value not in CONNECTIONS:
                self._fault(here, wording.not_a_choice(str(value), CONNECTIONS))
            elif key == "ansible_port" and not _is_port(value):
                self._fault(here, wording.not_a_number("a port number", 1, 65535, None).with_example("22"))

    def check_groups(self) -> None:
        """Find what is wrong with the groups as a whole."""
        service = self._groups.get(SERVICE_HOST)
        if service is None:
            self._fault((), wording.no_service_host(SHORTEST), value="")
            return
        if not service.faulty:
            members = sorted(self._members(SERVICE_HOST))
            if not members:
                self._fault(service.location, wording.group_without_host(SERVICE_HOST), value="")
            elif len(members) > 1:
                value = f"[{', '.join(members)}]"
                self._fault(service.location, wording.several_service_hosts(len(members)), value=value)
        if not any(self._groups[name].faulty for name in GROUPS if name in self._groups):
            for name, location in self._host_locations.items():
                if not self._groups_of(name):
                    self._fault(location, wording.host_in_no_group(), value="")

    def hosts(self) -> Iterator[Host]:
        """The hosts with their groups and variables."""
        for name in self._host_locations:
            groups = self._groups_of(name)
            variables: dict[str, object] = {}
            for group in ("all", *sorted(groups, key=lambda group: (len(self._ancestors(group)), group))):
                if group in self._groups:
                    variables.update(self._groups[group].variables)
            yield Host(name, groups, {**variables, **self._host_variables[name]})

    def _groups_of(self, host: str) -> frozenset[str]:
        return frozenset(name for name in GROUPS if name in self._groups and host in self._members(name))

    def _members(self, group: str) -> set[str]:
        """The hosts in a group and in the groups below it."""
        below = [name for name in self._groups if name == group or group in self._ancestors(name)]
        return {host for name in below for host in self._groups[name].hosts}

    def _ancestors(self, group: str) -> set[str]:
        found: set[str] = set()
        to_do = [group]
        while to_do:
            for parent in self._groups[to_do.pop()].parents - found:
                found.add(parent)
                to_do.append(parent)
        return found

    def _fault(self, location: Location, text: wording.Wording, value: str | None = None) -> None:
        self.faults.append(Fault(location, text, value))


def _is_port(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 1 <= value <= 65535


def _wrong_host_name(name: str) -> str | None:
    """What to write instead of a name that is no host's; None where it is one."""
    if name in GROUPS or name in _HOLDERS:
        return "write a name that is not a group's"
    if _HOST_NAME.fullmatch(name):
        return None
    try:
        ipaddress.ip_address(name)
    except ValueError:
        pass
    else:
        return None
    if re.search(r"\[.*\]", name):
        return "write each host on a line of its own, without a range"
    with_port = re.fullmatch(r"([\w.-]+):(\d+)", name, re.A)
    if with_port:
        return f"write {with_port[1]}, with ansible_port: {with_port[2]} below it"
    with_user = re.fullmatch(r"([\w.-]+)@([\w.-]+)", name, re.A)
    if with_user:
        return f"write {with_user[2]}, with ansible_user: {with_user[1]} below it"
    return "write letters, digits, dots, hyphens and underscores only, such as alpha or alpha.example.com"
