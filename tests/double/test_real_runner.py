"""The double and the real gitlab-runner, with jobs in containers on this machine's engine."""

from __future__ import annotations

import secrets
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gitlab
import pytest
from gitlab.v4.objects import Project

from dap.gitlab.ci import plain
from tests.end_to_end.pipeline import EndToEndError, connect, run
from tests.engine import start_engine
from tests.gitlab_double.local import LocalDouble
from tests.gitlab_runner.container import JobsNetwork, RealRunner, docker, wait_for
from tests.gitlab_runner.image_build import runner_images

PIPELINE = """
default: {image: IMAGE}
build:
  stage: build
  script:
    - echo "made by $CI_RUNNER_DESCRIPTION" > out.txt
    - mkdir -p .cache && echo kept > .cache/value
  artifacts: {paths: [out.txt]}
  cache: {key: one, paths: [.cache]}
secrets:
  stage: build
  script:
    - echo "the password is $PASSWORD"
    - echo "the file says $(cat "$SETTINGS")"
    - echo "commit $(cat README.md)"
service:
  stage: build
  services:
    - name: SERVICE
      alias: neighbour
      entrypoint: [busybox]
      command: [httpd, -f, -p, "8080", -h, /usr/share/common-licenses]
      variables: {HEALTHCHECK_TCP_PORT: "8080"}
  script:
    - exec 3<>/dev/tcp/neighbour/8080
    - printf 'GET /BSD HTTP/1.0\\r\\n\\r\\n' >&3
    - head -n 1 <&3
rights:
  stage: build
  script:
    - echo "user $(id -u)"; grep -E 'CapEff|NoNewPrivs' /proc/self/status
    - test ! -e /var/run/docker.sock
    - chown 1234 README.md
fails:
  stage: build
  script: exit 3
  allow_failure: {exit_codes: [3]}
again:
  stage: build
  script: exit 1
  retry: 1
  allow_failure: true
refused:
  stage: build
  image: elsewhere.example/alpine:3
  script: "true"
  allow_failure: true
early:
  stage: deploy
  needs: [fails]
  script: echo early
result:
  stage: test
  script:
    - echo "got $(cat out.txt), cache $(cat .cache/value)"
  cache: {key: one, paths: [.cache], policy: pull}
by-hand:
  stage: test
  script: echo played
  when: manual
"""
CONFIGURATION = """
concurrent = 4
check_interval = 1
shutdown_timeout = 60
listen_address = "127.0.0.1:9252"
[[runners]]
  name = "bench"
  url = "{url}"
  token = "{token}"
  executor = "docker"
  [runners.docker]
    image = "{image}"
    helper_image = "{helper}"
    network_mode = "{network}"
    pull_policy = ["if-not-present"]
    allowed_pull_policies = ["if-not-present"]
    allowed_images = ["{image}"]
    allowed_services = ["{service}"]
    privileged = false
    cap_drop = ["ALL"]
    cap_add = ["CHOWN", "DAC_OVERRIDE", "FOWNER", "SETUID", "SETGID"]
    security_opt = ["no-new-privileges"]
    memory = "256m"
    disable_cache = true
    volumes = ["{volume}:/cache"]
    [runners.docker.container_labels]
      "{name}" = "1"
"""
SHORT = """
default: {image: IMAGE}
summary:
  script: [echo done | tee summary.md]
  artifacts: {paths: [summary.md]}
"""
BROKEN = "{default: {image: IMAGE}, summary: {script: [echo gone wrong, exit 4]}}"
PASSWORD = "correct-horse-battery"


