"""What preflight found out about a host that the rendered files depend on."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from dap.gpus.found import Found


@dataclass(frozen=True)
class HostFacts:
    """Size and state of a host.

    Attributes:
        memory_mib: installed memory in MiB.
        cpus: number of cores.
        marker: id of the platform whose data the host holds, if any.
        has_data: whether the data directory holds anything.
        ready: those of the roles ``docker``, ``trust`` and ``names`` that would find nothing to do.
        deployed: services whose files are on the host.
        images: images that are neither on the host nor to be had, by the name they were asked under, and why.
        free_mib: free space for data, in MiB.
        known_images: images from registries that are there and are what they were at the first pull.
        missing_tags: images to be built that are not there.
        building: whether an image build was interrupted.
        absent_images: images from registries that are not there, by the name they were asked under.
        lacking: what has to be installed from packages.
        release: of the host's system, as Debian calls it; so is the architecture.
        gpus: what it has of GPUs, where anybody wants some.
    """

    memory_mib: int
    cpus: int
    marker: str | None = None
    has_data: bool = False
    ready: frozenset[str] = frozenset()
    deployed: tuple[str, ...] = ()
    images: Mapping[str, str] = field(default_factory=dict)
    free_mib: int = 0
    known_images: frozenset[str] = frozenset()
    missing_tags: frozenset[str] = frozenset()
    building: bool = False
    absent_images: frozenset[str] = frozenset()
    lacking: tuple[str, ...] = ()
    release: str = ""
    architecture: str = ""
    gpus: Found | None = None

    @classmethod
    def of(cls, facts: dict[str, Any]) -> HostFacts:
        """From the result of the module ``dap_preflight``."""
        return cls(
            facts["memory_mib"],
            facts["cpus"],
            facts["platform_id"],
            facts["has_data"],
            frozenset(facts["ready"]),
            tuple(facts.get("deployed", ())),
            {
                name: image["reason"]
                for name, image in facts.get("images", {}).items()
                if not image["present"] and not image["available"]
            },
            facts["data"]["free"] // 1024**2 if "data" in facts else 0,
            frozenset(name for name, image in facts.get("images", {}).items() if image["known"]),
            frozenset(facts.get("missing_tags", ())),
            facts.get("building", False),
            frozenset(name for name, image in facts.get("images", {}).items() if not image["present"]),
            tuple(facts.get("lacking", ())),
            facts.get("release", ""),
            facts.get("architecture", ""),
            Found.of(facts["gpus"]) if facts.get("gpus") else None,
        )
