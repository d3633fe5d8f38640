"""What is made of promised GPUs, and what a deploy does to hosts for it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml

from dap.credentials import Credentials
from dap.deployment import gpus as deploying
from dap.deployment.deploy import Deployment
from dap.deployment.progress import Progress
from dap.dev.numbers import numbers_of
from dap.dev.rendering import DevRenderer
from dap.errors import DapError, Problems
from dap.gpus import asking
from dap.gpus.claims import claims_of, without_gpu
from dap.gpus.found import Found
from dap.gpus.listing import listed
from dap.hosts.facts import HostFacts
from dap.secrets import SecretStore
from tests.unit.dev_sites import THREE_HOSTS, site_with
from tests.unit.gpus import ADA, BOB, EVE, MISMATCH, SPEC, TWO, device, promised, settled
from tests.unit.platforms import tree_of

# --- what is made of it ----------------------------------------------------------------------------------


def test_container_is_rendered_with_its_devices_and_tells_its_user(folder: Path) -> None:
    site, _ = settled(folder, {**ADA, "gpus": 2}, EVE)
    credentials = Credentials(site, SecretStore(folder / "secrets.yml", "team"))
    renderer = DevRenderer(site, credentials, numbers_of(site))
    ada, eve = (renderer.render(box) for box in site.dev_containers)
    documents = [{file.path: file.content.decode() for file in rendered.files} for rendered in (ada, eve)]
    service = yaml.safe_load(documents[0]["compose.yaml"])["services"]["ada-python"]
    names = ["nvidia.com/gpu=GPU-a0", "nvidia.com/gpu=GPU-a1"]
    request = {"driver": "cdi", "capabilities": ["gpu"], "device_ids": names}
    assert service["deploy"] == {"resources": {"reservations": {"devices": [request]}}}
    assert "deploy" not in yaml.safe_load(documents[1]["compose.yaml"])["services"]["eve-python"]
    assert f"2048 processes, GPUs {', '.join(names)}.\n" in documents[0]["live/motd"]
    assert "2048 processes.\n" in documents[1]["live/motd"]
    assert (ada.as_json()["gpus"], eve.as_json()["gpus"]) == (names, [])


def test_status_lists_every_gpu_once_with_who_is_promised_it(folder: Path) -> None:
    uuids = {"0": "GPU-b0"}
    found = Found(
        "28.2.2", True, (device("0", "/dev/a"), device("1", "/dev/b", lacking=("/dev/b",))), uuids=uuids
    )
    site, _ = settled(folder, {**ADA, "gpus": [0]}, {**BOB, "gpus": [7]}, found=found)
    claims = [claim for claim in claims_of(site) if claim.host == "one"]
    assert [one.as_json() for one in listed(site, "one", found, claims)] == [
        {
            "host": "one",
            "device": f"nvidia.com/gpu={name}",
            "uuid": uuid,
            "promised_to": owners,
            "state": state,
        }
        for name, uuid, owners, state in (
            ("0", "GPU-b0", ["ada-python"], "ok"),
            ("1", None, [], "lacks /dev/b"),
            ("7", None, ["bob-b-python"], "missing"),
        )
    ]


def test_container_without_a_gpu_whose_environment_wants_one_is_told_of(folder: Path) -> None:
    own = {"environments/cuda/environment.yml": "summary: Wants a GPU\nparent: base\ngpu: true\n"}
    tree_of(folder, own)
    boxes = ({**ADA, "environment": "cuda"}, {**BOB, "environment": "cuda", "gpus": 1}, EVE)
    site, _ = settled(folder, *boxes)
    file = "inventories/team/group_vars/all/platform.yml"
    assert without_gpu(site) == [
        "ada-cuda has no GPU, and what is in its environment cuda wants one:"
        f" write gpus: 1 at dev_containers[0] in {file}"
    ]
    assert without_gpu(site, "bob-b-cuda") == []


# --- hosts that a deploy prepares ------------------------------------------------------------------------

BARE = Found("28.2.2", True, driver="550.54")
STALE = Found(
    "28.2.2", True, (device("0", "/dev/nvidia0", lacking=("/usr/lib/libcuda.so.550",)),), driver="550.54"
)


@pytest.mark.parametrize(
    ("prepared", "gpus", "found"),
    [
        (True, 1, BARE),
        (True, [0], Found("", False, uuids={"0": "GPU-a0"})),
        # The driver was updated.
        (True, 1, STALE),
        (False, 1, Found("28.2.2", True)),
        (False, 1, replace(BARE, complaint=MISMATCH)),
        (False, 1, TWO),
        (False, ["amd.com/gpu=0"], BARE),
    ],
)
def test_host_is_prepared_where_its_driver_works_and_no_spec_fits_it(
    folder: Path, prepared: bool, gpus: object, found: Found
) -> None:
    boxes = ({**ADA, "gpus": gpus},)
    for wanted_so in (True, False):
        site = site_with(folder, *boxes, hosts=THREE_HOSTS, gpus={"prepare": wanted_so})
        deployment, problems = Deployment(site, Progress()), Problems()
        facts = {"one": HostFacts(16000, 4, gpus=found), "two": HostFacts(16000, 4)}
        waiting = deploying.promise(deployment, facts, problems)
        assert [*waiting] == (["one"] if prepared and wanted_so else [])
        assert bool(problems.entries) == (not waiting and found is not TWO)


def test_plan_names_what_is_done_to_prepare_a_host_and_a_deploy_does_it(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    site = site_with(folder, {**ADA, "gpus": 1}, hosts=THREE_HOSTS, gpus={"prepare": True})
    deployment, played = Deployment(site, Progress()), []

    def play(variables: dict[str, Any], **options: Any) -> None:
        played.append((variables["hosts"], options))

    monkeypatch.setattr(deployment, "play", play)
    monkeypatch.setattr(asking, "ask", lambda inventory, host: TWO)
    deploying.prepare(deployment, {"one": BARE}, check=True)
    assert [change.what for change in deployment.outcome.plan.hosts] == [
        "NVIDIA's container toolkit installed",
        "CDI spec written",
    ]
    assert played == []
    deploying.prepare(deployment, {"one": replace(BARE, toolkit=True)}, check=False)
    assert played == [({"one": {"toolkit": True}}, {"playbook": "gpus", "limit": ["one"]})]
    assert promised(deployment.site) == {"ada-python": "GPU-a0"}
    monkeypatch.setattr(asking, "ask", lambda inventory, host: STALE)
    with pytest.raises(DapError) as caught:
        deploying.prepare(deployment, {"one": BARE}, check=False)
    assert str(caught.value) == (
        "GPUs cannot be promised, although their hosts were prepared:\n"
        "  inventories/team/group_vars/all/platform.yml: dev_containers[0].gpus = 1\n"
        "    nvidia.com/gpu=0 needs /usr/lib/libcuda.so.550, which one does not have\n"
        f"    load its driver there; or write the spec anew: {SPEC}\n"
        "  next: correct this, then: dap -e team deploy"
    )
