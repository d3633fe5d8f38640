"""Who wants GPUs of a host: development containers, and runners for their jobs."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from dap.configuration.gpus import full_name
from dap.configuration.inventory import Host
from dap.errors import Finding
from dap.layout import shown
from dap.site import Site


@dataclass(frozen=True)
class Claim:
    """What one of them wants on one host.

    Attributes:
        key: by which is remembered what was promised.
        where: in the configuration.
        owner: for people.
        wanted: how many, or the CDI names.
    """

    host: str
    key: str
    where: str
    owner: str
    wanted: int | tuple[str, ...]
    shared: bool

    @property
    def at_once(self) -> bool:
        """Whether a deploy gives the devices at once: a container that runs keeps what it has."""
        return "/" in self.key

    @property
    def of_usual_kind(self) -> bool:
        """Whether it is about NVIDIA's GPUs, at least in part."""
        return isinstance(self.wanted, int) or any(name.startswith(full_name("")) for name in self.wanted)

    def written_as(self, device: str) -> str:
        """A device as the configuration may have it, without the usual kind."""
        return device.removeprefix(full_name(""))


def of_container(name: str) -> str:
    """The key of a development container's claim."""
    return name


def of_runner(host: str, name: str) -> str:
    """The key of a runner's claim."""
    return f"{host}/{name}"


def claims_of(site: Site) -> list[Claim]:
    """All claims, in the order of the configuration."""
    found = []
    for box in site.dev_containers:
        if box.settings.gpus:
            where = f"dev_containers[{box.index}]"
            key, wanted = of_container(box.name), _wanted(box.settings.gpus)
            found.append(Claim(box.host.name, key, where, box.name, wanted, box.settings.gpus_shared))
    for host in site.inventory.hosts if any(one.gpus for one in site.platform.runners.extra) else ():
        if any(service.manifest.provides == "runner" for service in site.services_on(host).values()):
            found += _of_runners(site, host)
    return found


def _of_runners(site: Site, host: Host) -> Iterator[Claim]:
    for index, one in enumerate(site.platform.runners.extra):
        if one.gpus and (not one.hosts or host.name in one.hosts):
            where, owner = f"runners.extra[{index}]", f"the runner {one.name}"
            key = of_runner(host.name, one.name)
            yield Claim(host.name, key, where, owner, _wanted(one.gpus), one.gpus_shared)


def _wanted(gpus: int | tuple[str, ...]) -> int | tuple[str, ...]:
    return gpus if isinstance(gpus, int) else tuple(dict.fromkeys(map(full_name, gpus)))


def without_gpu(site: Site, name: str = "") -> list[str]:
    """What is told of containers that have no GPU although what is in their environment wants one.

    Args:
        name: of the only one that is asked about.
    """
    return [
        f"{box.name} has no GPU, and what is in its environment {box.environment} wants one:"
        f" write gpus: 1 at dev_containers[{box.index}] in {shown(site.inventory.platform_file)}"
        for box in site.dev_containers
        if name in ("", box.name) and site.known_environments[box.environment].gpu and not box.settings.gpus
    ]


def findings(site: Site) -> Iterator[Finding]:
    """Devices that are promised twice as they are written; hosts may know more names of the same device."""
    owners: dict[tuple[str, str], Claim] = {}
    for claim in claims_of(site):
        for device in claim.wanted if isinstance(claim.wanted, tuple) else ():
            owner = owners.setdefault((claim.host, device), claim)
            if owner is not claim and not (owner.shared and claim.shared):
                yield twice(site, claim, device, owner)


def twice(site: Site, claim: Claim, device: str, owner: Claim) -> Finding:
    """What is told of a device that somebody else is promised already."""
    return Finding(
        shown(site.inventory.platform_file),
        f"{claim.where}.gpus",
        claim.written_as(device),
        f"is promised to {owner.owner} ({owner.where}) on {claim.host} already",
        "write a different device, or gpus_shared: true at both",
    )
