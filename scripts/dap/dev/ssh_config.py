"""What users' SSH clients are told: how each container is reached, and which authority signs its host key."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from dap.credentials import Credentials
from dap.dev.containers import DevContainer
from dap.dev.rendering import authority_of, names_of
from dap.site import Site


def blocks(site: Site, boxes: Iterable[DevContainer], ports: Mapping[str, int], authority: str) -> str:
    """A block for each container, to be appended to ``~/.ssh/config`` as it is.

    Args:
        authority: the public key of the SSH authority.
    """
    return "\n".join(_block(site, box, ports[box.name], authority) for box in boxes)


def known_hosts(site: Site, boxes: Iterable[DevContainer], authority: str) -> str:
    """The line for ``known_hosts``, for clients that cannot run a command for it."""
    names = ",".join(name for box in boxes for name in names_of(site, box))
    return f"@cert-authority {names} {authority}\n"


def authority_line(credentials: Credentials) -> str:
    """The public key of the SSH authority."""
    return authority_of(credentials).public


def _block(site: Site, box: DevContainer, port: int, authority: str) -> str:
    # The name of the container and not its address is what its host key is signed for.
    lines = {
        "HostName": address_of(site, box),
        "Port": str(port),
        "User": box.user.name,
        "HostKeyAlias": box.name,
        "CheckHostIP": "no",
        "StrictHostKeyChecking": "yes",
        "KnownHostsCommand": f"/bin/echo @cert-authority {box.name} {authority}",
    }
    names = " ".join(names_of(site, box))
    return "\n".join([f"Host {names}", *(f"  {name} {value}" for name, value in lines.items()), ""])


def address_of(site: Site, box: DevContainer) -> str:
    """Where users reach the host of a container."""
    own = box.host.name == site.inventory.service_host.name
    listening = site.platform.listen_address
    if own and not listening.is_unspecified:
        return str(listening)
    if box.host.is_local:
        return site.platform.domain
    return str(box.host.variables.get("ansible_host", box.host.name))
