"""Removing what jobs have left, by a Docker of the test's own."""

from __future__ import annotations

import os
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from dap.errors import DapError
from dap.gitlab.leftovers import clean, made_at
from tests.unit.platforms import LOCAL, site_of
from tests.unit.plugins import FakeDocker

DAY = timedelta(hours=24)


@pytest.fixture
def docker(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> FakeDocker:
    fake = FakeDocker(tmp_path / "bin")
    monkeypatch.setenv("PATH", f"{fake.folder}:{os.environ['PATH']}")
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    return fake


def line(name: str, hours: float) -> str:
    made = datetime.now(UTC) - timedelta(hours=hours)
    return f"{name} {made:%Y-%m-%d %H:%M:%S} +0000 UTC\n"


def test_time_is_read_as_docker_writes_it() -> None:
    assert made_at("2026-11-22 01:41:25 +0100 CET") == datetime(2026, 11, 22, 0, 41, 25, tzinfo=UTC)


def test_only_what_is_old_goes_and_its_volumes_with_it(docker: FakeDocker) -> None:
    docker.answer("ps *", line("young", 1) + line("old", 25) + line("older", 99))
    docker.answer("inspect *", "files1 \nfiles1 files2 \n")
    docker.answer("rm *")
    docker.answer("volume rm *")
    assert clean(site_of(), LOCAL, DAY) == (2, 2)
    assert docker.calls_of("ps")[0].startswith("ps --all --filter label=dap.jobs=dap --format")
    assert docker.calls_of("rm", "--force", "--volumes") == ["rm --force --volumes old older"]
    assert docker.calls_of("volume") == ["volume rm --force files1 files2"]


def test_nothing_old_is_nothing_to_do(docker: FakeDocker) -> None:
    docker.answer("ps *", line("young", 1))
    assert clean(site_of(), LOCAL, DAY) == (0, 0)
    assert len(docker.calls) == 1


def test_engine_that_refuses_is_told_of(docker: FakeDocker) -> None:
    docker.answer("ps *", error="permission denied\n", status=1)
    with pytest.raises(DapError) as error:
        clean(site_of(), LOCAL, DAY)
    assert error.value.message == "alpha: what jobs have left cannot be removed: permission denied"
    assert error.value.next_step == "dap -e team status"
