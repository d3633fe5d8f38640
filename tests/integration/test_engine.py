"""The engine stops, or dies with the machine, and is started again: all containers go with it."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import engine_answers
from tests.integration.platform import DeployedPlatform, docker

pytestmark = pytest.mark.alone
PID_FILE = Path("/var/run/docker.pid")
LOG = Path("/var/log/dockerd.log")
SYSTEMD = Path("/run/systemd/system").is_dir()


def wait_for(condition: Callable[[], bool], limit: float) -> None:
    """Look until something holds.

    Raises:
        AssertionError: it does not after ``limit`` seconds.
    """
    end = time.monotonic() + limit
    while not condition():
        assert time.monotonic() < end, f"not after {limit} s"
        time.sleep(0.2)


@pytest.fixture
def only_own(platform: DeployedPlatform) -> DeployedPlatform:
    """The platform, on an engine that nobody else has a running container on."""
    own = {box["Name"] for box in platform.containers().values()}
    foreign = {f"/{name}" for name in docker("ps", "--format", "{{.Names}}").split()} - own
    assert not foreign, f"the engine is not restarted under other people's containers: {sorted(foreign)}"
    return platform


def stop_engine() -> None:
    """Stop it as an administrator does; it stops its containers first."""
    if SYSTEMD:
        subprocess.run(["systemctl", "stop", "docker.socket", "docker.service"], check=True)
        return
    pid = int(PID_FILE.read_text(encoding="utf-8"))
    os.kill(pid, signal.SIGTERM)
    wait_for(lambda: not Path("/proc", str(pid)).exists(), 180)


def start_engine() -> None:
    """Start it as an init system, or the command on the page about machines without one, does."""
    if SYSTEMD:
        subprocess.run(["systemctl", "start", "docker.service"], check=True)
        return
    with LOG.open("ab") as output:
        subprocess.Popen(
            ["dockerd"], stdin=subprocess.DEVNULL, stdout=output, stderr=output, start_new_session=True
        )


def kill_machine() -> None:
    """End the engine, what it started and all containers at once, as a power cut does."""
    names = ("dockerd", "containerd", "containerd-shim-runc-v2", "docker-proxy")
    boxes = docker("ps", "--quiet").split()
    inside = [int(pid) for box in boxes for pid in docker("top", box, "-eo", "pid").split()[1:]]
    engine = []
    for process in Path("/proc").iterdir():
        if process.name.isdigit():
            try:
                name = Path((process / "cmdline").read_bytes().split(b"\0")[0].decode()).name
            except OSError:
                continue
            if name in names:
                engine.append(int(process.name))
    assert len(engine) > 3 and len(inside) > 7
    for pid in [*engine, *inside]:
        try:
            os.kill(pid, signal.SIGKILL)
        except ProcessLookupError:
            continue
    if not SYSTEMD:  # which starts it again at once
        wait_for(lambda: not engine_answers(), 30)


def written(platform: DeployedPlatform) -> tuple[str, str]:
    """Write a row that has to survive; user and password to read it with."""
    user, password = platform.login("Project demo: database")
    with platform.postgres("demo", user, password) as connection:
        connection.execute("CREATE TABLE restarted AS SELECT generate_series(1, 1000) AS n")
    return user, password


def wait_until_healthy(platform: DeployedPlatform, expected: set[str], limit: float) -> dict[str, Any]:
    """Look until all containers are healthy; the containers then.

    Raises:
        AssertionError: they are not after ``limit`` seconds.
    """
    end = time.monotonic() + limit
    while True:
        boxes = platform.containers()
        states = {name: box["State"].get("Health", {}).get("Status") for name, box in boxes.items()}
        if set(boxes) == expected and set(states.values()) == {"healthy"}:
            return boxes
        assert time.monotonic() < end, states
        time.sleep(0.5)


def assert_all_is_back(platform: DeployedPlatform, user: str, password: str) -> None:
    platform.must("verify")
    with platform.postgres("demo", user, password) as connection:
        assert connection.execute("SELECT sum(n) FROM restarted").fetchone() == (500500,)
        connection.execute("DROP TABLE restarted")
    assert platform.deploy() == 0


def test_after_the_engine_was_restarted_everything_is_healthy_without_a_hand(
    only_own: DeployedPlatform,
) -> None:
    before = only_own.containers()
    user, password = written(only_own)
    stop_engine()
    try:
        assert not engine_answers()
    finally:
        start_engine()
    wait_for(engine_answers, 60)
    after = wait_until_healthy(only_own, set(before), 120)
    assert {name: box["Id"] for name, box in after.items()} == {
        name: box["Id"] for name, box in before.items()
    }
    assert_all_is_back(only_own, user, password)


def test_after_a_power_cut_one_deploy_brings_everything_back(only_own: DeployedPlatform) -> None:
    before = set(only_own.containers())
    user, password = written(only_own)
    kill_machine()
    only_own.must("deploy")
    assert set(wait_until_healthy(only_own, before, 5)) == before
    assert_all_is_back(only_own, user, password)
