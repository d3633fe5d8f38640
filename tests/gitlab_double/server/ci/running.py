"""How a pipeline's jobs follow one another."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from .. import clock, passwords
from ..records import Artifact, Job, Pipeline, User

if TYPE_CHECKING:
    from ..double import Double

FINISHED = ("success", "failed", "canceled", "skipped")
ACTIVE = ("pending", "running", "canceling")


def current(double: Double, pipeline: Pipeline) -> list[Job]:
    """The jobs that count: of those that were retried the last."""
    return [one for one in double.store.find(Job, pipeline_id=pipeline.id) if not one.retried]


def advance(double: Double, pipeline: Pipeline) -> None:
    """Let jobs wait for a runner, for a person, or be skipped, as those before them have ended."""
    moved = True
    while moved:
        jobs = current(double, pipeline)
        moved = any(_move(double, job, jobs) for job in jobs if job.status == "created")
    _settle(double, pipeline)
    double.news.tell()


def _move(double: Double, job: Job, jobs: list[Job]) -> bool:
    outcome = _outcome(job, jobs)
    if outcome is None:
        return False
    when = job.spec["when"]
    runs = {
        "always": True,
        "on_failure": outcome == "failed",
        "on_success": outcome == "success",
        "manual": outcome == "success",
    }[when]
    if not runs:
        job.status = "skipped"
    elif when == "manual" and not job.played:
        job.status = "manual"
    else:
        job.status, job.queued_at = "pending", clock.now()
    double.store.save(job)
    return True


def _outcome(job: Job, jobs: list[Job]) -> str | None:
    """Of all that a job comes after: success, failed, skipped, or None while it lasts."""
    needs = job.spec["needs"]
    if needs is None:
        before = [one for one in jobs if one.stage_index < job.stage_index]
    else:
        names = {one["job"] for one in needs}
        before = [one for one in jobs if one.name in names]
    states = [_state(one) for one in before]
    if "waiting" in states:
        return None
    if "failed" in states:
        return "failed"
    # A stage passes over what was left out in it. Who names a job wants it to have run.
    return "skipped" if needs is not None and "skipped" in states else "success"


def _state(job: Job) -> str:
    if job.status in ("failed", "canceled"):
        return "success" if job.spec["allow_failure"] else "failed"
    if job.status == "manual":
        return "skipped" if job.spec["allow_failure"] else "waiting"
    return job.status if job.status in FINISHED else "waiting"


def _settle(double: Double, pipeline: Pipeline) -> None:
    """Give the pipeline the status that its jobs add up to."""
    pipeline = double.store.must(Pipeline, pipeline.id)
    status = _status(current(double, pipeline))
    if status != pipeline.status:
        pipeline.status, pipeline.updated_at = status, clock.now()
    if status == "running" and pipeline.started_at is None:
        pipeline.started_at = clock.now()
    if status in FINISHED:
        pipeline.finished_at = pipeline.finished_at or clock.now()
    else:
        pipeline.finished_at = None
    double.store.save(pipeline)


def _status(jobs: list[Job]) -> str:
    states = [one.status for one in jobs]
    optional = {"manual"}
    counted = [
        "skipped" if one.status in optional and one.spec["allow_failure"] else one.status for one in jobs
    ]
    if any(one in ("running", "canceling") for one in states):
        return "running"
    if "pending" in states:
        return "running" if {"success", "failed", "canceled"} & set(states) else "pending"
    if "manual" in counted:
        return "manual"
    if "created" in states:
        return "created" if set(states) == {"created"} else "running"
    for status in ("failed", "canceled"):
        if any(one.status == status and not one.spec["allow_failure"] for one in jobs):
            return status
    return "skipped" if set(counted) <= {"skipped"} else "success"


def finish(double: Double, job: Job, status: str, reason: str | None, exit_code: int | None) -> None:
    """A job has ended; it may be tried again, and others may follow."""
    job.status, job.finished_at, job.exit_code = status, clock.now(), exit_code
    job.failure_reason = (reason or "unknown_failure") if status == "failed" else None
    if exit_code is not None and exit_code in job.spec["allowed_exit_codes"]:
        job.spec = job.spec | {"allow_failure": True}
    double.store.save(job)
    pipeline = double.store.must(Pipeline, job.pipeline_id)
    if status == "failed" and job.attempt < job.spec["retry"]:
        wanted = set(job.spec["retry_when"])
        if wanted & {"always", job.failure_reason}:
            _again(double, job, job.user_id)
    advance(double, pipeline)


def give_up(double: Double) -> None:
    """Fail the jobs of which nothing was heard for too long, such as those of a machine that is off."""
    for job in double.store.find(Job, status="running"):
        if clock.seconds_since(job.updated_at) > double.patience_s:
            finish(double, job, "failed", "stuck_or_timeout_failure", None)


def _again(double: Double, job: Job, user: int) -> Job:
    job.retried = True
    double.store.save(job)
    return double.store.add(
        Job(
            pipeline_id=job.pipeline_id,
            project_id=job.project_id,
            user_id=user,
            name=job.name,
            stage=job.stage,
            stage_index=job.stage_index,
            token=passwords.token("glcbt-64_"),
            spec=job.spec,
            attempt=job.attempt + 1,
            played=job.played,
        )
    )


def retry(double: Double, job: Job, user: User) -> Job:
    """Run a job once more; what was skipped because of it may run, too."""
    job.played = True
    fresh = _again(double, job, user.id)
    # Somebody asks for it: tries of its own begin anew.
    fresh.attempt, fresh.status, fresh.queued_at = 0, "pending", clock.now()
    double.store.save(fresh)
    pipeline = double.store.must(Pipeline, job.pipeline_id)
    for other in current(double, pipeline):
        if other.status == "skipped" and other.stage_index >= job.stage_index and other.id != fresh.id:
            other.status = "created"
            double.store.save(other)
    advance(double, pipeline)
    return double.store.must(Job, fresh.id)


def retry_pipeline(double: Double, pipeline: Pipeline, user: User) -> None:
    for job in current(double, pipeline):
        if job.status in ("failed", "canceled"):
            retry(double, job, user)
    advance(double, pipeline)


def play(double: Double, job: Job, user: User, given: list[dict[str, Any]]) -> None:
    """Start a job that waits for a person."""
    job.played, job.user_id, job.status, job.queued_at = True, user.id, "pending", clock.now()
    job.spec = job.spec | {"given": given}
    double.store.save(job)
    advance(double, double.store.must(Pipeline, job.pipeline_id))


def cancel(double: Double, job: Job) -> None:
    """End a job. One that runs is told so when its runner comes next."""
    if job.status in FINISHED:
        return
    _cancel(double, job)
    advance(double, double.store.must(Pipeline, job.pipeline_id))


def _cancel(double: Double, job: Job) -> None:
    job.status, job.finished_at, job.cancel_requested = "canceled", clock.now(), True
    double.store.save(job)


def cancel_pipeline(double: Double, pipeline: Pipeline) -> None:
    for job in current(double, pipeline):
        if job.status not in FINISHED:
            _cancel(double, job)
    advance(double, pipeline)


def forget_pipeline(double: Double, pipeline: Pipeline) -> None:
    """Remove a pipeline with its jobs, traces and artifacts."""
    for job in double.store.find(Job, pipeline_id=pipeline.id):
        double.trace_file(job.id).unlink(missing_ok=True)
        for artifact in double.store.find(Artifact, job_id=job.id):
            double.artifact_file(artifact.id).unlink(missing_ok=True)
            double.store.delete(artifact)
        double.store.delete(job)
    double.store.delete(pipeline)
