"""One machine of several fails: the others go on, and the program says which one and what to do."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest

from tests.integration.small import change_settings
from tests.lab.laboratory import Lab
from tests.lab.machine import Machine, wait_for

KEYS = "/home/admin/.ssh/authorized_keys"


def error_of(lab: Lab, *arguments: str, code: int = 1) -> str:
    """What a run that has to fail says last."""
    done = lab.dap(*arguments)
    assert done.returncode == code, f"{done.returncode}: {done.stdout}\n{done.stderr}"
    assert done.stderr.count("error: ") == 1
    return done.stderr[done.stderr.index("error: ") :]


def hang_up(machine: Machine) -> None:
    """End all sessions: the program keeps its connections for a minute."""
    # The brackets keep the pattern from matching the shell that has it among its arguments.
    machine.run("sh", "-c", "pkill -u admin; while pgrep -f '[s]shd.*: admin'; do sleep 0.1; done")


def all_well(lab: Lab) -> None:
    """Wait until all hosts are there and their services are healthy, without a hand."""
    wait_for(lambda: lab.dap("status").returncode == 0, 180, "all hosts and services are well")


@pytest.fixture
def locked_out(lab: Lab) -> Iterator[Machine]:
    """A runner host that does not take the key."""
    machine = lab.machine("runner1")
    machine.run("mv", KEYS, f"{KEYS}.off")
    hang_up(machine)
    yield machine
    machine.run("mv", f"{KEYS}.off", KEYS)
    lab.must("deploy", "--no-verify")


def test_host_that_refuses_the_key_is_named_and_the_others_are_deployed(
    lab: Lab, locked_out: Machine
) -> None:
    refused = (
        f"runner1: connection = admin@{locked_out.address}, port 22\n"
        f"    cannot be reached: ssh says 'admin@{locked_out.address}: Permission denied"
        " (publickey,password).'\n"
        "    put your public key on it (ssh-copy-id), or correct ansible_user or"
        f" ansible_ssh_private_key_file below runner1 in {lab.inventory}/hosts.yml; try it with:"
        f" ssh -i {lab.key} -o UserKnownHostsFile={lab.known_hosts} admin@{locked_out.address}\n"
    )
    assert error_of(lab, "check", code=2) == (
        f"error: preflight found 1 error; nothing was changed:\n  {refused}"
    )
    before = change_settings(lab, projects=[{"name": "demo"}, {"name": "late-comer"}])
    try:
        error = error_of(lab, "deploy")
        log = sorted((lab.secrets / "logs").glob("*-deploy.log"))[-1]
        assert error == (
            "error: 1 of 3 hosts left as it is; the others are in order:\n"
            f"  {refused}  next: correct this, then run the same command again\n  log:  {log}\n"
        )
        # What the service host was to get is there.
        user, password = lab.login("Project late-comer: database")
        lab.postgres("late_comer", user, password).close()
    finally:
        lab.settings_file.write_text(before, encoding="utf-8")


@pytest.fixture
def cut_off(lab: Lab) -> Iterator[Machine]:
    """A runner host that runs, and whose network is gone."""
    machine = lab.machine("runner1")
    machine.run("ip", "link", "set", "eth0", "down")
    yield machine
    machine.run("ip", "link", "set", "eth0", "up")


def test_host_without_a_network_is_named_and_comes_back_by_itself(lab: Lab, cut_off: Machine) -> None:
    done = lab.dap("status", "--json")
    told: dict[str, Any] = json.loads(done.stdout)
    assert done.returncode == 1
    assert [entry["host"] for entry in told["unreached"]] == ["runner1"]
    assert {entry["health"] for entry in told["containers"]} == {"healthy"}

    cut_off.run("ip", "link", "set", "eth0", "up")
    all_well(lab)


def test_service_host_that_is_off_is_an_error_and_nothing_is_begun(lab: Lab) -> None:
    hang_up(lab.service)
    lab.service.power_off()
    try:
        error = error_of(lab, "deploy", code=2)
        assert error.startswith(
            "error: preflight found 1 error; nothing was changed:\n"
            f"  service1: connection = admin@{lab.service.address}, port 22\n"
            "    cannot be reached: ssh says "
        )
    finally:
        lab.service.power_on()


@pytest.fixture
def fast_clock(lab: Lab) -> Iterator[Machine]:
    """A host whose programs in Python are ten minutes ahead: all machines here share one clock.

    It has the newest release, whose libfaketime does not now and then fail to wait.
    """
    machine = lab.service
    library = machine.run("sh", "-c", "ls /usr/lib/*/faketime/libfaketime.so.1").strip()
    python = machine.run("readlink", "-f", "/usr/bin/python3").strip()
    machine.run("rm", "/usr/bin/python3")
    shifted = f"LD_PRELOAD={library} FAKETIME=+10m FAKETIME_DONT_FAKE_MONOTONIC=1"
    machine.write("/usr/bin/python3", f'#!/bin/sh\n{shifted} exec {python} "$@"\n', 0o755)
    yield machine
    machine.run("ln", "-sf", python, "/usr/bin/python3")


def test_clock_that_is_ten_minutes_off_is_found_before_anything_is_begun(
    lab: Lab, fast_clock: Machine
) -> None:
    lines = error_of(lab, "deploy", code=2).splitlines()
    assert lines[0] == "error: preflight found 1 error; nothing was changed:"
    subject, _, seconds = lines[1].partition(" = +")
    assert subject == "  service1: clock"
    assert 590 <= int(seconds.removesuffix(" s")) <= 600
    assert lines[2:] == [
        "    differs from this machine's by more than 120 s",
        "    set the time, for example with: apt-get install chrony",
    ]


@pytest.fixture
def full_disk(lab: Lab) -> Iterator[Machine]:
    """A runner host whose data lie on a file system without room."""
    machine = lab.machine("runner1")
    keep = "rm -rf /run/kept && cp -a /var/lib/dap /run/kept"
    mount = "mount -t tmpfs -o size=64k tmpfs /var/lib/dap && cp -a /run/kept/. /var/lib/dap/"
    machine.run("sh", "-c", f"{keep} && {mount}")
    machine.run("sh", "-c", "cat /dev/zero >/var/lib/dap/filler 2>/dev/null || true")
    yield machine
    machine.run("umount", "/var/lib/dap")


def test_full_disk_of_a_deployed_host_is_told_and_stops_nothing(lab: Lab, full_disk: Machine) -> None:
    done = lab.dap("deploy", "--no-verify")
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("0 changes\n")
    assert (
        "warning: runner1: disk space at /var/lib/dap = 0.0 GiB free\n"
        "    data need 7.5 GiB\n    free some space, or put the folder on a larger file system\n"
    ) in done.stdout
