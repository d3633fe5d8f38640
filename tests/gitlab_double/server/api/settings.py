"""The application's settings, and what version this is."""

from __future__ import annotations

from typing import Any

from ..access import need_admin
from ..routing import Call, Reply, bad, route
from ..site import REVISION, VERSION

VISIBILITIES = ("private", "internal", "public")


def _entity(call: Call) -> dict[str, Any]:
    names = call.double.contract.properties("APIEntitiesApplicationSetting")
    return {name: None for name in names} | call.double.settings() | {"id": 1}


@route("GET", "/application/settings")
def show(call: Call) -> Reply:
    need_admin(call)
    return Reply(200, _entity(call))


@route("PUT", "/application/settings")
def change(call: Call) -> Reply:
    need_admin(call)
    known = set(call.double.contract.properties("APIEntitiesApplicationSetting"))
    changes = {name: value for name, value in call.body.items() if name in known}
    if not changes:
        raise bad("at least one parameter must be provided")
    for name in ("default_project_visibility", "default_group_visibility"):
        if name in changes and changes[name] not in VISIBILITIES:
            raise bad(f"{name} does not have a valid value")
    call.double.change_settings(changes)
    return Reply(200, _entity(call))


@route("GET", "/version", scopes=("read_user",))
def version(call: Call) -> Reply:
    _ = call.login.known
    return Reply(200, {"version": VERSION, "revision": REVISION})


@route("GET", "/metadata", scopes=("read_user",))
def metadata(call: Call) -> Reply:
    _ = call.login.known
    kas = {"enabled": False, "externalUrl": None, "externalK8sProxyUrl": None, "version": None}
    return Reply(200, {"version": VERSION, "revision": REVISION, "kas": kas, "enterprise": False})
