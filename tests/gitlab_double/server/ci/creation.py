"""Makes pipelines: which jobs there are, by the rules, and in what order."""

from __future__ import annotations

import fnmatch
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from .. import clock, passwords
from ..records import Job, Pipeline, Project, User
from ..repositories import NOTHING
from . import expressions, variables
from .reading import ConfigurationError, Document, read
from .specification import JobSpec, job_spec, rules
from .specification import variables as written_variables

if TYPE_CHECKING:
    from ..double import Double

CONFIGURATION = ".gitlab-ci.yml"


class NoPipelineError(Exception):
    """Rules left nothing to do."""

    def __init__(self, *problems: str) -> None:
        super().__init__("; ".join(problems))
        self.problems = list(problems)


@dataclass
class Plan:
    """A pipeline that is not kept yet."""

    stages: list[str]
    jobs: list[JobSpec] = field(default_factory=list)
    variables: dict[str, str] = field(default_factory=dict)
    """Those that workflow rules set."""


@dataclass(frozen=True)
class _Context:
    """What rules are decided on."""

    values: dict[str, str]
    paths: Callable[[], list[str]]
    changed: Callable[[], list[str]]


def files_of(double: Double, project: Project, sha: str) -> Callable[[str], str | None]:
    def content(path: str) -> str | None:
        blob = double.repositories.read(project.id, sha, path)
        return blob.content.decode(errors="replace") if blob else None

    return content


def plan(
    double: Double,
    project: Project,
    text: str,
    ref: str,
    sha: str | None,
    user: User,
    source: str,
    before: str = NOTHING,
    tag: bool = False,
    given: list[dict[str, Any]] | None = None,
) -> Plan:
    """What a configuration would run for a commit.

    Raises:
        ConfigurationError: when it cannot run.
        NoPipelineError: when rules leave nothing.
    """
    document = read(text, files_of(double, project, sha) if sha else lambda path: None)
    draft = Pipeline(
        project_id=project.id,
        user_id=user.id,
        ref=ref,
        sha=sha or NOTHING,
        before_sha=before,
        source=source,
        tag=tag,
        variables=given or [],
    )
    outer = written_variables("variables", document.document.get("variables"))
    values = _values(double, project, user, draft, outer)
    paths = (lambda: double.repositories.paths(project.id, sha)) if sha else list
    changed = (lambda: double.repositories.changed(project.id, before, sha)) if sha else list
    context = _Context(values, paths, changed)
    planned = Plan(document.stages)
    planned.variables = _workflow(document, context)
    specs = [job_spec(name, body, planned.stages) for name, body in document.jobs.items()]
    for spec in specs:
        spec.variables = outer | spec.variables
        inner = {key: one["value"] for key, one in (outer | spec.variables).items()}
        own = _Context(inner | planned.variables | values, paths, changed)
        if _included(spec, own):
            planned.jobs.append(spec)
    _check_needs(planned, {spec.name for spec in specs})
    if not [one for one in planned.jobs if one.stage not in (".pre", ".post")]:
        raise NoPipelineError(
            "Pipeline will not run for the selected trigger. The rules configuration prevented any jobs from"
            " being added to the pipeline."
        )
    return planned


def _values(
    double: Double, project: Project, user: User, draft: Pipeline, outer: dict[str, dict[str, Any]]
) -> dict[str, str]:
    found = [
        *variables.public(variables.of_instance(double)),
        *variables.public(variables.of_project(double, project)),
        *variables.public(variables.of_pipeline(double, project, draft)),
        *variables.public(variables.of_user(double, user)),
        *variables.written(outer),
        *variables.kept(double, project, draft.ref, draft.tag),
        *variables.given(draft),
    ]
    return variables.as_mapping(found)


def _workflow(document: Document, context: _Context) -> dict[str, str]:
    workflow = document.document.get("workflow") or {}
    unknown = sorted(set(workflow) - {"rules", "name"})
    if unknown:
        raise ConfigurationError(f"workflow: the double does not know {', '.join(unknown)}")
    if "rules" not in workflow:
        return {}
    rule = _first(rules("workflow:rules", workflow["rules"]), context)
    if rule is None or rule.get("when") == "never":
        raise NoPipelineError("Pipeline filtered out by workflow rules.")
    return {key: one["value"] for key, one in rule["variables"].items()}


def _first(entries: list[dict[str, Any]], context: _Context) -> dict[str, Any] | None:
    return next((one for one in entries if _applies(one, context)), None)


