#!/usr/bin/python
"""Run commands in the running containers of a Compose project, each with an input of its own."""

from __future__ import annotations

import base64
import os
from collections.abc import Mapping, Sequence
from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible.module_utils.dap_docker import Container, DockerError, project_containers, run_docker
from ansible.module_utils.dap_probe import search_path

DOCUMENTATION = """
module: dap_exec
short_description: Run commands in the running containers of a Compose project
description:
  - Each command gets its input on standard input, so that secrets in it are in no list of arguments.
  - A command must be one that may run again, because a run that was killed is repeated.
author: The authors of the data analysis platform
options:
  project: {type: str, required: true, description: "The name of the project."}
  wait_seconds: {type: int, default: 300, description: "How long each command may take."}
  commands:
    type: list
    elements: dict
    required: true
    description:
      - C(service) to run in, the C(command) as a list, its C(input) in base64, the C(change) that it makes.
      - C(secret) is what no message may show, whatever the command says.
"""

RETURN = """
changed_items: {type: list, returned: always, description: "What was changed, or would be."}
"""


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


def main() -> None:
    """Run as an Ansible module."""
    text = {"type": "str", "required": True}
    module = AnsibleModule(
        argument_spec={
            "project": text,
            "wait_seconds": {"type": "int", "default": 300},
            "commands": {
                "type": "list",
                "elements": "dict",
                "required": True,
                "options": {
                    "service": text,
                    "command": {"type": "list", "elements": "str", "required": True},
                    "input": {**text, "no_log": True},
                    "secret": {**text, "no_log": True},
                    "change": text,
                },
            },
        },
        supports_check_mode=True,
    )
    given = module.params
    os.environ["PATH"] = search_path()
    changed_items: list[str] = []
    try:
        containers = [] if module.check_mode else project_containers(run_docker, given["project"])
        for entry in given["commands"]:
            if not module.check_mode:
                execute(entry, container_of(containers, entry["service"]), given["wait_seconds"])
            changed_items.append(entry["change"])
    except DockerError as error:
        module.fail_json(msg=str(error), changed_items=changed_items)
        return
    module.exit_json(changed=bool(changed_items), changed_items=changed_items)


if __name__ == "__main__":
    main()
