"""Runners, as users and administrators see them."""

from __future__ import annotations

from typing import Any

from .. import clock, passwords
from ..access import MAINTAINER, OWNER, find_project, level, need_admin
from ..double import Double
from ..paging import page
from ..records import Job, Namespace, Project, Runner, User
from ..routing import ApiError, Call, Reply, bad, forbidden, not_found, route
from . import users

ONLINE_S, STALE_S = 2 * 3600, 7 * 86400
"""A runner that came within two hours is online; after a week without a contact it is stale."""
TYPES = ("instance_type", "group_type", "project_type")
LEVELS = ("not_protected", "ref_protected")
MANAGE = ("manage_runner",)


def status(runner: Runner) -> str:
    if runner.contacted_at is None:
        return "stale" if clock.seconds_since(runner.created_at) > STALE_S else "never_contacted"
    age = clock.seconds_since(runner.contacted_at)
    return "online" if age <= ONLINE_S else "offline" if age <= STALE_S else "stale"


def entity(double: Double, runner: Runner) -> dict[str, Any]:
    creator = double.store.get(User, runner.created_by)
    return {
        "id": runner.id,
        "description": runner.description,
        "ip_address": runner.ip_address or None,
        "active": not runner.paused,
        "paused": runner.paused,
        "is_shared": runner.runner_type == "instance_type",
        "runner_type": runner.runner_type,
        "name": runner.info.get("name"),
        "online": status(runner) == "online",
        "created_by": users.basic(double, creator) if creator else None,
        "created_at": runner.created_at,
        "status": status(runner),
        "job_execution_status": "active" if _running(double, runner) else "idle",
    }


def _running(double: Double, runner: Runner) -> list[Job]:
    return double.store.find(Job, runner_id=runner.id, status="running")


def details(double: Double, runner: Runner) -> dict[str, Any]:
    group = double.store.get(Namespace, runner.group_id)
    project = double.store.get(Project, runner.project_id)
    return entity(double, runner) | {
        "tag_list": runner.tag_list,
        "run_untagged": runner.run_untagged,
        "locked": runner.locked,
        "maximum_timeout": runner.maximum_timeout,
        "access_level": runner.access_level,
        "version": runner.info.get("version"),
        "revision": runner.info.get("revision"),
        "platform": runner.info.get("platform"),
        "architecture": runner.info.get("architecture"),
        "contacted_at": runner.contacted_at,
        "maintenance_note": runner.maintenance_note,
        "projects": [_project(project)] if project else [],
        "groups": [
            {
                "id": group.id,
                "name": group.name,
                "web_url": f"{double.site.external_url}/groups/{group.full_path}",
            }
        ]
        if group
        else [],
    }


def _project(project: Project) -> dict[str, Any]:
    return {
        "id": project.id,
        "name": project.name,
        "path": project.path,
        "path_with_namespace": project.full_path,
    }


@route("POST", "/user/runners", scopes=("create_runner",))
def create(call: Call) -> Reply:
    user = call.login.known
    (kind,) = call.need("runner_type")
    if kind not in TYPES:
        raise bad("runner_type does not have a valid value")
    runner = Runner(runner_type=kind, created_by=user.id)
    _place(call, runner)
    _fill(call, runner)
    runner.token = passwords.token("glrt-")
    call.double.store.add(runner)
    return Reply(201, {"id": runner.id, "token": runner.token, "token_expires_at": None})


def _place(call: Call, runner: Runner) -> None:
    """Where a new runner belongs; each type wants its own number, and rights there."""
    wanted = {"group_type": "group_id", "project_type": "project_id"}.get(runner.runner_type)
    for name in ("group_id", "project_id"):
        if name == wanted and call.body.get(name) is None:
            raise bad(f"{name} is missing")
        if name != wanted and call.body.get(name) is not None:
            raise bad(f"{name} is not allowed for runner_type {runner.runner_type}")
    if wanted is None:
        if not call.login.admin:
            raise forbidden()
        return
    kind: type[Namespace] | type[Project] = Namespace if wanted == "group_id" else Project
    place = call.double.store.get(kind, int(call.body[wanted]))
    if place is None:
        raise not_found("Group" if kind is Namespace else "Project")
    if level(call, place) < (OWNER if kind is Namespace else MAINTAINER):
        raise forbidden()
    setattr(runner, wanted, place.id)


