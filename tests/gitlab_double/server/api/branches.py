"""Branches, tags and which of the branches are protected."""

from __future__ import annotations

from typing import Any

from ..access import DEVELOPER, MAINTAINER, find_project, level
from ..ci.pushes import pushed
from ..paging import page
from ..protection import may_push, protection
from ..records import Project, ProtectedBranch
from ..repositories import NOTHING, Commit
from ..routing import ApiError, Call, Reply, bad, not_found, route
from .files import commit_entity

LEVELS = {0: "No one", 30: "Developers + Maintainers", 40: "Maintainers", 60: "Instance admins"}


def _entity(call: Call, project: Project, name: str, sha: str) -> dict[str, Any]:
    commit = call.double.repositories.commit(project.id, sha)
    assert isinstance(commit, Commit)
    rule = protection(call.double.store, project.id, name)
    return {
        "name": name,
        "commit": commit_entity(call, project, commit),
        "merged": False,
        "protected": rule is not None,
        "developers_can_push": rule is not None and rule.push_access_level == DEVELOPER,
        "developers_can_merge": rule is not None and rule.merge_access_level == DEVELOPER,
        "can_push": may_push(call.double.store, project, name, level(call, project)),
        "default": name == project.default_branch,
        "web_url": f"{call.double.site.external_url}/{project.full_path}/-/tree/{name}",
    }


@route("GET", "/projects/{id}/repository/branches", scopes=("read_repository",))
def all_branches(call: Call) -> Reply:
    project = find_project(call)
    found = sorted(call.double.repositories.branches(project.id).items())
    if search := call.query.get("search"):
        found = [one for one in found if search in one[0]]
    return page(call, found, lambda one: _entity(call, project, *one))


@route("GET", "/projects/{id}/repository/branches/{branch}", scopes=("read_repository",), described=False)
def one_branch(call: Call) -> Reply:
    project, name = find_project(call), call.params["branch"]
    sha = call.double.repositories.branches(project.id).get(name)
    if sha is None:
        raise not_found("Branch")
    return Reply(200, _entity(call, project, name, sha))


@route("POST", "/projects/{id}/repository/branches")
def create(call: Call) -> Reply:
    project = find_project(call, DEVELOPER)
    name = call.body.get("branch", call.query.get("branch"))
    ref = call.body.get("ref", call.query.get("ref"))
    absent = [text for text, value in {"branch": name, "ref": ref}.items() if not value]
    if absent:
        raise bad(", ".join(f"{text} is missing" for text in absent))
    if name in call.double.repositories.branches(project.id):
        raise ApiError(400, "Branch already exists")
    sha = call.double.repositories.resolve(project.id, str(ref))
    if sha is None:
        raise ApiError(400, f"Invalid reference name: {ref}")
    call.double.repositories.set_branch(project.id, str(name), sha)
    pushed(call.double, project, call.login.known, f"refs/heads/{name}", NOTHING, sha)
    return Reply(201, _entity(call, project, str(name), sha))


@route("DELETE", "/projects/{id}/repository/branches/{branch}", described=False)
def delete(call: Call) -> Reply:
    project, name = find_project(call, DEVELOPER), call.params["branch"]
    if name not in call.double.repositories.branches(project.id):
        raise not_found("Branch")
    if name == project.default_branch or protection(call.double.store, project.id, name):
        raise ApiError(403, "Protected branch")
    call.double.repositories.delete_branch(project.id, name)
    return Reply(204)


def _protected(rule: ProtectedBranch) -> dict[str, Any]:
    def levels(value: int) -> list[dict[str, Any]]:
        return [
            {
                "id": rule.id,
                "access_level": value,
                "access_level_description": LEVELS[value],
                "deploy_key_id": None,
                "user_id": None,
                "group_id": None,
            }
        ]

    return {
        "id": rule.id,
        "name": rule.name,
        "push_access_levels": levels(rule.push_access_level),
        "merge_access_levels": levels(rule.merge_access_level),
        "allow_force_push": rule.allow_force_push,
        "unprotect_access_levels": [],
        "code_owner_approval_required": False,
        "inherited": False,
    }


@route("GET", "/projects/{id}/protected_branches")
def all_protected(call: Call) -> Reply:
    project = find_project(call, DEVELOPER)
    return page(call, call.double.store.find(ProtectedBranch, project_id=project.id), _protected)


def _rule(call: Call, least: int) -> ProtectedBranch:
    project = find_project(call, least)
    rule = call.double.store.first(ProtectedBranch, project_id=project.id, name=call.params["name"])
    if rule is None:
        raise not_found()
    return rule


@route("GET", "/projects/{id}/protected_branches/{name}")
def show_protected(call: Call) -> Reply:
    return Reply(200, _protected(_rule(call, DEVELOPER)))


@route("POST", "/projects/{id}/protected_branches")
def protect(call: Call) -> Reply:
    project = find_project(call, MAINTAINER)
    (name,) = call.need("name")
    if call.double.store.first(ProtectedBranch, project_id=project.id, name=name):
        raise ApiError(409, f"Protected branch '{name}' already exists")
    rule = ProtectedBranch(project_id=project.id, name=name, allow_force_push=call.flag("allow_force_push"))
    for field in ("push_access_level", "merge_access_level"):
        value = call.body.get(field, MAINTAINER)
        if value not in LEVELS:
            raise bad(f"{field} does not have a valid value")
        setattr(rule, field, value)
    return Reply(201, _protected(call.double.store.add(rule)))


@route("PATCH", "/projects/{id}/protected_branches/{name}")
def change_protected(call: Call) -> Reply:
    rule = _rule(call, MAINTAINER)
    unsupported = sorted(set(call.body) & {"allowed_to_push", "allowed_to_merge", "allowed_to_unprotect"})
    if unsupported:
        raise ApiError(501, f"the double does not know {', '.join(unsupported)}")
    rule.allow_force_push = call.flag("allow_force_push", rule.allow_force_push)
    return Reply(200, _protected(call.double.store.save(rule)))


@route("DELETE", "/projects/{id}/protected_branches/{name}")
def unprotect(call: Call) -> Reply:
    call.double.store.delete(_rule(call, MAINTAINER))
    return Reply(204)


@route("GET", "/projects/{id}/repository/tags", scopes=("read_repository",), described=False)
def tags(call: Call) -> Reply:
    project = find_project(call)
    found = sorted(call.double.repositories.tags(project.id).items(), reverse=True)
    return page(
        call, found, lambda one: {"name": one[0], "target": one[1], "message": "", "protected": False}
    )
