"""A machine that is service host and runner host: GitLab's double, and the real runner with real jobs."""

from __future__ import annotations

import json
import subprocess
import time

import pytest
import yaml
from gitlab.v4.objects import Project

from tests.gitlab_runner.container import wait_for
from tests.integration.pipelines import RunnerPlatform, push, traces, volumes_of
from tests.integration.platform import docker

PIPELINE = """
default: {image: {name: IMAGE, entrypoint: [""]}}
trust:
  stage: build
  script:
    - curl --silent --show-error --output /dev/null "$CI_API_V4_URL/version" && echo "curl trusts"
    - git ls-remote "$CI_REPOSITORY_URL" HEAD > /dev/null && echo "git trusts"
    - python3 -c 'import os, urllib.request as r; r.urlopen(os.environ["CI_SERVER_URL"] + "/-/health")'
    - echo "Python trusts"
names:
  stage: build
  script:
    - for name in minio gitlab postgres-service toolbox; do getent hosts $name || echo "no $name"; done
    - grep -E 'CapEff|NoNewPrivs' /proc/self/status
    - cat /sys/fs/cgroup/memory.max /sys/fs/cgroup/memory/memory.limit_in_bytes 2>/dev/null || true
    - test ! -e /var/run/docker.sock
build:
  stage: build
  script: [mkdir kept, echo value > kept/file, echo made > out.txt]
  artifacts: {paths: [out.txt]}
  cache: {key: one, paths: [kept]}
result:
  stage: test
  script: echo "artifact $(cat out.txt), cache $(cat kept/file)"
  cache: {key: one, paths: [kept], policy: pull}
"""


@pytest.fixture(scope="module")
def platform(runner_platform: RunnerPlatform) -> RunnerPlatform:
    return runner_platform


@pytest.fixture(scope="module")
def project(platform: RunnerPlatform) -> Project:
    return platform.new_project("data")


def test_runner_is_made_in_gitlab_and_its_token_stays_secret(platform: RunnerPlatform) -> None:
    runner = platform.runners()[f"{platform.name}/localhost/docker"]
    assert runner.status == "online"
    details = platform.api().runners.get(runner.id)
    assert (details.tag_list, details.run_untagged) == (["docker"], True)
    builds = platform.api().runners.get(platform.runners()[f"{platform.name}/localhost/image-builds"].id)
    assert (builds.tag_list, builds.run_untagged) == (["image-builds"], False)
    store = yaml.safe_load((platform.secrets / "secrets.yml").read_text(encoding="utf-8"))["values"]
    token = store["runner.token.localhost.docker"]
    config = platform.root / "gitlab-runner/live/config.toml"
    assert f'token = "{token}"' in config.read_text()
    assert (config.stat().st_mode & 0o777, config.stat().st_uid) == (0o400, 0)
    for log in (platform.secrets / "logs").iterdir():
        assert token not in log.read_text(encoding="utf-8", errors="replace")
    assert token not in json.dumps(platform.containers())


def test_second_deploy_changes_nothing(platform: RunnerPlatform) -> None:
    assert platform.deploy() == 0


def test_pipeline_runs_with_what_the_platform_gives_it(platform: RunnerPlatform, project: Project) -> None:
    began = time.monotonic()
    found = traces(project, push(project, PIPELINE.replace("IMAGE", platform.image)))
    print(f"pipeline of two stages: {time.monotonic() - began:.1f} s")
    failed = [trace for state, trace in found.values() if state != "success"]
    assert not failed, "\n\n".join(failed)
    assert all(f"{who} trusts" in found["trust"][1] for who in ("curl", "git", "Python"))
    names = found["names"][1]
    assert all(f"no {name}" in names for name in ("minio", "gitlab", "postgres-service", "toolbox"))
    assert "CapEff:\t00000000000000cb" in names
    assert "NoNewPrivs:\t1" in names
    assert str(200 * 1024 * 1024) in names
    assert "artifact made, cache value" in found["result"][1]
    kept = [*(platform.data / "minio/data/gitlab-runner-cache").rglob("xl.meta")]
    assert kept != []


