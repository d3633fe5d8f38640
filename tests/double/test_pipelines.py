"""The double's pipelines: what of ``.gitlab-ci.yml`` runs, and when."""

from __future__ import annotations

from typing import Any

import gitlab
import pytest
from gitlab.v4.objects import Project, ProjectPipeline

from tests.gitlab_double.fake_runner import FakeRunner

BUILD_AND_TEST = """
build:
  stage: build
  script: make
test:
  script: [make test]
"""


def push(project: Project, text: str, **files: str) -> str:
    """Commit a configuration, and files by their names; the commit."""
    there = {one["path"] for one in project.repository_tree(get_all=True)}
    actions = [
        {"action": "update" if path in there else "create", "file_path": path, "content": content}
        for path, content in {".gitlab-ci.yml": text, **files}.items()
    ]
    commit = project.commits.create({"branch": "main", "commit_message": "CI", "actions": actions})
    return str(commit.id)


def pipeline(project: Project) -> ProjectPipeline:
    """The newest."""
    return project.pipelines.get(project.pipelines.list(get_all=True)[0].id)


def states(project: Project) -> dict[str, str]:
    jobs = pipeline(project).jobs.list(get_all=True)
    return {one.name: one.status for one in reversed(list(jobs))}


def lint(project: Project, text: str) -> list[str]:
    return list(project.ci_lint.create({"content": text}).errors)


def test_push_makes_a_pipeline(project: Project) -> None:
    sha = push(project, BUILD_AND_TEST)
    made = pipeline(project)
    assert (made.sha, made.ref, made.source, made.status) == (sha, "main", "push", "pending")
    assert states(project) == {"build": "pending", "test": "created"}


def test_stage_waits_for_the_one_before(project: Project, runner: FakeRunner) -> None:
    push(project, BUILD_AND_TEST)
    job = runner.take()
    assert job["job_info"]["name"] == "build"
    assert runner.request().status_code == 204
    runner.end(job)
    assert states(project) == {"build": "success", "test": "pending"}
    assert runner.run() == "test"
    assert pipeline(project).status == "success"


def test_failure_skips_what_follows(project: Project, runner: FakeRunner) -> None:
    push(project, BUILD_AND_TEST)
    runner.run("failed", failure_reason="script_failure", exit_code=2)
    assert states(project) == {"build": "failed", "test": "skipped"}
    assert pipeline(project).status == "failed"


def test_allowed_failure_does_not_stop_a_pipeline(project: Project, runner: FakeRunner) -> None:
    push(project, BUILD_AND_TEST.replace("script: make\n", "script: make\n  allow_failure: true\n"))
    runner.run("failed", failure_reason="script_failure", exit_code=2)
    assert states(project) == {"build": "failed", "test": "pending"}
    runner.run()
    assert pipeline(project).status == "success"


def test_exit_code_that_is_allowed_does_not_stop_a_pipeline(project: Project, runner: FakeRunner) -> None:
    allowed = "script: make\n  allow_failure: {exit_codes: [3]}\n"
    push(project, BUILD_AND_TEST.replace("script: make\n", allowed))
    runner.run("failed", failure_reason="script_failure", exit_code=3)
    assert states(project) == {"build": "failed", "test": "pending"}


def test_needs_starts_a_job_before_its_stage(project: Project, runner: FakeRunner) -> None:
    push(
        project,
        """
a: {stage: build, script: x}
b: {stage: build, script: x}
after-a: {stage: test, script: x, needs: [a]}
at-once: {stage: deploy, script: x, needs: []}
""",
    )
    assert states(project) == {"a": "pending", "b": "pending", "after-a": "created", "at-once": "pending"}
    assert runner.run() == "a"
    assert states(project)["after-a"] == "pending"


def test_job_for_failures_runs_after_one_only(project: Project, runner: FakeRunner) -> None:
    push(
        project,
        """
build: {stage: build, script: x}
clean: {stage: deploy, script: x, when: on_failure}
always: {stage: deploy, script: x, when: always}
""",
    )
    runner.run("failed", failure_reason="script_failure")
    assert states(project) == {"build": "failed", "clean": "pending", "always": "pending"}


