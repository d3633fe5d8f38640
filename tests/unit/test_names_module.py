"""The platform's block in a host's list of names, and the lock on what belongs to the whole host."""

from __future__ import annotations

import multiprocessing
import time
from pathlib import Path

from tests.unit.plugins import load

dap_names = load("modules.dap_names")
host_lock = load("ansible.module_utils.dap_lock").host_lock
block_of, with_block = dap_names.block_of, dap_names.with_block
OTHERS = "127.0.0.1 localhost\n"
BLOCK = block_of(["b.example.com", "a.example.com", "a.example.com"], "192.0.2.1", {"db": "192.0.2.9"})


def test_block_has_each_name_once_and_further_ones_with_their_own_address() -> None:
    assert BLOCK == "192.0.2.1 a.example.com\n192.0.2.1 b.example.com\n192.0.2.9 db\n"


def test_block_is_added_replaced_and_removed_and_nothing_else_changes() -> None:
    added = with_block(OTHERS, "dap", BLOCK)
    assert added == (
        f"{OTHERS}# BEGIN dap: names of the data analysis platform\n{BLOCK}"
        "# END dap: names of the data analysis platform\n"
    )
    assert with_block(added, "dap", BLOCK) == added
    replaced = with_block(f"{added}192.0.2.5 printer\n", "dap", "192.0.2.2 a.example.com\n")
    assert replaced == added.replace(BLOCK, "192.0.2.2 a.example.com\n") + "192.0.2.5 printer\n"
    assert with_block(replaced, "dap", "") == f"{OTHERS}192.0.2.5 printer\n"


def test_platforms_keep_to_their_own_blocks() -> None:
    one = with_block(OTHERS, "dap", BLOCK)
    both = with_block(one, "dap2", "192.0.2.3 c.example.com\n")
    assert with_block(both, "dap2", "") == one
    assert with_block(OTHERS, "dap", "") == OTHERS


def test_list_without_a_line_end_is_not_joined() -> None:
    assert with_block("127.0.0.1 localhost", "dap", BLOCK).startswith(f"{OTHERS}# BEGIN")


def _hold(folder: Path, log: Path, seconds: float) -> None:
    with host_lock("names", folder):
        with log.open("a") as lines:
            lines.write("in\n")
        time.sleep(seconds)
        with log.open("a") as lines:
            lines.write("out\n")


def test_only_one_at_a_time_is_inside(tmp_path: Path) -> None:
    log = tmp_path / "log"
    context = multiprocessing.get_context("fork")
    processes = [context.Process(target=_hold, args=(tmp_path / "lock", log, 0.1)) for _ in range(3)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(timeout=20)
    assert log.read_text() == "in\nout\n" * 3