def _applies(rule: dict[str, Any], context: _Context) -> bool:
    """Whether all that a rule asks for is so."""
    if "if" in rule and not expressions.holds(str(rule["if"]), context.values):
        return False
    if "exists" in rule and not _any_path(rule["exists"], context.paths(), context.values):
        return False
    return "changes" not in rule or _any_path(rule["changes"], context.changed(), context.values)


def _any_path(patterns: list[str], paths: list[str], values: dict[str, str]) -> bool:
    wanted = [variables.expanded(one, values) for one in patterns]
    return any(_path_fits(path, one) for one in wanted for path in paths)


def _path_fits(path: str, pattern: str) -> bool:
    """``*`` stays in a folder, ``**`` does not."""
    if "**" in pattern:
        return fnmatch.fnmatchcase(path, pattern.replace("**/", "*")) or fnmatch.fnmatchcase(path, pattern)
    return fnmatch.fnmatchcase(path, pattern) and path.count("/") == pattern.count("/")


def _included(spec: JobSpec, context: _Context) -> bool:
    """Decide a job's rules, which may change when and how it runs."""
    if spec.rules is None:
        return spec.when != "never"
    rule = _first(spec.rules, context)
    if rule is None:
        return False
    spec.when = rule.get("when", spec.when)
    if "allow_failure" in rule:
        spec.allow_failure = rule["allow_failure"] is True
    spec.variables = spec.variables | rule["variables"]
    return spec.when != "never"


def _check_needs(planned: Plan, written: set[str]) -> None:
    there = {one.name: one for one in planned.jobs}
    for spec in planned.jobs:
        wanted = [(one["job"], one["optional"]) for one in spec.needs or []]
        wanted += [(name, False) for name in spec.dependencies or []]
        for name, optional in wanted:
            if name not in written and not optional:
                raise ConfigurationError(f"{spec.name} job: undefined need: {name}")
            if name not in there:
                if optional:
                    continue
                raise ConfigurationError(
                    f"'{spec.name}' job needs '{name}' job, but '{name}' does not exist in the pipeline. This"
                    " might be because of the only, except, or rules keywords. To need a job that sometimes"
                    " does not exist in the pipeline, use needs:optional."
                )
            if planned.stages.index(there[name].stage) > planned.stages.index(spec.stage):
                raise ConfigurationError(
                    f"{spec.name} job: need {name} is not defined in current or prior stages"
                )


def create_pipeline(
    double: Double,
    project: Project,
    user: User,
    ref: str,
    sha: str,
    source: str,
    before: str = NOTHING,
    tag: bool = False,
    variables: list[dict[str, Any]] | None = None,
) -> Pipeline:
    """Make a pipeline and start it.

    Raises:
        ConfigurationError: when the file is missing or cannot run; a push keeps the failed pipeline instead.
        NoPipelineError: when rules leave nothing.
    """
    from .running import advance

    text = files_of(double, project, sha)(project.more.get("ci_config_path") or CONFIGURATION)
    if text is None:
        raise ConfigurationError("Missing CI config file")
    store = double.store
    pipeline = Pipeline(
        project_id=project.id,
        iid=1 + max((one.iid for one in store.find(Pipeline, project_id=project.id)), default=0),
        user_id=user.id,
        ref=ref,
        tag=tag,
        sha=sha,
        before_sha=before,
        source=source,
        variables=variables or [],
    )
    try:
        planned = plan(double, project, text, ref, sha, user, source, before, tag, variables)
    except ConfigurationError as error:
        if source == "push":
            pipeline.status, pipeline.yaml_errors = "failed", "; ".join(error.problems)
            pipeline.finished_at = clock.now()
            store.add(pipeline)
        raise
    pipeline.workflow_variables = planned.variables
    store.add(pipeline)
    # A runner fetches this, so that it finds the commit even when the branch is gone.
    double.repositories.set_ref(project.id, f"refs/pipelines/{pipeline.id}", sha)
    for spec in sorted(planned.jobs, key=lambda one: planned.stages.index(one.stage)):
        store.add(
            Job(
                pipeline_id=pipeline.id,
                project_id=project.id,
                user_id=user.id,
                name=spec.name,
                stage=spec.stage,
                stage_index=planned.stages.index(spec.stage),
                token=passwords.token("glcbt-64_"),
                spec=spec.as_dict(),
            )
        )
    advance(double, pipeline)
    return store.must(Pipeline, pipeline.id)
