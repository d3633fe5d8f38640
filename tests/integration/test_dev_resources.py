"""What containers share and take: folders of projects, disks, and what `dap dev list` says of them."""

from __future__ import annotations

import json
import os
import re
import shutil
import statistics
import subprocess
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from tests.integration.desks import ALICE, BOB, Desks, running
from tests.integration.disks import mounted
from tests.integration.platform import docker
from tests.integration.small import change_settings
from tests.lab.machine import wait_for

# What the program may take besides what the engine takes for a bare container of the same image, on 2 cores.
MORE_SECONDS = 1.5
IDLE_MIB = 40
MANY, MANY_SECONDS = 20, 20


@pytest.fixture
def carols(desks: Desks) -> Iterator[str]:
    """A container of carol's, who is in a project with alice."""
    desks.must("dev", "create", "carol", "--environment=python", "--name=carols", "--memory=128m")
    desks.configure_client()
    yield "carols"
    desks.must("dev", "remove", "carols", "--with-home", "--yes")


def test_members_of_a_project_share_a_folder_and_others_have_none(desks: Desks, carols: str) -> None:
    desks.ssh("mkdir /shared/demo/models; echo first > /shared/demo/models/log")
    more = "cd /shared/demo; echo second >> models/log; cat models/log; stat -c '%U %G' models"
    told = desks.try_ssh("carol", carols, more)
    assert (told.stdout, told.stderr) == ("first\nsecond\nUNKNOWN demo\n", "")
    nothing = "ls: cannot access '/shared': No such file or directory\n20001\n"
    assert desks.ssh("ls /shared 2>&1; id -G", user="bob") == nothing
    shared = (desks.data / "shared" / "demo").stat()
    assert (shared.st_uid, shared.st_gid, shared.st_mode & 0o7777) == (0, 70000, 0o2770)


def test_list_tells_what_goes_on(desks: Desks) -> None:
    def listed() -> dict[str, dict[str, Any]]:
        told = json.loads(desks.must("dev", "list", "--json"))
        assert told["unreached"] == []
        return {one["name"]: one for one in told["containers"]}

    desks.ssh("true", user="bob")
    # Busy as long as the client is there.
    busy = "(while :; do :; done) & echo up; cat; kill $!"
    with running([*desks.client("alice"), ALICE, busy]) as client:
        assert client.stdout
        assert client.stdout.readline() == "up\n"
        told = listed()
        text = desks.must("dev", "list")
    alice, bob = told[ALICE], told[BOB]
    assert (alice["connections"], bob["connections"]) == (1, 0)
    assert alice["cpu"] > bob["cpu"]
    now = datetime.now(UTC)
    for one in (alice, bob):
        built, since, login = (
            datetime.fromisoformat(one[key]) for key in ("image_built", "since", "last_login")
        )
        assert built < since < login < now
    for name, ssh in ((BOB, r"\d+ s ago"), (ALICE, "1 now")):
        page = rf"https://{name}\.{desks.domain}:\d+/"
        row = rf"^{name} .* running +\d+ (s|min) +{ssh} +- +\d\.\d +\d+ \w+ ago +- +{page}$"
        assert re.search(row, text, re.MULTILINE)


def test_what_runs_in_an_idle_container_is_ended_and_its_user_told(desks: Desks) -> None:
    made = ["--environment=python", "--name=idle", "--memory=128m", "--idle-stop=5m"]
    desks.must("dev", "create", "carol", *made)
    desks.configure_client()
    box = f"{desks.name}-dev-idle"

    def lives() -> bool:
        return "sleep 1000" in docker("top", box, "-eo", "pid,args")

    try:
        with running([*desks.client("carol"), "idle", "setsid sleep 1000 & echo up; cat"]) as client:
            assert client.stdout
            assert client.stdout.readline() == "up\n"
            # Its own takes minutes.
            quick = ["--env", "DAP_IDLE_SECONDS=3", "--env", "DAP_IDLE_LOOK_SECONDS=1"]
            docker("exec", "--detach", *quick, box, "sh", "-c", "exec sh /etc/dap/idle.sh >/proc/1/fd/1")
            time.sleep(6)
            assert lives()
        docker("exec", box, "sh", "-c", "timeout 6 sh -c 'while :; do :; done' || true")
        assert lives()
        deadline = time.monotonic() + 30
        while lives():
            assert time.monotonic() < deadline
            time.sleep(0.2)
        deadline = time.monotonic() + 30
        while " idle: ended sleep\n" not in (logs := desks.must("dev", "logs", "idle")):
            assert time.monotonic() < deadline, logs
            time.sleep(0.2)
        argv = [*desks.client("carol", "ssh", "-tt"), "idle"]
        told = subprocess.run(
            argv, input="exit\n", capture_output=True, text=True, timeout=60, check=False
        ).stdout
        assert "What runs here is ended when it has been idle for 5m" in told
        noted = (
            r"On \d{4}-\d\d-\d\d \d\d:\d\d what ran here was ended, as nobody had used it for long: sleep\n"
        )
        assert re.search(noted, told)
    finally:
        desks.must("dev", "remove", "idle", "--with-home", "--yes")


