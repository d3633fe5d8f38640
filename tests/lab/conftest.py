"""One lab for all tests of this folder; each test leaves it as it found it."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import gitlab
import pytest
import testinfra
import yaml
from testinfra.host import Host

from dap.layout import compose_dir
from tests.end_to_end.pipeline import connect
from tests.engine import start_engine
from tests.gitlab_double.image_build import double_image
from tests.gitlab_runner.image_build import runner_images
from tests.integration.small import SERVICES
from tests.lab.gpus import GPU_HOST, without_cdi
from tests.lab.host_image import host_image
from tests.lab.laboratory import SUITES, Lab

HOSTS = ("service1", "runner1", "runner2")
SETUP_SECONDS = 1800
# What a pipeline meets on its way from a push to a model, and no more: it is to be quick.
RUNNING = SERVICES | {"registry", "mlflow", "gitlab", "gitlab-runner", "runner-cleaner"}


def pytest_configure() -> None:
    """Let whoever ends the run with a signal leave nothing behind either."""
    # In the background a shell has programs ignore what a keyboard sends.
    signal.signal(signal.SIGTERM, signal.default_int_handler)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Have patience with the first test: where no image is there yet, the lab waits until all are built."""
    for item in items:
        if "lab" in getattr(item, "fixturenames", ()):
            item.add_marker(pytest.mark.timeout(SETUP_SECONDS))


@pytest.fixture(scope="session")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    """A service host and two runner hosts, each of another release, with the platform on them."""
    every = {path.parent.name for path in compose_dir().glob("*/service.yml")}
    base = start_engine(tmp_path_factory.mktemp("engine"))
    # Where they are missing, one waits for the network while another one is compiled.
    with ThreadPoolExecutor() as pool:
        double, hosts = pool.submit(double_image, base), pool.map(host_image, SUITES)
        runner = runner_images(base)
        list(hosts)
    pulled = {
        "gitlab": {"image": double.result()},
        "gitlab-runner": {"image": runner["runner"], "helper": runner["helper"]},
    }
    made = Lab(tmp_path_factory.mktemp("lab"), left_out=sorted(every - RUNNING), pulled=pulled)
    try:
        made.start()
        made.write_inventory(share_environments=True)
        made.give_images()
        without_cdi(made.machine(GPU_HOST))
        made.must("deploy")
        yield made
    finally:
        made.remove()


@pytest.fixture(scope="session")
def client(lab: Lab) -> gitlab.Gitlab:
    """GitLab's API, as the platform itself uses it."""
    store = yaml.safe_load((lab.secrets / "secrets.yml").read_text(encoding="utf-8"))
    return connect(lab.url("gitlab"), store["values"]["gitlab.api_token"], lab.ca_file)


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
