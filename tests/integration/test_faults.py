"""Deploys that are killed at any point: the next one completes, and nothing is left lying about."""

from __future__ import annotations

import json
import secrets
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.integration.killing import Seen, kill_deploy
from tests.integration.platform import DeployedPlatform, docker
from tests.integration.small import (
    SERVICES,
    change_settings,
    remove_own_service,
    write_own_service,
    write_small_inventory,
)

AUTHORITIES = Path("/usr/local/share/ca-certificates")
JOB = "toolbox"
# Files on their way, and the record of those of which the services have not been told yet.
UNFINISHED = (".incoming-open", ".incoming-secret", ".pending.json")


@pytest.fixture(scope="module")
def small(engine: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[DeployedPlatform]:
    """A small platform that is not deployed yet."""
    platform = DeployedPlatform(tmp_path_factory.mktemp("faults"))
    write_small_inventory(platform)
    try:
        yield platform
    finally:
        platform.remove()


@pytest.fixture
def settled(small: DeployedPlatform) -> Iterator[DeployedPlatform]:
    """The small platform, deployed; its settings are put back."""
    if set(small.containers()) != SERVICES - {JOB}:
        small.must("deploy", "--no-verify")
    before = small.settings_file.read_text(encoding="utf-8")
    yield small
    small.settings_file.write_text(before, encoding="utf-8")


def assert_completes(platform: DeployedPlatform, *own: str) -> None:
    """One deploy brings all of it up, verified, and leaves nothing of the killed ones behind."""
    platform.must("deploy")
    boxes = platform.containers()
    assert {name: box["Name"] for name, box in boxes.items()} == {
        name: f"/{platform.name}-{name}" for name in {*SERVICES, *own} - {JOB}
    }
    assert {box["State"]["Health"]["Status"] for box in boxes.values()} == {"healthy"}
    records = {".open-files.json", ".secret-files.json"}
    assert {path.name for path in platform.root.glob(".*")} == records
    # What a run hands to Ansible holds every secret.
    assert [str(path) for path in platform.secrets.rglob(".dap-*")] == []


def fresh(platform: DeployedPlatform) -> None:
    """As on the first day."""
    platform.dap("destroy", "--data", "--yes")
    assert not platform.secrets.exists()


def test_first_deploy_is_killed_before_anything_runs_again_and_again(small: DeployedPlatform) -> None:
    if small.secrets.exists():
        fresh(small)

    kill_deploy(small, lambda seen: seen.task("preflight : "))
    assert not (small.secrets / "secrets.yml").exists()

    kill_deploy(small, lambda seen: (small.secrets / "secrets.yml").exists())
    first = (small.secrets / "secrets.yml").read_bytes()
    assert not small.root.exists()

    kill_deploy(small, lambda seen: bool(list(AUTHORITIES.glob(f"{small.name}-*.crt"))))
    assert not small.root.exists()

    assert_completes(small)
    assert json.loads(small.must("status", "--json"))["ok"] is True
    assert (small.secrets / "secrets.yml").read_bytes() == first


def without_containers(platform: DeployedPlatform) -> None:
    """A deploy has to start everything."""
    label = f"label=com.docker.compose.project={platform.name}"
    docker("rm", "--force", *docker("ps", "--all", "--quiet", "--filter", label).split())


def with_other_time_zone(platform: DeployedPlatform) -> None:
    """A deploy has to write every Compose file and replace every container."""
    change_settings(platform, time_zone="Europe/Berlin")


def compose_is_at_work(seen: Seen) -> bool:
    return "DONE localhost" not in seen.log.partition("PLAY Bring up the platform")[2]


@dataclass(frozen=True)
class Point:
    """A point at which a deploy is killed.

    Attributes:
        when: what has been seen by then.
        midway: what proves afterwards that it was killed there and not later.
    """

    when: Callable[[Seen], bool]
    midway: Callable[[Seen], bool]


# By what a deploy has to do; each is killed a step later than the one before.
ROUTES: dict[str, tuple[Callable[[DeployedPlatform], None], dict[str, Point]]] = {
    "starts everything": (
        without_containers,
        {
            "as the databases start": Point(
                lambda seen: seen.container("start postgres-data"),
                lambda seen: not seen.task("services : "),
            ),
            "while a job makes databases and buckets": Point(
                lambda seen: any(
                    event.startswith(f"start {seen.platform.name}-{JOB}-run-") for event in seen.containers
                ),
                lambda seen: not seen.task("services : "),
            ),
            "between the first services and the rest": Point(
                lambda seen: seen.task("services : "),
                lambda seen: not seen.container("start portal"),
            ),
            "as the rest starts": Point(lambda seen: seen.container("start portal"), compose_is_at_work),
        },
    ),
    "replaces everything": (
        with_other_time_zone,
        {
            "while files are written": Point(
                lambda seen: (seen.platform.root / ".incoming-open").exists(),
                lambda seen: (
                    not seen.task("provision : ")
                    and any((seen.platform.root / name).exists() for name in UNFINISHED)
                ),
            ),
            "while a container is replaced": Point(
                lambda seen: any(
                    event.startswith("create ") and event.endswith(f"_{seen.platform.name}-minio")
                    for event in seen.containers
                ),
                compose_is_at_work,
            ),
        },
    ),
}


@pytest.mark.parametrize("route", ROUTES)
def test_deploys_are_killed_later_and_later_and_the_next_one_completes(
    settled: DeployedPlatform, route: str
) -> None:
    prepare, points = ROUTES[route]
    prepare(settled)
    for name, point in points.items():
        seen = kill_deploy(settled, point.when)
        assert point.midway(seen), f"{name}:\n{seen.log}"
    assert_completes(settled)


@pytest.fixture
def halted(settled: DeployedPlatform) -> Iterator[tuple[str, Path]]:
    """An operator's own service whose image takes its time to build: what the build says, and the log."""
    nonce = secrets.token_hex(8)
    write_own_service(settled, "halted", build=f"sleep 2 && echo {nonce} > /nonce")
    yield nonce, settled.root / "log" / "build-halted.log"
    remove_own_service(settled, "halted")


def test_deploy_is_killed_while_it_builds_an_image(
    settled: DeployedPlatform, halted: tuple[str, Path]
) -> None:
    nonce, log = halted
    kill_deploy(settled, lambda seen: log.exists() and nonce in log.read_text(encoding="utf-8"))
    assert docker("image", "ls", "--quiet", "--filter", "label=dap.image=halted") == ""
    assert (settled.root / ".build").is_dir()
    assert_completes(settled, "halted")
    assert settled.deploy() == 0
