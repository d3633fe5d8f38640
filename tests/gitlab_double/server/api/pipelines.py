"""Pipelines of a project."""

from __future__ import annotations

from typing import Any

from .. import clock
from ..access import DEVELOPER, OWNER, find_project
from ..ci import running
from ..ci.creation import NoPipelineError, create_pipeline
from ..ci.reading import ConfigurationError
from ..double import Double
from ..paging import page
from ..records import Job, Pipeline, Project, User
from ..routing import ApiError, Call, Reply, bad, forbidden, not_found, route
from . import users
from .jobs import entity as job_entity
from .jobs import scoped


def basic(double: Double, pipeline: Pipeline) -> dict[str, Any]:
    project = double.store.must(Project, pipeline.project_id)
    return {
        "id": pipeline.id,
        "iid": pipeline.iid,
        "project_id": pipeline.project_id,
        "sha": pipeline.sha,
        "ref": pipeline.ref,
        "status": pipeline.status,
        "source": pipeline.source,
        "created_at": pipeline.created_at,
        "updated_at": pipeline.updated_at,
        "web_url": f"{double.site.external_url}/{project.full_path}/-/pipelines/{pipeline.id}",
    }


def full(double: Double, pipeline: Pipeline) -> dict[str, Any]:
    user = double.store.get(User, pipeline.user_id)
    seconds = clock.seconds_between(pipeline.started_at, pipeline.finished_at)
    queued = clock.seconds_between(pipeline.created_at, pipeline.started_at)
    project = double.store.must(Project, pipeline.project_id)
    return basic(double, pipeline) | {
        "before_sha": pipeline.before_sha,
        "tag": pipeline.tag,
        "yaml_errors": pipeline.yaml_errors,
        "user": users.basic(double, user) if user else None,
        "started_at": pipeline.started_at,
        "finished_at": pipeline.finished_at,
        "committed_at": None,
        "duration": int(seconds) if seconds is not None and pipeline.finished_at else None,
        "queued_duration": int(queued) if queued is not None and pipeline.started_at else None,
        "coverage": None,
        "detailed_status": {
            "icon": f"status_{pipeline.status}",
            "text": pipeline.status.capitalize(),
            "label": pipeline.status,
            "group": pipeline.status,
            "tooltip": pipeline.status,
            "has_details": True,
            "details_path": f"/{project.full_path}/-/pipelines/{pipeline.id}",
            "favicon": "",
        },
    }


def _find(call: Call, least: int = 0) -> Pipeline:
    project = find_project(call, least)
    found = call.double.store.first(Pipeline, id=call.number("pipeline_id"), project_id=project.id)
    if found is None:
        raise not_found()
    return found


@route("GET", "/projects/{id}/pipelines")
def all_pipelines(call: Call) -> Reply:
    project = find_project(call)
    found = call.double.store.find(Pipeline, project_id=project.id)
    for name in ("ref", "sha", "status", "source"):
        if wanted := call.query.get(name):
            found = [one for one in found if getattr(one, name) == wanted]
    if username := call.query.get("username"):
        user = call.double.store.first(User, username=username)
        found = [one for one in found if user and one.user_id == user.id]
    found.sort(key=lambda one: one.id, reverse=call.query.get("sort", "desc") == "desc")
    return page(call, found, lambda one: basic(call.double, one))


@route("POST", "/projects/{id}/pipeline")
def create(call: Call) -> Reply:
    project = find_project(call, DEVELOPER)
    (ref,) = call.need("ref")
    if call.body.get("inputs"):
        raise ApiError(501, "the double does not know inputs")
    repositories = call.double.repositories
    sha = repositories.resolve(project.id, ref)
    if sha is None:
        raise ApiError(400, {"message": {"base": ["Reference not found"]}})
    variables = []
    for one in call.body.get("variables") or []:
        if not one.get("key"):
            raise bad("variables[0][key] is missing")
        kind = one.get("variable_type", "env_var")
        variables.append({"key": one["key"], "value": str(one.get("value", "")), "variable_type": kind})
    try:
        pipeline = create_pipeline(
            call.double, project, call.login.known, ref, sha, source="api", variables=variables
        )
    except (NoPipelineError, ConfigurationError) as error:
        raise ApiError(400, {"message": {"base": error.problems}}) from None
    return Reply(201, full(call.double, pipeline))


@route("GET", "/projects/{id}/pipelines/{pipeline_id}")
def show(call: Call) -> Reply:
    if call.params["pipeline_id"] == "latest":
        return _latest(call)
    return Reply(200, full(call.double, _find(call)))


def _latest(call: Call) -> Reply:
    project = find_project(call)
    ref = call.query.get("ref") or project.default_branch
    found = call.double.store.find(Pipeline, project_id=project.id, ref=ref)
    if not found:
        raise forbidden()
    return Reply(200, full(call.double, found[-1]))


@route("DELETE", "/projects/{id}/pipelines/{pipeline_id}")
def delete(call: Call) -> Reply:
    running.forget_pipeline(call.double, _find(call, OWNER))
    return Reply(204)


@route("GET", "/projects/{id}/pipelines/{pipeline_id}/jobs")
def jobs_of(call: Call) -> Reply:
    pipeline = _find(call)
    found = call.double.store.find(Job, pipeline_id=pipeline.id)
    if not call.flag("include_retried"):
        found = [one for one in found if not one.retried]
    return page(call, scoped(call, found)[::-1], lambda one: job_entity(call.double, one))


@route("GET", "/projects/{id}/pipelines/{pipeline_id}/variables", described=False)
def variables_of(call: Call) -> Reply:
    pipeline = _find(call, DEVELOPER)
    return Reply(200, [one | {"raw": False} for one in pipeline.variables])


@route("POST", "/projects/{id}/pipelines/{pipeline_id}/retry", described=False)
def retry(call: Call) -> Reply:
    pipeline = _find(call, DEVELOPER)
    running.retry_pipeline(call.double, pipeline, call.login.known)
    return Reply(201, full(call.double, call.double.store.must(Pipeline, pipeline.id)))


@route("POST", "/projects/{id}/pipelines/{pipeline_id}/cancel", described=False)
def cancel(call: Call) -> Reply:
    pipeline = _find(call, DEVELOPER)
    running.cancel_pipeline(call.double, pipeline)
    return Reply(200, full(call.double, call.double.store.must(Pipeline, pipeline.id)))
