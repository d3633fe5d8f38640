"""What preflight found out about a host that the rendered files depend on."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class HostFacts:
    """Size and state of a host.

    Attributes:
        memory_mib: installed memory in MiB.
        cpus: number of cores.
        marker: id of the platform whose data the host holds, if any.
        has_data: whether the data directory holds anything.
        docker_ready: whether nothing has to be done about Docker.
        deployed: services whose files are on the host.
        images: images that are neither on the host nor to be had, by the name they were asked under, and why.
        free_mib: free space for data, in MiB.
    """

    memory_mib: int
    cpus: int
    marker: str | None = None
    has_data: bool = False
    docker_ready: bool = False
    deployed: tuple[str, ...] = ()
    images: Mapping[str, str] = field(default_factory=dict)
    free_mib: int = 0

    @classmethod
    def of(cls, facts: dict[str, Any]) -> HostFacts:
        """From the result of the module ``dap_preflight``."""
        return cls(
            facts["memory_mib"],
            facts["cpus"],
            facts["platform_id"],
            facts["has_data"],
            facts["docker_ready"],
            tuple(facts.get("deployed", ())),
            {
                name: image["reason"]
                for name, image in facts.get("images", {}).items()
                if not image["present"] and not image["available"]
            },
            facts["data"]["free"] // 1024**2 if "data" in facts else 0,
        )