def test_verbs_show_runners_and_run_pipelines(platform: RunnerPlatform, project: Project) -> None:
    known = json.loads(platform.must("runner", "list", "--json"))
    assert [(runner["name"], runner["state"], runner["jobs"]) for runner in known] == [
        ("localhost/docker", "online", 0),
        ("localhost/image-builds", "online", 0),
    ]
    image = f"{{name: {platform.image}, entrypoint: ['']}}"
    names = [runner["name"] for runner in known]
    drained = "".join(f"{name}: paused, no jobs\n" for name in names)
    assert platform.must("runner", "drain", "localhost") == drained
    assert platform.must("runner", "resume", "localhost") == "".join(
        f"{name}: takes jobs\n" for name in names
    )
    push(project, f"one: {{image: {image}, script: [echo hello, exit 3]}}")
    done = platform.dap("pipeline", "run", "root/data")
    assert done.returncode == 1, done.stderr
    assert "one | hello" in done.stdout.splitlines()
    assert "one | ERROR: Job failed: exit code 3" in done.stdout.splitlines()
    assert done.stdout.splitlines()[-1] == "pipeline: failed"
    assert "localhost/docker" in platform.must("status")


def test_jobs_leave_nothing_on_the_host(platform: RunnerPlatform) -> None:
    assert docker("ps", "--all", "--quiet", "--filter", f"label=dap.jobs={platform.name}") == ""
    assert volumes_of(platform) == []


def test_runner_that_was_removed_in_gitlab_is_made_again(platform: RunnerPlatform) -> None:
    name = f"{platform.name}/localhost/docker"
    api = platform.api()
    stranger = api.user.runners.create({"runner_type": "instance_type", "description": "of somebody"})  # type: ignore[union-attr]
    stale = api.user.runners.create({"runner_type": "instance_type", "description": name})  # type: ignore[union-attr]
    first = platform.runners()
    every = api.runners_all.list(get_all=True)
    api.runners.delete(next(one.id for one in every if one.description == name and one.status == "online"))
    before = platform.container_ids()["gitlab-runner"]
    told = platform.must("deploy")
    assert f"runner {name} made" in told
    assert f"runner {name} ({stale.id}) removed" in told
    now = platform.runners()
    assert set(now) == {name, f"{platform.name}/localhost/image-builds", "of somebody"} == set(first)
    assert now["of somebody"].id == stranger.id
    # The runner has read its new token by itself.
    assert platform.container_ids()["gitlab-runner"] == before
    api.runners.delete(stranger.id)
    assert platform.deploy() == 0


def test_redeploy_lets_a_running_job_finish(platform: RunnerPlatform, project: Project) -> None:
    number = push(
        project,
        f"slow: {{image: {{name: {platform.image}, entrypoint: ['']}}, script: [echo begun, sleep 12]}}",
    )
    job = project.jobs.get(project.pipelines.get(number).jobs.list(get_all=True)[0].id)
    wait_for(lambda: "begun" in project.jobs.get(job.id).trace().decode(), "the job runs")
    before = platform.container_ids()["gitlab-runner"]
    platform.configure(environment={"NOTE": "replaced"})
    platform.must("deploy", "--no-verify")
    assert platform.container_ids()["gitlab-runner"] != before
    assert traces(project, number)["slow"][0] == "success"


def test_destroy_takes_jobs_and_their_network_along(platform: RunnerPlatform, project: Project) -> None:
    """Comes last."""
    number = push(
        project, f"endless: {{image: {{name: {platform.image}, entrypoint: ['']}}, script: sleep 600}}"
    )
    job = project.pipelines.get(number).jobs.list(get_all=True)[0].id
    wait_for(lambda: "sleep 600" in project.jobs.get(job).trace().decode(), "the job runs")
    subprocess.run(["docker", "kill", f"{platform.name}-gitlab-runner"], check=True, capture_output=True)
    platform.must("destroy")
    assert docker("ps", "--all", "--quiet", "--filter", f"label=dap.jobs={platform.name}") == ""
    assert volumes_of(platform) == []
    assert docker("network", "ls", "--quiet", "--filter", f"name={platform.name}") == ""
