"""A deploy that is killed, with all that it started, at the moment when something is seen to happen."""

from __future__ import annotations

import os
import secrets
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from tests.integration.platform import BIN, DeployedPlatform

MARK = "DAP_TEST_RUN"
LIMIT_SECONDS = 180


def processes_with(text: bytes, since: int = 0) -> list[int]:
    """Every process that has ``text`` in its environment, which whatever it starts inherits.

    Args:
        since: the least process id that is looked at.
    """
    found = []
    for name in os.listdir("/proc"):
        if name.isdigit() and int(name) >= since:
            try:
                environment = Path("/proc", name, "environ").read_bytes()
            except OSError:
                continue
            if text in environment:
                found.append(int(name))
    return found


def kill_all(text: bytes, first: int) -> int:
    """Kill every such process until there is none left; how many there were.

    Args:
        first: the oldest of them. Most are younger, so the first round, which counts, is a quick one.

    Raises:
        TimeoutError: new ones come as fast as they are killed.
    """
    killed = 0
    end = time.monotonic() + 20
    since = first
    while (found := processes_with(text, since)) or since:
        since = 0
        for process in found:
            try:
                os.kill(process, signal.SIGKILL)
                killed += 1
            except ProcessLookupError:
                continue
        if time.monotonic() > end:
            raise TimeoutError(f"{len(found)} processes outlive SIGKILL")
    return killed


@dataclass
class Seen:
    """What has happened in a deploy so far.

    Attributes:
        log: the program's log of this run.
        containers: what the engine did to containers: ``create dap-portal``, ``start dap-portal``, ….
    """

    platform: DeployedPlatform
    old_logs: frozenset[Path]
    containers: list[str] = field(default_factory=list)

    @property
    def log(self) -> str:
        new = set(self.platform.secrets.glob("logs/*.log")) - self.old_logs
        return "".join(path.read_text(encoding="utf-8", errors="replace") for path in sorted(new))

    def task(self, name: str) -> bool:
        """Whether a task of Ansible has begun."""
        return f"TASK {name}" in self.log

    def container(self, event: str) -> bool:
        """Whether the engine reports it, such as ``start portal``, of a container of the platform."""
        verb, service = event.split()
        return f"{verb} {self.platform.name}-{service}" in self.containers


@contextmanager
def container_events(platform: DeployedPlatform, into: list[str]) -> Iterator[None]:
    """Collect what the engine does to the platform's containers, as it happens."""
    label = f"label=com.docker.compose.project={platform.name}"
    row = '{{.Action}} {{index .Actor.Attributes "name"}}'
    command = ["docker", "events", "--filter", "type=container", "--filter", label, "--format", row]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout
        lines = process.stdout
        reader = threading.Thread(
            target=lambda: into.extend(line.rstrip("\n") for line in lines), daemon=True
        )
        reader.start()
        try:
            yield
        finally:
            process.terminate()
            reader.join(timeout=10)


def kill_deploy(platform: DeployedPlatform, when: Callable[[Seen], bool]) -> Seen:
    """Start a deploy and kill it, and everything that it has started, as soon as ``when`` holds.

    Raises:
        AssertionError: the deploy ended before, or it did not come to that.
    """
    run = secrets.token_hex(8)
    seen = Seen(platform, frozenset(platform.secrets.glob("logs/*.log")))
    output = platform.folder / "killed.txt"
    with container_events(platform, seen.containers), output.open("wb") as stream:
        process = subprocess.Popen(
            [str(BIN / "dap"), "deploy"],
            env=platform.environment | {MARK: run},
            stdin=subprocess.DEVNULL,
            stdout=stream,
            stderr=stream,
            start_new_session=True,
        )
        try:
            end = time.monotonic() + LIMIT_SECONDS
            while not when(seen):
                assert process.poll() is None, f"ended before it happened:\n{output.read_text()}\n{seen.log}"
                assert time.monotonic() < end, f"it never happened:\n{seen.log}\n{seen.containers}"
                time.sleep(0.002)
        finally:
            killed = kill_all(f"{MARK}={run}".encode(), process.pid)
            process.wait(timeout=20)
    assert killed >= 1
    assert process.returncode == -signal.SIGKILL
    return seen
