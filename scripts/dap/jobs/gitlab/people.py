"""The configuration's users as users of GitLab, with their SSH keys."""

from __future__ import annotations

from typing import Any

from gitlab import Gitlab
from gitlab.v4.objects import User

from ..report import Report
from .client import at_once, refusals

# Notes that administrators see. Without one of them people have made the account, and its password is theirs.
_MADE = "Made by the Data Analysis Platform"
_UNFINISHED = "Being made by the Data Analysis Platform"
_BLOCKED = "Blocked by the Data Analysis Platform"


def provision(api: Gitlab, server: dict[str, Any], report: Report) -> dict[str, int]:
    """Make missing users; the numbers of all configured ones that are there, by name."""
    wanted = server["users"]
    with refusals("users"):
        present: dict[str, User] = {user.username.lower(): user for user in api.users.list(get_all=True)}
        named = [one["name"] for one in wanted if one["keys"] and one["name"] in present]
        listed = at_once(lambda name: present[name].keys.list(get_all=True), named)
    keys = dict(zip(named, listed, strict=True))
    for one in wanted:
        user = present.get(one["name"])
        report.say(f"GitLab: user {one['name']}")
        with refusals(f"user {one['name']}"):
            if one["disabled"]:
                _block(user, server["service"], one, report)
                continue
            user = _account(api, server["service"], one, user, report)
            _keys(user, server["service"], one, keys.get(one["name"], []), report)
        if user:
            present[one["name"]] = user
    return {one["name"]: present[one["name"]].id for one in wanted if one["name"] in present}


def _account(
    api: Gitlab, service: str, wanted: dict[str, Any], user: User | None, report: Report
) -> User | None:
    name = wanted["name"]
    made: list[User] = []

    def add() -> None:
        # The password comes in a second step: one that an administrator sets is to be changed at once.
        values = {
            "username": name,
            "name": wanted["full_name"] or name,
            "email": wanted["email"],
            "admin": bool(wanted["admin"]),
            "force_random_password": True,
            "skip_confirmation": True,
            "note": _UNFINISHED,
        }
        made.append(api.users.create(values))
        _finish(api, made[0], wanted)

    if user is None:
        report.ensure(False, f"{service}: user {name} added", add)
        return made[0] if made else None
    note = user.attributes.get("note") or ""
    if note == _UNFINISHED:
        report.ensure(False, f"{service}: password of {name} set", lambda: _finish(api, user, wanted))
    if user.state == "blocked" and note == _BLOCKED:
        report.ensure(False, f"{service}: user {name} unblocked", lambda: _unblock(api, user))
    admin = wanted["admin"]
    if admin is not None:
        verb = "made an administrator" if admin else "no longer an administrator"
        report.ensure(
            user.attributes.get("is_admin") == admin,
            f"{service}: user {name} {verb}",
            lambda: api.users.update(user.id, {"admin": admin}),
        )
    else:
        report.ensure(True, "", lambda: None)
    return user


def _finish(api: Gitlab, user: User, wanted: dict[str, Any]) -> None:
    password = {"password": wanted["password"]} if wanted["password"] else {}
    api.users.update(user.id, {**password, "note": _MADE})


def _unblock(api: Gitlab, user: User) -> None:
    user.unblock()
    api.users.update(user.id, {"note": _MADE})


def _block(user: User | None, service: str, wanted: dict[str, Any], report: Report) -> None:
    if user is None:
        return

    def block() -> None:
        user.note = _BLOCKED
        user.save()
        user.block()

    report.ensure(user.state == "blocked", f"{service}: user {wanted['name']} blocked", block)


def _keys(
    user: User | None, service: str, wanted: dict[str, Any], present: list[Any], report: Report
) -> None:
    """Add SSH keys; those that people have added stay."""
    known = {tuple(key.key.split()[:2]) for key in present}
    for key in wanted["keys"]:
        kind, content, *comment = key.split(maxsplit=2)
        title = comment[0] if comment else f"{wanted['name']}, from the platform's configuration"

        def add(key: str = key, title: str = title) -> None:
            if user:
                user.keys.create({"title": title, "key": key})

        report.ensure((kind, content) in known, f"{service}: SSH key of {wanted['name']} added: {title}", add)
