"""What the double's coordinator answers a runner."""

from __future__ import annotations

import threading
from typing import Any

import gitlab
import pytest
from gitlab.v4.objects import Project

from tests.gitlab_double.fake_runner import FakeRunner
from tests.gitlab_double.local import LocalDouble, wait_until
from tests.gitlab_double.server import clock
from tests.gitlab_double.server.records import Job, Runner

TWO_STAGES = """
build:
  stage: build
  script: make
  artifacts: {paths: [out], expire_in: 1 week}
test:
  script: make test
"""


def push(project: Project, text: str) -> None:
    about = {"branch": "main", "commit_message": "CI"}
    project.files.create({"file_path": ".gitlab-ci.yml", "content": text, **about})


def variables(job: dict[str, Any]) -> dict[str, dict[str, Any]]:
    return {one["key"]: one for one in job["variables"]}


def test_runner_is_known_by_its_token(runner: FakeRunner, double: LocalDouble) -> None:
    answer = runner.verify()
    assert (answer.status_code, answer.json()["id"]) == (200, 1)
    stranger = FakeRunner(double.url, "glrt-unknown")
    refused = stranger.verify()
    assert (refused.status_code, refused.json()) == (403, {"message": "403 Forbidden"})
    stranger.close()


def test_runner_that_asks_is_online(root: gitlab.Gitlab, runner: FakeRunner) -> None:
    assert runner.request().status_code == 204
    (found,) = root.runners_all.list(get_all=True)
    assert (found.status, found.job_execution_status) == ("online", "idle")
    assert root.runners.get(found.id).version == "19.4.0"


@pytest.mark.parametrize(("hours", "status"), [(3, "offline"), (24 * 8, "stale")])
def test_runner_that_stays_away_is_offline_then_stale(
    double: LocalDouble, root: gitlab.Gitlab, runner: FakeRunner, hours: int, status: str
) -> None:
    kept = double.store.must(Runner, 1)
    kept.contacted_at = clock.in_seconds(-hours * 3600)
    double.store.save(kept)
    assert root.runners.get(1).status == status


def test_router_is_not_there(double: LocalDouble) -> None:
    assert double.ask("GET", "/api/v4/runners/router/discovery").status_code == 501


def test_waiting_runner_gets_a_job_at_once(project: Project, runner: FakeRunner) -> None:
    assert runner.request().status_code == 204
    answers: list[int] = []
    waiting = threading.Thread(target=lambda: answers.append(runner.request().status_code))
    waiting.start()
    push(project, "a: {script: x}")
    wait_until(lambda: answers, "the runner has a job", 3)
    assert answers == [201]
    waiting.join()


def test_paused_runner_gets_no_job(root: gitlab.Gitlab, project: Project, runner: FakeRunner) -> None:
    push(project, "a: {script: x}")
    root.http_put("/runners/1", post_data={"paused": True})
    assert runner.request().status_code == 204


def test_job_with_tags_waits_for_a_runner_that_has_them(project: Project, runner: FakeRunner) -> None:
    push(project, "a: {script: x, tags: [gpu]}\nb: {script: x, tags: [docker]}")
    assert runner.take()["job_info"]["name"] == "b"
    assert runner.request().status_code == 204


