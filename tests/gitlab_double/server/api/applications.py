"""OAuth applications of the instance. Their secrets show once."""

from __future__ import annotations

import secrets
from typing import Any

from .. import passwords
from ..access import need_admin
from ..paging import page
from ..records import Application
from ..routing import Call, Reply, invalid, not_found, route

SCOPES = frozenset(
    {
        *("api", "read_user", "read_api", "openid", "profile", "email"),
        *("read_repository", "write_repository", "sudo"),
    }
)


def entity(application: Application) -> dict[str, Any]:
    return {
        "id": application.id,
        "application_id": application.uid,
        "application_name": application.name,
        "callback_url": application.redirect_uri,
        "confidential": application.confidential,
        "scopes": application.scopes,
    }


def _with_new_secret(application: Application) -> tuple[Application, dict[str, Any]]:
    secret = passwords.token("gloas-", 64)
    application.secret = passwords.token_digest(secret)
    return application, {"secret": secret}


@route("GET", "/applications")
def all_applications(call: Call) -> Reply:
    need_admin(call)
    return page(call, call.double.store.find(Application), entity)


@route("POST", "/applications")
def create(call: Call) -> Reply:
    need_admin(call)
    name, redirect_uri, scopes = call.need("name", "redirect_uri", "scopes")
    wanted = str(scopes).split()
    if set(wanted) - SCOPES:
        raise invalid("scopes", "doesn't match configured on the server.")
    if not all("://" in one for one in str(redirect_uri).split()):
        raise invalid("redirect_uri", "must be an absolute URI.")
    application, secret = _with_new_secret(
        Application(
            uid=secrets.token_hex(32),
            name=name,
            redirect_uri=redirect_uri,
            scopes=wanted,
            confidential=call.flag("confidential", True),
        )
    )
    call.double.store.add(application)
    return Reply(201, entity(application) | secret)


def _find(call: Call) -> Application:
    need_admin(call)
    found = call.double.store.get(Application, call.number("id"))
    if found is None:
        raise not_found("Application")
    return found


@route("DELETE", "/applications/{id}")
def delete(call: Call) -> Reply:
    call.double.store.delete(_find(call))
    return Reply(204)


@route("POST", "/applications/{id}/renew-secret", described=False)
def renew(call: Call) -> Reply:
    application, secret = _with_new_secret(_find(call))
    call.double.store.save(application)
    return Reply(200, entity(application) | secret)
