"""The platform's containers on a host, as its Docker engine reports them."""

from __future__ import annotations

import json
import os
import re
import subprocess
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace

from dap.configuration.inventory import Host
from dap.errors import DapError
from dap.hosts.connection import ssh_argv
from dap.site import Site

_FORMAT = (
    '{"service":{{json (.Label "dap.service")}},"state":{{json .State}},'
    '"status":{{json .Status}},"image":{{json .Image}}}'
)
_LIMIT_S = 30
_HEALTH = '{"service":{{json (index .Config.Labels "dap.service")}},"health":{{json .State.Health}}}'


@dataclass(frozen=True)
class Container:
    """A container of the platform.

    Attributes:
        state: the engine's word: running, exited, restarting …
        health: healthy, unhealthy, starting, or empty without a healthcheck.
        since: how long it has been in this state, in words.
        complaint: what its healthcheck has said last, where it is not well.
    """

    host: str
    service: str
    state: str
    health: str
    since: str
    image: str
    complaint: str = ""

    @property
    def well(self) -> bool:
        """Whether it runs and is healthy."""
        return self.state == "running" and self.health == "healthy"

    def as_json(self) -> dict[str, str]:
        """For ``--json``."""
        return asdict(self)


def argv_on(host: Host, argv: Sequence[str]) -> list[str]:
    """``argv`` as it has to be run here to run on ``host``, with root's rights."""
    if host.is_local:
        return list(argv) if os.geteuid() == 0 else ["sudo", "-n", *argv]
    program, *how = ssh_argv(host)
    quoted = " ".join("'" + word.replace("'", "'\\''") + "'" for word in argv)
    sudo = "" if host.variables.get("ansible_user") == "root" else "sudo -n "
    # A machine that is off is not to hold up the answer of the others for minutes.
    patience = ["-o", "BatchMode=yes", "-o", "ConnectTimeout=10"]
    return [program, *patience, *how, sudo + quoted]


def output_on(
    host: Host,
    argv: Sequence[str],
    limit_s: float,
    failure: Callable[[str], DapError],
    given: str | None = None,
) -> str:
    """Standard output of a command on a host.

    Args:
        failure: the error to raise where it cannot be run there, takes longer than ``limit_s``, or fails;
            made from the reason, in one line.
        given: its standard input; this program's own without it.
    """
    try:
        done = subprocess.run(  # noqa: S603  our own argv, no shell
            argv_on(host, argv), input=given, capture_output=True, text=True, timeout=limit_s, check=False
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise failure(str(error)) from error
    if done.returncode:
        raise failure((done.stderr.strip().splitlines() or ["no answer"])[-1])
    return done.stdout


def list_containers(site: Site, host: Host) -> list[Container]:
    """The platform's containers on ``host``, by service.

    Raises:
        DapError: if the engine cannot be asked.
    """
    next_step = f"dap -e {site.inventory.name} deploy"

    def failure(why: str) -> DapError:
        return DapError(f"{host.name}: Docker cannot be asked: {why}", next_step)

    label = f"label=com.docker.compose.project={site.platform.platform_name}"
    argv = ["docker", "ps", "--all", "--filter", label, "--format", _FORMAT]
    told = output_on(host, argv, _LIMIT_S, failure)
    found = sorted(parse(host.name, told), key=lambda container: container.service)
    complaints = _complaints(site, host, [one.service for one in found if one.health and not one.well])
    return [replace(one, complaint=complaints.get(one.service, "")) for one in found]


def _complaints(site: Site, host: Host, services: Sequence[str]) -> dict[str, str]:
    """What the healthchecks of services have said last, where they failed."""
    if not services:
        return {}
    names = [f"{site.platform.platform_name}-{service}" for service in services]
    argv = argv_on(host, ["docker", "inspect", "--format", _HEALTH, *names])
    try:
        done = subprocess.run(argv, capture_output=True, text=True, timeout=30, check=False)  # noqa: S603
    except (OSError, subprocess.TimeoutExpired):
        return {}
    return parse_health(done.stdout)


def parse_health(output: str) -> dict[str, str]:
    """The last words of failed healthchecks, by service, from the lines that ``docker inspect`` printed."""
    told = {}
    for line in output.splitlines():
        values = json.loads(line)
        last = ((values["health"] or {}).get("Log") or [{}])[-1]
        if last.get("ExitCode") and (said := last["Output"].strip()):
            told[values["service"]] = said.splitlines()[-1]
    return told


def parse(host: str, output: str) -> list[Container]:
    """Containers from the lines that ``docker ps`` printed; those of finished jobs are left out."""
    containers = []
    for line in output.splitlines():
        values = json.loads(line)
        health = re.search(r"\((?:health: )?(healthy|unhealthy|starting)\)", values["status"])
        since = re.sub(r" \(.*\)$", "", values["status"])
        if values["service"]:
            containers.append(
                Container(
                    host,
                    values["service"],
                    values["state"],
                    health.group(1) if health else "",
                    since,
                    values["image"],
                )
            )
    return containers
