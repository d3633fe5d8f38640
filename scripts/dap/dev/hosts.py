"""Asks hosts for their development containers, and has them brought into state: one connection for each."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

from dap.configuration.inventory import Host
from dap.dev import boxes, looking, on_host, quota
from dap.dev.rendering import Rendered, folder_of, project_of
from dap.errors import EXIT_FAILED, EXIT_REFUSED, DapError
from dap.hosts import scripts
from dap.site import Site


class LackingError(DapError):
    """A host lacks what a deploy brings: an image, a network."""


@dataclass(frozen=True)
class Answer:
    """What a host has done.

    Attributes:
        outdated: containers that run as they were made, which is not how they would be made now.
        watched: folders whose file systems do not hold homes to their limits.
    """

    changes: tuple[str, ...]
    outdated: tuple[str, ...] = ()
    watched: tuple[str, ...] = ()


@dataclass(frozen=True)
class Seen:
    """A development container as its host reports it.

    Attributes:
        image: its reference, by which a job of a pipeline runs in the same image.
        image_id: its digest as the host's engine has it; other kinds have another one for the same image.
        since: when it came into this state; this and all other times as the engine tells them (ISO 8601).
        image_built: when its image was built.
        connections: of SSH, at present.
        last_login: when its user has logged in or left last; empty for never.
        kernels: of its JupyterLab, at present.
        busy_kernels: those of them that are at work.
        last_kernel: when one of them has done something last; empty where there are none.
        code_connections: of browsers with VS Code, at present; a window has some.
        cpu: how many processors it takes at present.
        gpus: the devices that it has, by their CDI names.
        home_used: the bytes in its user's home; None where nobody has looked yet.
        home_kept: whether its file system holds homes to their limits.
        gpu: how much the busiest of them calculates at present, in percent; None where it has none, or where
            nobody can tell.
    """

    name: str
    user: str
    environment: str
    host: str
    state: str
    since: str
    image: str
    image_id: str
    configuration: str
    image_built: str
    connections: int
    last_login: str
    kernels: int
    busy_kernels: int
    last_kernel: str
    cpu: float
    code_connections: int = 0
    gpus: Sequence[str] = ()
    home_used: int | None = None
    home_kept: bool = False
    gpu: int | None = None


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
    told = _told(site, host, on_host, request)
    if "error" in told:
        kind = LackingError if "lacking" in told else DapError
        raise kind(
            "\n".join(f"{host.name}: {line}" for line in told["error"].splitlines()),
            "correct this, then run the same command again",
            exit_code=EXIT_REFUSED if "refused" in told else EXIT_FAILED,
        )
    return Answer(tuple(told["changes"]), tuple(told["outdated"]), tuple(told["watched"]))


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
        containers = [one.as_json() for one in wanted.get(host.name, ())]
        try:
            return ask(site, host, platform_id, "bring", wanted=containers, complete=True, check=check)
        except DapError as error:
            return error

    with ThreadPoolExecutor(max_workers=16) as pool:
        return dict(zip((host.name for host in hosts), pool.map(bring, hosts), strict=True))


def seen(site: Site, hosts: Sequence[Host]) -> tuple[list[Seen], dict[str, str]]:
    """The development containers that there are, and why hosts could not be asked, by host."""
    unreached: dict[str, str] = {}
    request = {"project": project_of(site), "data": str(site.platform.paths.data)}

    def look(host: Host) -> list[Seen]:
        try:
            told = _told(site, host, looking, request)
        except DapError as error:
            unreached[host.name] = error.message
            return []
        if "error" in told:
            unreached[host.name] = told["error"]
            return []
        return [Seen(host=host.name, **one) for one in told["containers"]]

    with ThreadPoolExecutor(max_workers=16) as pool:
        every = [one for found in pool.map(look, hosts) for one in found]
    return sorted(every, key=lambda one: one.name), unreached


def _told(site: Site, host: Host, module: ModuleType, request: Mapping[str, Any]) -> dict[str, Any]:
    """What a module says that is run on a host, with those that it imports.

    Raises:
        DapError: it cannot be run there.
    """
    otherwise = "its development containers cannot be looked after"
    modules = {one.__name__: Path(str(one.__file__)) for one in (boxes, quota, module)}
    return scripts.told_by(site.inventory.name, host, modules, request, otherwise)
