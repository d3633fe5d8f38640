"""What the platform costs while nobody uses it."""

from __future__ import annotations

import http.client
import json
import socket
import time
from collections.abc import Iterator
from typing import Any

from tests.bench.measure import Number
from tests.integration.platform import DeployedPlatform

GROUP = "Idle"
SECONDS = 20
_MIB = 1024 * 1024


def measure(platform: DeployedPlatform, rounds: int, full: bool) -> Iterator[Number]:
    """Memory of each service, without what the kernel could take back, and its share of a processor."""
    boxes = platform.container_ids()
    memory: dict[str, list[float]] = {name: [] for name in boxes}
    share: dict[str, list[float]] = {name: [] for name in boxes}
    before = {name: _stats(box) for name, box in boxes.items()}
    for _ in range(rounds):
        time.sleep(SECONDS)
        after = {name: _stats(box) for name, box in boxes.items()}
        for name, now in after.items():
            used = now["memory_stats"]
            memory[name].append((used["usage"] - used["stats"].get("inactive_file", 0)) / _MIB)
            share[name].append(100 * (_busy(now) - _busy(before[name])) / SECONDS)
        before = after
    for name in sorted(boxes):
        yield Number(GROUP, f"{name}: memory", "MiB", memory[name])
        yield Number(GROUP, f"{name}: processor", "% of one", share[name])


def _busy(stats: dict[str, Any]) -> float:
    return float(stats["cpu_stats"]["cpu_usage"]["total_usage"]) / 1e9


def _stats(box: str) -> dict[str, Any]:
    """What the engine counts of a container (Docker Engine API, `GET /containers/{id}/stats`)."""
    connection = http.client.HTTPConnection("docker")
    connection.sock = socket.socket(socket.AF_UNIX)
    connection.sock.connect("/var/run/docker.sock")
    connection.request("GET", f"/containers/{box}/stats?stream=false&one-shot=true")
    found: dict[str, Any] = json.load(connection.getresponse())
    connection.close()
    return found
