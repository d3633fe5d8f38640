"""Who is promised which GPUs of a host, and what is refused."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from dap.deployment.preflight import wanted
from dap.gitlab.runners import runners_of
from dap.gpus import promises
from dap.gpus.claims import claims_of
from dap.gpus.found import Found
from tests.unit.dev_sites import THREE_HOSTS, refusal, site_with
from tests.unit.gpus import ADA, BOB, EVE, MISMATCH, RUNNER, SPEC, TWO, device, promised, settled

# --- what is promised ------------------------------------------------------------------------------------


def test_named_devices_come_first_and_who_wants_any_gets_what_is_free(folder: Path) -> None:
    boxes = ({**ADA, "gpus": 1}, {**BOB, "gpus": [0]}, EVE)
    site, refused = settled(folder, *boxes)
    assert refused == []
    assert promised(site) == {"ada-python": "GPU-a1", "bob-b-python": "0"}


def test_promise_stays_when_others_come_and_the_device_is_there(folder: Path) -> None:
    site, _ = settled(folder, {**BOB, "gpus": 1})
    assert promised(site) == {"bob-b-python": "GPU-a0"}
    promises.remember(site)
    site, _ = settled(folder, {**ADA, "gpus": 1}, {**BOB, "gpus": 1})
    assert promised(site) == {"ada-python": "GPU-a1", "bob-b-python": "GPU-a0"}
    promises.remember(site)
    assert promised(site_with(folder, {**BOB, "gpus": 1}, hosts=THREE_HOSTS)) == {"bob-b-python": "GPU-a0"}
    without = Found("28.2.2", True, TWO.devices[2:4])
    site, refused = settled(folder, {**BOB, "gpus": 1}, found=without)
    assert (promised(site), refused) == ({"bob-b-python": "GPU-a1"}, [])


def test_runner_and_containers_of_a_host_count_together_and_other_hosts_apart(folder: Path) -> None:
    runners = {"extra": [{**RUNNER, "hosts": [], "gpus": 1}]}
    site, refused = settled(folder, {**ADA, "gpus": 1}, runners=runners)
    assert refused == []
    assert promised(site) == {"ada-python": "GPU-a0", "one/gpu": "GPU-a1", "two/gpu": ""}
    one, two = site.inventory.runner_hosts
    assert runners_of(site, one)[-1].gpus == ("nvidia.com/gpu=GPU-a1",)
    assert [wanted(site, host)["gpus"] for host in (site.inventory.service_host, one, two)] == [
        False,
        True,
        True,
    ]


def test_shared_devices_go_to_all_who_share_the_least_used_first(folder: Path) -> None:
    shared = {"gpus": 1, "gpus_shared": True}
    site, refused = settled(folder, {**ADA, "gpus": [0]}, {**BOB, **shared}, {**EVE, **shared})
    assert refused == []
    assert promised(site) == {"ada-python": "0", "bob-b-python": "GPU-a1", "eve-python": "GPU-a1"}
    site, refused = settled(folder, {**BOB, **shared}, {**EVE, **shared})
    assert promised(site) == {"bob-b-python": "GPU-a0", "eve-python": "GPU-a1"}


def test_device_that_a_container_runs_with_is_given_to_others_last_and_to_no_job(
    folder: Path,
) -> None:
    held = replace(TWO, held={"bob-b-python": ["nvidia.com/gpu=0"]})
    site, _ = settled(folder, {**ADA, "gpus": 1}, BOB, found=held)
    assert promised(site) == {"ada-python": "GPU-a1"}
    # The container is asked for it again where it is made.
    site, _ = settled(folder, {**ADA, "gpus": 2}, BOB, found=held)
    assert promised(site) == {"ada-python": "GPU-a1 GPU-a0"}
    site, refused = settled(folder, BOB, found=held, runners={"extra": [{**RUNNER, "gpus": ["GPU-a0"]}]})
    assert refused == [
        "runners.extra[0].gpus = GPU-a0: is still that of bob-b-python, which runs with it on one;"
        " run dap -e team dev recreate bob-b-python, or write a different device"
    ]
    site, refused = settled(folder, BOB, found=held, runners={"extra": [{**RUNNER, "gpus": 1}]})
    assert (promised(site), refused) == ({"one/gpu": "GPU-a1"}, [])


def test_parts_of_one_gpu_are_devices_of_their_own() -> None:
    whole = device("0", "/dev/nvidia0")
    parts = [device(f"0:{one}", "/dev/nvidia0", f"/dev/nvidia-caps/{one}") for one in (0, 1)]
    assert not parts[0].overlaps(parts[1])
    assert whole.overlaps(parts[0])
    assert parts[1].overlaps(whole)
    without_nodes = device("2"), device("3"), device("all")
    assert not without_nodes[0].overlaps(without_nodes[1])
    assert without_nodes[0].overlaps(without_nodes[2])


# --- what is refused -------------------------------------------------------------------------------------

NEITHER = (
    "is neither a number of GPUs (1 to 64) nor a list of devices;"
    " write a number such as 1, or a list such as [0]"
)
NO_DEVICE = (
    "which is no device; write indexes, UUIDs or CDI names, such as [0], [GPU-8f2c] or [nvidia.com/gpu=0]"
)


@pytest.mark.parametrize(
    ("gpus", "told"),
    [
        (0, f"0: {NEITHER}"),
        (True, f"true: {NEITHER}"),
        ("all", f"all: {NEITHER}"),
        (["a b"], f"[a b]: has a b, {NO_DEVICE}"),
        ([[]], f"[[]]: has something, {NO_DEVICE}"),
    ],
)
def test_what_is_no_gpu_is_said_where_it_stands(folder: Path, gpus: object, told: str) -> None:
    boxes = refusal(folder, {**ADA, "gpus": gpus}, hosts=THREE_HOSTS)
    assert boxes == [f"dev_containers[0].gpus = {told}"]


def test_runner_with_several_jobs_at_once_has_to_share(folder: Path) -> None:
    runner = {**RUNNER, "gpus": [0], "jobs": 2}
    assert refusal(folder, hosts=THREE_HOSTS, runners={"extra": [runner]}) == [
        "runners.extra[0].jobs = 2: would give the runner's GPUs to several jobs at once;"
        " write 1, or gpus_shared: true beside it"
    ]
    shared = {**runner, "gpus_shared": True}
    site = site_with(folder, hosts=THREE_HOSTS, runners={"extra": [shared]})
    assert not runners_of(site, site.inventory.runner_hosts[0])[-1].alone


def test_device_that_is_written_twice_is_refused_before_any_host_is_asked(folder: Path) -> None:
    runners = {"extra": [{**RUNNER, "gpus": ["nvidia.com/gpu=0"]}]}
    boxes = ({**ADA, "gpus": [0]}, {**BOB, "gpus": [1], "gpus_shared": True})
    assert refusal(folder, *boxes, hosts=THREE_HOSTS, runners=runners) == [
        "runners.extra[0].gpus = 0: is promised to ada-python (dev_containers[0]) on one already;"
        " write a different device, or gpus_shared: true at both"
    ]
    apart = ({**ADA, "gpus": [0]}, {**BOB, "gpus": [0], "host": "two"})
    assert len(claims_of(site_with(folder, *apart, hosts=THREE_HOSTS))) == 2


TWICE = (
    "is promised to ada-python (dev_containers[0]) on one already;"
    " write a different device, or gpus_shared: true at both"
)


@pytest.mark.parametrize(
    ("gpus", "told"),
    [
        (["GPU-a0"], f"GPU-a0: {TWICE}"),
        (["all"], f"all: {TWICE}"),
        (
            ["GPU-b0"],
            "GPU-b0: is not a device of one; write one of: 0, GPU-a0, 1, GPU-a1, all; or, where it is there,"
            " the spec anew: sudo nvidia-ctk cdi generate --output=/etc/cdi/nvidia.yaml",
        ),
        (
            ["amd.com/gpu=0"],
            "amd.com/gpu=0: no CDI spec on one names any amd.com/gpu;"
            " put the spec of its vendor into /etc/cdi there",
        ),
        (
            2,
            "2: is more than the 1 that nobody else is promised, of the 2 of one;"
            " write fewer, gpus_shared: true at all who are to share, or another host",
        ),
    ],
)
def test_device_that_cannot_be_promised_is_refused(folder: Path, gpus: object, told: str) -> None:
    site, refused = settled(folder, {**ADA, "gpus": [0]}, {**BOB, "gpus": gpus})
    assert refused == [f"dev_containers[1].gpus = {told}"]
    assert promised(site)["ada-python"] == "0"


@pytest.mark.parametrize(
    ("found", "told"),
    [
        (Found("24.0.7", False),
            "one has Docker 24.0.7, and containers get devices by CDI, which that does not know;"
            " upgrade Docker on one to 25 or newer, or name another host"),
        (Found("", False),
            "no CDI spec on one names any nvidia.com/gpu;"
            " install NVIDIA's driver and container toolkit there: see docs/how-to/use-gpus.md"),
        (Found("28.2.2", True, driver="550.54"),
            "no CDI spec on one names any nvidia.com/gpu;"
            " write gpus.prepare: true, or install NVIDIA's container toolkit there:"
            " see docs/how-to/use-gpus.md"),
        (Found("28.2.2", True, driver="550.54", toolkit=True),
            f"no CDI spec on one names any nvidia.com/gpu; write one there: {SPEC}"),
        (Found("28.2.2", True, unread={"/etc/cdi/nvidia.yaml": "line 3 is not written as specs are"}),
            "/etc/cdi/nvidia.yaml on one cannot be read: line 3 is not written as specs are;"
            f" write it anew there: {SPEC}"),
        (Found("28.2.2", True, TWO.devices, complaint=MISMATCH),
            f"NVIDIA's driver does not work on one: {MISMATCH};"
            " reboot one: its driver was updated after it had been loaded"),
        (Found("28.2.2", True, TWO.devices, complaint="No devices were found"),
            "NVIDIA's driver does not work on one: No devices were found;"
            " see to the driver there until nvidia-smi is content"),
        (Found("28.2.2", True, (device("0", "/dev/nvidia0", lacking=("/usr/lib/libcuda.so.550",)),)),
            "nvidia.com/gpu=0 needs /usr/lib/libcuda.so.550, which one does not have;"
            f" load its driver there; or write the spec anew: {SPEC}"),
    ],
)  # fmt: skip
def test_host_that_gives_nobody_a_gpu_is_told_with_the_way_out(folder: Path, found: Found, told: str) -> None:
    _, refused = settled(folder, {**ADA, "gpus": [0]}, EVE, found=found)
    assert refused == [f"dev_containers[0].gpus = 0: {told}"]
