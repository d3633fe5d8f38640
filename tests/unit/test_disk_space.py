"""Full disks are told by the folder on the host, whatever paths the services' own words name."""

from __future__ import annotations

import errno
import os
import shutil
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from tests.unit.plugins import load
from tests.unit.test_tree import apply, entry, listing

space = load("ansible.module_utils.dap_space")
probe = load("ansible.module_utils.dap_probe")

FREE = {"f_frsize": 4096, "f_bavail": 2**20, "f_files": 1000, "f_favail": 900, "f_flag": 0}


def state_of_disks(monkeypatch: pytest.MonkeyPatch, **states: dict[str, int]) -> None:
    """Let folders, by their last part, lie on file systems in these states; each on one of its own."""

    def state(path: str) -> SimpleNamespace:
        return SimpleNamespace(**FREE | states.get(Path(path).name, {}))

    monkeypatch.setattr(space.os, "statvfs", state)
    devices = {name: number for number, name in enumerate(states, start=1)}
    monkeypatch.setattr(
        space.os, "stat", lambda path: SimpleNamespace(st_dev=devices.get(Path(path).name, 0))
    )


def test_no_folder_is_named_where_there_is_room(monkeypatch: pytest.MonkeyPatch) -> None:
    state_of_disks(monkeypatch)
    assert space.full_folders(["/var/lib/dap/minio/data", "/opt/dap"]) == []


def test_each_full_disk_is_named_once(monkeypatch: pytest.MonkeyPatch) -> None:
    state_of_disks(
        monkeypatch, data={"f_bavail": 3 * 256}, dap={"f_favail": 0}, iso={"f_bavail": 0, "f_flag": 1}
    )
    assert space.full_folders(["/var/lib/dap/data", "/srv/data", "/opt/dap", "/media/iso"]) == [
        "the disk is full: 3 MiB free at /var/lib/dap/data; make room there",
        "the disk is full: no more files can be made at /opt/dap; remove some",
    ]


def test_folders_that_are_gone_are_passed_over(tmp_path: Path) -> None:
    assert space.full_folders([str(tmp_path / "gone")]) == []


def test_the_data_of_containers_the_rendered_files_and_the_engine_are_looked_at(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    asked: list[list[str]] = []

    def run(argv: list[str]) -> Any:
        asked.append(argv)
        said = "/opt/dap/web/config\n/srv/data/web\n\n" if argv[0] == "inspect" else "/var/lib/docker\n"
        return SimpleNamespace(stdout=said)

    looked_at: list[str] = []

    def full_folders(folders: list[str]) -> list[str]:
        looked_at.extend(folders)
        return ["full"]

    monkeypatch.setattr(space, "full_folders", full_folders)
    assert space.full_disks(run, [SimpleNamespace(identifier="one")], "/opt/dap") == ["full"]
    assert asked[0][-1] == "one"
    assert looked_at == ["/srv/data/web", "/opt/dap/web/config", "/opt/dap", "/var/lib/docker"]


def test_a_file_that_does_not_fit_is_named_and_the_old_one_stays(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = tmp_path / "root"
    apply(root, entry("web/conf", "old"))

    def full(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        result = apply(root, entry("web/conf", "new"))

    assert result["failed"]
    assert result["msg"] == (
        f"cannot write {root}/.pending.json: No space left on device: make room on the file system of {root}"
    )
    assert listing(root) == {"web/conf": ("old", 0o644)}
    assert list(root.glob(".incoming-*")) == []
    assert apply(root, entry("web/conf", "new"))["changed_paths"] == ["web/conf"]


@pytest.mark.parametrize("folder", ["lost+found", ".incoming-open"])
def test_a_file_system_of_its_own_and_a_killed_deploy_are_no_data(tmp_path: Path, folder: str) -> None:
    (tmp_path / folder).mkdir()
    assert probe._has_folders(tmp_path) is False
    (tmp_path / "minio").mkdir()
    assert probe._has_folders(tmp_path) is True


def test_removal_of_the_data_leaves_what_belongs_to_the_file_system(tmp_path: Path) -> None:
    removal = load("ansible.module_utils.dap_removal")
    for name in ("lost+found", "minio"):
        (tmp_path / name).mkdir()
    marker = tmp_path / ".platform-id"
    marker.write_text("id\n", encoding="utf-8")
    assert removal.data_to_remove(marker, "id") == [tmp_path / "minio", marker]
    shutil.rmtree(tmp_path / "minio")
    marker.unlink()
    assert removal.data_to_remove(marker, "id") == []
