"""Projects."""

from __future__ import annotations

from typing import Any

from ..access import MAINTAINER, OWNER, find_project, is_expired, level, level_in_project, sees
from ..ci.running import forget_pipeline
from ..double import Double
from ..paging import page
from ..records import (
    DeployToken,
    Hook,
    Member,
    Namespace,
    Pipeline,
    Project,
    ProtectedBranch,
    Record,
    User,
    Variable,
)
from ..routing import ApiError, Call, Reply, bad, forbidden, invalid, not_found, route
from . import groups, users
from .members import remove_members

STANDARD: dict[str, Any] = {
    "archived": False,
    "auto_cancel_pending_pipelines": "enabled",
    "auto_devops_enabled": False,
    "build_git_strategy": "fetch",
    "build_timeout": 3600,
    "builds_access_level": "enabled",
    "ci_config_path": None,
    "ci_default_git_depth": 20,
    "container_registry_access_level": "enabled",
    "container_registry_enabled": True,
    "group_runners_enabled": True,
    "issues_access_level": "enabled",
    "issues_enabled": True,
    "jobs_enabled": True,
    "keep_latest_artifact": True,
    "lfs_enabled": True,
    "merge_method": "merge",
    "merge_requests_access_level": "enabled",
    "merge_requests_enabled": True,
    "only_allow_merge_if_pipeline_succeeds": False,
    "packages_enabled": True,
    "public_jobs": True,
    "remove_source_branch_after_merge": True,
    "repository_access_level": "enabled",
    "request_access_enabled": True,
    "shared_runners_enabled": True,
    "snippets_enabled": True,
    "squash_option": "default_off",
    "wiki_enabled": True,
}
_COLUMNS = (
    *("name", "path", "namespace_id", "description", "visibility", "default_branch", "id"),
    *("initialize_with_readme",),
)


def entity(call: Call, project: Project) -> dict[str, Any]:
    """A project, without what depends on who asks."""
    double = call.double
    site, namespace = double.site, double.store.must(Namespace, project.namespace_id)
    web = f"{site.external_url}/{project.full_path}"
    port = "" if site.ssh_port == 22 else f":{site.ssh_port}"
    ssh = (
        f"ssh://git@{site.host}{port}/{project.full_path}.git"
        if port
        else f"git@{site.host}:{project.full_path}.git"
    )
    own = f"{site.external_url}/api/v4/projects/{project.id}"
    said: dict[str, Any] = STANDARD | {
        "id": project.id,
        "description": project.description,
        "name": project.name,
        "name_with_namespace": f"{groups.full_name(double, namespace)} / {project.name}",
        "path": project.path,
        "path_with_namespace": project.full_path,
        "created_at": project.created_at,
        "default_branch": project.default_branch,
        "tag_list": project.more.get("topics", []),
        "topics": project.more.get("topics", []),
        "ssh_url_to_repo": ssh,
        "http_url_to_repo": f"{web}.git",
        "web_url": web,
        "readme_url": None,
        "forks_count": 0,
        "avatar_url": None,
        "star_count": 0,
        "last_activity_at": project.created_at,
        "visibility": project.visibility,
        "namespace": groups.namespace_entity(double, namespace),
        "container_registry_image_prefix": f"{site.registry_address}/{project.full_path.lower()}",
        "_links": {"self": own, "members": f"{own}/members", "repo_branches": f"{own}/repository/branches"},
        "empty_repo": not double.repositories.branches(project.id),
        "creator_id": project.creator_id,
        "import_status": "none",
        "open_issues_count": 0,
        "updated_at": project.created_at,
        "shared_with_groups": [],
    }
    if namespace.kind == "user" and namespace.owner_id:
        said["owner"] = users.basic(double, double.store.must(User, namespace.owner_id))
    return said | {key: value for key, value in project.more.items() if key != "topics"}


def _with_access(call: Call, project: Project) -> dict[str, Any]:
    user, store = call.login.user, call.double.store
    roles = {}
    for source, number in (("project", project.id), ("group", project.namespace_id)):
        member = user and store.first(Member, source=source, source_id=number, user_id=user.id)
        counts = member and not is_expired(member.expires_at)
        roles[f"{source}_access"] = (
            {"access_level": member.access_level, "notification_level": 3} if member and counts else None
        )
    return entity(call, project) | {"permissions": roles}


@route("GET", "/projects")
def all_projects(call: Call) -> Reply:
    user, store = call.login.user, call.double.store
    found = [one for one in store.find(Project) if sees(call, one)]
    if search := call.query.get("search", "").lower():
        found = [
            one
            for one in found
            if search in one.name.lower() or search in one.full_path.lower().split("/")[-1]
        ]
    if call.flag("owned"):
        found = [one for one in found if user and _owned(call, one)]
    if call.flag("membership"):
        found = [one for one in found if user and _is_member(call, one)]
    if visibility := call.query.get("visibility"):
        found = [one for one in found if one.visibility == visibility]
    if topics := call.query.get("topic"):
        found = [one for one in found if set(topics.split(",")) <= set(one.more.get("topics", []))]
    order = call.query.get("order_by", "created_at")
    key = {"name": lambda one: one.name.lower(), "path": lambda one: one.path}.get(order, lambda one: one.id)
    found.sort(key=key, reverse=call.query.get("sort", "desc") == "desc")
    return page(call, found, lambda one: entity(call, one))


def _owned(call: Call, project: Project) -> bool:
    namespace = call.double.store.get(Namespace, project.namespace_id)
    return bool(namespace and call.login.user and namespace.owner_id == call.login.user.id)


