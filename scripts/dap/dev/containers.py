"""The development containers of an inventory: whose each is, and on which host."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass

from dap.configuration import wording
from dap.configuration.dev_containers import DevContainer as Settings
from dap.configuration.dev_containers import name_of
from dap.configuration.inventory import Host, Inventory
from dap.configuration.schema import User
from dap.errors import Finding
from dap.images.environments import BUILDER, CODE_SERVER

# Of the texts in the store that the SSH authority and the host keys are made of.
AUTHORITY = "ssh.authority"
# Of the text that the authority for users' certificates is made of.
USER_AUTHORITY = "ssh.user_authority"


def host_key_of(name: str) -> str:
    """The key in the store of what a container's host key is made of."""
    return f"dev.{name}.host_key"


def page_of(name: str) -> str:
    """The key in the store of what the proxy and a container's page know each other by."""
    return f"dev.{name}.page"


@dataclass(frozen=True)
class DevContainer:
    """A development container as the configuration has it.

    Attributes:
        index: where it stands in the list.
    """

    index: int
    name: str
    user: User
    host: Host
    settings: Settings

    @property
    def environment(self) -> str:
        """The environment whose image it runs."""
        return self.settings.environment

    @property
    def port(self) -> int | None:
        """The port on the host as it is written; None where one is chosen."""
        return self.settings.port


def resolve(
    inventory: Inventory, environments: Collection[str], file: str
) -> tuple[tuple[DevContainer, ...], list[Finding]]:
    """The development containers of users who are not disabled, and what is wrong with any of the list.

    Args:
        environments: the names of all that there are.
        file: the configuration, as it is shown.
    """
    users = {user.name: user for user in inventory.platform.users}
    found: list[DevContainer] = []
    findings: list[Finding] = []
    for index, settings in enumerate(inventory.platform.dev_containers):
        findings += _findings(index, settings, inventory, environments, file)
        host, user = host_of(settings, inventory), users[settings.user]
        if host and not user.disabled:
            name = settings.name or name_of(settings.user, settings.environment)
            found.append(DevContainer(index, name, user, host, settings))
    return tuple(found), findings


def possible_hosts(inventory: Inventory) -> tuple[Host, ...]:
    """The hosts that may have development containers: the runner hosts, or the only machine there is."""
    return inventory.runner_hosts or (inventory.hosts if len(inventory.hosts) == 1 else ())


def host_of(settings: Settings, inventory: Inventory) -> Host | None:
    """The host that a container is on; None where that is not clear."""
    possible = possible_hosts(inventory)
    if settings.host is None:
        return possible[0] if len(possible) == 1 else None
    return next((host for host in possible if host.name == settings.host), None)


def _findings(
    index: int, settings: Settings, inventory: Inventory, environments: Collection[str], file: str
) -> Iterator[Finding]:
    where = f"dev_containers[{index}]"
    usable = {*environments} - {BUILDER, CODE_SERVER}
    if settings.environment not in usable:
        advice = wording.one_of(settings.environment, usable)
        yield Finding(file, f"{where}.environment", settings.environment, "is not an environment", advice)
    names = [host.name for host in possible_hosts(inventory)]
    if host_of(settings, inventory):
        return
    add = "add a host to runner_hosts in hosts.yml"
    if settings.host is None:
        reason = f"is required, as there are {len(names) or 'no'} runner hosts"
        advice = f"write one of: {', '.join(names)}" if names else add
        yield Finding(file, f"{where}.host", "", reason, advice)
    elif any(host.name == settings.host for host in inventory.hosts):
        reason = "is a host without the runner role, and only those with it have development containers"
        advice = f"write one of: {', '.join(names)}; or add it to runner_hosts in hosts.yml" if names else add
        yield Finding(file, f"{where}.host", settings.host, reason, advice)
    else:
        advice = wording.one_of(settings.host, names) if names else add
        yield Finding(file, f"{where}.host", settings.host, "is not a host of the inventory", advice)
