"""Containers and runners that want GPUs, and a host that has two."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from dap.gpus import promises
from dap.gpus.claims import claims_of
from dap.gpus.found import Device, Found
from dap.site import Site
from tests.unit.dev_sites import THREE_HOSTS, site_with

ADA = {"user": "ada", "environment": "python", "host": "one"}
BOB = {"user": "bob.b", "environment": "python", "host": "one"}
EVE = {"user": "eve", "environment": "python", "host": "one"}
RUNNER = {"name": "gpu", "tags": ["gpu"], "hosts": ["one"]}


def device(name: str, *nodes: str, lacking: tuple[str, ...] = ()) -> Device:
    return Device(f"nvidia.com/gpu={name}", frozenset(nodes), lacking)


TWO = Found(
    "28.2.2",
    True,
    (
        *(device("0", "/dev/nvidia0"), device("GPU-a0", "/dev/nvidia0")),
        *(device("1", "/dev/nvidia1"), device("GPU-a1", "/dev/nvidia1")),
        device("all", "/dev/nvidia0", "/dev/nvidia1"),
    ),
    driver="550.54",
    toolkit=True,
)


def settled(
    folder: Path, *boxes: dict[str, Any], found: Found = TWO, **settings: Any
) -> tuple[Site, list[str]]:
    """What becomes of these containers on a host with GPUs, and what is refused, each in one line."""
    site = site_with(folder, *boxes, hosts=THREE_HOSTS, **settings)
    after, refused = promises.settle(site, {"one": found})
    every = [one for findings in refused.values() for one in findings]
    return after, [f"{one.path} = {one.value}: {one.reason}; {one.suggestion}" for one in every]


def promised(site: Site) -> dict[str, str]:
    """The devices of each claim, without their kind."""
    found = {claim.key: promises.of_key(site, claim.key, claim.wanted) for claim in claims_of(site)}
    return {key: " ".join(name.partition("=")[2] for name in names) for key, names in found.items()}


SPEC = "sudo nvidia-ctk cdi generate --output=/etc/cdi/nvidia.yaml"
MISMATCH = "Failed to initialize NVML: Driver/library version mismatch"
