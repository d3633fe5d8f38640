"""What the engine tells of a development container. It is read on the hosts, with nothing but Python."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

LABEL = "dap.dev"


def gpus_of(box: Mapping[str, Any]) -> list[str]:
    """The devices that a container was made with, by their CDI names."""
    requests = box["HostConfig"].get("DeviceRequests") or ()
    return [name for one in requests if one["Driver"] == "cdi" for name in one["DeviceIDs"] or ()]
