"""Private folders that do not outlive the run, even when it is killed."""

from __future__ import annotations

import signal
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from dap.errors import DapError
from dap.files import temporary_folder, write_temporary

HOLD = """
import sys, time
from pathlib import Path
from dap.files import temporary_folder, write_temporary
with temporary_folder(Path(sys.argv[1])) as folder:
    write_temporary(folder / "variables.json", b"secret")
    print(folder, flush=True)
    time.sleep(60)
"""


def holder(parent: Path) -> tuple[subprocess.Popen[str], Path]:
    """Another process that works in a temporary folder."""
    process = subprocess.Popen([sys.executable, "-c", HOLD, str(parent)], stdout=subprocess.PIPE, text=True)
    assert process.stdout
    return process, Path(process.stdout.readline().strip())


def test_the_folder_is_private_and_gone_afterwards(tmp_path: Path) -> None:
    with temporary_folder(tmp_path) as folder:
        write_temporary(folder / "variables.json", b"secret")
        assert stat.S_IMODE(folder.stat().st_mode) == 0o700
        assert stat.S_IMODE((folder / "variables.json").stat().st_mode) == 0o600
        assert (folder / "variables.json").read_bytes() == b"secret"
    assert list(tmp_path.iterdir()) == []


def test_what_a_killed_process_left_is_removed_by_the_next(tmp_path: Path) -> None:
    process, left = holder(tmp_path)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert (left / "variables.json").read_bytes() == b"secret"

    with temporary_folder(tmp_path) as folder:
        assert list(tmp_path.iterdir()) == [folder]


def test_the_folder_of_a_living_process_stays(tmp_path: Path) -> None:
    process, theirs = holder(tmp_path)
    try:
        with temporary_folder(tmp_path):
            pass
        assert (theirs / "variables.json").read_bytes() == b"secret"
    finally:
        process.kill()
        process.communicate()


def test_foreign_folders_stay(tmp_path: Path) -> None:
    (tmp_path / "dap-notes").mkdir()
    with temporary_folder(tmp_path):
        pass
    assert [path.name for path in tmp_path.iterdir()] == ["dap-notes"]


def test_a_parent_that_is_missing_is_named(tmp_path: Path) -> None:
    missing = tmp_path / "missing"
    with pytest.raises(DapError) as caught, temporary_folder(missing):
        pass
    assert str(caught.value) == (
        f"cannot write {missing}: No such file or directory\n"
        f"  next: make room or correct the permissions of {missing}"
    )


def test_a_file_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    with pytest.raises(DapError) as caught:
        write_temporary(tmp_path / "missing" / "variables.json", b"secret")
    assert str(caught.value) == (
        f"cannot write {tmp_path}/missing/variables.json: No such file or directory\n"
        f"  next: make room or correct the permissions of {tmp_path}/missing"
    )
