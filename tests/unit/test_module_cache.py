"""Packed modules outlive a run, in a folder that is nobody else's."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from dap.hosts.module_cache import KEPT_SECONDS, keep_modules


@pytest.fixture
def temporary(tmp_path: Path) -> Path:
    """Ansible's folder for temporary files."""
    folder = tmp_path / "local"
    folder.mkdir()
    return folder


@pytest.fixture
def later(tmp_path: Path) -> Path:
    """That of the next run."""
    folder = tmp_path / "later"
    folder.mkdir()
    return folder


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "cache" / "modules"


def test_next_run_finds_what_one_has_left(temporary: Path, folder: Path, later: Path) -> None:
    keep_modules(temporary, "2.19.0", folder)
    (temporary / "ansiballz_cache" / "one").write_text("packed")
    keep_modules(later, "2.19.0", folder)
    assert (later / "ansiballz_cache" / "one").read_text() == "packed"
    assert (temporary / "ansiballz_cache").resolve().stat().st_mode & 0o777 == 0o700


def test_other_version_of_ansible_finds_nothing_of_it(temporary: Path, folder: Path, later: Path) -> None:
    keep_modules(temporary, "2.19.0", folder)
    (temporary / "ansiballz_cache" / "one").write_text("packed")
    keep_modules(later, "2.20.0", folder)
    assert [*(later / "ansiballz_cache").iterdir()] == []
    assert len([*folder.iterdir()]) == 2


def test_folder_that_others_may_write_is_not_used(temporary: Path, folder: Path, later: Path) -> None:
    keep_modules(temporary, "2.19.0", folder)
    (temporary / "ansiballz_cache").resolve().chmod(0o770)
    keep_modules(later, "2.19.0", folder)
    assert [*later.iterdir()] == []


def test_folder_that_cannot_be_made_stops_nothing(temporary: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    keep_modules(temporary, "2.19.0", tmp_path / "file" / "modules")
    assert [*temporary.iterdir()] == []


def test_what_no_run_has_used_for_a_day_is_removed(temporary: Path, folder: Path) -> None:
    stale, recent = folder / "stale", folder / "recent"
    for path, age in ((stale, KEPT_SECONDS + 60), (recent, KEPT_SECONDS - 60)):
        path.mkdir(parents=True)
        (path / "one").write_text("packed")
        os.utime(path, (time.time() - age,) * 2)
    keep_modules(temporary, "2.19.0", folder)
    assert not stale.exists()
    assert (recent / "one").exists()
