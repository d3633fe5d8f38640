"""What jobs leave goes, and nothing else: leftovers of a runner that was really killed."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from gitlab.v4.objects import Project

from tests.gitlab_runner.container import wait_for
from tests.integration.pipelines import RunnerPlatform, push, volumes_of
from tests.integration.platform import docker

SLOW = "{slow: {image: {name: IMAGE, entrypoint: ['']}, script: [echo begun, sleep 600]}}"
MANAGED = "com.gitlab.gitlab-runner.managed=true"


@pytest.fixture(scope="module")
def platform(runner_platform: RunnerPlatform) -> RunnerPlatform:
    return runner_platform


@pytest.fixture(scope="module")
def project(platform: RunnerPlatform) -> Project:
    return platform.new_project("left")


@pytest.fixture
def strangers(platform: RunnerPlatform) -> Iterator[list[str]]:
    """A container, a volume and an image that look alike and belong to somebody else."""
    name = f"{platform.name}-stranger"
    elsewhere = "com.gitlab.gitlab-runner.job.url=https://elsewhere.example.com/team/data/-/jobs/1"
    docker("volume", "create", "--label", MANAGED, "--label", elsewhere, name)
    docker("tag", platform.image, f"{name}:1")
    docker("create", "--name", name, "--label", f"dap.jobs={name}", "--label", MANAGED, f"{name}:1")
    yield [name, f"{name}:1"]
    docker("rm", "--force", name)
    docker("rmi", f"{name}:1")
    docker("volume", "rm", "--force", name)


def clean(platform: RunnerPlatform) -> str:
    """Remove what is left over for no time at all."""
    return platform.must("runner", "clean", "--hours", "0")


def jobs_containers(platform: RunnerPlatform) -> list[str]:
    return docker("ps", "--all", "--quiet", "--filter", f"label=dap.jobs={platform.name}").split()


def test_what_a_killed_runner_left_goes_when_its_jobs_are_over(
    platform: RunnerPlatform, project: Project, strangers: list[str]
) -> None:
    number = push(project, SLOW.replace("IMAGE", platform.image))
    job = project.jobs.get(project.pipelines.get(number).jobs.list(get_all=True)[0].id)
    wait_for(lambda: "begun" in project.jobs.get(job.id).trace().decode(), "the job runs")
    runner = f"{platform.name}-gitlab-runner"
    docker("kill", runner)
    left = jobs_containers(platform)
    volumes = volumes_of(platform)
    assert left
    assert volumes
    try:
        # The job may run for an hour yet.
        assert clean(platform) == "localhost: 0 containers, 0 volumes and 0 images removed\n"
        assert jobs_containers(platform) == left
        docker("kill", *docker("ps", "--quiet", "--filter", f"label=dap.jobs={platform.name}").split())
        told = clean(platform)
    finally:
        docker("start", runner)
        job.cancel()
    assert told == f"localhost: {len(left)} containers, {len(volumes)} volumes and 0 images removed\n"
    assert (jobs_containers(platform), volumes_of(platform)) == ([], [])
    # What looks alike, and the images of the platform, are still there.
    docker("volume", "inspect", strangers[0])
    docker("inspect", *strangers, *platform.images.values())
