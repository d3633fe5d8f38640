"""What a deploy changes: a plan says it before, with the reasons; a deploy says it after."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any, Literal

Action = Literal["created", "recreated", "restarted", "removed", "reloaded"]


@dataclass(frozen=True)
class ContainerChange:
    """What happens to the container of a service.

    Attributes:
        action: ``reloaded`` is a signal: the service reads its files again and goes on.
        reasons: why, one phrase for each; a deploy that is over does not give them.
    """

    host: str
    service: str
    action: Action
    reasons: tuple[str, ...] = ()


@dataclass(frozen=True)
class Change:
    """Anything else that changes, in words."""

    host: str
    what: str


@dataclass(frozen=True)
class Issued:
    """A certificate that is issued anew."""

    service: str
    reason: str


@dataclass
class Plan:
    """What a deploy changes, by kind.

    Attributes:
        containers: of services.
        images: built or fetched.
        certificates: issued anew; services read them at a signal, or because they are replaced anyway.
        dev: development containers; those that run are left as they are.
        provisioning: databases, roles, buckets, keys and accounts.
        hosts: packages, Docker, trusted CAs, names.
        files: below the platform's root, and data folders that are made.
        unknown: what shows only when a server runs.
        left_out: services that do not run here, and why.
        left_alone: services that differ from the configuration and stay so: a deploy was for others only.
        differences: of the contents of files, where asked for; never of those with secrets.
    """

    containers: list[ContainerChange] = field(default_factory=list)
    images: list[Change] = field(default_factory=list)
    certificates: list[Issued] = field(default_factory=list)
    dev: list[Change] = field(default_factory=list)
    provisioning: list[Change] = field(default_factory=list)
    hosts: list[Change] = field(default_factory=list)
    files: list[Change] = field(default_factory=list)
    unknown: list[str] = field(default_factory=list)
    left_out: Mapping[str, str] = field(default_factory=dict)
    left_alone: list[str] = field(default_factory=list)
    differences: list[Change] = field(default_factory=list)

    def then(self, later: Plan) -> Plan:
        """What changes in two runs, one after the other; what both of them say counts once."""
        joined: dict[str, Any] = {
            name: list(dict.fromkeys([*getattr(self, name), *value]))
            for name, value in vars(later).items()
            if isinstance(value, list)
        }
        return replace(later, **joined)

    @property
    def changes(self) -> list[Change]:
        """Every single change in words. A new certificate counts by its files."""
        containers = [Change(one.host, f"{one.service}: container {one.action}") for one in self.containers]
        return [*containers, *self.dev, *self.images, *self.provisioning, *self.hosts, *self.files]

    @property
    def count(self) -> int:
        """How many things change."""
        return len(self.changes)

    def as_json(self) -> dict[str, Any]:
        """For ``--json``."""
        return {"count": self.count, **asdict(self)}
