"""The job as a runner is handed it."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Any

from .. import clock
from ..records import Artifact, Job, Namespace, Pipeline, Project, Runner, User
from . import variables
from .running import current
from .variables import JobVariable, as_mapping, expanded, with_login

if TYPE_CHECKING:
    from ..double import Double

TIMEOUT = 3600
DEPTH = 20
FAILURES = [
    *(
        "unknown_failure",
        "script_failure",
        "api_failure",
        "stuck_or_timeout_failure",
        "runner_system_failure",
    ),
    *("missing_dependency_failure", "runner_unsupported", "job_execution_timeout", "archived_failure"),
    *("unmet_prerequisites", "scheduler_failure", "data_integrity_failure", "job_canceled"),
]
MASKED_PREFIXES = [
    *("glpat-", "gloas-", "gldt-", "glrt-", "glrtr-", "glcbt-", "glptt-", "glft-", "glimt-", "glagent-"),
    *("glsoat-", "glffct-"),
]


def handed_out(double: Double, job: Job, runner: Runner) -> dict[str, Any]:
    """All that a runner needs to run a job, in the form of its own types."""
    store = double.store
    project, pipeline = store.must(Project, job.project_id), store.must(Pipeline, job.pipeline_id)
    user = store.must(User, job.user_id)
    known = variables.of_job(double, project, pipeline, job, user)
    known += _of_runner(runner)
    values = as_mapping(known)
    timeout = int(job.spec["timeout"] or project.more.get("build_timeout", TIMEOUT))
    if runner.maximum_timeout:
        timeout = min(timeout, runner.maximum_timeout)
    spec = job.spec
    return {
        "id": job.id,
        "token": job.token,
        "allow_git_fetch": project.more.get("build_git_strategy", "fetch") == "fetch",
        "job_info": _job_info(double, job, project, pipeline, runner),
        "git_info": _git_info(double, job, project, pipeline),
        "runner_info": {"timeout": timeout, "runner_session_url": None},
        "inputs": [],
        "variables": [one.as_dict() for one in known],
        "steps": _steps(spec, timeout),
        "image": _container(spec["image"]) if spec["image"] else None,
        "services": [_service(one) for one in spec["services"]],
        "artifacts": _artifacts(spec["artifacts"]),
        "cache": [_cache(double, one, pipeline, values) for one in spec["cache"]],
        "credentials": [
            {
                "type": "registry",
                "url": double.site.registry_address,
                "username": "gitlab-ci-token",
                "password": job.token,
            }
        ],
        "dependencies": _dependencies(double, job, pipeline),
        "features": {
            "trace_sections": True,
            "token_mask_prefixes": MASKED_PREFIXES,
            "failure_reasons": FAILURES,
        },
        "hooks": [],
        "policy_options": {},
    }


def _of_runner(runner: Runner) -> list[JobVariable]:
    return variables.public(
        {
            "CI_RUNNER_ID": str(runner.id),
            "CI_RUNNER_DESCRIPTION": runner.description,
            "CI_RUNNER_TAGS": str(runner.tag_list).replace("'", '"'),
        }
    )


def _job_info(
    double: Double, job: Job, project: Project, pipeline: Pipeline, runner: Runner
) -> dict[str, Any]:
    namespace = double.store.must(Namespace, project.namespace_id)
    root = namespace
    while root.parent_id is not None:
        root = double.store.must(Namespace, root.parent_id)
    running = [
        one
        for one in double.store.find(Job, project_id=project.id, status="running")
        if one.id != job.id and one.runner_id is not None
    ]
    waited = clock.seconds_between(job.queued_at, job.started_at) or 0.0
    return {
        "id": job.id,
        "name": job.name,
        "stage": job.stage,
        "pipeline_id": pipeline.id,
        "project_id": project.id,
        "project_name": project.path,
        "project_full_path": project.full_path,
        "namespace_id": namespace.id,
        "root_namespace_id": root.id,
        "organization_id": 1,
        "instance_id": hashlib.sha256(double.site.external_url.encode()).hexdigest()[:32],
        "instance_uuid": "",
        "user_id": job.user_id,
        "scoped_user_id": None,
        "time_in_queue_seconds": round(waited, 3),
        # The runner reads a text here, and refuses a job with a number.
        "project_jobs_running_on_instance_runners_count": str(len(running))
        if runner.runner_type == "instance_type"
        else "+Inf",
        "queue_size": len(double.store.find(Job, status="pending")),
        "queue_depth": 0,
    }


def _git_info(double: Double, job: Job, project: Project, pipeline: Pipeline) -> dict[str, Any]:
    address = f"{double.site.external_url}/{project.full_path}.git"
    kind = "tags" if pipeline.tag else "heads"
    there = f"refs/tags/{pipeline.ref}" if pipeline.tag else f"refs/remotes/origin/{pipeline.ref}"
    return {
        "repo_url": with_login(address, "gitlab-ci-token", job.token),
        "repo_object_format": "sha1",
        "ref": pipeline.ref,
        "sha": pipeline.sha,
        "before_sha": pipeline.before_sha,
        "ref_type": "tag" if pipeline.tag else "branch",
        "refspecs": [
            f"+refs/pipelines/{pipeline.id}:refs/pipelines/{pipeline.id}",
            f"+refs/{kind}/{pipeline.ref}:{there}",
        ],
        "depth": int(project.more.get("ci_default_git_depth", DEPTH) or 0),
        "protected": variables.is_protected(double, project, pipeline.ref, pipeline.tag),
    }


def _steps(spec: dict[str, Any], timeout: int) -> list[dict[str, Any]]:
    steps = [
        {
            "name": "script",
            "script": spec["script"],
            "timeout": timeout,
            "when": "on_success",
            "allow_failure": False,
        }
    ]
    if spec["after_script"]:
        steps.append(
            {
                "name": "after_script",
                "script": spec["after_script"],
                "timeout": timeout,
                "when": "always",
                "allow_failure": True,
            }
        )
    return steps


def _texts(value: Any) -> list[str] | None:
    return None if value is None else [value] if isinstance(value, str) else [str(one) for one in value]


def _container(entry: dict[str, Any]) -> dict[str, Any]:
    # The runner itself replaces references to variables in names.
    return {
        "name": entry["name"],
        "entrypoint": _texts(entry.get("entrypoint")),
        "ports": [],
        "executor_opts": {"docker": entry["docker"]} if entry.get("docker") else {},
        "pull_policy": entry.get("pull_policy"),
    }


def _service(entry: dict[str, Any]) -> dict[str, Any]:
    own = [one.as_dict() for one in variables.written(entry.get("variables") or {})]
    return _container(entry) | {
        "alias": entry.get("alias"),
        "command": _texts(entry.get("command")),
        "variables": own,
    }


def _artifacts(entry: dict[str, Any] | None) -> list[dict[str, Any]] | None:
    if entry is None or not (entry.get("paths") or entry.get("untracked")):
        return None
    return [
        {
            "name": entry.get("name"),
            "untracked": entry.get("untracked"),
            "paths": entry.get("paths"),
            "exclude": entry.get("exclude"),
            "when": entry.get("when"),
            "expire_in": str(entry["expire_in"]) if "expire_in" in entry else None,
            "artifact_type": "archive",
            "artifact_format": "zip",
        }
    ]


def _cache(
    double: Double, entry: dict[str, Any], pipeline: Pipeline, values: dict[str, str]
) -> dict[str, Any]:
    key = entry.get("key", "default")
    if isinstance(key, dict):
        blobs = [
            double.repositories.read(pipeline.project_id, pipeline.sha, path)
            for path in key.get("files") or []
        ]
        names = "".join(one.sha for one in blobs if one)
        digest = hashlib.sha1(names.encode(), usedforsecurity=False).hexdigest() if names else "default"
        key = f"{expanded(key['prefix'], values)}-{digest}" if key.get("prefix") else digest
    protected = values.get("CI_COMMIT_REF_PROTECTED") == "true" and not entry.get("unprotect")
    return {
        "key": f"{key}-{'protected' if protected else 'non_protected'}",
        "untracked": entry.get("untracked"),
        "unprotect": entry.get("unprotect", False),
        "policy": entry.get("policy", "pull-push"),
        "paths": entry["paths"],
        "when": entry.get("when", "on_success"),
        "fallback_keys": entry.get("fallback_keys") or [],
    }


def _dependencies(double: Double, job: Job, pipeline: Pipeline) -> list[dict[str, Any]]:
    """The jobs before whose artifacts this one gets, with what it fetches them by."""
    spec = job.spec
    earlier = [one for one in current(double, pipeline) if one.id != job.id]
    if spec["needs"] is not None:
        names = {one["job"] for one in spec["needs"] if one["artifacts"]}
        earlier = [one for one in earlier if one.name in names]
    else:
        earlier = [one for one in earlier if one.stage_index < job.stage_index]
    if spec["dependencies"] is not None:
        earlier = [one for one in earlier if one.name in spec["dependencies"]]
    found = []
    for one in earlier:
        archive = double.store.first(Artifact, job_id=one.id, file_type="archive")
        if archive:
            file = {"filename": archive.filename, "size": archive.size}
            found.append({"id": one.id, "name": one.name, "token": one.token, "artifacts_file": file})
    return found


def may_run(double: Double, runner: Runner, job: Job) -> bool:
    """Whether a job is for a runner: by tags, by where the runner belongs, and by protection."""
    tags = set(job.spec["tags"])
    if not tags <= set(runner.tag_list) or (not tags and not runner.run_untagged):
        return False
    project, pipeline = (
        double.store.must(Project, job.project_id),
        double.store.must(Pipeline, job.pipeline_id),
    )
    if runner.access_level == "ref_protected" and not variables.is_protected(
        double, project, pipeline.ref, pipeline.tag
    ):
        return False
    if runner.runner_type == "instance_type":
        return bool(project.more.get("shared_runners_enabled", True))
    if runner.runner_type == "project_type":
        return runner.project_id == project.id
    above: int | None = project.namespace_id
    while above is not None and above != runner.group_id:
        above = double.store.must(Namespace, above).parent_id
    return above is not None
