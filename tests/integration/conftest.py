"""One real deployment for all tests of this folder; each test leaves data and settings as it found them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser

from tests.conftest import engine_answers
from tests.engine import start_engine
from tests.gitlab_double.image_build import double_image
from tests.gitlab_runner.image_build import runner_images
from tests.integration.browsing import running
from tests.integration.desks import Desks
from tests.integration.pipelines import RunnerPlatform
from tests.integration.platform import DeployedPlatform, docker, from_nothing
from tests.packages import installed
from tests.side_by_side import give_way


@pytest.fixture(scope="session")
def engine(tmp_path_factory: pytest.TempPathFactory) -> None:
    """An engine that runs: started by the product itself where none does."""
    if engine_answers():
        give_way()
    else:
        start_engine(tmp_path_factory.mktemp("engine"))


@pytest.fixture(scope="session")
def platform(engine: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[DeployedPlatform]:
    """A platform that was deployed from nothing (images may be there from an earlier run)."""
    made = DeployedPlatform(tmp_path_factory.mktemp("platform"))
    made.write_inventory()
    with from_nothing(made):
        yield made


@pytest.fixture(scope="session")
def runner_platform(engine: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunnerPlatform]:
    """A machine that is service host and runner host, with GitLab's double and the real runner."""
    deployed = RunnerPlatform(tmp_path_factory.mktemp("runner"))
    base = start_engine(tmp_path_factory.mktemp("engine"))
    deployed.images = {**runner_images(base), "gitlab": double_image(base)}
    deployed.write_inventory()
    deployed.configure()
    try:
        deployed.must("deploy")
        yield deployed
    finally:
        deployed.remove()


@pytest.fixture(scope="session")
def desks(engine: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Desks]:
    """A platform on one machine, in whose development containers people work."""
    made = Desks(tmp_path_factory.mktemp("desks"))
    made.write_inventory()
    try:
        with from_nothing(made):
            made.configure_client()
            yield made
    finally:
        left = docker("ps", "--all", "--quiet", "--filter", f"name={made.name}-dev")
        assert left == ""


@pytest.fixture
def trusting(platform: DeployedPlatform, monkeypatch: pytest.MonkeyPatch) -> DeployedPlatform:
    """The platform, seen by a user who followed the portal's advice on the CA and on logins."""
    ca_file = str(platform.ca_file)
    user, password = platform.login("Platform login")
    for name, value in {
        "REQUESTS_CA_BUNDLE": ca_file,
        "AWS_CA_BUNDLE": ca_file,
        "SSL_CERT_FILE": ca_file,
        "PGSSLROOTCERT": ca_file,
        "MLFLOW_TRACKING_URI": platform.url("mlflow"),
        "MLFLOW_TRACKING_USERNAME": user,
        "MLFLOW_TRACKING_PASSWORD": password,
    }.items():
        monkeypatch.setenv(name, value)
    return platform


@pytest.fixture(scope="session")
def chromium() -> Path:
    """A browser, installed from the distribution if there is none."""
    return installed("chromium", "chromium")


@pytest.fixture(scope="module")
def browser(chromium: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    """A browser that notices nothing of containers that come and go."""
    with running(chromium, tmp_path_factory.mktemp("browser")) as browser:
        yield browser