@dataclass
class Bench:
    """A project and a runner that takes its jobs."""

    double: LocalDouble
    root: gitlab.Gitlab
    project: Project
    runner: RealRunner
    image: str
    service: str

    def push(self, text: str) -> int:
        """Commit a configuration; the number of the pipeline that it makes."""
        text = text.replace("IMAGE", self.image).replace("SERVICE", self.service)
        there = {one["path"] for one in self.project.repository_tree(get_all=True)}
        action = {"action": "update" if ".gitlab-ci.yml" in there else "create"}
        action |= {"file_path": ".gitlab-ci.yml", "content": text}
        self.project.commits.create({"branch": "main", "commit_message": "CI", "actions": [action]})
        return int(self.project.pipelines.list(get_all=True)[0].id)

    def jobs(self, pipeline: int) -> dict[str, Any]:
        """The jobs by name, without those that were tried again."""
        return {one.name: one for one in self.project.pipelines.get(pipeline).jobs.list(get_all=True)}

    def trace(self, job: int) -> str:
        """What a job has said, without times and colours."""
        return plain(self.project.jobs.get(job).trace().decode())

    def finished(self, pipeline: int, limit_s: float = 180) -> dict[str, Any]:
        def over() -> bool:
            return self.project.pipelines.get(pipeline).status in ("success", "failed", "canceled")

        wait_for(over, "the pipeline ends", limit_s)
        return self.jobs(pipeline)


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bench]:
    base = start_engine(tmp_path_factory.mktemp("engine"))
    images = runner_images(base)
    name = f"dapt{secrets.token_hex(3)}"
    network = JobsNetwork(name)
    double = LocalDouble(tmp_path_factory.mktemp("double"), address=network.gateway)
    client = gitlab.Gitlab(double.url, private_token=double.token(), keep_base_url=True)
    client.session.trust_env = False
    client.auth()
    assert client.user
    made = client.user.runners.create({"runner_type": "instance_type", "description": "bench"})
    text = CONFIGURATION.format(
        url=double.url,
        token=made.token,
        image=base,
        helper=images["helper"],
        service=images["runner"],
        network=name,
        name=name,
        volume=f"{name}-cache",
    )
    folder = tmp_path_factory.mktemp("runner") / "etc"
    runner = RealRunner(folder, name, images["runner"], name, text)
    project = client.projects.create({"name": "data", "initialize_with_readme": True})
    try:
        yield Bench(double, client, client.projects.get(project.id), runner, base, images["runner"])
    finally:
        runner.remove(f"{name}-cache")
        double.stop()
        network.remove()


@pytest.fixture(autouse=True)
def kept_to_the_contract(bench: Bench) -> Iterator[None]:
    yield
    assert bench.double.violations == []


@pytest.fixture(scope="module")
def pipeline(bench: Bench) -> dict[str, Any]:
    """The jobs of a pipeline that has ended."""
    bench.root.variables.create({"key": "PASSWORD", "value": PASSWORD, "masked": True, "raw": True})
    bench.root.variables.create({"key": "SETTINGS", "value": "hello", "variable_type": "file"})
    return bench.finished(bench.push(PIPELINE))


def said(bench: Bench, pipeline: dict[str, Any], job: str) -> str:
    return bench.trace(pipeline[job].id)


def test_jobs_end_as_they_should(bench: Bench, pipeline: dict[str, Any]) -> None:
    states = {name: (job.status, job.failure_reason) for name, job in pipeline.items()}
    traces = {name: said(bench, pipeline, name) for name in pipeline}
    failed = ("failed", "script_failure")
    assert states == {
        **dict.fromkeys(("build", "secrets", "service", "rights", "early", "result"), ("success", None)),
        "by-hand": ("manual", None),
        "fails": failed,
        "again": failed,
        "refused": ("failed", "runner_system_failure"),
    }, traces


def test_artifacts_and_cache_reach_the_next_stage(bench: Bench, pipeline: dict[str, Any]) -> None:
    assert "got made by bench, cache kept\n" in said(bench, pipeline, "result")


def test_secret_is_masked_and_file_variable_is_a_file(bench: Bench, pipeline: dict[str, Any]) -> None:
    trace = said(bench, pipeline, "secrets")
    assert PASSWORD not in trace
    assert "the password is [MASKED]\n" in trace
    assert "the file says hello\n" in trace
    assert "commit # data\n" in trace


def test_service_is_reached_by_its_alias(bench: Bench, pipeline: dict[str, Any]) -> None:
    trace = said(bench, pipeline, "service")
    assert "HTTP/1.0 200 OK" in trace or "HTTP/1.1 200 OK" in trace
    assert "probably didn't start properly" not in trace


