"""The rules about values that do not go together.

They work on what is written, not on checked models, so that they find their faults in the same run as all
others: a value that is faulty itself, or whose key is probably misspelt, is unknown to them, and no rule says
anything about it.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterator, Mapping
from itertools import combinations
from pathlib import PurePosixPath

from dap.configuration import wording
from dap.configuration.dev_containers import (
    containers_differ,
    containers_have_users,
    gitlab_has_keys,
    user_numbers_differ,
)
from dap.configuration.gpus import jobs_have_devices_to_themselves
from dap.configuration.wording import Fault, Location

Rule = Callable[["Settings"], Iterator[Fault]]


class Settings:
    """What an operator has written, with the defaults behind it and without what is known to be wrong.

    Args:
        data: the file's content.
        default_at: gives the default at a location.
        faulty: locations whose values are wrong; nothing at or below them is seen.
        known_services: the names of all services, or None to accept any.
    """

    def __init__(
        self,
        data: Mapping[str, object],
        default_at: Callable[[Location], object],
        faulty: Collection[Location] = (),
        known_services: Collection[str] | None = None,
    ) -> None:
        self._data = data
        self._default_at = default_at
        self._faulty = set(faulty)
        self.known_services = known_services

    def written(self, *location: str | int) -> bool:
        """Whether the operator has written this key, rightly or wrongly."""
        return self._find(location)[0]

    def get(self, *location: str | int) -> object:
        """The value or the default at a location; None where it is faulty or there is none."""
        if self.is_faulty(*location):
            return None
        written, value = self._find(location)
        return value if written else self._default_at(location)

    def is_faulty(self, *location: str | int) -> bool:
        """Whether what stands here, or something that it stands in, is known to be wrong."""
        return any(location[:length] in self._faulty for length in range(len(location) + 1))

    def size(self, *location: str | int) -> int:
        """How many items the list at a location has."""
        items = self.get(*location)
        return len(items) if isinstance(items, list) else 0

    def _find(self, location: Location) -> tuple[bool, object]:
        here: object = self._data
        for part in location:
            if isinstance(here, list):
                here = dict(enumerate(here))
            if not isinstance(here, dict) or part not in here:
                return False, None
            here = here[part]
        return True, here


def ports_differ(settings: Settings) -> Iterator[Fault]:
    """All ports under `ports` differ."""
    blamed: set[str] = set()
    for first, second in combinations(("http", "https", "postgres", "ssh"), 2):
        port = settings.get("ports", first)
        if port is None or port != settings.get("ports", second) or blamed & {first, second}:
            continue
        # The default is never to blame.
        guilty, other = (second, first) if settings.written("ports", second) else (first, second)
        blamed.add(guilty)
        default = not settings.written("ports", other)
        yield Fault(("ports", guilty), wording.same_port(f"ports.{other}", default=default))


def folders_are_apart(settings: Settings) -> Iterator[Fault]:
    """Neither of `paths.root` and `paths.data` lies inside the other."""
    guilty, other = ("data", "root") if settings.written("paths", "data") else ("root", "data")
    mine, others = settings.get("paths", guilty), settings.get("paths", other)
    if not isinstance(mine, str) or not isinstance(others, str):
        return
    if mine == others:
        yield Fault(("paths", guilty), wording.same_folder(f"paths.{other}"))
    elif PurePosixPath(mine).is_relative_to(others):
        yield Fault(("paths", guilty), wording.folder_inside(f"paths.{other}", others))
    elif PurePosixPath(others).is_relative_to(mine):
        yield Fault(("paths", guilty), wording.folder_around(f"paths.{other}", others))


def tls_files_fit_the_mode(settings: Settings) -> Iterator[Fault]:
    """`tls.certificate` and `tls.key` are both there with `tls.mode: files`, neither with `private-ca`."""
    mode = settings.get("tls", "mode")
    for key in ("certificate", "key"):
        location = ("tls", key)
        written = settings.written(*location)
        if mode == "files" and not written and not settings.is_faulty(*location):
            yield Fault(location, wording.needed_with_files())
        elif mode == "private-ca" and written and settings.get(*location) is not None:
            yield Fault(location, wording.unused_with_private_ca())


def names_differ(settings: Settings) -> Iterator[Fault]:
    """No two users have the same name, and no two projects; dots, hyphens and underscores count alike."""
    for section in ("users", "projects"):
        first_with: dict[str, int] = {}
        for index in range(settings.size(section)):
            name = settings.get(section, index, "name")
            if not isinstance(name, str):
                continue
            # Names of containers, hosts and databases are made of them, and know only one of the three.
            first = first_with.setdefault(re.sub(r"[._-]", "-", name), index)
            if first != index:
                other = f"{section}[{first}]"
                same = settings.get(section, first, "name") == name
                text = wording.same_name(other) if same else wording.alike_name(other)
                yield Fault((section, index, "name"), text)


def users_are_not_projects(settings: Settings) -> Iterator[Fault]:
    """No user has the name of a project: both are names of roles in databases, and of places in GitLab."""
    projects: dict[str, int] = {}
    for index in range(settings.size("projects")):
        name = settings.get("projects", index, "name")
        if isinstance(name, str):
            projects.setdefault(re.sub(r"[._-]", "-", name), index)
    for index in range(settings.size("users")):
        name = settings.get("users", index, "name")
        if isinstance(name, str) and (other := projects.get(re.sub(r"[._-]", "-", name))) is not None:
            yield Fault(("users", index, "name"), wording.same_name(f"projects[{other}]"))


def members_are_users(settings: Settings) -> Iterator[Fault]:
    """Every member of a project is a user."""
    users = [settings.get("users", index, "name") for index in range(settings.size("users"))]
    known = [name for name in users if isinstance(name, str)]
    for index in range(settings.size("projects")):
        members = settings.get("projects", index, "members")
        for name in members if isinstance(members, dict) else ():
            if name != "*" and name not in known:
                add = f"add it to users: - name: {name}"
                text = wording.unknown_member(wording.one_of(str(name), known) if known else add)
                yield Fault(("projects", index, "members", name), text)


def services_are_known(settings: Settings) -> Iterator[Fault]:
    """Every key of `services` is the name of a service of the platform or of the inventory."""
    services = settings.get("services")
    known = settings.known_services
    if not isinstance(services, dict) or known is None:
        return
    for name in services:
        if name not in known:
            yield Fault(("services", name), wording.unknown_service(wording.one_of(name, known)))


RULES: tuple[Rule, ...] = (
    ports_differ,
    folders_are_apart,
    tls_files_fit_the_mode,
    names_differ,
    users_are_not_projects,
    members_are_users,
    services_are_known,
    user_numbers_differ,
    gitlab_has_keys,
    containers_have_users,
    containers_differ,
    jobs_have_devices_to_themselves,
)


def broken_rules(settings: Settings) -> list[Fault]:
    """All faults that the rules find."""
    return [fault for rule in RULES for fault in rule(settings)]
