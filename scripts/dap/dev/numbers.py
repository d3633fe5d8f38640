"""Numbers that stay: of users, of projects' groups, and the port of every development container."""

from __future__ import annotations

import itertools
import re
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from dap.configuration.inventory import Host
from dap.deployment import records
from dap.errors import Finding
from dap.layout import shown
from dap.site import Site

FIRST_UID, FIRST_PORT, FIRST_PAGE = 20000, 22001, 23001
# Beyond those that users have, who are each a group of their own, and those that Debian gives.
FIRST_GID = 70000
_FILE = "dev_containers.json"
# Who gets another number than before would have somebody else's files.
_WITHOUT_IT = (
    "restore it from a backup; without one, write each user's uid into platform.yml, as ls -ln shows it in"
    " the folder of the homes, before you remove it"
)
_PLAIN = re.compile(r"[1-9][0-9]{0,9}")
_LEAST = {"uid": 1000, "gid": FIRST_GID, "port": 1, "page": 1}
_MOST = {"uid": 59999, "gid": 2**31 - 1, "port": 65535, "page": 65535}


@dataclass
class Numbers:
    """What was given once.

    Attributes:
        uids: by user; also of users who are no longer there, whose files may be.
        gids: by project; of the groups that share folders.
        ports: by container.
        pages: the ports of the pages that the proxy reaches on other hosts, by container.
        hosts: on which there were development containers at the last deploy.
    """

    uids: dict[str, int] = field(default_factory=dict)
    gids: dict[str, int] = field(default_factory=dict)
    ports: dict[str, int] = field(default_factory=dict)
    pages: dict[str, int] = field(default_factory=dict)
    hosts: list[str] = field(default_factory=list)


def recall(inventory: str) -> Numbers:
    """What earlier runs have given.

    Raises:
        RefusedError: the record of it is damaged: a number that is wrong would give files to somebody else.
    """
    found = Numbers()
    known = {"uid": found.uids, "gid": found.gids, "port": found.ports, "page": found.pages}
    for key, value in records.recall(inventory, _FILE, _WITHOUT_IT).items():
        kind, _, name = key.partition(" ")
        if kind == "host":
            found.hosts.append(name)
        elif kind not in known:
            raise records.damaged(inventory, _FILE, f"{key} is nothing that is noted there", _WITHOUT_IT)
        elif not _PLAIN.fullmatch(value) or not _LEAST[kind] <= int(value) <= _MOST[kind]:
            reason = f"{key} is {value[:20]}, and no number from {_LEAST[kind]} to {_MOST[kind]}"
            raise records.damaged(inventory, _FILE, reason, _WITHOUT_IT)
        else:
            known[kind][name] = int(value)
    for kind in ("uid", "gid"):
        owners: dict[int, str] = {}
        for name, number in known[kind].items():
            if (owner := owners.setdefault(number, name)) != name:
                reason = f"{owner} and {name} have the same {kind}, {number}"
                raise records.damaged(inventory, _FILE, reason, _WITHOUT_IT)
    return found


def findings(site: Site) -> Iterator[Finding]:
    """Numbers of users that do not go with those that the files that there are belong to."""
    known, file = recall(site.inventory.name).uids, shown(site.inventory.platform_file)
    owners = {uid: name for name, uid in known.items()}
    for index, user in enumerate(site.platform.users):
        where = f"users[{index}].uid"
        if user.uid and (before := known.get(user.name)) not in (None, user.uid):
            reason = f"is not the number of {user.name}'s files, which is {before}"
            yield Finding(file, where, str(user.uid), reason, f"write {before}, or remove it")
        elif user.uid and (other := owners.get(user.uid, user.name)) != user.name:
            reason = f"is the number of {other}'s files"
            yield Finding(file, where, str(user.uid), reason, "write a different number, or remove it")


def remember(inventory: str, numbers: Numbers) -> None:
    """Keep what was given."""
    entries = {f"uid {name}": str(uid) for name, uid in numbers.uids.items()}
    entries |= {f"gid {name}": str(gid) for name, gid in numbers.gids.items()}
    entries |= {f"port {name}": str(port) for name, port in numbers.ports.items()}
    entries |= {f"page {name}": str(port) for name, port in numbers.pages.items()}
    entries |= {f"host {name}": "yes" for name in numbers.hosts}
    records.remember(inventory, _FILE, entries)


def numbers_of(site: Site) -> Numbers:
    """The numbers of a site's users and containers: what is written, what was given before, or the next."""
    known = recall(site.inventory.name)
    written = {user.name: user.uid for user in site.platform.users if user.uid}
    uids = {**known.uids, **written}
    for box in site.dev_containers:
        if box.user.name not in uids:
            uids[box.user.name] = _next(FIRST_UID, uids.values())
    gids = dict(known.gids)
    for box in site.dev_containers:
        for project in site.projects_of(box.user):
            if project.name not in gids:
                gids[project.name] = _next(FIRST_GID, gids.values())
    ports: dict[str, int] = {}
    pages: dict[str, int] = {}
    for host in site.inventory.hosts:
        boxes = [box for box in site.dev_containers if box.host.name == host.name]
        taken = {
            site.published_port(service, port)
            for service in site.services_on(host).values()
            for port in service.manifest.ports
        }
        written = {box.name: box.port for box in boxes if box.port}
        found = _ports([box.name for box in boxes], written, known.ports, taken, FIRST_PORT)
        ports |= found
        if not site.dev_beside(host):
            names = [box.name for box in boxes if site.has_page(box)]
            pages |= _ports(names, {}, known.pages, taken | {*found.values()}, FIRST_PAGE)
    return Numbers(uids, gids, ports, pages, sorted({box.host.name for box in site.dev_containers}))


def ports_on(site: Site, host: Host) -> list[tuple[str, int]]:
    """The ports of the development containers of a host, each with the container's name."""
    numbers = numbers_of(site)
    names = [box.name for box in site.dev_containers if box.host.name == host.name]
    return [
        (name, ports[name]) for ports in (numbers.ports, numbers.pages) for name in names if name in ports
    ]


def address_on(site: Site, host: Host) -> str:
    """The address that the development containers of a host are reached at."""
    # The address to listen on is one of the service host's.
    own = host.name == site.inventory.service_host.name
    return str(site.platform.listen_address) if own else "0.0.0.0"  # noqa: S104  there to be reached


def _ports(
    names: Sequence[str],
    written: Mapping[str, int],
    known: Mapping[str, int],
    taken: Collection[int],
    first: int,
) -> dict[str, int]:
    """Ports of the containers of one host: as written, as known, or the next from ``first`` on."""
    found = dict(written)
    for name in names:
        # Two containers that were on different hosts may have had the same.
        if name not in found and (port := known.get(name)) and port not in {*taken, *found.values()}:
            found[name] = port
    for name in names:
        if name not in found:
            found[name] = _next(first, {*taken, *found.values()})
    return found


def _next(first: int, taken: Iterable[int]) -> int:
    """The smallest number from ``first`` on that nobody has."""
    used = {*taken}
    return next(number for number in itertools.count(first) if number not in used)
