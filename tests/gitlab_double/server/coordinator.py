"""What a runner talks to: it asks for jobs, sends traces and artifacts, and says how jobs ended.

Unknown fields are ignored here: a runner may be newer than the server.
"""

from __future__ import annotations

import hashlib
import re
import shutil
from typing import Any

from starlette.datastructures import UploadFile

from . import clock, passwords
from .ci import handout, running
from .ci.specification import seconds
from .records import Artifact, Job, Pipeline, Runner
from .routing import ApiError, Call, Reply, missing, not_found, route

POLL_S, POLLS = 0.5, 10
"""So long, and so often, a request for a job waits when the runner has seen all there is."""
TRACE_INTERVAL = "3"
LATE_ANSWERS = 4
"""So many times a runner is asked to send the rest of a trace before its job is closed without."""
EXPIRE_S = 30 * 86400
PROCESSING = ("running", "canceling")


def _runner(call: Call) -> Runner:
    token = call.body.get("token") or call.request.headers.get("RUNNER-TOKEN")
    if not token:
        raise missing("token")
    found = call.double.store.first(Runner, token=token)
    if found is None:
        raise ApiError(403, "403 Forbidden")
    return found


def _seen(call: Call, runner: Runner) -> None:
    info = call.body.get("info")
    if isinstance(info, dict):
        runner.info = runner.info | {key: value for key, value in info.items() if key != "config"}
    runner.system_id = call.body.get("system_id") or runner.system_id
    forwarded = call.request.headers.get("X-Forwarded-For", "").partition(",")[0]
    runner.ip_address = forwarded or (call.request.client.host if call.request.client else "")
    runner.contacted_at = clock.now()
    call.double.store.save(runner)


@route("POST", "/runners/verify", public=True)
def verify(call: Call) -> Reply:
    runner = _runner(call)
    _seen(call, runner)
    return Reply(200, {"id": runner.id, "token": runner.token, "token_expires_at": None})


@route("POST", "/runners", public=True)
def register(call: Call) -> Reply:
    _ = call.need("token")
    # Registration tokens are off by default; runners are made by users.
    raise ApiError(410, "410 Gone - runner registration disallowed")


@route("DELETE", "/runners", public=True)
def unregister(call: Call) -> Reply:
    call.body.setdefault("token", call.query.get("token"))
    call.double.store.delete(_runner(call))
    return Reply(204)


@route("DELETE", "/runners/managers", public=True)
def unregister_manager(call: Call) -> Reply:
    for name in ("token", "system_id"):
        call.body.setdefault(name, call.query.get(name))
    runner = _runner(call)
    if runner.system_id != call.body["system_id"]:
        raise not_found("Runner manager")
    runner.system_id, runner.contacted_at = "", None
    call.double.store.save(runner)
    return Reply(204)


@route("POST", "/runners/reset_authentication_token", public=True)
def reset_token(call: Call) -> Reply:
    runner = _runner(call)
    runner.token = passwords.token("glrt-")
    call.double.store.save(runner)
    return Reply(201, {"token": runner.token, "token_expires_at": None})


@route("GET", "/runners/router/discovery", public=True)
def discovery(call: Call) -> Reply:
    raise ApiError(501, "501 Not Implemented")


def _news(call: Call) -> str:
    """Changes whenever there may be a job that was not there before."""
    return hashlib.sha256(str(call.double.news.number).encode()).hexdigest()[:32]


@route("POST", "/jobs/request", public=True)
async def request_job(call: Call) -> Reply:
    runner = _runner(call)
    _seen(call, runner)
    running.give_up(call.double)
    job = _next(call, runner)
    if job is None and call.body.get("last_update") == _news(call):
        for _ in range(POLLS):
            # A push over SSH makes its pipeline in another process, which can't wake this one.
            await call.double.news.wait(POLL_S)
            fresh = call.double.store.get(Runner, runner.id)
            job = _next(call, fresh) if fresh else None
            if job or fresh is None or await call.request.is_disconnected():
                break
    if job is None:
        return Reply(204, None, {"X-GitLab-Last-Update": _news(call)})
    payload = handout.handed_out(call.double, job, runner)
    call.double.contract.check_job(payload)
    return Reply(201, payload, {"X-GitLab-Last-Update": _news(call)})


def _next(call: Call, runner: Runner) -> Job | None:
    """The oldest job that is for this runner, which has it from now on."""
    if runner.paused:
        return None
    store = call.double.store
    for job in store.find(Job, status="pending"):
        if handout.may_run(call.double, runner, job):
            job.status, job.started_at, job.runner_id = "running", clock.now(), runner.id
            job.updated_at = job.started_at
            store.save(job)
            running.advance(call.double, store.must(Pipeline, job.pipeline_id))
            return job
    return None


def _job(call: Call) -> Job:
    """The job of the address, by its own token; refuses one that no longer runs."""
    token = call.request.headers.get("JOB-TOKEN") or call.body.get("token") or call.query.get("token")
    job = call.double.store.get(Job, call.number("id"))
    if job is None or not token or token != job.token:
        raise ApiError(403, "403 Forbidden")
    if job.status not in PROCESSING:
        error = ApiError(403, "403 Forbidden - Job is not processing on runner")
        error.reply.headers["Job-Status"] = job.status
        raise error
    return job


