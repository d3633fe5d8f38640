"""Machines fail while they work: during jobs, a pipeline, a deploy; and one runs out of room."""

from __future__ import annotations

import json
import re
import subprocess
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import gitlab
import httpx
import pytest
import yaml

from tests.integration.platform import BIN
from tests.integration.small import change_settings
from tests.lab.jobs import Jobs, containers, ended, project
from tests.lab.laboratory import Lab
from tests.lab.machine import Machine, wait_for
from tests.lab.test_faults import hang_up

# More than twice the time between two traces of a job that is well.
PATIENCE_S = 12
BACK_SECONDS = 180
# Others may use the disk of all these machines meanwhile.
TAKEN = 8 * 1024**3


@pytest.fixture(scope="module")
def jobs(lab: Lab, client: gitlab.Gitlab) -> Iterator[Jobs]:
    with project(lab, client) as made:
        yield made


def stand_in(lab: Lab, path: str) -> None:
    """Tell GitLab's double what a test wants of it."""
    httpx.get(f"{lab.url('gitlab')}/-/stand-in/{path}", verify=lab.trust, trust_env=False).raise_for_status()


def test_jobs_outlive_a_runner_host_that_loses_power_and_a_service_host_that_is_rebooted(
    lab: Lab, jobs: Jobs
) -> None:
    stays, dies = lab.runner_machines
    jobs.take_on(dies)
    pipeline = jobs.start()
    begun = jobs.of(pipeline)
    lost, first_try, outlives = (begun[name].id for name in ("lost", "tried again", "outlives"))
    wait_for(lambda: {jobs.where(lost), jobs.where(first_try)} == {dies.name}, 60, "two jobs are taken")
    jobs.take_on(stays)
    begun["outlives"].play()
    wait_for(lambda: all(map(jobs.runs, (lost, first_try, outlives))), 60, "three jobs run")

    hang_up(dies)
    dies.power_off()
    try:
        stand_in(lab, f"patience?seconds={PATIENCE_S}")
        done = lab.dap("status", "--json")
        told: dict[str, Any] = json.loads(done.stdout)
        assert (done.returncode, told["ok"]) == (1, False)
        assert [entry["host"] for entry in told["unreached"]] == [dies.name]
        assert {entry["host"] for entry in told["containers"]} == {"service1", stays.name}
        assert {entry["health"] for entry in told["containers"]} == {"healthy"}
        failed = json.loads(lab.dap("verify", "--json").stdout)
        assert [check["service"] for check in failed["checks"] if not check["ok"]] == [dies.name]

        # GitLab gives up what it hears nothing of, and runs it elsewhere where the job asks for that.
        wait_for(lambda: jobs.of(pipeline)["tried again"].id != first_try, 60, "the job is tried again")
        given_up = [jobs.project.jobs.get(one) for one in (lost, first_try)]
        assert {(one.status, one.failure_reason) for one in given_up} == {
            ("failed", "stuck_or_timeout_failure")
        }
        second_try = jobs.of(pipeline)["tried again"].id
        wait_for(lambda: jobs.runs(second_try), 60, "the job runs elsewhere")
        assert jobs.where(second_try) == stays.name
        stand_in(lab, "patience")
        before = jobs.counted(outlives)[-1]
    finally:
        with ThreadPoolExecutor() as pool:
            back = [pool.submit(dies.power_on), pool.submit(lab.service.reboot)]
            for one in back:
                one.result()

    wait_for(lambda: lab.dap("status").returncode == 0, BACK_SECONDS, "all hosts and services are well")
    assert ended(jobs, pipeline) == "success"
    # Nothing of what they said while GitLab was away is missing.
    for number in (outlives, second_try):
        said = jobs.counted(number)
        assert said == list(range(1, len(said) + 1))
    assert jobs.counted(outlives)[-1] > before + 10
    assert jobs.project.jobs.get(outlives).artifact("where.txt") == f"dap/{stays.name}/docker\n".encode()

    jobs.take_on(dies)
    again = jobs.project.jobs.get(lost)
    again.retry()
    third = jobs.of(pipeline)["lost"].id
    wait_for(lambda: jobs.runs(third), 60, "the machine that was off runs a job")
    assert (jobs.where(third), ended(jobs, pipeline)) == (dies.name, "success")
    # What the jobs have left there that were lost.
    lab.must("runner", "clean", "--hours", "0")
    assert containers(dies) == []


def limit_hosts(lab: Lab, limits: dict[str, dict[str, Any]]) -> str:
    """Set what jobs may use of hosts; the text of the settings as it was before."""
    settings = yaml.safe_load(lab.settings_file.read_text(encoding="utf-8"))
    return change_settings(lab, runners=settings["runners"] | {"hosts": limits})


@contextmanager
def cut(machine: Machine) -> Iterator[None]:
    """A machine that runs, and whose network is gone."""
    machine.run("ip", "link", "set", "eth0", "down")
    try:
        yield
    finally:
        machine.run("ip", "link", "set", "eth0", "up")


