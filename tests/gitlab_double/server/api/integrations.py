"""Hooks and deploy tokens of a project. Hooks are kept and never called."""

from __future__ import annotations

from typing import Any
from urllib.parse import urlsplit

from .. import passwords
from ..access import MAINTAINER, find_project, is_expired
from ..paging import page
from ..records import DeployToken, Hook
from ..routing import Call, Reply, bad, invalid, not_found, route

DEPLOY_SCOPES = frozenset(
    {
        *("read_repository", "read_registry", "write_registry", "read_package_registry"),
        *("write_package_registry", "read_virtual_registry", "write_virtual_registry"),
    }
)


def _hook(hook: Hook) -> dict[str, Any]:
    return {
        "id": hook.id,
        "url": hook.url,
        "name": None,
        "description": None,
        "created_at": hook.created_at,
        "push_events": True,
        "enable_ssl_verification": True,
        "project_id": hook.project_id,
        "token_present": bool(hook.token),
        "alert_status": "executable",
    } | hook.more


@route("GET", "/projects/{id}/hooks")
def all_hooks(call: Call) -> Reply:
    project = find_project(call, MAINTAINER)
    return page(call, call.double.store.find(Hook, project_id=project.id), _hook)


@route("POST", "/projects/{id}/hooks")
def create_hook(call: Call) -> Reply:
    project = find_project(call, MAINTAINER)
    (url,) = call.need("url")
    if urlsplit(url).scheme not in ("http", "https"):
        raise bad("Invalid url given")
    more = {key: value for key, value in call.body.items() if key not in ("url", "token", "id")}
    hook = Hook(project_id=project.id, url=url, token=call.body.get("token"), more=more)
    return Reply(201, _hook(call.double.store.add(hook)))


@route("DELETE", "/projects/{id}/hooks/{hook_id}", described=False)
def delete_hook(call: Call) -> Reply:
    project = find_project(call, MAINTAINER)
    hook = call.double.store.first(Hook, id=call.number("hook_id"), project_id=project.id)
    if hook is None:
        raise not_found()
    call.double.store.delete(hook)
    return Reply(204)


def _deploy_token(token: DeployToken) -> dict[str, Any]:
    return {
        "id": token.id,
        "name": token.name,
        "username": token.username,
        "expires_at": token.expires_at,
        "scopes": token.scopes,
        "revoked": token.revoked,
        "expired": is_expired((token.expires_at or "")[:10]),
    }


@route("GET", "/projects/{id}/deploy_tokens")
def all_deploy_tokens(call: Call) -> Reply:
    project = find_project(call, MAINTAINER)
    found = call.double.store.find(DeployToken, project_id=project.id)
    if call.flag("active"):
        found = [one for one in found if not one.revoked and not is_expired((one.expires_at or "")[:10])]
    return page(call, found, _deploy_token)


@route("POST", "/projects/{id}/deploy_tokens")
def create_deploy_token(call: Call) -> Reply:
    project = find_project(call, MAINTAINER)
    name, scopes = call.need("name", "scopes")
    if not scopes or set(scopes) - DEPLOY_SCOPES:
        raise bad("scopes does not have a valid value")
    text = passwords.token("gldt-")
    token = DeployToken(
        project_id=project.id,
        name=name,
        digest=passwords.token_digest(text),
        scopes=list(scopes),
        expires_at=call.body.get("expires_at"),
    )
    if token.expires_at and is_expired(token.expires_at[:10]):
        raise invalid("expires_at", "can't be in the past")
    call.double.store.add(token)
    token.username = call.body.get("username") or f"gitlab+deploy-token-{token.id}"
    call.double.store.save(token)
    return Reply(201, _deploy_token(token) | {"token": text})


@route("DELETE", "/projects/{id}/deploy_tokens/{token_id}", described=False)
def delete_deploy_token(call: Call) -> Reply:
    project = find_project(call, MAINTAINER)
    token = call.double.store.first(DeployToken, id=call.number("token_id"), project_id=project.id)
    if token is None:
        raise not_found("Deploy Token")
    call.double.store.delete(token)
    return Reply(204)
