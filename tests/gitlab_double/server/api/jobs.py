"""Jobs of a project, their traces and artifacts."""

from __future__ import annotations

import zipfile
from typing import Any

from .. import clock
from ..access import DEVELOPER, MAINTAINER, find_project, level
from ..ci import running
from ..double import Double
from ..paging import page
from ..records import Artifact, Job, Pipeline, Project, Runner, User
from ..routing import ApiError, Call, Reply, bad, forbidden, not_found, route
from . import users

STATES = frozenset(
    {
        *("created", "pending", "running", "failed", "success", "canceled", "canceling", "skipped"),
        *("waiting_for_resource", "manual", "scheduled", "preparing"),
    }
)


def entity(double: Double, job: Job) -> dict[str, Any]:
    from .pipelines import basic
    from .runners import entity as runner_entity
    from .runners import manager

    pipeline = double.store.must(Pipeline, job.pipeline_id)
    project = double.store.must(Project, job.project_id)
    runner = double.store.get(Runner, job.runner_id)
    artifacts = double.store.find(Artifact, job_id=job.id)
    archive = next((one for one in artifacts if one.file_type == "archive"), None)
    user = double.store.get(User, job.user_id)
    queued = clock.seconds_between(job.queued_at, job.started_at or job.finished_at)
    return {
        "id": job.id,
        "status": job.status,
        "stage": job.stage,
        "name": job.name,
        "ref": pipeline.ref,
        "tag": pipeline.tag,
        "coverage": None,
        "allow_failure": job.spec["allow_failure"],
        "created_at": job.created_at,
        "started_at": job.started_at,
        "finished_at": job.finished_at,
        "erased_at": job.erased_at,
        "duration": clock.seconds_between(job.started_at, job.finished_at),
        "queued_duration": queued,
        "user": users.basic(double, user) if user else None,
        "pipeline": basic(double, pipeline),
        "failure_reason": job.failure_reason,
        "web_url": f"{double.site.external_url}/{project.full_path}/-/jobs/{job.id}",
        "project": {"ci_job_token_scope_enabled": False},
        "artifacts_file": {"filename": archive.filename, "size": archive.size} if archive else None,
        "artifacts": [
            {
                "file_type": one.file_type,
                "size": one.size,
                "filename": one.filename,
                "file_format": one.file_format,
            }
            for one in artifacts
        ],
        "runner": runner_entity(double, runner) if runner else None,
        "runner_manager": manager(double, runner) if runner else None,
        "artifacts_expire_at": archive.expires_at if archive else None,
        "archived": False,
        "tag_list": job.spec["tags"],
    }


def scoped(call: Call, found: list[Job]) -> list[Job]:
    """Those in a state that the request asks for."""
    names = ("scope[]", "scope")
    wanted = [one for name in names for one in call.request.query_params.getlist(name)]
    if set(wanted) - STATES:
        raise bad("scope does not have a valid value")
    return [one for one in found if not wanted or one.status in wanted]


def _find(call: Call, least: int = 0) -> Job:
    project = find_project(call, least)
    job = call.double.store.first(Job, id=call.number("job_id"), project_id=project.id)
    if job is None:
        raise not_found()
    return job


@route("GET", "/projects/{id}/jobs")
def all_jobs(call: Call) -> Reply:
    project = find_project(call)
    found = scoped(call, call.double.store.find(Job, project_id=project.id))
    return page(call, found[::-1], lambda one: entity(call.double, one))


@route("GET", "/projects/{id}/jobs/{job_id}")
def show(call: Call) -> Reply:
    return Reply(200, entity(call.double, _find(call)))


@route("GET", "/projects/{id}/jobs/{job_id}/trace")
def trace(call: Call) -> Reply:
    job = _find(call)
    file = call.double.trace_file(job.id)
    content = file.read_bytes() if file.exists() else b""
    first = int(call.query.get("byte_offset", 0))
    most = call.query.get("byte_limit")
    return Reply(200, content[first : first + int(most) if most else None], content_type="text/plain")


