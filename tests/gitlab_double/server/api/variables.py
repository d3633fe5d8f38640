"""CI variables of the instance, of groups and of projects."""

from __future__ import annotations

import re
from typing import Any

from .. import access
from ..access import MAINTAINER, OWNER
from ..paging import page
from ..records import Variable
from ..routing import Call, Handler, Reply, bad, invalid, not_found, route

KEY = re.compile(r"[a-zA-Z0-9_]{1,255}")
UNMASKABLE = re.compile(r"\s")
MASKABLE = re.compile(r"[a-zA-Z0-9_+=/@:.~-]{8,}")
"""What a value may consist of to be masked while references in it are expanded."""
TYPES = ("env_var", "file")


def entity(variable: Variable) -> dict[str, Any]:
    said = {
        "variable_type": variable.variable_type,
        "key": variable.key,
        "value": None if variable.hidden else variable.value,
        "protected": variable.protected,
        "masked": variable.masked,
        "raw": variable.raw,
        "description": variable.description,
    }
    if variable.owner != "instance":
        said |= {"hidden": variable.hidden, "environment_scope": variable.environment_scope}
    return said


def _owner(call: Call, owner: str) -> int:
    if owner == "instance":
        access.need_admin(call)
        return 0
    if owner == "group":
        return access.find_group(call, OWNER).id
    return access.find_project(call, MAINTAINER).id


def _find(call: Call, owner: str) -> Variable:
    number = _owner(call, owner)
    found = call.double.store.find(Variable, owner=owner, owner_id=number, key=call.params["key"])
    if scope := call.query.get(
        "filter[environment_scope]", (call.body.get("filter") or {}).get("environment_scope")
    ):
        found = [one for one in found if one.environment_scope == scope]
    if not found:
        raise not_found("Variable")
    if len(found) > 1:
        raise bad(
            "There are multiple variables with provided parameters. Please use 'filter[environment_scope]'"
        )
    return found[0]


def _fill(call: Call, variable: Variable) -> Variable:
    """What the body says; refuses what cannot be masked.

    GitLab masks eight characters and more without white space; unless raw, of a smaller alphabet.
    """
    body = call.body
    variable.value = str(body.get("value", variable.value))
    variable.variable_type = body.get("variable_type") or variable.variable_type
    if variable.variable_type not in TYPES:
        raise bad("variable_type does not have a valid value")
    variable.raw = call.flag("raw", variable.raw)
    variable.protected = call.flag("protected", variable.protected)
    variable.hidden = variable.hidden or bool(body.get("masked_and_hidden"))
    variable.masked = variable.hidden or call.flag("masked", variable.masked)
    variable.environment_scope = body.get("environment_scope") or variable.environment_scope
    variable.description = body.get("description", variable.description)
    if variable.masked:
        fits = len(variable.value) >= 8 and not UNMASKABLE.search(variable.value)
        if not fits or not (variable.raw or MASKABLE.fullmatch(variable.value)):
            raise invalid("value", "is invalid")
    return variable


def _list(owner: str) -> Handler:
    def answer(call: Call) -> Reply:
        number = _owner(call, owner)
        return page(call, call.double.store.find(Variable, owner=owner, owner_id=number), entity)

    return answer


def _create(owner: str) -> Handler:
    def answer(call: Call) -> Reply:
        number = _owner(call, owner)
        key, _ = call.need("key", "value")
        if not KEY.fullmatch(key):
            raise invalid("key", "can contain only letters, digits and '_'.")
        variable = _fill(call, Variable(owner=owner, owner_id=number, key=key))
        others = call.double.store.find(Variable, owner=owner, owner_id=number, key=key)
        if any(one.environment_scope == variable.environment_scope for one in others):
            taken = "has already been taken"
            raise invalid("key", taken if owner == "instance" else f"({key}) {taken}")
        return Reply(201, entity(call.double.store.add(variable)))

    return answer


def _show(owner: str) -> Handler:
    return lambda call: Reply(200, entity(_find(call, owner)))


def _change(owner: str) -> Handler:
    def answer(call: Call) -> Reply:
        return Reply(200, entity(call.double.store.save(_fill(call, _find(call, owner)))))

    return answer


def _delete(owner: str) -> Handler:
    def answer(call: Call) -> Reply:
        call.double.store.delete(_find(call, owner))
        return Reply(204)

    return answer


_PLACES = {
    "instance": "/admin/ci/variables",
    "group": "/groups/{id}/variables",
    "project": "/projects/{id}/variables",
}
for _owner_kind, _base in _PLACES.items():
    route("GET", _base)(_list(_owner_kind))
    route("POST", _base)(_create(_owner_kind))
    route("GET", f"{_base}/{{key}}")(_show(_owner_kind))
    route("PUT", f"{_base}/{{key}}")(_change(_owner_kind))
    route("DELETE", f"{_base}/{{key}}")(_delete(_owner_kind))
