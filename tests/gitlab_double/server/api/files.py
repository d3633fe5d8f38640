"""Commits and files of a repository."""

from __future__ import annotations

import base64
import binascii
import hashlib
from typing import Any
from urllib.parse import quote

from ..access import DEVELOPER, find_project, level
from ..ci.pushes import pushed
from ..paging import page
from ..protection import may_push
from ..records import Pipeline, Project
from ..repositories import NOTHING, Blob, Commit, GitError
from ..routing import ApiError, Call, Reply, bad, forbidden, not_found, route

READ = ("read_repository",)
ACTIONS = ("create", "update", "delete", "move", "chmod")


def commit_entity(call: Call, project: Project, commit: Commit) -> dict[str, Any]:
    return {
        "id": commit.sha,
        "short_id": commit.sha[:8],
        "created_at": commit.committer[2],
        "parent_ids": commit.parents,
        "title": commit.title,
        "message": commit.message,
        "author_name": commit.author[0],
        "author_email": commit.author[1],
        "authored_date": commit.author[2],
        "committer_name": commit.committer[0],
        "committer_email": commit.committer[1],
        "committed_date": commit.committer[2],
        "trailers": {},
        "extended_trailers": {},
        "web_url": f"{call.double.site.external_url}/{project.full_path}/-/commit/{commit.sha}",
    }


def _detail(call: Call, project: Project, commit: Commit) -> dict[str, Any]:
    pipelines = call.double.store.find(Pipeline, project_id=project.id, sha=commit.sha)
    last = pipelines[-1] if pipelines else None
    from .pipelines import basic

    return commit_entity(call, project, commit) | {
        "stats": {"additions": 0, "deletions": 0, "total": 0},
        "status": last.status if last else None,
        "project_id": project.id,
        "last_pipeline": basic(call.double, last) if last else None,
    }


@route("GET", "/projects/{id}/repository/commits", scopes=READ)
def commits(call: Call) -> Reply:
    project = find_project(call)
    ref = call.query.get("ref_name") or project.default_branch or "main"
    repositories = call.double.repositories
    if repositories.resolve(project.id, ref) is None:
        if not repositories.branches(project.id):
            return page(call, [], lambda one: one)
        raise not_found("Commit")
    found = repositories.log(project.id, ref, path=call.query.get("path", ""))
    return page(call, found, lambda one: commit_entity(call, project, one))


@route("GET", "/projects/{id}/repository/commits/{sha}", scopes=READ, described=False)
def one_commit(call: Call) -> Reply:
    project = find_project(call)
    sha = call.double.repositories.resolve(project.id, call.params["sha"])
    commit = call.double.repositories.commit(project.id, sha) if sha else None
    if commit is None:
        raise not_found("Commit")
    return Reply(200, _detail(call, project, commit))


@route("POST", "/projects/{id}/repository/commits")
def create_commit(call: Call) -> Reply:
    project = find_project(call, 1)
    branch, message, actions = call.need("branch", "commit_message", "actions")
    prepared = []
    for action in actions:
        if action.get("action") not in ACTIONS:
            raise bad("actions[0][action] does not have a valid value")
        if not action.get("file_path"):
            raise bad("actions[0][file_path] is missing")
        prepared.append(_prepared(action))
    commit = _write(call, project, branch, message, prepared)
    return Reply(201, _detail(call, project, commit))


def _prepared(action: dict[str, Any]) -> dict[str, Any]:
    return {
        "action": action["action"],
        "path": action["file_path"],
        "previous_path": action.get("previous_path"),
        "content": _content(action),
        "executable": bool(action.get("execute_filemode")),
    }


def _content(body: dict[str, Any]) -> bytes | None:
    text = body.get("content")
    if text is None:
        return b"" if body.get("action") in ("create", "update") else None
    if body.get("encoding", "text") == "text":
        return str(text).encode()
    try:
        return base64.b64decode(text, validate=True)
    except binascii.Error:
        raise ApiError(400, "content is not valid base64") from None


def _write(call: Call, project: Project, branch: str, message: str, actions: list[dict[str, Any]]) -> Commit:
    """Make a commit on a branch, as a push would."""
    repositories, user = call.double.repositories, call.login.known
    role = level(call, project)
    if role < DEVELOPER:
        raise forbidden()
    if not may_push(call.double.store, project, branch, role):
        raise ApiError(403, "You are not allowed to push into this branch")
    before = repositories.branches(project.id).get(branch)
    parent = before
    if before is None and repositories.branches(project.id):
        start = call.body.get("start_branch") or call.body.get("start_sha")
        parent = repositories.resolve(project.id, str(start)) if start else None
        if parent is None:
            raise ApiError(400, "You can only create or edit files when you are on a branch")
    for action in actions:
        _check_action(call, project, parent, action)
    author = (call.body.get("author_name") or user.name, call.body.get("author_email") or user.email)
    try:
        sha = repositories.write(project.id, branch, parent, actions, message, author)
    except GitError as error:
        raise ApiError(400, str(error)) from None
    pushed(call.double, project, user, f"refs/heads/{branch}", before or NOTHING, sha)
    commit = repositories.commit(project.id, sha)
    assert commit is not None
    return commit