def _archive(call: Call, job: Job) -> Artifact:
    found = call.double.store.first(Artifact, job_id=job.id, file_type="archive")
    if found is None or not call.double.artifact_file(found.id).exists():
        raise not_found()
    return found


@route("GET", "/projects/{id}/jobs/{job_id}/artifacts")
def artifacts(call: Call) -> Reply:
    _ = call.login.known
    archive = _archive(call, _find(call))
    return Reply(200, call.double.artifact_file(archive.id), _attachment(archive), "application/octet-stream")


def _attachment(artifact: Artifact) -> dict[str, str]:
    return {"Content-Disposition": f'attachment; filename="{artifact.filename}"'}


@route("DELETE", "/projects/{id}/jobs/{job_id}/artifacts")
def delete_artifacts(call: Call) -> Reply:
    job = _find(call, MAINTAINER)
    for artifact in call.double.store.find(Artifact, job_id=job.id):
        call.double.artifact_file(artifact.id).unlink(missing_ok=True)
        call.double.store.delete(artifact)
    return Reply(204)


@route("GET", "/projects/{id}/jobs/{job_id}/artifacts/{path}", described=False)
def one_artifact(call: Call) -> Reply:
    return _inside(call, _archive(call, _find(call)), call.params["path"])


def _inside(call: Call, archive: Artifact, path: str) -> Reply:
    with zipfile.ZipFile(call.double.artifact_file(archive.id)) as file:
        try:
            return Reply(200, file.read(path), content_type="application/octet-stream")
        except KeyError:
            raise not_found() from None


@route("GET", "/projects/{id}/jobs/artifacts/{ref}/download", described=False)
def latest_artifacts(call: Call) -> Reply:
    project, name = find_project(call), call.query.get("job")
    if not name:
        raise bad("job is missing")
    for pipeline in call.double.store.find(Pipeline, project_id=project.id, ref=call.params["ref"])[::-1]:
        for job in call.double.store.find(Job, pipeline_id=pipeline.id, name=name, status="success"):
            archive = _archive(call, job)
            return Reply(
                200, call.double.artifact_file(archive.id), _attachment(archive), "application/octet-stream"
            )
    raise not_found()


@route("POST", "/projects/{id}/jobs/{job_id}/play", described=False)
def play(call: Call) -> Reply:
    job = _find(call, DEVELOPER)
    if job.status != "manual":
        raise ApiError(400, "400 Bad request - Unplayable Job")
    given = call.body.get("job_variables_attributes") or []
    running.play(call.double, job, call.login.known, given)
    return Reply(200, entity(call.double, call.double.store.must(Job, job.id)))


@route("POST", "/projects/{id}/jobs/{job_id}/retry", described=False)
def retry(call: Call) -> Reply:
    job = _find(call, DEVELOPER)
    if job.status not in running.FINISHED or job.retried or job.status == "skipped":
        raise ApiError(403, "403 Forbidden - Job is not retryable")
    fresh = running.retry(call.double, job, call.login.known)
    return Reply(201, entity(call.double, fresh))


@route("POST", "/projects/{id}/jobs/{job_id}/cancel", described=False)
def cancel(call: Call) -> Reply:
    job = _find(call, DEVELOPER)
    running.cancel(call.double, job)
    return Reply(201, entity(call.double, call.double.store.must(Job, job.id)))


@route("POST", "/projects/{id}/jobs/{job_id}/erase", described=False)
def erase(call: Call) -> Reply:
    job = _find(call, DEVELOPER)
    if job.status not in running.FINISHED:
        raise ApiError(403, "403 Forbidden - Job is not erasable!")
    if (
        level(call, call.double.store.must(Project, job.project_id)) < MAINTAINER
        and job.user_id != call.login.known.id
    ):
        raise forbidden()
    call.double.trace_file(job.id).unlink(missing_ok=True)
    delete_artifacts(call)
    job.erased_at = clock.now()
    call.double.store.save(job)
    return Reply(201, entity(call.double, job))


@route("GET", "/job", described=False)
def own_job(call: Call) -> Reply:
    if call.login.job is None:
        raise ApiError(401, "401 Unauthorized")
    return Reply(200, entity(call.double, call.login.job))
