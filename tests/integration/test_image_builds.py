"""Builds of images in pipelines, by the real runner: without an engine, and with few rights."""

from __future__ import annotations

import json
import subprocess
import tarfile
import time
from pathlib import Path
from typing import Any

import pytest
import yaml
from gitlab.v4.objects import Project

from dap.gitlab.ci import plain
from tests.gitlab_runner.container import wait_for
from tests.integration.pipelines import RunnerPlatform, traces
from tests.integration.platform import docker

# A step of its own for what a build may do that a job may not: another owner, and packages' own users.
DOCKERFILE = """\
FROM BASE
COPY proof.txt /etc/proof.txt
RUN --mount=type=secret,id=ca,target=/tmp/ca useradd --uid 4711 maker \\
 && chown maker /etc/proof.txt && grep -c BEGIN /tmp/ca > /etc/authorities
"""
# CHOWN, DAC_OVERRIDE, FOWNER, SETGID, SETUID; SYS_CHROOT and SETFCAP
FEW, SOME_MORE = "CapEff:\t00000000000000cb\n", "CapEff:\t00000000800400cb\n"
LOOK = [
    "grep -E 'CapEff|NoNewPrivs' /proc/self/status",
    "test ! -e /var/run/docker.sock",
    "! mount -t tmpfs none /mnt",
    "! unshare --user --map-root-user --net true",
]


@pytest.fixture(scope="module")
def platform(runner_platform: RunnerPlatform) -> RunnerPlatform:
    return runner_platform


def give_base(platform: RunnerPlatform, folder: Path) -> str:
    """Put an image with Python into the project's registry: no other registry is to be had here."""
    registry = platform.url("gitlab-registry").partition("://")[2]
    name = f"{registry}/team/environments/base:1"
    made = docker("create", platform.containers()["runner-cleaner"]["Image"]).strip()
    try:
        with (folder / "all.tar").open("wb") as file:
            subprocess.run(["docker", "export", made], stdout=file, check=True)
    finally:
        docker("rm", made)
    # What Debian's base has of devices when it was made from packages, no build could unpack.
    with tarfile.open(folder / "all.tar") as every, tarfile.open(folder / "base.tar", "w") as kept:
        for member in every:
            if not member.isdev():
                kept.addfile(member, every.extractfile(member) if member.isreg() else None)
    docker("import", str(folder / "base.tar"), name)
    store = yaml.safe_load((platform.secrets / "secrets.yml").read_text(encoding="utf-8"))["values"]
    command = ["docker", "--config", str(folder)]
    login = [*command, "login", "--username", "root", "--password-stdin", registry]
    token = store["gitlab.api_token"]
    subprocess.run(login, input=token, text=True, check=True, capture_output=True)
    subprocess.run([*command, "push", "--quiet", name], check=True, capture_output=True)
    docker("rmi", name)
    return name


@pytest.fixture(scope="module")
def project(platform: RunnerPlatform, tmp_path_factory: pytest.TempPathFactory) -> Project:
    """The example project, with another Dockerfile, and jobs that tell of their rights."""
    found = platform.api().projects.get("team/environments")
    base = give_base(platform, tmp_path_factory.mktemp("docker"))
    pipeline = yaml.safe_load(found.files.get(".gitlab-ci.yml", "main").decode())
    pipeline["python"]["before_script"] = LOOK
    pipeline["try python"]["script"] += [*LOOK, "! unshare --user true"]
    pipeline["try python"]["script"] += [
        "cat /etc/proof.txt",
        "stat -c %U /etc/proof.txt",
        "cat /etc/authorities",
    ]
    files = {
        "python/Dockerfile": ("update", DOCKERFILE.replace("BASE", base)),
        "python/proof.txt": ("create", "made in a pipeline\n"),
        ".gitlab-ci.yml": ("update", json.dumps(pipeline)),
    }
    actions = [{"action": what, "file_path": path, "content": text} for path, (what, text) in files.items()]
    found.commits.create({"branch": "main", "commit_message": "Build", "actions": actions})
    return found


@pytest.fixture(scope="module")
def pipeline(project: Project) -> dict[str, tuple[str, str]]:
    """State and trace of the jobs."""
    began = time.monotonic()
    found = traces(project, int(project.pipelines.list(get_all=True)[0].id))
    print(f"pipeline that builds an image and runs in it: {time.monotonic() - began:.1f} s")
    assert {name: state for name, (state, _) in found.items()} == {
        "python": "success",
        "try python": "success",
    }, "\n\n".join(plain(trace) for _, trace in found.values())
    return {name: (state, plain(trace)) for name, (state, trace) in found.items()}


def test_image_that_a_pipeline_builds_is_what_its_next_job_runs_in(
    platform: RunnerPlatform, project: Project, pipeline: dict[str, tuple[str, str]]
) -> None:
    trace = pipeline["try python"][1]
    commit = project.commits.get("main").id[:8]
    image = f"{platform.url('gitlab-registry').partition('://')[2]}/team/environments/python:{commit}"
    assert f"Using Docker executor with image {image} ..." in trace
    assert "\nPython 3." in trace
    said = [line for line in trace.splitlines() if line and not line.startswith("$")]
    where = said.index("made in a pipeline")
    owner, authorities = said[where + 1 : where + 3]
    assert owner == "maker"
    # The build had the authorities that the platform's jobs trust, its own among them.
    assert int(authorities) > 1


def test_build_has_neither_an_engine_nor_privileges_and_other_jobs_have_less(
    pipeline: dict[str, tuple[str, str]],
) -> None:
    assert SOME_MORE + "NoNewPrivs:\t1\n" in pipeline["python"][1]
    assert FEW + "NoNewPrivs:\t1\n" in pipeline["try python"][1]


def test_what_was_built_before_is_taken_from_the_registry(project: Project, pipeline: dict[str, Any]) -> None:
    number = project.pipelines.list(get_all=True)[0].id
    job = next(one for one in project.pipelines.get(number).jobs.list(get_all=True) if one.name == "python")
    again = project.jobs.get(job.id).retry()
    number = again["id"]
    wait_for(lambda: project.jobs.get(number).status in ("success", "failed"), "the build ends", 60)
    trace = plain(project.jobs.get(number).trace().decode())
    assert project.jobs.get(number).status == "success", trace
    assert "Cache pulled from remote" in trace


def test_image_that_was_pulled_for_a_job_goes_when_no_job_uses_it(
    platform: RunnerPlatform, pipeline: dict[str, Any]
) -> None:
    registry = platform.url("gitlab-registry").partition("://")[2]

    def pulled() -> list[str]:
        names = docker("image", "ls", "--format", "{{.Repository}}:{{.Tag}}").split()
        return [name for name in names if name.startswith(f"{registry}/")]

    assert len(pulled()) == 1
    # It is in use yet as long as a job's container is there.
    label = f"label=dap.jobs={platform.name}"
    wait_for(lambda: not docker("ps", "--all", "--quiet", "--filter", label), "the job's containers go")
    told = platform.must("runner", "clean", "--hours", "0")
    assert told == "localhost: 0 containers, 0 volumes and 1 images removed\n"
    assert pulled() == []
    docker("inspect", *platform.images.values())
