"""Groups and what is below them."""

from __future__ import annotations

import re
from typing import Any

from ..access import DEVELOPER, MAINTAINER, OWNER, REPORTER, find_group, level, sees
from ..double import Double
from ..paging import page
from ..records import Member, Namespace, Project, Variable
from ..routing import ApiError, Call, Reply, bad, forbidden, not_found, route
from .members import remove_members
from .settings import VISIBILITIES

PATH = re.compile(r"[A-Za-z0-9_.][A-Za-z0-9_.-]*")
_COLUMNS = ("name", "path", "parent_id", "description", "visibility", "id")


def namespace_entity(double: Double, namespace: Namespace) -> dict[str, Any]:
    prefix = "groups/" if namespace.kind == "group" else ""
    return {
        "id": namespace.id,
        "name": namespace.name,
        "path": namespace.path,
        "kind": namespace.kind,
        "full_path": namespace.full_path,
        "parent_id": namespace.parent_id,
        "avatar_url": None,
        "web_url": f"{double.site.external_url}/{prefix}{namespace.full_path}",
    }


def full_name(double: Double, namespace: Namespace) -> str:
    parent = double.store.get(Namespace, namespace.parent_id)
    return f"{full_name(double, parent)} / {namespace.name}" if parent else namespace.name


def entity(double: Double, group: Namespace) -> dict[str, Any]:
    return {
        "id": group.id,
        "web_url": f"{double.site.external_url}/groups/{group.full_path}",
        "name": group.name,
        "path": group.path,
        "description": group.description,
        "visibility": group.visibility,
        "share_with_group_lock": False,
        "require_two_factor_authentication": False,
        "two_factor_grace_period": 48,
        "project_creation_level": "developer",
        "auto_devops_enabled": None,
        "subgroup_creation_level": "maintainer",
        "emails_enabled": True,
        "mentions_disabled": None,
        "lfs_enabled": True,
        "request_access_enabled": True,
        "default_branch": None,
        "default_branch_protection": 2,
        "avatar_url": None,
        "full_name": full_name(double, group),
        "full_path": group.full_path,
        "created_at": group.created_at,
        "parent_id": group.parent_id,
        "organization_id": 1,
        "shared_runners_setting": "enabled",
    } | group.more


def below(double: Double, group: Namespace) -> list[Namespace]:
    children = double.store.find(Namespace, kind="group", parent_id=group.id)
    return [one for child in children for one in (child, *below(double, child))]


def check_path(call: Call, path: str, parent: Namespace | None) -> str:
    """The full path of something new; refuses one that is taken or is no path."""
    if not PATH.fullmatch(path) or path.endswith((".", ".git", ".atom")):
        raise ApiError(
            400,
            {
                "message": {
                    "path": [
                        "can only include non-accented letters, digits, '_', '-' and '.'. It must not start"
                        " with '-', '_', or '.', nor end with '-', '_', '.', '.git', or '.atom'."
                    ]
                }
            },
        )
    return f"{parent.full_path}/{path}" if parent else path


def check_visibility(value: str) -> str:
    if value not in VISIBILITIES:
        raise bad("visibility does not have a valid value")
    return value


@route("GET", "/groups")
def all_groups(call: Call) -> Reply:
    found = [one for one in call.double.store.find(Namespace, kind="group") if sees(call, one)]
    if search := call.query.get("search", "").lower():
        found = [one for one in found if search in one.name.lower() or search in one.path.lower()]
    if call.flag("owned"):
        found = [one for one in found if level(call, one) >= OWNER]
    if call.flag("top_level_only"):
        found = [one for one in found if one.parent_id is None]
    if visibility := call.query.get("visibility"):
        found = [one for one in found if one.visibility == visibility]
    found.sort(key=lambda one: one.name.lower(), reverse=call.query.get("sort") == "desc")
    return page(call, found, lambda one: entity(call.double, one))


