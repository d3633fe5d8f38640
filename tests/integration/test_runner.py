"""A machine that is service host and runner host: GitLab's double, and the real runner with real jobs."""

from __future__ import annotations

import json
import subprocess
import time
from collections.abc import Iterator
from typing import Any

import gitlab
import pytest
import yaml
from gitlab.v4.objects import Project

from tests.engine import start_engine
from tests.gitlab_double.image_build import double_image
from tests.gitlab_runner.container import wait_for
from tests.gitlab_runner.image_build import runner_images
from tests.integration.platform import DeployedPlatform, docker

NOT_NEEDED = ("mlflow", "pgadmin", "portal", "postgres-data", "postgres-service")
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


class RunnerPlatform(DeployedPlatform):
    """A platform with GitLab, a runner, and little else."""

    image = ""

    def configure(self, images: dict[str, str], **runner: Any) -> None:
        settings = yaml.safe_load(self.settings_file.read_text(encoding="utf-8"))
        off = {name: {"enabled": False} for name in NOT_NEEDED}
        more = {"image": images["runner"], "images": {"helper": images["helper"]}, **runner}
        services = {**off, "gitlab": {"image": self.image}, "gitlab-runner": more}
        limits = {"image": self.image, "memory": "200m", "jobs": 3}
        settings |= {"projects": [], "environments": [], "services": services, "runners": limits}
        self.settings_file.write_text(yaml.safe_dump(settings), encoding="utf-8")
        here = {"hosts": {"localhost": {"ansible_connection": "local"}}}
        hosts = {"service_host": here, "runner_hosts": here}
        (self.inventory / "hosts.yml").write_text(yaml.safe_dump(hosts), encoding="utf-8")

    def api(self) -> gitlab.Gitlab:
        """GitLab's API, as the platform itself uses it."""
        store = yaml.safe_load((self.secrets / "secrets.yml").read_text(encoding="utf-8"))
        token = store["values"]["gitlab.api_token"]
        client = gitlab.Gitlab(
            self.url("gitlab"), private_token=token, ssl_verify=str(self.ca_file), keep_base_url=True
        )
        client.session.trust_env = False
        client.auth()
        return client

    def runners(self) -> dict[str, Any]:
        return {one.description: one for one in self.api().runners_all.list(get_all=True)}


@pytest.fixture(scope="module")
def images(engine: None, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    base = start_engine(tmp_path_factory.mktemp("engine"))
    return {**runner_images(base), "gitlab": double_image(base)}


@pytest.fixture(scope="module")
def platform(images: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunnerPlatform]:
    deployed = RunnerPlatform(tmp_path_factory.mktemp("runner"))
    deployed.write_inventory()
    deployed.image = images["gitlab"]
    deployed.configure(images)
    try:
        deployed.must("deploy")
        yield deployed
    finally:
        deployed.remove()


@pytest.fixture(scope="module")
def project(platform: RunnerPlatform) -> Project:
    api = platform.api()
    return api.projects.get(api.projects.create({"name": "data", "initialize_with_readme": True}).id)


def push(project: Project, text: str) -> int:
    """Commit a configuration; the number of its pipeline."""
    there = {one["path"] for one in project.repository_tree(get_all=True)}
    action = {"action": "update" if ".gitlab-ci.yml" in there else "create"}
    action |= {"file_path": ".gitlab-ci.yml", "content": text}
    project.commits.create({"branch": "main", "commit_message": "CI", "actions": [action]})
    return int(project.pipelines.list(get_all=True)[0].id)


def traces(project: Project, pipeline: int) -> dict[str, tuple[str, str]]:
    """State and trace of each job of a pipeline that has ended."""
    over = ("success", "failed", "canceled")
    wait_for(lambda: project.pipelines.get(pipeline).status in over, "the pipeline ends", 120)
    jobs = project.pipelines.get(pipeline).jobs.list(get_all=True)
    return {one.name: (one.status, project.jobs.get(one.id).trace().decode()) for one in jobs}


def volumes_of(platform: RunnerPlatform) -> list[str]:
    """The volumes of the platform's jobs, by the addresses of those."""
    managed = "label=com.gitlab.gitlab-runner.managed=true"
    names = docker("volume", "ls", "--quiet", "--filter", managed).split()
    address = '{{index .Labels "com.gitlab.gitlab-runner.job.url"}}'
    found = docker("volume", "inspect", "--format", address, *names).split() if names else []
    return [one for one in found if one.startswith(platform.url("gitlab"))]


def test_runner_is_made_in_gitlab_and_its_token_stays_secret(platform: RunnerPlatform) -> None:
    runner = platform.runners()[f"{platform.name}/localhost/docker"]
    assert runner.status == "online"
    details = platform.api().runners.get(runner.id)
    assert (details.tag_list, details.run_untagged) == (["docker"], True)
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
    (runner,) = json.loads(platform.must("runner", "list", "--json"))
    assert (runner["name"], runner["state"], runner["jobs"]) == ("localhost/docker", "online", 0)
    image = f"{{name: {platform.image}, entrypoint: ['']}}"
    assert platform.must("runner", "drain", "localhost") == "localhost/docker: paused, no jobs\n"
    assert platform.must("runner", "resume", "localhost") == "localhost/docker: takes jobs\n"
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
    api.runners.delete(next(one.id for one in api.runners_all.list(get_all=True) if one.status == "online"))
    before = platform.container_ids()["gitlab-runner"]
    told = platform.must("deploy")
    assert f"runner {name} made" in told
    assert f"runner {name} ({stale.id}) removed" in told
    now = platform.runners()
    assert set(now) == {name, "of somebody"} == set(first)
    assert now["of somebody"].id == stranger.id
    # The runner has read its new token by itself.
    assert platform.container_ids()["gitlab-runner"] == before
    api.runners.delete(stranger.id)
    assert platform.deploy() == 0


def test_redeploy_lets_a_running_job_finish(
    platform: RunnerPlatform, project: Project, images: dict[str, str]
) -> None:
    number = push(
        project,
        f"slow: {{image: {{name: {platform.image}, entrypoint: ['']}}, script: [echo begun, sleep 12]}}",
    )
    job = project.jobs.get(project.pipelines.get(number).jobs.list(get_all=True)[0].id)
    wait_for(lambda: "begun" in project.jobs.get(job.id).trace().decode(), "the job runs")
    before = platform.container_ids()["gitlab-runner"]
    platform.configure(images, environment={"NOTE": "replaced"})
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
