"""Services that need each other in a circle could never start, and are refused with the circle's names."""

from __future__ import annotations

from pathlib import Path

from tests.unit.inventories import whole_message
from tests.unit.test_manifest import GOOD, load, refused, services, write  # noqa: F401  a fixture

ADVICE = "remove one of them: none could ever start"


def needing(folder: Path, name: str, *needs: str) -> None:
    manifest = GOOD.replace("title: App", f"title: {name.title()}") + f"needs: [{', '.join(needs)}]\n"
    write(folder, manifest, name)


def test_service_that_needs_itself_is_refused(services: Path) -> None:  # noqa: F811
    needing(services, "app", "app")
    assert refused(services) == whole_message(
        ("services/app/service.yml: needs", "goes round in a circle: app needs app", ADVICE)
    )


def test_circle_is_named_from_its_first_on_and_once(services: Path) -> None:  # noqa: F811
    needing(services, "queue", "worker")
    needing(services, "worker", "minio", "board")
    needing(services, "board", "queue", "worker-log")
    needing(services, "worker-log", "minio")
    # Outside of the circle, although it could not start either.
    needing(services, "app", "board")
    assert refused(services) == whole_message(
        (
            "services/board/service.yml: needs",
            "goes round in a circle: board needs queue needs worker needs board",
            ADVICE,
        )
    )


def test_every_circle_is_found_at_once(services: Path) -> None:  # noqa: F811
    needing(services, "app", "board", "queue")
    needing(services, "board", "app")
    needing(services, "queue", "app")
    assert refused(services) == whole_message(
        ("services/app/service.yml: needs", "goes round in a circle: app needs board needs app", ADVICE),
        ("services/app/service.yml: needs", "goes round in a circle: app needs queue needs app", ADVICE),
    )


def test_service_that_two_others_need_is_no_circle(services: Path) -> None:  # noqa: F811
    needing(services, "app", "board", "queue")
    needing(services, "board", "minio")
    needing(services, "queue", "minio")
    assert {"app", "board", "queue"} <= load(services).keys()