def test_full_home_lets_its_user_in_and_says_so(desks: Desks, tmp_path: Path) -> None:
    home = desks.data / "homes" / "carol"
    shutil.rmtree(home, ignore_errors=True)
    with mounted(tmp_path / "disk", home, gib=1) as disk:
        os.chown(home, 20002, 20002)
        disk.fill()
        desks.must("dev", "create", "carol", "--environment=python", "--name=full", "--memory=128m")
        desks.configure_client()
        try:
            done = subprocess.run(
                [*desks.client("carol", "ssh", "-tt"), "full"],
                input="echo x > y\nexit\n", capture_output=True, text=True, timeout=60, check=False,
            )  # fmt: skip
            warning = "WARNING: /home/carol is nearly full: 0 MB are left. Make room before you work on."
            assert warning in done.stdout.splitlines()
            assert "-bash: echo: write error: No space left on device" in done.stdout.splitlines()
            disk.make_room()
            desks.must("dev", "recreate", "full", "--yes")
            told = desks.try_ssh("carol", "full", "bash -lc 'wc -c < .profile'", "-tt").stdout
            assert "WARNING" not in told
            assert int(told.split()[-1]) > 0
        finally:
            desks.must("dev", "remove", "full")


def test_home_that_is_too_large_is_told_at_login_and_in_the_list(desks: Desks) -> None:
    before = change_settings(desks, homes={"size": "16m"})
    try:
        desks.must("dev", "create", "carol", "--environment=python", "--name=large", "--memory=128m")
        desks.configure_client()

        def ssh(command: str) -> str:
            return desks.try_ssh("carol", "large", command, "-tt").stdout.replace("\r", "")

        assert "at most\n" in ssh("cat /run/dap/motd")
        note = desks.data / "homes" / "carol" / ".cache" / "dap" / "home_size"
        wait_for(note.exists, 60, "the size of the home is noted")
        assert "WARNING" not in ssh("bash -lc true")
        first = note.read_text(encoding="utf-8")
        ssh("head -c 20M /dev/urandom >data; sh /etc/dap/home.sh")
        # It is not looked at again at once.
        assert note.read_text(encoding="utf-8") == first
        os.utime(note, (0, 0))
        ssh("true")
        wait_for(lambda: note.read_text(encoding="utf-8") != first, 60, "it is noted again")
        warning = r"WARNING: /home/carol holds 2\d MB, and is to hold 16 MB at most\. Make room\.\n"
        assert re.search(warning, ssh("bash -lc true"))
        told = json.loads(desks.must("dev", "list", "--json"))["containers"]
        one = next(one for one in told if one["name"] == "large")
        assert one["home_used"] > 20 * 1024**2 > one["home_limit"] == 16 * 1024**2
        assert one["home_kept"] is False
        full = rf"^{one['host']}: the home of carol is full: 2\d(\.\d)? MiB of 16 MiB\n"
        watched = f"{one['host']}: limits of homes are only watched there, not kept$"
        assert re.search(full + watched, desks.must("dev", "list"), re.MULTILINE)
    finally:
        desks.must("dev", "remove", "large", "--with-home", "--yes")
        desks.settings_file.write_text(before, encoding="utf-8")


@pytest.mark.measures
def test_container_is_there_soon_and_takes_little(desks: Desks, carols: str) -> None:
    bare, made = [], []
    for _ in range(3):
        bare.append(desks.bare(carols))
        desks.must("dev", "remove", carols)
        made.append(desks.first_prompt("carol", carols))
    assert statistics.median(made) - statistics.median(bare) < MORE_SECONDS
    (usage,) = desks.used_mib([carols])
    assert usage < IDLE_MIB


@pytest.mark.measures
def test_many_containers_start_together_and_take_little(desks: Desks) -> None:
    with desks.more_of_carols(MANY) as many:
        begin = time.monotonic()
        # All of a deploy, and not only its last step.
        desks.must("deploy", "--no-verify")
        took = time.monotonic() - begin
        desks.configure_client()
        with ThreadPoolExecutor(4) as pool:
            told = [*pool.map(lambda name: desks.try_ssh("carol", name, "hostname").stdout, many)]
        usage = desks.used_mib(many)
    assert told == [f"{name}\n" for name in many]
    print(f"{MANY} containers: {took:.1f} s, {max(usage):.1f} MiB at most")
    assert took < MANY_SECONDS
    assert max(usage) < IDLE_MIB
