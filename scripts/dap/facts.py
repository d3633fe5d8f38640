"""What preflight found out about a host that the rendered files depend on."""

from __future__ import annotations

from dataclasses import dataclass
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
    """

    memory_mib: int
    cpus: int
    marker: str | None = None
    has_data: bool = False
    docker_ready: bool = False

    @classmethod
    def of(cls, facts: dict[str, Any]) -> HostFacts:
        """From the result of the module ``dap_preflight``."""
        return cls(
            facts["memory_mib"],
            facts["cpus"],
            facts["platform_id"],
            facts["has_data"],
            facts["docker_ready"],
        )
