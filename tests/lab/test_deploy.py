"""Deploys over several machines: again, after a reboot, and with one machine more or less."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor

from tests.lab.laboratory import Lab
from tests.lab.machine import Machine, wait_for

AGAIN_SECONDS = 12
TRIES = 3
BACK_SECONDS = 90


def test_second_deploy_changes_nothing_and_is_quick(lab: Lab) -> None:
    seconds: list[float] = []
    # Somebody else may keep the machine busy: the quickest of a few counts.
    while not seconds or (min(seconds) > AGAIN_SECONDS and len(seconds) < TRIES):
        started = time.monotonic()
        assert lab.deploy() == 0
        seconds.append(time.monotonic() - started)
    assert min(seconds) <= AGAIN_SECONDS


def test_everything_is_back_after_all_machines_were_rebooted_at_once(lab: Lab) -> None:
    with ThreadPoolExecutor() as pool:
        list(pool.map(Machine.reboot, lab.machines))
    wait_for(lambda: lab.dap("status").returncode == 0, BACK_SECONDS, "all services are healthy again")
    lab.must("verify")
    assert lab.deploy() == 0


def test_host_that_leaves_the_inventory_is_asked_no_more_and_may_come_back(lab: Lab) -> None:
    lab.write_hosts(["runner1"])
    lab.machine("runner2").power_off()
    try:
        assert lab.deploy() == 0
        assert "runner2" not in lab.must("status")
    finally:
        lab.machine("runner2").power_on()
        lab.write_hosts()
    assert lab.deploy() == 0