def _is_member(call: Call, project: Project) -> bool:
    return bool(call.login.user and level_in_project(call.double.store, call.login.user, project))


@route("POST", "/projects")
def create(call: Call) -> Reply:
    user, store = call.login.known, call.double.store
    name, path = call.body.get("name"), call.body.get("path")
    if not name and not path:
        raise bad("name, path are missing, at least one parameter must be provided")
    namespace = _namespace(call, user)
    path = path or str(name).lower().replace(" ", "-")
    project = new_project(
        call,
        namespace,
        user,
        Project(
            name=name or path,
            path=path,
            description=call.body.get("description"),
            visibility=groups.check_visibility(
                call.body.get("visibility") or call.double.settings()["default_project_visibility"]
            ),
            default_branch=call.body.get("default_branch"),
            more={key: value for key, value in call.body.items() if key not in _COLUMNS},
        ),
    )
    if call.flag("initialize_with_readme"):
        branch = project.default_branch or default_branch(call.double)
        readme = {"action": "create", "path": "README.md", "content": f"# {project.name}\n".encode()}
        call.double.repositories.write(
            project.id,
            branch,
            None,
            [readme | {"executable": False}],
            "Initial commit",
            (user.name, user.email),
        )
        note_first_branch(call.double, project, branch)
    return Reply(201, entity(call, store.must(Project, project.id)))


def default_branch(double: Double) -> str:
    return double.settings()["default_branch_name"] or "main"


def _namespace(call: Call, user: User) -> Namespace:
    store, number = call.double.store, call.body.get("namespace_id")
    if number is None:
        own = store.first(Namespace, kind="user", owner_id=user.id)
        assert own is not None
        return own
    namespace = store.get(Namespace, int(number))
    if namespace is None or not sees(call, namespace):
        raise not_found("Namespace")
    if level(call, namespace) < groups.creation_level(namespace):
        raise invalid("namespace", "is not valid")
    return namespace


def new_project(call: Call, namespace: Namespace, user: User, project: Project) -> Project:
    """Keep a project and make its repository; refuses a path that is taken."""
    full_path = groups.check_path(call, project.path, namespace)
    others = call.double.store.find(Project, namespace_id=namespace.id)
    problems: dict[str, list[str]] = {}
    for field in ("name", "path"):
        if any(getattr(one, field).lower() == getattr(project, field).lower() for one in others):
            problems[field] = ["has already been taken"]
    if problems:
        raise ApiError(400, {"message": {"project_namespace.name": ["has already been taken"], **problems}})
    return keep_project(call.double, namespace, user, project, full_path)


def keep_project(
    double: Double, namespace: Namespace, user: User, project: Project, full_path: str
) -> Project:
    project.namespace_id, project.creator_id, project.full_path = namespace.id, user.id, full_path
    double.store.add(project)
    double.repositories.create(project.id, project.default_branch or default_branch(double))
    if namespace.kind == "user":
        double.store.add(Member(source="project", source_id=project.id, user_id=user.id, access_level=OWNER))
    return project


def note_first_branch(double: Double, project: Project, branch: str) -> None:
    """The first branch of a repository becomes its default branch, which GitLab protects."""
    project.default_branch = branch
    double.store.save(project)
    if not double.store.first(ProtectedBranch, project_id=project.id, name=branch):
        double.store.add(ProtectedBranch(project_id=project.id, name=branch))


@route("GET", "/projects/{id}")
def show(call: Call) -> Reply:
    return Reply(200, _with_access(call, find_project(call)))


@route("PUT", "/projects/{id}")
def change(call: Call) -> Reply:
    project = find_project(call, MAINTAINER)
    store = call.double.store
    project.name = call.body.get("name", project.name)
    project.description = call.body.get("description", project.description)
    visibility = groups.check_visibility(call.body.get("visibility", project.visibility))
    if visibility != project.visibility and level(call, project) < OWNER:
        raise forbidden()
    project.visibility = visibility
    if branch := call.body.get("default_branch"):
        if branch not in call.double.repositories.branches(project.id):
            raise invalid("base", "Could not change HEAD: branch '" + branch + "' does not exist")
        project.default_branch = branch
    project.more |= {key: value for key, value in call.body.items() if key not in _COLUMNS}
    if (path := call.body.get("path", project.path)) != project.path:
        namespace = store.must(Namespace, project.namespace_id)
        full_path = groups.check_path(call, path, namespace)
        if any(one.full_path.lower() == full_path.lower() for one in store.find(Project)):
            raise invalid("path", "has already been taken")
        project.path, project.full_path = path, full_path
    store.save(project)
    return Reply(200, entity(call, project))


@route("DELETE", "/projects/{id}")
def delete(call: Call) -> Reply:
    delete_project(call.double, find_project(call, OWNER))
    return Reply(202, {"message": "202 Accepted"})


def delete_project(double: Double, project: Project) -> None:
    """Remove a project and all that is its."""
    store = double.store
    for pipeline in store.find(Pipeline, project_id=project.id):
        forget_pipeline(double, pipeline)
    kinds: tuple[type[Record], ...] = (ProtectedBranch, Hook, DeployToken)
    for kind in kinds:
        for record in store.find(kind, project_id=project.id):
            store.delete(record)
    for variable in store.find(Variable, owner="project", owner_id=project.id):
        store.delete(variable)
    remove_members(store, "project", project.id)
    double.repositories.remove(project.id)
    store.delete(project)