def test_manual_job_waits_for_a_person_and_holds_nobody_up(project: Project, runner: FakeRunner) -> None:
    push(project, "deploy: {script: x, when: manual}\nafter: {stage: deploy, script: x}")
    assert states(project) == {"deploy": "manual", "after": "pending"}
    runner.run()
    assert pipeline(project).status == "success"
    project.jobs.get(pipeline(project).jobs.list(scope="manual", get_all=True)[0].id).play()
    assert runner.take()["job_info"]["name"] == "deploy"


def test_manual_job_that_may_not_fail_blocks(project: Project) -> None:
    push(
        project,
        "deploy: {script: x, when: manual, allow_failure: false}\nafter: {stage: deploy, script: x}",
    )
    assert states(project) == {"deploy": "manual", "after": "created"}
    assert pipeline(project).status == "manual"


def test_job_is_tried_again(project: Project, runner: FakeRunner) -> None:
    push(project, "a: {script: x, retry: {max: 1, when: runner_system_failure}}")
    runner.run("failed", failure_reason="runner_system_failure")
    assert states(project) == {"a": "pending"}
    runner.run("failed", failure_reason="runner_system_failure")
    assert states(project) == {"a": "failed"}
    assert len(pipeline(project).jobs.list(get_all=True, include_retried=True)) == 2


def test_retried_job_lets_the_skipped_ones_run(project: Project, runner: FakeRunner) -> None:
    push(project, BUILD_AND_TEST)
    runner.run("failed", failure_reason="script_failure")
    pipeline(project).retry()
    assert states(project) == {"test": "created", "build": "pending"}
    runner.run()
    runner.run()
    assert pipeline(project).status == "success"


def test_cancelled_pipeline_ends_all_jobs(project: Project, runner: FakeRunner) -> None:
    push(project, BUILD_AND_TEST)
    job = runner.take()
    pipeline(project).cancel()
    assert states(project) == {"build": "canceled", "test": "canceled"}
    answer = runner.trace(job, "more")
    assert (answer.status_code, answer.headers["Job-Status"]) == (403, "canceled")


@pytest.mark.parametrize(
    ("rule", "there"),
    [
        ('if: $CI_COMMIT_BRANCH == "main"', True),
        ("if: $CI_COMMIT_BRANCH == $CI_DEFAULT_BRANCH", True),
        ('if: $CI_COMMIT_TAG || $CI_PIPELINE_SOURCE == "api"', False),
        ("if: $CI_COMMIT_BRANCH =~ /^MA/i && $NOT_SET == null", True),
        ("if: $CI_COMMIT_BRANCH !~ /^ma/", False),
        ("if: ($A == 'no' || $B) && $C != null", False),
        ("exists: [src/*.py]", True),
        ("exists: [lib/*.py]", False),
        ("changes: [src/**/*]", True),
        ("changes: {paths: [docs/*]}", False),
    ],
)
def test_rule_decides_on_a_job(project: Project, rule: str, there: bool) -> None:
    text = f"always: {{script: x}}\nmaybe:\n  script: x\n  rules:\n    - {rule}\n"
    push(project, text, **{"src/a.py": "x"})
    assert ("maybe" in states(project)) == there


def test_rule_sets_variables_and_when(project: Project, runner: FakeRunner) -> None:
    push(
        project,
        """
a:
  script: x
  variables: {MODE: slow, OTHER: "1"}
  rules:
    - if: $CI_COMMIT_TAG
    - if: $OTHER == "1"
      variables: {MODE: fast}
b:
  script: x
  rules: [{when: manual, allow_failure: true}]
""",
    )
    assert states(project) == {"a": "pending", "b": "manual"}
    values = {one["key"]: one["value"] for one in runner.take()["variables"]}
    assert values["MODE"] == "fast"


