"""Commands in running containers, each with an input of its own."""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from typing import Any

from .dap_docker import Container, DockerError, run_docker

_TEXT = {"type": "str", "required": True}
# What a command is, as a module takes it.
COMMAND_OPTIONS: dict[str, Any] = {
    "service": _TEXT,
    "command": {"type": "list", "elements": "str", "required": True},
    "input": {**_TEXT, "no_log": True},
    "secret": {**_TEXT, "no_log": True},
    "change": _TEXT,
}


def container_of(containers: Sequence[Container], service: str) -> Container:
    """The running container of a service.

    Raises:
        DockerError: there is none.
    """
    for container in containers:
        if container.service == service and container.well and not container.one_off:
            return container
    raise DockerError(f"{service} does not run")


def execute(entry: Mapping[str, Any], container: Container, wait_seconds: int) -> None:
    """Run one command.

    Raises:
        DockerError: it failed; its last words are in the message.
    """
    given = base64.b64decode(entry["input"]).decode()
    argv = ["exec", "--interactive", container.identifier, *entry["command"]]
    finished = run_docker(argv, timeout=wait_seconds, stdin=given)
    if finished.returncode:
        said = [line for line in finished.stderr.splitlines() if line.strip()]
        words = "".join(f"\n  {line}" for line in said[-5:])
        program = " ".join(entry["command"])
        raise DockerError(f"{entry['service']}: {program} ended with status {finished.returncode}{words}")
