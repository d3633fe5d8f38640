#!/usr/bin/python
"""Run commands in the running containers of a Compose project, each with an input of its own."""

from __future__ import annotations

import os

from ansible.module_utils.basic import AnsibleModule
from ansible.module_utils.dap_commands import COMMAND_OPTIONS, container_of, execute
from ansible.module_utils.dap_docker import DockerError, project_containers, run_docker
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


def main() -> None:
    """Run as an Ansible module."""
    module = AnsibleModule(
        argument_spec={
            "project": {"type": "str", "required": True},
            "wait_seconds": {"type": "int", "default": 300},
            "commands": {
                "type": "list",
                "elements": "dict",
                "required": True,
                "options": COMMAND_OPTIONS,
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