@route("POST", "/groups")
def create(call: Call) -> Reply:
    user, store = call.login.known, call.double.store
    name, path = call.need("name", "path")
    parent = None
    if (number := call.body.get("parent_id")) is not None:
        parent = store.first(Namespace, id=int(number), kind="group")
        if parent is None or not sees(call, parent):
            raise not_found("Group")
        if level(call, parent) < MAINTAINER:
            raise forbidden()
    elif not call.login.admin and not user.more.get("can_create_group", True):
        raise forbidden()
    full_path = check_path(call, path, parent)
    if any(one.full_path.lower() == full_path.lower() for one in store.find(Namespace)):
        # GitLab's own wording: the problems of its model, in a sentence.
        raise ApiError(400, 'Failed to save group {:path=>["has already been taken"]}')
    group = Namespace(
        parent_id=parent.id if parent else None,
        name=name,
        path=path,
        full_path=full_path,
        description=call.body.get("description") or "",
        visibility=check_visibility(
            call.body.get("visibility") or call.double.settings()["default_group_visibility"]
        ),
        more={key: value for key, value in call.body.items() if key not in _COLUMNS},
    )
    store.add(group)
    if parent is None:
        store.add(Member(source="group", source_id=group.id, user_id=user.id, access_level=OWNER))
    return Reply(201, entity(call.double, group))


@route("GET", "/groups/{id}")
def show(call: Call) -> Reply:
    group = find_group(call)
    said = entity(call.double, group) | {"shared_with_groups": []}
    if level(call, group) >= OWNER:
        said["runners_token"] = None
    if call.flag("with_projects", True):
        from .projects import entity as project_entity  # the two describe each other

        projects = call.double.store.find(Project, namespace_id=group.id)
        said |= {"projects": [project_entity(call, one) for one in projects if sees(call, one)]}
        said |= {"shared_projects": []}
    return Reply(200, said)


@route("PUT", "/groups/{id}")
def change(call: Call) -> Reply:
    group = find_group(call, OWNER)
    group.name = call.body.get("name", group.name)
    group.description = call.body.get("description", group.description)
    group.visibility = check_visibility(call.body.get("visibility", group.visibility))
    group.more |= {key: value for key, value in call.body.items() if key not in _COLUMNS}
    path = call.body.get("path", group.path)
    if path != group.path:
        _move(call, group, path)
    call.double.store.save(group)
    return Reply(200, entity(call.double, group))


def _move(call: Call, group: Namespace, path: str) -> None:
    store = call.double.store
    full_path = check_path(call, path, store.get(Namespace, group.parent_id))
    if any(one.full_path.lower() == full_path.lower() for one in store.find(Namespace)):
        raise ApiError(400, {"message": {"path": ["has already been taken"]}})
    old = group.full_path
    for other in below(call.double, group):
        other.full_path = full_path + other.full_path.removeprefix(old)
        store.save(other)
    for project in store.find(Project):
        if project.full_path.startswith(f"{old}/"):
            project.full_path = full_path + project.full_path.removeprefix(old)
            store.save(project)
    group.path, group.full_path = path, full_path


@route("DELETE", "/groups/{id}")
def delete(call: Call) -> Reply:
    group, store = find_group(call, OWNER), call.double.store
    from .projects import delete_project  # the two remove each other

    for one in (group, *below(call.double, group)):
        for project in store.find(Project, namespace_id=one.id):
            delete_project(call.double, project)
        remove_members(store, "group", one.id)
        for variable in store.find(Variable, owner="group", owner_id=one.id):
            store.delete(variable)
        store.delete(one)
    return Reply(202, {"message": "202 Accepted"})


@route("GET", "/groups/{id}/projects", described=False)
def projects(call: Call) -> Reply:
    from .projects import entity as project_entity  # the two describe each other

    group = find_group(call)
    inside = [group, *(below(call.double, group) if call.flag("include_subgroups") else [])]
    found = [
        project
        for one in inside
        for project in call.double.store.find(Project, namespace_id=one.id)
        if sees(call, project)
    ]
    return page(call, found, lambda one: project_entity(call, one))


@route("GET", "/groups/{id}/subgroups", described=False)
def subgroups(call: Call) -> Reply:
    group = find_group(call)
    found = call.double.store.find(Namespace, kind="group", parent_id=group.id)
    return page(call, [one for one in found if sees(call, one)], lambda one: entity(call.double, one))


@route("GET", "/namespaces", described=False)
def namespaces(call: Call) -> Reply:
    user = call.login.known
    found = [
        one
        for one in call.double.store.find(Namespace)
        if (one.kind == "user" and (call.login.admin or one.owner_id == user.id))
        or (one.kind == "group" and level(call, one) >= REPORTER)
    ]
    return page(call, found, lambda one: namespace_entity(call.double, one))


def creation_level(namespace: Namespace) -> int:
    """The role that may make projects in a group."""
    wanted = namespace.more.get("project_creation_level", "developer")
    return {"noone": OWNER + 1, "owner": OWNER, "maintainer": MAINTAINER}.get(wanted, DEVELOPER)