def test_job_has_few_rights(bench: Bench, pipeline: dict[str, Any]) -> None:
    # CHOWN, DAC_OVERRIDE, FOWNER, SETGID, SETUID
    assert "user 0\nCapEff:\t00000000000000cb\nNoNewPrivs:\t1\n" in said(bench, pipeline, "rights")


def test_failures_say_why(bench: Bench, pipeline: dict[str, Any]) -> None:
    assert "ERROR: Job failed: exit code 3\n" in said(bench, pipeline, "fails")
    assert "elsewhere.example/alpine:3" in said(bench, pipeline, "refused")
    every = bench.project.pipelines.get(pipeline["again"].pipeline["id"]).jobs.list(
        get_all=True, include_retried=True
    )
    assert [one.status for one in every if one.name == "again"] == ["failed", "failed"]


def test_job_that_waits_for_a_person_is_played(bench: Bench, pipeline: dict[str, Any]) -> None:
    job = pipeline["by-hand"].id
    bench.project.jobs.get(job).play()
    wait_for(lambda: bench.project.jobs.get(job).status == "success", "the job that was played ends")
    assert "played\n" in bench.trace(job)


def test_first_line_comes_soon_after_a_push(bench: Bench, pipeline: dict[str, Any]) -> None:
    began = time.monotonic()
    job = bench.jobs(bench.push("quick: {image: IMAGE, script: echo first line of the script}"))["quick"].id
    wait_for(lambda: bench.trace(job), "the trace begins")
    begun = time.monotonic() - began
    wait_for(lambda: "first line of the script\n" in bench.trace(job), "the script's first line")
    print(f"trace after {begun:.1f} s, script after {time.monotonic() - began:.1f} s")
    assert begun < 10


def test_cancelled_job_ends_and_leaves_no_container(bench: Bench) -> None:
    text = "endless: {image: IMAGE, script: 'while true; do date; sleep 1; done'}"
    number = bench.push(text)
    job = bench.jobs(number)["endless"].id
    wait_for(lambda: "$ while true" in bench.trace(job), "the job runs")
    label = (
        "--filter",
        f"label={bench.runner.name}",
        "--filter",
        f"label=com.gitlab.gitlab-runner.job.id={job}",
    )
    assert docker("ps", "--quiet", *label)
    bench.project.jobs.get(job).cancel()
    wait_for(lambda: not docker("ps", "--all", "--quiet", *label), "its containers go")
    assert bench.project.jobs.get(job).status == "canceled"


def files_of(folder: Path, text: str, image: str) -> Path:
    (folder / ".gitlab-ci.yml").write_text(text.replace("IMAGE", image), encoding="utf-8")
    return folder


def test_check_before_a_release_follows_a_push_to_the_end_and_leaves_nothing(
    bench: Bench, tmp_path: Path
) -> None:
    bench.root.groups.create({"name": "Team", "path": "team"})
    client = connect(bench.double.url, bench.double.token())
    outcome = run(client, "team", files=files_of(tmp_path, SHORT, bench.image))
    assert (outcome.jobs, outcome.summary) == ({"summary": "success"}, "done\n")
    assert "echo done" in outcome.traces["summary"]
    assert 0 < outcome.first_line_s < 5
    assert outcome.first_line_s <= outcome.seconds
    assert client.groups.get("team").projects.list(get_all=True) == []
    with pytest.raises(EndToEndError) as caught:
        run(client, "team", files=files_of(tmp_path, BROKEN, bench.image))
    first, *said = str(caught.value).splitlines()
    assert first == "the pipeline ended as failed"
    assert said[0] == "summary (failed):"
    assert "gone wrong" in said
    assert said[-1] == "ERROR: Job failed: exit code 4"
    assert client.groups.get("team").projects.list(get_all=True) == []


def test_runner_that_is_asked_to_end_lets_jobs_finish(bench: Bench) -> None:
    """Comes last: the runner is gone afterwards."""
    job = bench.jobs(bench.push("slow: {image: IMAGE, script: [echo begun, sleep 5, echo over]}"))["slow"].id
    wait_for(lambda: "begun\n" in bench.trace(job), "the job runs")
    assert bench.runner.stop(60) == 0
    assert bench.project.jobs.get(job).status == "success"
    assert "over\n" in bench.trace(job)