def _fill(call: Call, runner: Runner) -> None:
    body = call.body
    if body.get("access_level", "not_protected") not in LEVELS:
        raise bad("access_level does not have a valid value")
    if "paused" in body and "active" in body:
        raise bad("active, paused are mutually exclusive")
    runner.paused = call.flag("paused", not call.flag("active", not runner.paused))
    for name in ("description", "maintenance_note", "access_level", "maximum_timeout"):
        setattr(runner, name, body.get(name, getattr(runner, name)))
    runner.description = runner.description or ""
    runner.locked = call.flag("locked", runner.locked)
    runner.run_untagged = call.flag("run_untagged", runner.run_untagged)
    tags = body.get("tag_list", runner.tag_list)
    runner.tag_list = sorted(
        {one.strip() for one in (tags.split(",") if isinstance(tags, str) else tags or [])} - {""}
    )
    if not runner.run_untagged and not runner.tag_list:
        raise ApiError(
            400,
            {"message": {"tags_list": ["can not be empty when runner is not allowed to pick untagged jobs"]}},
        )
    if runner.maximum_timeout is not None and runner.maximum_timeout < 600:
        raise ApiError(400, {"message": {"maximum_timeout": ["needs to be at least 10 minutes"]}})


def _filtered(call: Call, found: list[Runner]) -> Reply:
    if kind := call.query.get("type"):
        found = [one for one in found if one.runner_type == kind]
    if "paused" in call.query:
        found = [one for one in found if one.paused == call.flag("paused")]
    if wanted := call.query.get("status", call.query.get("scope")):
        found = [one for one in found if wanted in (status(one), "paused" if one.paused else "active")]
    if tags := call.query.get("tag_list"):
        found = [one for one in found if set(tags.split(",")) <= set(one.tag_list)]
    return page(call, found[::-1], lambda one: entity(call.double, one))


@route("GET", "/runners/all", scopes=MANAGE)
def everyones(call: Call) -> Reply:
    need_admin(call)
    return _filtered(call, call.double.store.find(Runner))


@route("GET", "/runners", scopes=MANAGE)
def own(call: Call) -> Reply:
    found = [one for one in call.double.store.find(Runner) if _may_manage(call, one, seen_by_all=False)]
    return _filtered(call, found)


@route("GET", "/projects/{id}/runners", scopes=MANAGE, described=False)
def of_project(call: Call) -> Reply:
    project = find_project(call, MAINTAINER)
    found = call.double.store.find(Runner)
    return _filtered(
        call, [one for one in found if one.runner_type == "instance_type" or one.project_id == project.id]
    )


def _may_manage(call: Call, runner: Runner, seen_by_all: bool) -> bool:
    user, store = call.login.known, call.double.store
    if runner.runner_type == "instance_type":
        return seen_by_all or (call.login.admin and runner.created_by == user.id)
    group, project = store.get(Namespace, runner.group_id), store.get(Project, runner.project_id)
    if group:
        return level(call, group) >= OWNER
    return bool(project and level(call, project) >= MAINTAINER)


def _find(call: Call, change: bool) -> Runner:
    _ = call.login.known
    runner = call.double.store.get(Runner, call.number("id"))
    if runner is None:
        raise not_found("Runner")
    if not call.login.admin and not _may_manage(call, runner, seen_by_all=not change):
        raise ApiError(403, "403 Forbidden - No access granted")
    return runner


@route("GET", "/runners/{id}", scopes=MANAGE)
def show(call: Call) -> Reply:
    return Reply(200, details(call.double, _find(call, change=False)))


@route("PUT", "/runners/{id}", scopes=MANAGE)
def change(call: Call) -> Reply:
    runner = _find(call, change=True)
    _fill(call, runner)
    call.double.store.save(runner)
    call.double.news.tell()
    return Reply(200, details(call.double, runner))


@route("DELETE", "/runners/{id}", scopes=MANAGE)
def delete(call: Call) -> Reply:
    call.double.store.delete(_find(call, change=True))
    return Reply(204)


@route("GET", "/runners/{id}/jobs", scopes=MANAGE, described=False)
def jobs_of(call: Call) -> Reply:
    from .jobs import entity as job_entity

    runner = _find(call, change=False)
    found = call.double.store.find(Job, runner_id=runner.id)
    if wanted := call.query.get("status"):
        found = [one for one in found if one.status == wanted]
    return page(call, found, lambda one: job_entity(call.double, one))


@route("GET", "/runners/{id}/managers", scopes=MANAGE, described=False)
def managers(call: Call) -> Reply:
    runner = _find(call, change=False)
    found = [runner] if runner.system_id else []
    return page(call, found, lambda one: manager(call.double, one))


def manager(double: Double, runner: Runner) -> dict[str, Any]:
    """The one process that last came with a runner's token."""
    kept = {key: runner.info.get(key) for key in ("version", "revision", "platform", "architecture")}
    return kept | {
        "id": runner.id,
        "system_id": runner.system_id,
        "created_at": runner.created_at,
        "contacted_at": runner.contacted_at,
        "ip_address": runner.ip_address or None,
        "status": status(runner),
        "job_execution_status": "active" if _running(double, runner) else "idle",
    }
