"""Tests that run side by side: which ones share a worker, and which ones the others wait for."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TextIO

import pytest
from xdist.scheduler import LoadScopeScheduling

MEASURES = "measures"
# Who shares a platform runs on one worker: those that only use it, and those that change it and back. All are
# of the folder "integration": others may have modules of the same names.
GROUPS = {
    "using": {
        *("test_deploy", "test_containers", "test_clients", "test_own_certificate", "test_own_service"),
        *("test_hardening", "test_hostile_requests", "test_pages"),
    },
    "changing": {
        *("test_bad_input", "test_freedom", "test_recovery", "test_registry", "test_rotation"),
        *("test_people", "test_secret_places"),
    },
    "desks": {"test_dev_certificates", "test_dev_containers", "test_dev_resources"},
    "pipelines": {"test_hostile_job", "test_image_builds", "test_leftovers", "test_runner"},
}
# What takes longest comes first, or one worker would still be at it when the others have nothing left.
ORDER = (
    *("lab", "changing", "using", "test_plan", "pipelines", "test_gitlab", "desks"),
    *("test_dev_pages", "test_environments", "test_faults", "test_full_disk", "bundle", "test_portainer"),
)
# How much less of the processors the others get than those that come first, the longest of all.
NICENESS = 5
_LOCKS = Path(__file__).parents[1] / ".cache"


@dataclass(frozen=True)
class _Turn:
    """Open files that tests on all workers lock: who goes next, and who runs."""

    gate: TextIO
    running: TextIO


_TURN = pytest.StashKey[_Turn]()


def group_of(nodeid: str) -> str:
    """The tests that share a platform with a test."""
    path = Path(nodeid.partition("::")[0])
    if path.parent.name == "lab":
        return "bundle" if path.stem == "test_bundle" else "lab"
    if path.parent.name != "integration":
        return str(path)
    return next((name for name, modules in GROUPS.items() if path.stem in modules), path.stem)


def give_way() -> None:
    """Leave the processors to the tests that take longest, unless this process runs those.

    To be called when there is an engine: it would inherit this for good, and all containers from it.
    """
    first = group_of(os.environ.get("PYTEST_CURRENT_TEST", "")) == ORDER[0]
    if "PYTEST_XDIST_WORKER" in os.environ and not first and os.nice(0) == 0:
        os.nice(NICENESS)


class PlatformScheduling(LoadScopeScheduling):  # type: ignore[misc]
    """Hands the tests of one platform to one worker; those of different ones run side by side."""

    def _split_scope(self, nodeid: str) -> str:
        return group_of(nodeid)


def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> PlatformScheduling | None:
    by_platform = config.getoption("dist") == "loadscope"
    return PlatformScheduling(config, log) if by_platform else None


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    def place(item: pytest.Item) -> int:
        group = group_of(item.nodeid)
        return ORDER.index(group) if group in ORDER else len(ORDER)

    items.sort(key=place)


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_protocol(item: pytest.Item) -> Iterator[None]:
    """Run a test, with its fixtures, when nothing is measured."""
    if not hasattr(item.config, "workerinput"):
        return (yield)
    _LOCKS.mkdir(exist_ok=True)
    with (_LOCKS / "tests.gate").open("w") as gate, (_LOCKS / "tests.running").open("w") as running:
        fcntl.flock(gate, fcntl.LOCK_EX)
        fcntl.flock(running, fcntl.LOCK_SH)
        fcntl.flock(gate, fcntl.LOCK_UN)
        item.stash[_TURN] = _Turn(gate, running)
        return (yield)


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_call(item: pytest.Item) -> Iterator[None]:
    """Let a test that measures wait until no other runs, and let the others wait for it.

    It holds the gate meanwhile, so that tests which come one after the other cannot keep it waiting.
    """
    turn = item.stash.get(_TURN, None)
    if turn is None or item.get_closest_marker(MEASURES) is None:
        return (yield)
    fcntl.flock(turn.running, fcntl.LOCK_UN)
    fcntl.flock(turn.gate, fcntl.LOCK_EX)
    fcntl.flock(turn.running, fcntl.LOCK_EX)
    try:
        return (yield)
    finally:
        fcntl.flock(turn.running, fcntl.LOCK_SH)
        fcntl.flock(turn.gate, fcntl.LOCK_UN)
