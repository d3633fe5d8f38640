"""What comes back by itself, what a deploy says of what does not, and what it leaves alone."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.chaos import report
from tests.chaos.campaign import Campaign
from tests.chaos.clients import Artifacts, Metrics, Objects, PgAdmin, Portal, Rows
from tests.chaos.faults import Cut, Fault, Kill, OutOfMemory
from tests.integration.platform import DeployedPlatform
from tests.integration.small import change_settings, remove_own_service, write_own_service

WAIT_SECONDS = 30
SHORT_S = 1.5


def restarted(platform: DeployedPlatform, before: dict[str, tuple[str, str]]) -> set[str]:
    """Services whose container is another one, or has been started again, since ``before``."""
    return {name for name, now in platform.starts().items() if now != before.get(name)}


def test_what_fails_comes_back_without_a_hand_and_nothing_acknowledged_is_lost(
    platform: DeployedPlatform,
) -> None:
    """The short form of `make chaos`."""
    clients = [kind(platform) for kind in (Rows, Objects, Metrics, Artifacts, Portal, PgAdmin)]
    before = platform.container_ids()
    hits: list[tuple[Fault, set[str]]] = [
        (Kill(), set(before)),
        # Those whose limit is far from what this machine may have left.
        (OutOfMemory(), {"nginx-proxy", "portal", "postgres-service"}),
        (Cut(SHORT_S), {"minio", "mlflow", "postgres-data"}),
    ]
    try:
        # Other tests may keep the machine busy.
        with Campaign(platform, clients, limit=120) as campaign:
            for fault, services in hits:
                found = campaign.hit(fault, sorted(services), deploy=False)
                assert [report.line(one) for one in found if not one.good] == []
        assert campaign.lost() == []
        assert all(client.acknowledged() for client in clients)
    finally:
        for client in clients:
            client.clear()
    assert platform.container_ids() == before
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
