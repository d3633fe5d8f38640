"""What all tests share: an engine that the run started is ended with it."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

PID_FILES = (Path("/run/docker.pid"), Path("/var/run/docker.pid"))


def engine_answers() -> bool:
    """Whether a Docker engine runs."""
    try:
        return subprocess.run(["docker", "version"], capture_output=True, check=False).returncode == 0
    except FileNotFoundError:
        return False


@pytest.fixture(scope="session")
def engine() -> Iterator[None]:
    """Nothing to start: the product does that. But what it started for this run alone is stopped again."""
    there_before = engine_answers()
    yield
    if there_before or Path("/run/systemd/system").is_dir():
        return
    for file in PID_FILES:
        if file.is_file():
            pid = int(file.read_text())
            os.kill(pid, signal.SIGTERM)
            deadline = time.monotonic() + 60
            while Path(f"/proc/{pid}").exists() and time.monotonic() < deadline:
                time.sleep(0.2)
            return
