"""The GPUs of all hosts, and who is promised them."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from typing import Any

from dap.configuration.inventory import Host
from dap.errors import DapError
from dap.gpus.asking import ask
from dap.gpus.claims import Claim, claims_of
from dap.gpus.found import Device, Found
from dap.gpus.promises import of_key
from dap.site import Site


@dataclass(frozen=True)
class KnownGpu:
    """A GPU of a host, or a device that somebody is promised and that is not there.

    Attributes:
        device: its CDI name.
        uuid: empty where it is not known.
        promised_to: containers, and runners for their jobs.
        state: ``ok``, ``missing``, or ``lacks`` with a file that it needs.
    """

    host: str
    device: str
    uuid: str
    promised_to: tuple[str, ...]
    state: str

    def as_json(self) -> dict[str, Any]:
        """For ``--json``; what is not known is null."""
        return asdict(self) | {"uuid": self.uuid or None, "promised_to": [*self.promised_to]}


def known_gpus(site: Site) -> list[KnownGpu]:
    """The GPUs of the hosts that may have development containers or jobs, and answer."""
    claims = claims_of(site)

    def look(host: Host) -> list[KnownGpu]:
        try:
            found = ask(site.inventory.name, host)
        except DapError:
            return []
        return [*listed(site, host.name, found, [claim for claim in claims if claim.host == host.name])]

    with ThreadPoolExecutor(max_workers=16) as pool:
        hosts = site.inventory.runner_hosts or site.inventory.hosts[:1]
        return [one for found in pool.map(look, hosts) for one in found]


def listed(site: Site, host: str, found: Found, claims: list[Claim]) -> Iterator[KnownGpu]:
    """The GPUs of one host."""
    promised = [(claim, name) for claim in claims for name in of_key(site, claim.key, claim.wanted)]

    def holders(device: Device) -> tuple[str, ...]:
        held = [(claim, found.device(name)) for claim, name in promised]
        return tuple(dict.fromkeys(claim.owner for claim, other in held if other and other.overlaps(device)))

    for device in found.single:
        state = f"lacks {device.lacking[0]}" if device.lacking else "ok"
        yield KnownGpu(host, device.name, found.uuid(device), holders(device), state)
    # Those of other kinds are listed where somebody wants them.
    others: dict[str, list[str]] = {}
    for claim, name in promised:
        wanted = found.device(name)
        if wanted is None or not any(wanted.overlaps(one) for one in found.single):
            others.setdefault(name, []).append(claim.owner)
    for name, owners in others.items():
        yield KnownGpu(host, name, "", tuple(owners), "ok" if found.device(name) else "missing")