def test_workflow_rules_decide_on_a_pipeline(project: Project) -> None:
    push(project, "workflow: {rules: [{if: $CI_PIPELINE_SOURCE == 'api'}]}\na: {script: x}")
    assert list(project.pipelines.list(get_all=True)) == []
    project.pipelines.create({"ref": "main"})
    assert states(project) == {"a": "pending"}


def test_extends_defaults_includes_and_references_are_resolved(project: Project, runner: FakeRunner) -> None:
    push(
        project,
        """
include: /ci/base.yml
default:
  image: debian:trixie
  before_script: [prepare]
.job:
  variables: {A: "1", B: "1"}
  script: [nothing]
build:
  extends: [.base, .job]
  variables: {B: "2"}
  script:
    - !reference [.base, script]
    - make
""",
        **{"ci/base.yml": ".base:\n  tags: [docker]\n  script: [base]\n"},
    )
    job = runner.take()
    assert job["image"]["name"] == "debian:trixie"
    assert job["steps"][0]["script"] == ["prepare", "base", "make"]
    values = {one["key"]: one["value"] for one in job["variables"]}
    assert (values["A"], values["B"]) == ("1", "2")


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("a: {script: x, parallel: 3}", "jobs:a: the double does not know parallel"),
        ("a: {script: x, frobnicate: 3}", "jobs:a config contains unknown keys: frobnicate"),
        ("a: {stage: build}", "jobs:a config should implement the script:, run:, or trigger: keyword"),
        (
            "a: {stage: pack, script: x}",
            "a job: chosen stage pack does not exist; available stages are .pre, build, test, deploy, .post",
        ),
        ("a: {script: x, needs: [b]}", "a job: undefined need: b"),
        ("a: {script: x, extends: b}", "a: unknown keys in `extends` (b)"),
        ("a: {script: x, rules: [{if: '$A =='}]}", "jobs:a:rules:rule if invalid expression syntax: $A =="),
        ("include: {remote: x}\na: {script: x}", "include: the double knows only local files, not remote"),
        ("include: no.yml\na: {script: x}", "Local file `no.yml` does not exist!"),
        (".a: {script: x}", "jobs config should contain at least one visible job"),
        ("a: {script: x, when: delayed, start_in: 1h}", "jobs:a: the double does not know start_in"),
        (
            "a: {script: x, artifacts: {reports: {dotenv: x}}}",
            "jobs:a:artifacts:reports: the double does not know dotenv",
        ),
    ],
)
def test_configuration_that_cannot_run_is_refused(project: Project, text: str, problem: str) -> None:
    assert lint(project, text) == [problem]


def test_good_configuration_passes_the_check(project: Project) -> None:
    found = project.ci_lint.create({"content": BUILD_AND_TEST, "include_jobs": True})
    assert (found.valid, [one["name"] for one in found.jobs]) == (True, ["build", "test"])


def test_broken_configuration_leaves_a_failed_pipeline(project: Project) -> None:
    push(project, "a: {stage: build}")
    made = pipeline(project)
    problem = "jobs:a config should implement the script:, run:, or trigger: keyword"
    assert (made.status, made.yaml_errors) == ("failed", problem)


def test_commit_may_ask_for_no_pipeline(project: Project) -> None:
    project.commits.create(
        {
            "branch": "main",
            "commit_message": "CI [skip ci]",
            "actions": [{"action": "create", "file_path": ".gitlab-ci.yml", "content": BUILD_AND_TEST}],
        }
    )
    assert list(project.pipelines.list(get_all=True)) == []


def test_pipeline_that_is_asked_for_has_the_given_variables(project: Project, runner: FakeRunner) -> None:
    push(project, "workflow: {rules: [{if: $GO}]}\na: {script: x}")
    with pytest.raises(gitlab.GitlabCreateError) as error:
        project.pipelines.create({"ref": "main"})
    assert str(error.value) == "400: {'base': ['Pipeline filtered out by workflow rules.']}"
    given: list[dict[str, Any]] = [{"key": "GO", "value": "yes"}]
    project.pipelines.create({"ref": "main", "variables": given})
    values = {one["key"]: one["value"] for one in runner.take()["variables"]}
    assert values["GO"] == "yes"
