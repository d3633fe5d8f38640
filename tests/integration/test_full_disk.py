"""Full disks, on real file systems: one clear error, nothing half-written, and room is all that heals it."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass

import psycopg
import pytest

from tests.integration.disks import Disk, mounted
from tests.integration.platform import DeployedPlatform
from tests.integration.secret_values import files_below
from tests.integration.small import change_settings, write_small_inventory


@dataclass(frozen=True)
class Disks:
    """A small platform whose folders are on file systems of their own."""

    platform: DeployedPlatform
    root: Disk
    data: Disk
    secrets: Disk


@pytest.fixture(scope="module")
def disks(engine: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Disks]:
    folder = tmp_path_factory.mktemp("disks")
    platform = DeployedPlatform(folder)
    write_small_inventory(platform)
    with ExitStack() as stack:
        root = stack.enter_context(mounted(folder / "root.img", platform.root, 2))
        data = stack.enter_context(mounted(folder / "data.img", platform.data, 40))
        secrets = stack.enter_context(mounted(folder / "secrets.img", platform.secrets.parent, 1))
        stack.callback(remove, platform, [root, data, secrets])
        platform.must("deploy", "--no-verify")
        yield Disks(platform, root, data, secrets)


def remove(platform: DeployedPlatform, disks: list[Disk]) -> None:
    """Remove the platform; the mount points stay for those who mounted them."""
    for disk in disks:
        disk.make_room()
    done = platform.dap("destroy", "--data", "--yes")
    assert done.returncode == 0, done.stderr
    assert not platform.containers()


def contents(platform: DeployedPlatform) -> dict[str, str]:
    """What is in every rendered file, by path; logs and records aside."""
    return {
        str(path): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in files_below(platform.root, without=[platform.root / "log"])
        if not path.name.startswith(".")
    }


def error_of(platform: DeployedPlatform, *arguments: str) -> str:
    """What a run that has to fail says, from the error on."""
    done = platform.dap(*arguments)
    assert done.returncode == 1, f"{done.returncode}: {done.stdout}\n{done.stderr}"
    assert "Traceback" not in done.stderr
    assert done.stderr.count("error: ") == 1
    return done.stderr[done.stderr.index("error: ") :]


def test_full_disk_for_rendered_files_is_named_and_old_files_stay(disks: Disks) -> None:
    platform = disks.platform
    before, boxes = contents(platform), platform.container_ids()
    settings = change_settings(platform, time_zone="Europe/Berlin")
    try:
        disks.root.fill()
        assert disks.root.is_full
        error = error_of(platform, "deploy", "--no-verify")
        assert "No space left on device" in error
        assert f"make room on the file system of {platform.root}" in error
        assert contents(platform) == before
        assert platform.container_ids() == boxes
        assert list(platform.root.glob(".incoming-*")) == []

        disks.root.make_room()
        platform.must("deploy")
        assert contents(platform) != before
    finally:
        disks.root.make_room()
        platform.settings_file.write_text(settings, encoding="utf-8")
    platform.must("deploy", "--no-verify")
    assert contents(platform) == before


def test_full_disk_of_the_data_is_named_and_committed_rows_survive(disks: Disks) -> None:
    platform = disks.platform
    user, password = platform.login("Project demo: database")
    with platform.postgres("demo", user, password) as connection:
        connection.execute("CREATE TABLE kept AS SELECT generate_series(1, 1000) AS n")
    settings = change_settings(platform, projects=[{"name": "demo"}, {"name": "late-comer"}])
    try:
        disks.data.fill()
        assert disks.data.is_full
        with pytest.raises(psycopg.Error), platform.postgres("demo", user, password) as connection:
            connection.execute(
                "CREATE TABLE too_much AS SELECT repeat('x', 1000) FROM generate_series(1, 1000000)"
            )
        error = error_of(platform, "deploy", "--no-verify")
        assert f"the disk is full: 0 MiB free at {platform.data}/" in error
        assert "make room there" in error

        disks.data.make_room()
        platform.must("deploy")
        with platform.postgres("demo", user, password) as connection:
            assert connection.execute("SELECT sum(n) FROM kept").fetchone() == (500500,)
            connection.execute("DROP TABLE kept")
        late_user, late_password = platform.login("Project late-comer: database")
        platform.postgres("late_comer", late_user, late_password).close()
    finally:
        disks.data.make_room()
        platform.settings_file.write_text(settings, encoding="utf-8")


def test_full_disk_of_the_secrets_is_named_and_the_old_ones_stay(disks: Disks) -> None:
    platform = disks.platform
    store = platform.secrets / "secrets.yml"
    before = store.read_bytes()
    settings = change_settings(platform, users=[{"name": "grace"}])
    try:
        disks.secrets.fill()
        assert disks.secrets.is_full
        error = error_of(platform, "deploy", "--no-verify")
        assert "No space left on device" in error
        assert f"make room or correct the permissions of {platform.secrets}" in error
        assert store.read_bytes() == before

        disks.secrets.make_room()
        platform.must("deploy")
        assert store.read_bytes() != before
    finally:
        disks.secrets.make_room()
        platform.settings_file.write_text(settings, encoding="utf-8")