def test_job_says_what_is_to_be_done(double: LocalDouble, project: Project, runner: FakeRunner) -> None:
    push(
        project,
        """
a:
  image: {name: debian:trixie, entrypoint: [""], pull_policy: if-not-present}
  services:
    - postgres:17
    - {name: redis, alias: cache, command: [redis-server], variables: {A: b}}
  before_script: [one]
  script: [two]
  after_script: [three]
  cache: {key: "$CI_COMMIT_REF_SLUG", paths: [.cache], policy: pull}
  artifacts: {paths: [out], when: always, expire_in: 2 days}
  timeout: 10m
""",
    )
    job = runner.take()
    step = {"timeout": 600, "when": "on_success", "allow_failure": False}
    assert job["steps"] == [
        {"name": "script", "script": ["one", "two"], **step},
        {"name": "after_script", "script": ["three"], **step, "when": "always", "allow_failure": True},
    ]
    assert (job["image"]["name"], job["image"]["entrypoint"]) == ("debian:trixie", [""])
    assert job["image"]["pull_policy"] == ["if-not-present"]
    assert [(one["name"], one["alias"]) for one in job["services"]] == [
        ("postgres:17", None),
        ("redis", "cache"),
    ]
    assert job["cache"][0]["key"] == "$CI_COMMIT_REF_SLUG-protected"
    assert job["artifacts"][0]["paths"] == ["out"]
    assert job["runner_info"]["timeout"] == 600
    password = {"type": "registry", "url": "registry.test", "username": "gitlab-ci-token"}
    assert job["credentials"] == [password | {"password": job["token"]}]
    assert job["git_info"]["repo_url"] == (
        f"{double.url.replace('://', '://gitlab-ci-token:' + job['token'] + '@')}/team/data.git"
    )


def test_secrets_are_masked_and_files_are_files(
    root: gitlab.Gitlab, project: Project, runner: FakeRunner
) -> None:
    root.variables.create({"key": "CA", "value": "-----BEGIN", "variable_type": "file"})
    root.variables.create({"key": "PASSWORD", "value": "a$ecret-value", "masked": True, "raw": True})
    push(project, "a: {script: x}")
    found = variables(runner.take())
    assert (found["CA"]["file"], found["CA"]["public"]) == (True, False)
    assert (found["PASSWORD"]["masked"], found["PASSWORD"]["raw"]) == (True, True)
    assert found["CI_JOB_TOKEN"]["masked"] is True
    assert found["CI_REGISTRY_PASSWORD"]["masked"] is True
    assert found["CI_REGISTRY_IMAGE"]["value"] == "registry.test/team/data"


def test_variable_of_the_project_wins(root: gitlab.Gitlab, project: Project, runner: FakeRunner) -> None:
    for place in (root, root.groups.get("team"), project):
        place.variables.create({"key": "WHO", "value": type(place).__name__})
    push(project, "a: {script: x, variables: {WHO: job}}")
    assert [one["value"] for one in runner.take()["variables"] if one["key"] == "WHO"] == [
        "job",
        "Gitlab",
        "Group",
        "Project",
    ]


def test_protected_variable_stays_with_protected_branches(project: Project, runner: FakeRunner) -> None:
    project.variables.create({"key": "SECRET", "value": "x", "protected": True})
    push(project, "a: {script: x}")
    assert "SECRET" in variables(runner.take())
    project.branches.create({"branch": "feature", "ref": "main"})
    assert "SECRET" not in variables(runner.take())


def test_trace_grows_where_it_ended(project: Project, runner: FakeRunner) -> None:
    push(project, "a: {script: x}")
    job = runner.take()
    answer = runner.trace(job, "one\n")
    assert (answer.status_code, answer.headers["Range"], answer.headers["Job-Status"]) == (
        202,
        "0-4",
        "running",
    )
    assert answer.headers["X-GitLab-Trace-Update-Interval"] == "3"
    wrong = runner.trace(job, "three\n", first=9)
    assert (wrong.status_code, wrong.headers["Range"]) == (416, "0-4")
    runner.trace(job, "two\n", first=4)
    assert project.jobs.get(job["id"]).trace() == b"one\ntwo\n"


def test_job_is_not_closed_before_its_trace_is_there(project: Project, runner: FakeRunner) -> None:
    push(project, "a: {script: x}")
    job = runner.take()
    assert runner.end(job, output={"bytesize": 4, "checksum": "crc32:0"}).status_code == 202
    assert project.jobs.get(job["id"]).status == "running"
    runner.trace(job, "done")
    assert runner.end(job, output={"bytesize": 4, "checksum": "crc32:0"}).status_code == 200
    assert project.jobs.get(job["id"]).status == "success"


