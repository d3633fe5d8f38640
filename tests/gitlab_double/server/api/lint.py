"""Says whether a pipeline can be made of a configuration."""

from __future__ import annotations

from typing import Any

import yaml

from ..access import DEVELOPER, find_project
from ..ci.creation import files_of, plan
from ..ci.reading import ConfigurationError, read
from ..records import Project
from ..routing import Call, Reply, route


def _answer(call: Call, project: Project, content: str, ref: str, jobs: bool) -> Reply:
    said: dict[str, Any] = {"valid": True, "errors": [], "warnings": [], "merged_yaml": None, "includes": []}
    sha = call.double.repositories.resolve(project.id, ref)
    try:
        merged = read(content, files_of(call.double, project, sha) if sha else lambda path: None)
        planned = plan(call.double, project, content, ref, sha, call.login.known, source="push")
        said["merged_yaml"] = yaml.safe_dump(merged.document, sort_keys=False)
        if jobs:
            said["jobs"] = [
                {"name": one.name, "stage": one.stage, "when": one.when, "allow_failure": one.allow_failure}
                for one in planned.jobs
            ]
    except ConfigurationError as error:
        said |= {"valid": False, "errors": error.problems}
    return Reply(200, said)


@route("POST", "/projects/{id}/ci/lint")
def lint_text(call: Call) -> Reply:
    project = find_project(call, DEVELOPER)
    (content,) = call.need("content")
    ref = call.body.get("ref") or project.default_branch or "main"
    return _answer(call, project, content, ref, call.flag("include_jobs"))


@route("GET", "/projects/{id}/ci/lint")
def lint_repository(call: Call) -> Reply:
    project = find_project(call, DEVELOPER)
    ref = call.query.get("content_ref") or call.query.get("dry_run_ref") or project.default_branch or "main"
    sha = call.double.repositories.resolve(project.id, ref)
    text = files_of(call.double, project, sha)(".gitlab-ci.yml") if sha else None
    if text is None:
        problem = {"valid": False, "errors": ["Please provide content of .gitlab-ci.yml"], "warnings": []}
        return Reply(200, problem | {"merged_yaml": None, "includes": []})
    return _answer(call, project, text, ref, call.flag("include_jobs"))