def _contact(call: Call, job: Job) -> None:
    job.updated_at = clock.now()
    call.double.store.save(job)
    runner = call.double.store.get(Runner, job.runner_id)
    if runner:
        runner.contacted_at = clock.now()
        call.double.store.save(runner)


def _size(call: Call, job: Job) -> int:
    file = call.double.trace_file(job.id)
    return file.stat().st_size if file.exists() else 0


@route("PATCH", "/jobs/{id}/trace", public=True, streams=True)
async def append_trace(call: Call) -> Reply:
    job = _job(call)
    content = await call.request.body()
    found = re.fullmatch(r"(\d+)-(\d+)", call.request.headers.get("Content-Range", ""))
    if found is None:
        raise ApiError(400, {"error": "400 Missing header Content-Range"})
    there = _size(call, job)
    if int(found[1]) != there:
        error = ApiError(416, {"error": "416 Range Not Satisfiable"})
        error.reply.headers["Range"] = f"0-{there}"
        raise error
    with call.double.trace_file(job.id).open("ab") as file:
        file.write(content)
    _contact(call, job)
    headers = {
        "Job-Status": job.status,
        "Range": f"0-{there + len(content)}",
        "X-GitLab-Trace-Update-Interval": TRACE_INTERVAL,
    }
    return Reply(202, b"", headers, "text/plain")


@route("PUT", "/jobs/{id}", public=True)
def update(call: Call) -> Reply:
    job = _job(call)
    _contact(call, job)
    state, output = call.body.get("state"), call.body.get("output") or {}
    headers = {"Job-Status": job.status, "X-GitLab-Trace-Update-Interval": TRACE_INTERVAL}
    if state in ("success", "failed"):
        expected = output.get("bytesize") or 0
        if _size(call, job) < expected and job.spec.get("late", 0) < LATE_ANSWERS:
            job.spec = job.spec | {"late": job.spec.get("late", 0) + 1}
            call.double.store.save(job)
            return Reply(202, b"", headers, "text/plain")
        running.finish(call.double, job, state, call.body.get("failure_reason"), call.body.get("exit_code"))
        headers["Job-Status"] = state
    return Reply(200, b"", headers, "text/plain")


@route("POST", "/jobs/{id}/artifacts/authorize", public=True)
def authorize(call: Call) -> Reply:
    # GitLab's own front server asks this before it takes a file; the double has none.
    raise ApiError(403, "403 Forbidden - Not allowed, GitLab Workhorse is required")


@route("POST", "/jobs/{id}/artifacts", public=True, streams=True)
async def upload_artifacts(call: Call) -> Reply:
    job, store = _job(call), call.double.store
    file_type = call.query.get("artifact_type", "archive")
    if file_type not in ("archive", "metadata"):
        raise ApiError(400, f"the double does not take artifacts of the type {file_type}")
    largest = int(call.double.settings()["max_artifacts_size"]) * 1024 * 1024
    if int(call.request.headers.get("Content-Length", 0)) > largest:
        raise _too_large()
    async with call.request.form() as form:
        file = form.get("file")
        if not isinstance(file, UploadFile):
            raise missing("file")
        if (file.size or 0) > largest:
            raise _too_large()
        for old in store.find(Artifact, job_id=job.id, file_type=file_type):
            call.double.artifact_file(old.id).unlink(missing_ok=True)
            store.delete(old)
        artifact = store.add(
            Artifact(
                job_id=job.id,
                file_type=file_type,
                file_format=call.query.get("artifact_format", "zip"),
                filename=file.filename or "artifacts.zip",
                size=file.size or 0,
                expires_at=_expiry(call.query.get("expire_in")),
            )
        )
        with call.double.artifact_file(artifact.id).open("wb") as kept:
            shutil.copyfileobj(file.file, kept)
    _contact(call, job)
    return Reply(201, "201")


def _too_large() -> ApiError:
    return ApiError(413, "413 Request Entity Too Large")


def _expiry(text: str | None) -> str | None:
    if text == "never":
        return None
    return clock.in_seconds(seconds(text, "expire_in") if text else EXPIRE_S)


@route("GET", "/jobs/{id}/artifacts", public=True)
def download_artifacts(call: Call) -> Reply:
    token = call.request.headers.get("JOB-TOKEN") or call.query.get("token")
    job = call.double.store.get(Job, call.number("id"))
    if job is None or not token or not _may_download(call, job, token):
        raise ApiError(403, "403 Forbidden")
    archive = call.double.store.first(Artifact, job_id=job.id, file_type="archive")
    if archive is None or not call.double.artifact_file(archive.id).exists():
        raise not_found()
    headers: dict[str, Any] = {"Content-Disposition": f'attachment; filename="{archive.filename}"'}
    return Reply(200, call.double.artifact_file(archive.id), headers, "application/octet-stream")


def _may_download(call: Call, job: Job, token: str) -> bool:
    """By the job's own token, which its dependents are told, or by that of a running job of the project."""
    asking = call.double.store.first(Job, token=token)
    if asking is None:
        return False
    return asking.id == job.id or (asking.project_id == job.project_id and asking.status == "running")