def _check_action(call: Call, project: Project, parent: str | None, action: dict[str, Any]) -> None:
    """Creating needs a free path, all else a file; what stays as it is keeps its content and mode."""
    path = action["previous_path"] if action["action"] == "move" else action["path"]
    there = call.double.repositories.read(project.id, parent, path) if parent and path else None
    if action["action"] == "create":
        if there:
            raise ApiError(400, "A file with this name already exists")
        return
    if there is None:
        raise ApiError(400, "A file with this name doesn't exist")
    if action["action"] == "chmod":
        action["content"] = there.content
    elif action["action"] in ("update", "move"):
        action["executable"] = there.mode == "100755"


def _blob(call: Call, project: Project) -> tuple[str, Blob]:
    ref = call.query.get("ref")
    if ref in (None, "", "HEAD"):
        ref = project.default_branch or "main"
    sha = call.double.repositories.resolve(project.id, str(ref))
    blob = call.double.repositories.read(project.id, sha, call.params["file_path"]) if sha else None
    if sha is None or blob is None:
        raise not_found("File" if sha else "Commit")
    return sha, blob


def _headers(call: Call, project: Project) -> dict[str, Any]:
    sha, blob = _blob(call, project)
    path = call.params["file_path"]
    last = call.double.repositories.log(project.id, sha, 1, path)
    return {
        "file_name": path.rpartition("/")[2],
        "file_path": path,
        "size": len(blob.content),
        "encoding": "base64",
        "content_sha256": hashlib.sha256(blob.content).hexdigest(),
        "ref": call.query.get("ref", "HEAD"),
        "blob_id": blob.sha,
        "commit_id": sha,
        "last_commit_id": last[0].sha if last else sha,
        "execute_filemode": blob.mode == "100755",
    }


@route("GET", "/projects/{id}/repository/files/{file_path}", scopes=READ)
def read_file(call: Call) -> Reply:
    project = find_project(call)
    if not call.query.get("ref"):
        raise bad("ref is missing, ref is empty")
    content = base64.b64encode(_blob(call, project)[1].content).decode()
    return Reply(200, _headers(call, project) | {"content": content})


@route("HEAD", "/projects/{id}/repository/files/{file_path}", scopes=READ)
def head_file(call: Call) -> Reply:
    facts = _headers(call, find_project(call))
    named = {"X-Gitlab-" + key.title().replace("_", "-"): quote(str(value)) for key, value in facts.items()}
    return Reply(200, b"", named)


@route("GET", "/projects/{id}/repository/files/{file_path}/raw", scopes=READ, described=False)
def raw_file(call: Call) -> Reply:
    _, blob = _blob(call, find_project(call))
    return Reply(200, blob.content, content_type="text/plain; charset=utf-8")


def _one_action(call: Call, action: str) -> Reply:
    project = find_project(call, 1)
    branch, message = call.need("branch", "commit_message")
    prepared = _prepared(call.body | {"action": action, "file_path": call.params["file_path"]})
    _write(call, project, branch, message, [prepared])
    return Reply(200, {"file_path": call.params["file_path"], "branch": branch})


@route("POST", "/projects/{id}/repository/files/{file_path}")
def create_file(call: Call) -> Reply:
    _ = call.need("content")
    reply = _one_action(call, "create")
    reply.status = 201
    return reply


@route("PUT", "/projects/{id}/repository/files/{file_path}")
def update_file(call: Call) -> Reply:
    _ = call.need("content")
    return _one_action(call, "update")


@route("DELETE", "/projects/{id}/repository/files/{file_path}")
def delete_file(call: Call) -> Reply:
    for name in ("branch", "commit_message"):
        call.body.setdefault(name, call.query.get(name))
    _one_action(call, "delete")
    return Reply(204)


@route("GET", "/projects/{id}/repository/tree", scopes=READ, described=False)
def tree(call: Call) -> Reply:
    project = find_project(call)
    ref = call.query.get("ref") or project.default_branch or "main"
    sha = call.double.repositories.resolve(project.id, ref)
    if sha is None:
        raise not_found("Tree")
    top = call.query.get("path", "").strip("/")
    inside = f"{top}/" if top else ""
    paths = [one for one in call.double.repositories.paths(project.id, sha) if one.startswith(inside)]
    entries: dict[str, str] = {}
    for path in paths:
        parts = path.removeprefix(inside).split("/")
        if len(parts) == 1 or call.flag("recursive"):
            entries[path] = "blob"
        if len(parts) > 1:
            entries.setdefault(inside + parts[0], "tree")
    found = sorted(entries.items(), key=lambda one: (one[1] == "blob", one[0]))
    return page(call, found, lambda one: {"name": one[0].rpartition("/")[2], "type": one[1], "path": one[0]})
