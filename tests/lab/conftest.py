"""One lab for all tests of this folder; each test leaves it as it found it."""

from __future__ import annotations

import signal
from collections.abc import Iterator

import pytest
import testinfra
from testinfra.host import Host

from dap.layout import compose_dir
from tests.integration.small import SERVICES
from tests.lab.laboratory import Lab

HOSTS = ("service1", "runner1", "runner2")
# What a deploy to several hosts needs at least, and no more: it is to be quick.
RUNNING = SERVICES | {"registry"}


def pytest_configure() -> None:
    """Let whoever ends the run with a signal leave nothing behind either."""
    signal.signal(signal.SIGTERM, signal.getsignal(signal.SIGINT))


@pytest.fixture(scope="session")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    """A service host and two runner hosts, of two Debian releases, with the platform on them."""
    every = {path.parent.name for path in compose_dir().glob("*/service.yml")}
    made = Lab(tmp_path_factory.mktemp("lab"), left_out=sorted(every - RUNNING))
    try:
        made.start()
        made.write_inventory()
        made.give_images()
        made.must("deploy")
        yield made
    finally:
        made.remove()


def login(lab: Lab, name: str) -> Host:
    """A machine as an administrator sees it who has logged in there and become root."""
    return testinfra.get_host(f"ssh://{name}", ssh_config=str(lab.ssh_config), sudo=True)


@pytest.fixture(params=HOSTS)
def host(request: pytest.FixtureRequest, lab: Lab) -> Host:
    return login(lab, request.param)


@pytest.fixture
def service_host(lab: Lab) -> Host:
    return login(lab, "service1")


@pytest.fixture(params=HOSTS[1:])
def runner_host(request: pytest.FixtureRequest, lab: Lab) -> Host:
    return login(lab, request.param)
