"""What `dap dev list` shows."""

from __future__ import annotations

import json
import os
import re
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest

from dap import summary
from dap.dev.hosts import Seen
from dap.dev.looking import COME_OR_GONE, CONNECTION, NOTE, WINDOW, busiest, kernels_in, noted, runs_jupyter
from dap.dev.working import KnownContainer

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
SEEN = Seen(
    *("ada-python", "ada", "python", "one", "running", "2026-03-01T10:30:00.123456789Z", "dap/python:1"),
    image_id="sha256:1",
    configuration="x",
    image_built="2026-02-20T12:00:00Z",
    connections=0,
    last_login="2026-03-01T11:59:18.5Z",
    kernels=2,
    busy_kernels=0,
    last_kernel="2026-03-01T11:58:00.25Z",
    cpu=1.25,
)


@pytest.mark.parametrize(
    ("time", "told"),
    [
        ("", "-"),
        ("2026-03-01T12:00:05Z", "0 s"),
        ("2026-03-01T11:59:01+00:00", "59 s"),
        ("2026-03-01T11:00:01Z", "59 min"),
        ("2026-02-28T12:00:01Z", "23 h"),
        ("2026-02-28T12:00:00Z", "1 d"),
    ],
)
def test_age_is_told_in_its_largest_unit(time: str, told: str) -> None:
    assert summary.age(time, NOW) == told


def test_table_says_what_is_to_be_done_next() -> None:
    known = [
        KnownContainer("ada-python", "ada", "python", "one", 22001, "running", SEEN, True, "https://a/"),
        KnownContainer("eve-r", "eve", "python-r", "two", 22001, "unknown", None, None),
    ]
    assert summary.of_dev_containers(known, {"two": "cannot be reached"}, "team", NOW).splitlines() == [
        "CONTAINER   USER  ENVIRONMENT  HOST  PORT   STATE              SINCE  SSH       KERNELS    CPU"
        "  IMAGE BUILT  HOME  PAGE",
        "ada-python  ada   python       one   22001  running, outdated  1 h    41 s ago  1 min ago  1.2"
        "  9 d ago      -     https://a/",
        "eve-r       eve   python-r     two   22001  unknown            -      -         -          -  "
        "  -            -     -",
        "two: cannot be reached",
        "next: dap -e team dev recreate ada-python, which ends what runs in it",
    ]


def test_json_has_null_for_what_is_not_known() -> None:
    unknown = KnownContainer("eve-r", "eve", "python-r", "two", 22001, "unknown", None, None).as_json()
    known = KnownContainer("ada-python", "ada", "python", "one", 22001, "running", SEEN, False).as_json()
    assert {*unknown} == {*known}
    assert [key for key, value in unknown.items() if value is None] == [
        *(
            "outdated",
            "home_limit",
            "since",
            "image",
            "image_id",
            "image_built",
            "connections",
            "last_login",
            "kernels",
            "busy_kernels",
            "last_kernel",
            "code_connections",
            "cpu",
            "gpus",
            "gpu",
            "home_used",
            "home_kept",
        ),
    ]
    assert (known["connections"], known["cpu"], known["last_login"]) == (0, 1.25, SEEN.last_login)


