"""Asking a host's cleaner, by a Docker of the test's own."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from dap.errors import DapError
from dap.gitlab.leftovers import Gone, clean
from tests.unit.platforms import LOCAL, service_of, site_of
from tests.unit.plugins import FakeDocker

SITE = site_of(service_of("sweeper", role="runner", provides="cleaner"))


@pytest.fixture
def docker(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> FakeDocker:
    fake = FakeDocker(tmp_path / "bin")
    monkeypatch.setenv("PATH", f"{fake.folder}:{os.environ['PATH']}")
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    return fake


def test_cleaner_says_what_has_gone(docker: FakeDocker) -> None:
    docker.answer("exec *", '{"containers": 2, "volumes": 1, "images": 3}\n')
    assert clean(SITE, LOCAL, 25) == Gone(containers=2, volumes=1, images=3)
    assert docker.calls == ["exec dap-sweeper python3 -I /usr/local/bin/cleaner --once --hours 25"]


def test_cleaner_that_is_not_there_is_told_of(docker: FakeDocker) -> None:
    docker.answer("exec *", error="Error response from daemon: No such container: dap-sweeper\n", status=1)
    with pytest.raises(DapError) as error:
        clean(SITE, LOCAL, 24)
    assert error.value.message == (
        "alpha: what jobs have left cannot be removed:"
        " Error response from daemon: No such container: dap-sweeper"
    )
    assert error.value.next_step == "dap -e team status"


def test_cleaner_that_is_switched_off_is_told_of() -> None:
    with pytest.raises(DapError) as error:
        clean(site_of(), LOCAL, 24)
    assert error.value.message == "the service that removes what jobs have left is switched off"
    assert error.value.next_step == "take runner-cleaner.enabled out of services in platform.yml, then deploy"
