"""What each further runner host adds to a deploy that changes nothing."""

from __future__ import annotations

import statistics
from collections.abc import Iterator

from dap.layout import compose_dir
from tests.bench.measure import Goal, Number, seconds_of
from tests.engine import start_engine
from tests.gitlab_double.image_build import double_image
from tests.gitlab_runner.image_build import runner_images
from tests.integration.platform import DeployedPlatform
from tests.integration.small import SERVICES
from tests.lab.laboratory import Lab

GROUP = "Hosts"
COUNTS = (8, 4, 2, 1)
RUNNING = SERVICES | {"registry", "gitlab", "gitlab-runner", "runner-cleaner"}


def measure(platform: DeployedPlatform, rounds: int, full: bool) -> Iterator[Number]:
    """Deploys in a lab with fewer and fewer runner hosts; it takes too long for a quick run."""
    if not full:
        return
    every = {path.parent.name for path in compose_dir().glob("*/service.yml")}
    base = start_engine(platform.folder / "engine")
    runner = runner_images(base)
    pulled = {
        "gitlab": {"image": double_image(base)},
        "gitlab-runner": {"image": runner["runner"], "helper": runner["helper"]},
    }
    left_out = sorted(every - RUNNING)
    lab = Lab(platform.folder / "lab", runners=max(COUNTS), left_out=left_out, pulled=pulled)
    found: dict[int, list[float]] = {}
    try:
        lab.start()
        lab.write_inventory()
        lab.give_images()
        for count in COUNTS:
            lab.write_hosts([machine.name for machine in lab.runner_machines[:count]])
            lab.must("deploy")
            found[count] = [seconds_of(lambda: _nothing_to_do(lab)) for _ in range(rounds)]
    finally:
        lab.remove()
    for count, values in sorted(found.items()):
        name = f"deploy without a change, service host and {count} runner host{'s' * (count > 1)}"
        yield Number(GROUP, name, "s", values)
    fastest = [min(found[count]) for count in COUNTS]
    slope = statistics.linear_regression(COUNTS, fastest).slope
    yield Number(GROUP, "each further runner host", "s", [slope], goal=Goal("value", at_most=1.5))


def _nothing_to_do(lab: Lab) -> None:
    assert lab.deploy() == 0