def test_failure_says_why(project: Project, runner: FakeRunner) -> None:
    push(project, "a: {script: x}")
    job = runner.take()
    runner.end(job, "failed", failure_reason="script_failure", exit_code=7)
    ended = project.jobs.get(job["id"])
    assert (ended.status, ended.failure_reason) == ("failed", "script_failure")


def test_job_of_a_runner_that_fell_silent_is_given_up_and_tried_again_where_it_says_so(
    double: LocalDouble, project: Project, runner: FakeRunner
) -> None:
    push(project, "a: {script: x}\nb: {script: x, retry: {max: 1, when: stuck_or_timeout_failure}}")
    lost, again = runner.take(), runner.take()
    double.ask("GET", "/-/stand-in/patience?seconds=0")
    taken = runner.take()
    assert taken["job_info"]["name"] == "b"
    ended = [project.jobs.get(one["id"]) for one in (lost, again)]
    assert [(one.status, one.failure_reason) for one in ended] == [("failed", "stuck_or_timeout_failure")] * 2
    double.ask("GET", "/-/stand-in/patience")
    late = runner.trace(lost, "still here")
    assert (late.status_code, late.headers["Job-Status"]) == (403, "failed")
    assert runner.end(taken).status_code == 200
    assert project.pipelines.list(get_all=True)[0].status == "failed"


def test_job_of_which_something_is_heard_is_not_given_up(
    double: LocalDouble, project: Project, runner: FakeRunner
) -> None:
    push(project, "a: {script: x}")
    job = runner.take()
    kept = double.store.must(Job, job["id"])
    kept.updated_at = clock.in_seconds(-4000)
    double.store.save(kept)
    runner.trace(job, "alive\n")
    runner.last_update = ""
    assert runner.request().status_code == 204
    assert project.jobs.get(job["id"]).status == "running"


def test_cancelled_job_is_told_so(project: Project, runner: FakeRunner) -> None:
    push(project, "a: {script: x}")
    job = runner.take()
    project.jobs.get(job["id"]).cancel()
    answer = runner.end(job, "running")
    assert (answer.status_code, answer.headers["Job-Status"]) == (403, "canceled")
    assert answer.json() == {"message": "403 Forbidden - Job is not processing on runner"}


def test_artifacts_pass_to_the_next_stage(project: Project, runner: FakeRunner) -> None:
    push(project, TWO_STAGES)
    build = runner.take()
    assert build["dependencies"] == []
    assert runner.upload(build, **{"out/a.txt": "made"}).status_code == 201
    runner.end(build)
    test = runner.take()
    (before,) = test["dependencies"]
    assert (before["name"], before["artifacts_file"]["filename"]) == ("build", "artifacts.zip")
    there = runner.download(before["id"], before["token"])
    assert (there.status_code, len(there.content)) == (200, before["artifacts_file"]["size"])
    assert runner.download(before["id"], "wrong").status_code == 403
    assert project.jobs.get(build["id"]).artifact("out/a.txt") == b"made"
    assert project.jobs.get(build["id"]).artifacts() == there.content


def test_artifacts_that_are_too_large_are_refused(
    root: gitlab.Gitlab, project: Project, runner: FakeRunner
) -> None:
    root.http_put("/application/settings", post_data={"max_artifacts_size": 1})
    push(project, TWO_STAGES)
    job = runner.take()
    answer = runner.upload(job, big="x" * 1_200_000)
    assert (answer.status_code, answer.json()) == (413, {"message": "413 Request Entity Too Large"})


def test_runner_of_a_project_takes_jobs_of_that_only(
    double: LocalDouble, root: gitlab.Gitlab, project: Project
) -> None:
    other = root.projects.create({"name": "other"})
    body = {"runner_type": "project_type", "project_id": other.id, "run_untagged": True}
    made = root.http_post("/user/runners", post_data=body)
    assert isinstance(made, dict)
    own = FakeRunner(double.url, made["token"])
    push(project, "a: {script: x}")
    assert own.request().status_code == 204
    own.close()
