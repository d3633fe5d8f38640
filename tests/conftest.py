"""What all tests share: an engine that the run started is ended with it, and who runs beside whom."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from pathlib import Path

import pytest

from tests.side_by_side import (  # noqa: F401  hooks
    pytest_collection_modifyitems,
    pytest_runtest_call,
    pytest_runtest_protocol,
    pytest_xdist_make_scheduler,
)

PID_FILES = (Path("/run/docker.pid"), Path("/var/run/docker.pid"))


def engine_answers() -> bool:
    """Whether a Docker engine runs."""
    try:
        return subprocess.run(["docker", "version"], capture_output=True, check=False).returncode == 0
    except FileNotFoundError:
        return False


def is_worker(config: pytest.Config) -> bool:
    """Whether this process is one of several that another one hands tests to."""
    return hasattr(config, "workerinput")


_THERE_BEFORE = pytest.StashKey[bool]()


def pytest_configure(config: pytest.Config) -> None:
    if not is_worker(config):
        config.stash[_THERE_BEFORE] = engine_answers()


def pytest_unconfigure(config: pytest.Config) -> None:
    """Stop the engine that the tests have brought up; when all processes with tests have ended."""
    if is_worker(config) or config.stash[_THERE_BEFORE] or Path("/run/systemd/system").is_dir():
        return
    for file in PID_FILES:
        if file.is_file():
            pid = int(file.read_text())
            os.kill(pid, signal.SIGTERM)
            deadline = time.monotonic() + 60
            while Path(f"/proc/{pid}").exists() and time.monotonic() < deadline:
                time.sleep(0.2)
            return


@pytest.fixture(scope="session")
def engine() -> None:
    """Nothing to start: the product does that. What it started for this run alone is stopped at the end."""
