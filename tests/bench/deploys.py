"""Deploys beside what Docker Compose takes for the same files."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator

from tests.bench.measure import Goal, Number, in_turn, seconds_of
from tests.integration.platform import DeployedPlatform, docker

GROUP = "Deploys"


def measure(platform: DeployedPlatform, rounds: int, full: bool) -> Iterator[Number]:
    """A deploy that makes all containers, and one that has nothing to do."""

    def remove() -> None:
        docker("rm", "--force", *platform.container_ids().values())

    def compose() -> None:
        command = ["docker", "compose", "--project-directory", str(platform.root), "-p", platform.name]
        subprocess.run([*command, "up", "--detach", "--wait"], check=True, capture_output=True)

    def deploy(*, changes: bool) -> None:
        assert bool(platform.deploy()) == changes

    def made_by_deploy() -> float:
        remove()
        return seconds_of(lambda: deploy(changes=True))

    def made_by_compose() -> float:
        remove()
        return seconds_of(compose)

    deploy(changes=False)
    baseline = "docker compose up --detach --wait"
    values, others = in_turn(rounds, made_by_deploy, made_by_compose)
    goal = Goal("ratio", at_most=1.25)
    yield Number(GROUP, "deploy, images built", "s", values, baseline, others, goal)
    deploy(changes=False)
    values, others = in_turn(
        2 * rounds, lambda: seconds_of(lambda: deploy(changes=False)), lambda: seconds_of(compose)
    )
    goal = Goal("difference", at_most=5)
    yield Number(GROUP, "deploy without a change", "s", values, baseline, others, goal)