def test_homes_are_told_with_their_limits_and_whether_these_are_kept() -> None:
    gib = 1024**3
    seen = [
        replace(SEEN, home_used=used, home_kept=kept, host=host)
        for used, kept, host in (
            (61 * gib + gib // 2, False, "one"),
            (None, True, "two"),
            (5 << 20, True, "two"),
        )
    ]
    known = [
        KnownContainer(name, name, "python", one.host, 22001, "running", one, False, "", limit)
        for name, one, limit in zip(("ada", "eve", "bob"), seen, (50 * gib, 50 * gib, 0), strict=True)
    ]
    _, *rows, full, watched = summary.of_dev_containers(known, {}, "team", NOW).splitlines()
    told = [row.partition("9 d ago")[2].rpartition("-")[0].strip() for row in rows]
    assert told == ["61.5 GiB of 50 GiB", "of 50 GiB", "5 MiB"]
    assert full == "one: the home of ada is full: 61.5 GiB of 50 GiB"
    assert watched == "one: limits of homes are only watched there, not kept"
    assert {key: known[0].as_json()[key] for key in ("home_used", "home_limit", "home_kept")} == {
        "home_used": 61 * gib + gib // 2,
        "home_limit": 50 * gib,
        "home_kept": False,
    }


def test_only_a_number_is_believed_of_what_a_home_says_of_itself(tmp_path: Path) -> None:
    note = tmp_path.joinpath(*NOTE)
    assert noted(tmp_path) is None
    note.parent.mkdir(parents=True)
    for written, size in ((b"2048 3\n", 2 << 20), (b"0 3600\n", None), (b"1e9 3\n", None), (b"1 2\n3", None)):
        note.write_bytes(written)
        assert noted(tmp_path) == size
    secret = tmp_path / "secret"
    secret.write_bytes(b"4096 1\n")
    note.unlink()
    note.symlink_to(secret)
    assert noted(tmp_path) is None
    note.unlink()
    os.mkfifo(note)
    assert noted(tmp_path) is None


def test_kernels_at_work_are_more_than_when_they_were_last() -> None:
    busy = replace(SEEN, busy_kernels=1)
    known = KnownContainer("ada-python", "ada", "python", "one", 22001, "running", busy, False)
    _, row = summary.of_dev_containers([known], {}, "team", NOW).splitlines()
    assert "  1 at work  " in row


def test_what_gpus_do_is_told_where_there_are_any() -> None:
    def row(**changes: object) -> list[str]:
        seen = replace(SEEN, **changes)  # type: ignore[arg-type]
        known = KnownContainer("ada-python", "ada", "python", "one", 22001, seen.state, seen, False)
        head, told = summary.of_dev_containers([known], {}, "team", NOW).splitlines()
        return re.split("  +", told)[head.split().index("CPU") :][:2] if "GPU" in head else []

    assert row() == []
    one = ["nvidia.com/gpu=0"]
    assert row(gpus=one, gpu=0) == ["1.2", "0 %"]
    assert row(gpus=one, gpu=87) == ["1.2", "87 %"]
    assert row(gpus=one) == ["1.2", "unknown"]
    assert row(gpus=one, state="exited") == ["1.2", "-"]


def test_busiest_gpu_counts_and_what_is_no_number_is_not_known() -> None:
    assert busiest("0\n") == 0
    assert busiest("3\n97\n0\n") == 97
    for wrong in ("", "[N/A]\n", "5\n[Not Supported]\n", "NVIDIA-SMI has failed\n"):
        with pytest.raises(ValueError, match=r"empty|invalid literal"):
            busiest(wrong)


def test_kernels_are_counted_and_no_more_is_believed_of_them() -> None:
    early, late = "2026-03-01T11:58:00.25Z", "2026-03-01T11:59:00.25Z"
    told = [
        {"id": "1", "execution_state": "busy", "last_activity": early},
        {"id": "2", "execution_state": "idle", "last_activity": late},
        {"execution_state": ["busy"], "last_activity": "\x1b[2J9999"},
    ]
    assert kernels_in(json.dumps(told)) == {"kernels": 3, "busy_kernels": 1, "last_kernel": late}
    assert kernels_in("[]") == {"kernels": 0, "busy_kernels": 0, "last_kernel": ""}
    for wrong in ("", "{}", "[1]", "<html>"):
        with pytest.raises(ValueError, match=r"no list of kernels|Expecting value"):
            kernels_in(wrong)


def test_jupyterlab_is_known_by_its_socket() -> None:
    head = "Num       RefCount Protocol Flags    Type St Inode Path\n"
    line = "0000000000000000: 00000002 00000000 00010000 0001 01 1234 /run/jupyter/socket"
    assert runs_jupyter(f"{head}{line}\n")
    assert not runs_jupyter(f"{head}{line}2\n")


def test_only_users_who_came_or_left_count_in_the_log() -> None:
    lines = {
        "Accepted publickey for ada from 192.0.2.1 port 5 ssh2: ED25519 SHA256:x": True,
        "Disconnected from user ada 192.0.2.1 port 5": True,
        "Timeout, client not responding from user ada 192.0.2.1 port 5": True,
        "Connection closed by authenticating user ada 192.0.2.1 port 5 [preauth]": False,
        "Disconnected from authenticating user ada 192.0.2.1 port 5 [preauth]": False,
        "Server listening on 0.0.0.0 port 2222.": False,
    }
    time = "2026-03-01T11:59:18.5Z"
    found = {line: COME_OR_GONE.match(f"{time} {line}") for line in lines}
    assert {line: bool(match) for line, match in found.items()} == lines
    assert {match[1] for match in found.values() if match} == {time}


def test_connections_are_those_that_are_open_to_the_server() -> None:
    table = (
        "  sl  local_address rem_address   st tx_queue\n"
        "   0: 00000000:08AE 00000000:0000 0A 00000000\n"
        "   1: 0300A8C0:08AE 0100A8C0:D431 01 00000000\n"
        "   2: 0300A8C0:08AE 0100A8C0:D432 06 00000000\n"
        "   3: 0300A8C0:D433 0100A8C0:08AE 01 00000000\n"
    )
    assert len(CONNECTION.findall(table)) == 1


def test_windows_of_vs_code_are_open_connections_to_its_server() -> None:
    lines = """\
Num       RefCount Protocol Flags    Type St Inode Path
ffff9c0a: 00000002 00000000 00010000 0001 01 81276 /run/jupyter/code
ffff9c0b: 00000003 00000000 00000000 0001 03 81299 /run/jupyter/code
ffff9c0c: 00000003 00000000 00000000 0001 03 81300
ffff9c0d: 00000003 00000000 00000000 0001 03 81301 /run/jupyter/code_session
ffff9c0e: 00000003 00000000 00000000 0001 03 9999999 /run/jupyter/code
"""
    assert len(WINDOW.findall(lines)) == 2
