"""A group for each configured project: its members, its CI variables, its examples."""

from __future__ import annotations

from typing import Any

from gitlab import Gitlab
from gitlab.exceptions import GitlabGetError
from gitlab.v4.objects import Group

from ..report import Report
from . import examples, variables
from .client import at_once, refusals

ROLES = {"guest": 10, "reporter": 20, "developer": 30, "maintainer": 40, "owner": 50}


def provision(api: Gitlab, server: dict[str, Any], ids: dict[str, int], report: Report) -> None:
    """Bring the groups into the desired state.

    Args:
        ids: numbers of the configured users by name.
    """
    wanted = server["groups"]
    with refusals("groups"):
        found = at_once(lambda one: _look(api, one["path"]), wanted)
    for one, (group, members, present) in zip(wanted, found, strict=True):
        place = f"{server['service']}: group {one['path']}"
        report.say(f"GitLab: group {one['path']}")
        with refusals(f"group {one['path']}"):
            group = _group(api, place, one, group, report)
            _members(group, place, one["members"], ids, members, report)
            manager = group.variables if group else None
            variables.provision(manager, place, one["variables"], report, present)
            if one["examples"]:
                examples.provision(api, group, place, server["examples"], present, report)


def _look(api: Gitlab, path: str) -> tuple[Group | None, list[Any], list[Any]]:
    """A group with its members and variables; none where there is no such group."""
    try:
        group = api.groups.get(path, with_projects=False)
    except GitlabGetError as error:
        if error.response_code != 404:
            raise
        return None, [], []
    return group, group.members.list(get_all=True), group.variables.list(get_all=True)


def _group(
    api: Gitlab, place: str, wanted: dict[str, Any], group: Group | None, report: Report
) -> Group | None:
    made: list[Group] = []

    def add() -> None:
        values = {"name": wanted["path"], "path": wanted["path"], "visibility": "private"}
        made.append(api.groups.create({**values, "description": wanted["summary"]}))

    report.ensure(group is not None, f"{place} added", add)
    return group or (made[0] if made else None)


def _members(
    group: Group | None,
    place: str,
    wanted: dict[str, str],
    ids: dict[str, int],
    present: list[Any],
    report: Report,
) -> None:
    """Add members and raise their roles. Higher roles and other members are people's own doing, and stay."""
    levels = {member.id: member.access_level for member in present}
    for name, role in wanted.items():
        number, level = ids.get(name), ROLES[role]
        there = levels.get(number, 0) if number else 0

        def write(number: int | None = number, level: int = level, there: int = there) -> None:
            if group and there:
                group.members.update(number, {"access_level": level})
            elif group:
                group.members.create({"user_id": number, "access_level": level})

        report.ensure(there >= level, f"{place}: {name} is {role}", write)
