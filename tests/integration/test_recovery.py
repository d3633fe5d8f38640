"""What comes back by itself, what a deploy says of what does not, and what it leaves alone."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.integration.platform import DeployedPlatform
from tests.integration.small import change_settings, remove_own_service, write_own_service

WAIT_SECONDS = 30


def restarted(platform: DeployedPlatform, before: dict[str, tuple[str, str]]) -> set[str]:
    """Services whose container is another one, or has been started again, since ``before``."""
    return {name for name, now in platform.starts().items() if now != before.get(name)}


def wait_until_started_again(platform: DeployedPlatform, before: dict[str, Any], limit: float) -> None:
    """Look until every container has been started later than ``before``.

    Raises:
        AssertionError: one has not after ``limit`` seconds.
    """
    end = time.monotonic() + limit
    while True:
        boxes = platform.containers()
        waiting = [
            name
            for name, box in before.items()
            if name not in boxes or boxes[name]["State"]["StartedAt"] <= box["State"]["StartedAt"]
        ]
        if not waiting:
            return
        assert time.monotonic() < end, f"not started again: {waiting}"
        time.sleep(0.2)


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


def test_every_container_that_dies_comes_back_healthy_without_a_hand(platform: DeployedPlatform) -> None:
    user, password = platform.login("Project demo: database")
    with platform.postgres("demo", user, password) as connection:
        connection.execute("CREATE TABLE crashed AS SELECT generate_series(1, 1000) AS n")
    platform.s3("demo").put_object(Bucket="demo", Key="crashed.txt", Body=b"still here")
    before = platform.containers()

    # From outside and all at once, as a crash would: `docker kill` counts as being told to stop.
    for box in before.values():
        os.kill(box["State"]["Pid"], signal.SIGKILL)
    # The engine takes a moment to notice; until then it calls them healthy.
    wait_until_started_again(platform, before, 60)
    after = wait_until_healthy(platform, set(before), 60)

    assert {name: box["Id"] for name, box in after.items()} == {
        name: box["Id"] for name, box in before.items()
    }
    platform.must("verify")
    with platform.postgres("demo", user, password) as connection:
        assert connection.execute("SELECT sum(n) FROM crashed").fetchone() == (500500,)
        connection.execute("DROP TABLE crashed")
    assert platform.s3("demo").get_object(Bucket="demo", Key="crashed.txt")["Body"].read() == b"still here"
    platform.s3("demo").delete_object(Bucket="demo", Key="crashed.txt")
    assert platform.deploy() == 0


@pytest.fixture
def ailing(platform: DeployedPlatform) -> Iterator[Path]:
    """An operator's own service that runs and never gets healthy."""
    before = change_settings(platform, deploy={"wait_seconds": WAIT_SECONDS})
    folder = write_own_service(
        platform,
        "ailing",
        run="echo cannot reach the licence server; exec sleep infinity",
        health="echo no licence; exit 1",
    )
    yield folder
    remove_own_service(platform, "ailing")
    platform.settings_file.write_text(before, encoding="utf-8")


def test_service_that_never_gets_healthy_fails_the_deploy_in_time_and_alone(
    platform: DeployedPlatform, ailing: Path
) -> None:
    before = platform.starts()
    started = time.monotonic()
    done = platform.dap("deploy")
    seconds = time.monotonic() - started

    assert done.returncode == 1
    # Preflight and a build come on top of the waiting.
    assert WAIT_SECONDS <= seconds <= WAIT_SECONDS + 90
    lines = [line.strip() for line in done.stderr.splitlines()]
    start = lines.index(f"error: localhost: 1 of {len(before) + 1} services is not well:")
    assert lines[start + 1 : start + 5] == [
        "ailing: running, starting",
        "health check: no licence",
        "| cannot reach the licence server",
        f"log: {platform.root}/log/up.log",
    ]
    assert lines[start + 5].startswith("next: ")
    # The proxy and the start page may have learnt of the new service.
    assert restarted(platform, before) - {"nginx-proxy", "portal"} == {"ailing"}
    others = {name: box["State"]["Health"]["Status"] for name, box in platform.containers().items()}
    assert {name for name, health in others.items() if health != "healthy"} == {"ailing"}