@contextmanager
def deploying(lab: Lab, **environment: str) -> Iterator[tuple[subprocess.Popen[str], Callable[[str], bool]]]:
    """A deploy that runs, and whether a task of it has begun."""
    logs = lab.secrets / "logs"
    old = set(logs.glob("*-deploy.log"))

    def begun(task: str) -> bool:
        new = set(logs.glob("*-deploy.log")) - old
        return any(f"TASK {task}" in path.read_text(encoding="utf-8") for path in new)

    argv = [str(BIN / "dap"), "deploy", "--no-verify"]
    with subprocess.Popen(
        argv,
        env=lab.environment | environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        try:
            yield process, begun
        finally:
            process.kill()


WRITING = "stack : Write the rendered files"
# A host that fell silent is given up after a minute otherwise.
IMPATIENT = "-o ControlMaster=auto -o ControlPersist=60s -o ServerAliveInterval=1 -o ServerAliveCountMax=3"
SHORT_S = 3


def test_network_that_is_gone_during_a_deploy_is_waited_for_or_told_and_the_next_deploy_finishes(
    lab: Lab,
) -> None:
    machine = lab.machine("runner2")
    before = limit_hosts(lab, {one.name: {"jobs": 1} for one in lab.runner_machines})
    hang_up(machine)
    try:
        with deploying(lab, ANSIBLE_SSH_ARGS=IMPATIENT) as (process, begun):
            wait_for(lambda: begun(WRITING), 60, "files are written")
            with cut(machine):
                _, errors = process.communicate(timeout=120)
        assert process.returncode == 1
        log = sorted((lab.secrets / "logs").glob("*-deploy.log"))[-1]
        command = f"ssh -i {lab.key} -o UserKnownHostsFile={lab.known_hosts} admin@{machine.address}"
        told = (
            "error: 1 of 3 hosts left as it is; the others are in order:\n"
            f"  {machine.name}: connection = admin@{machine.address}, port 22\n"
            f"    cannot be reached: ssh says 'connect to host {machine.address} port 22: REASON'\n"
            "    see that it runs and that no firewall is in between, or correct ansible_host or ansible_port"
            f" below {machine.name} in {lab.inventory}/hosts.yml; try it with: {command}\n"
            f"  next: correct this, then run the same command again\n  log:  {log}\n"
        )
        reasons = "(No route to host|Connection timed out)"
        assert re.fullmatch(re.escape(told).replace("REASON", reasons), errors[errors.index("error: ") :])
        with deploying(lab) as (process, begun):
            wait_for(lambda: begun(WRITING), 60, "files are written")
            with cut(machine):
                time.sleep(SHORT_S)
            out, errors = process.communicate(timeout=120)
        assert process.returncode == 0, errors
        assert out.startswith(f"1 change\n  {machine.name}: gitlab-runner/live/config.toml written\n")
    finally:
        # The next deploy takes the limits back.
        lab.settings_file.write_text(before, encoding="utf-8")


@pytest.fixture
def short_of_room(lab: Lab) -> Iterator[Machine]:
    """A runner host that has less room than is wanted of it: a job that was lost has taken it."""
    machine = lab.machine("runner1")
    free = int(machine.run("df", "-B1", "--output=avail", "/var/lib/docker").split()[-1])
    least = (free - TAKEN // 2) // 1024**2
    before = limit_hosts(lab, {machine.name: {"free_disk": f"{least}m"}})
    lab.must("deploy", "--no-verify")
    image = machine.run("docker", "images", "--quiet").split()[0]
    labels = {
        "com.gitlab.gitlab-runner.managed": "true",
        "com.gitlab.gitlab-runner.job.url": f"https://gitlab.{lab.domain}/demo/lost/-/jobs/1",
    }
    words = [word for key, value in labels.items() for word in ("--label", f"{key}={value}")]
    machine.run("docker", "volume", "create", *words, "left")
    of_a_job = ("--name", "left", "--label", "dap.jobs=dap", "--volume", "left:/left")
    machine.run("docker", "create", *of_a_job, image, "true")
    folder = machine.run("docker", "volume", "inspect", "--format", "{{.Mountpoint}}", "left").strip()
    machine.run("fallocate", "--length", str(TAKEN), f"{folder}/model")
    yield machine
    machine.run("sh", "-c", "docker rm --force left 2>/dev/null; docker volume rm --force left")
    lab.settings_file.write_text(before, encoding="utf-8")
    lab.must("deploy", "--no-verify")


def test_runner_host_without_room_takes_no_jobs_and_says_so_until_it_was_cleaned(
    lab: Lab, jobs: Jobs, short_of_room: Machine
) -> None:
    said = re.compile(
        rf"^{short_of_room.name}: gitlab-runner: the disk is full: no jobs are taken with \d+ MiB free in"
        r" Docker's folder, and again with \d+ MiB; make room, for example with: (\S+/)?dap runner clean$",
        re.M,
    )
    wait_for(lambda: said.search(lab.dap("status").stdout) is not None, 60, "status says so")
    jobs.take_on(short_of_room)
    pipeline = jobs.start()
    assert lab.dap("status").returncode == 1
    waiting = jobs.of(pipeline)
    assert {waiting[name].status for name in ("lost", "tried again")} == {"pending"}

    told = lab.must("runner", "clean", "--hours", "0")
    assert f"{short_of_room.name}: 1 containers, 1 volumes and 0 images removed\n" in told
    job = waiting["lost"].id
    wait_for(lambda: jobs.runs(job), 60, "the job runs")
    assert jobs.where(job) == short_of_room.name
    wait_for(lambda: lab.dap("status").returncode == 0, 60, "all is well again")
    jobs.project.pipelines.get(pipeline).cancel()
