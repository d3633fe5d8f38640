"""Asks hosts for their development containers, and has them brought into state: one connection for each."""

from __future__ import annotations

import base64
import json
import subprocess
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from dap.configuration.inventory import Host
from dap.containers import argv_on
from dap.dev import on_host
from dap.dev.rendering import Rendered, folder_of, project_of
from dap.errors import EXIT_FAILED, EXIT_REFUSED, DapError
from dap.site import Site

_LIMIT_SECONDS = 600
_CALL = """
import sys
print(json.dumps(answer(json.loads(base64.b64decode({request!r})))))
"""
_FORMAT = (
    '{"name":{{json (.Label "dap.dev")}},"user":{{json (.Label "dap.dev.user")}},'
    '"environment":{{json (.Label "dap.dev.environment")}},"state":{{json .State}},'
    '"since":{{json .Status}},"image":{{json .Image}},'
    '"configuration":{{json (.Label "dap.dev.configuration")}}}'
)


class LackingError(DapError):
    """A host lacks what a deploy brings: an image, a network."""


@dataclass(frozen=True)
class Answer:
    """What a host has done.

    Attributes:
        outdated: containers that run as they were made, which is not how they would be made now.
    """

    changes: tuple[str, ...]
    outdated: tuple[str, ...] = ()


@dataclass(frozen=True)
class Seen:
    """A development container as its host's engine reports it."""

    name: str
    user: str
    environment: str
    host: str
    state: str
    since: str
    image: str
    configuration: str

    def as_json(self) -> dict[str, str]:
        """For ``--json``."""
        return asdict(self)


def ask(site: Site, host: Host, platform_id: str, verb: str, **more: Any) -> Answer:
    """Have a host do something.

    Raises:
        LackingError: it lacks what a deploy brings.
        DapError: it cannot be reached, or it cannot be done there.
    """
    request = {
        "verb": verb,
        "project": project_of(site),
        "folder": str(folder_of(site)),
        "data": str(site.platform.paths.data),
        "platform_id": platform_id,
        **more,
    }
    # Through standard input: what it holds is secret, and others see arguments.
    packed = base64.b64encode(json.dumps(request).encode()).decode()
    script = Path(on_host.__file__).read_text(encoding="utf-8") + _CALL.format(request=packed)
    python = str(host.variables.get("ansible_python_interpreter", "/usr/bin/python3"))
    done = _run(site, host, [python, "-"], script)
    lines = done.stdout.strip().splitlines()
    if done.returncode or not lines:
        said = done.stderr.strip().splitlines()[-1:] or ["no answer"]
        raise DapError(
            f"{host.name}: its development containers cannot be looked after: {said[0]}",
            f"dap -e {site.inventory.name} check",
        )
    told = json.loads(lines[-1])
    if "error" in told:
        kind = LackingError if "lacking" in told else DapError
        raise kind(
            "\n".join(f"{host.name}: {line}" for line in told["error"].splitlines()),
            "correct this, then run the same command again",
            exit_code=EXIT_REFUSED if "refused" in told else EXIT_FAILED,
        )
    return Answer(tuple(told["changes"]), tuple(told["outdated"]))


def bring_all(
    site: Site,
    platform_id: str,
    wanted: Mapping[str, Sequence[Rendered]],
    hosts: Sequence[Host],
    *,
    check: bool,
) -> dict[str, Answer | DapError]:
    """Bring all development containers of ``hosts`` into state, side by side; by host."""

    def bring(host: Host) -> Answer | DapError:
        boxes = [one.as_json() for one in wanted.get(host.name, ())]
        try:
            return ask(site, host, platform_id, "bring", wanted=boxes, complete=True, check=check)
        except DapError as error:
            return error

    with ThreadPoolExecutor(max_workers=16) as pool:
        return dict(zip((host.name for host in hosts), pool.map(bring, hosts), strict=True))


def seen(site: Site, hosts: Sequence[Host]) -> tuple[list[Seen], dict[str, str]]:
    """The development containers that there are, and why hosts could not be asked, by host."""
    unreached: dict[str, str] = {}

    def look(host: Host) -> list[Seen]:
        label = f"label=com.docker.compose.project={project_of(site)}"
        argv = ["docker", "ps", "--all", "--filter", label, "--format", _FORMAT]
        try:
            done = _run(site, host, argv)
        except DapError as error:
            unreached[host.name] = error.message
            return []
        if done.returncode:
            unreached[host.name] = (done.stderr.strip().splitlines() or ["no answer"])[-1]
            return []
        found = [json.loads(line) for line in done.stdout.splitlines()]
        return [Seen(host=host.name, **one) for one in found]

    with ThreadPoolExecutor(max_workers=16) as pool:
        every = [one for found in pool.map(look, hosts) for one in found]
    return sorted(every, key=lambda one: one.name), unreached


def _run(site: Site, host: Host, argv: Sequence[str], given: str = "") -> subprocess.CompletedProcess[str]:
    try:
        return subprocess.run(  # noqa: S603  our own argv, no shell
            argv_on(host, argv),
            input=given,
            capture_output=True,
            text=True,
            timeout=_LIMIT_SECONDS,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise DapError(
            f"{host.name}: Docker cannot be asked: {error}", f"dap -e {site.inventory.name} check"
        ) from error
