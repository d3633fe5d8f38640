#!/usr/bin/python
"""Hand images on from the host that has them to the others, through the platform's own registry."""

from __future__ import annotations

from pathlib import Path

from ansible.module_utils.basic import AnsibleModule
from ansible.module_utils.dap_build import BuildError
from ansible.module_utils.dap_docker import DockerError, NoEngineError, Progress, run_docker
from ansible.module_utils.dap_handing import Handed, Handing, Login

DOCUMENTATION = """
module: dap_handing
short_description: Hand images on from the host that has them to the others
author: The authors of the data analysis platform
options:
  state:
    type: str
    required: true
    choices: [pushed, pulled]
    description:
      - C(pushed) brings images of this host into the registry.
      - C(pulled) fetches those that this host lacks from there.
  root: {type: path, required: true, description: "The platform's folder; logs go into its folder log."}
  registry: {type: str, required: true, description: "The registry's name, with its port unless that is 443."}
  user: {type: str, required: true, description: An account there.}
  password: {type: str, required: true, description: Its password.}
  images:
    type: list
    elements: dict
    required: true
    description: The images.
    suboptions:
      name: {type: str, required: true, description: Its log is named after it.}
      reference: {type: str, required: true, description: What it is called on the hosts.}
      source: {type: str, required: true, description: What it is called in the registry.}
"""

RETURN = """
changed_items: {type: list, returned: always, description: A line for each image that came to this host.}
"""

RETRY_PAUSES = (5, 20)


def make_module() -> AnsibleModule:
    """The module with its parameters."""
    text = {"type": "str", "required": True}
    return AnsibleModule(
        argument_spec={
            "state": {"type": "str", "required": True, "choices": ["pushed", "pulled"]},
            "root": {"type": "path", "required": True},
            "registry": text,
            "user": text,
            "password": {"type": "str", "required": True, "no_log": True},
            "images": {
                "type": "list",
                "elements": "dict",
                "required": True,
                "options": {name: text for name in ("name", "reference", "source")},
            },
        },
        supports_check_mode=True,
    )


def hand(module: AnsibleModule) -> list[str]:
    """Do what was asked for; returns a line for each image that came to this host."""
    params = module.params
    root = Path(params["root"])
    login = Login(params["registry"], params["user"], params["password"])
    handing = Handing(login, root / "log", run_docker, RETRY_PAUSES)
    images = [Handed(**one) for one in params["images"]]
    if params["state"] == "pushed":
        # What is in the registry is nobody's but the platform's own, so no host is different for it.
        if not module.check_mode:
            with Progress(root / "log" / "progress") as progress:
                handing.push(images, progress)
        return []
    try:
        lacking = handing.lacking(images)
    except NoEngineError:
        if not module.check_mode:
            raise
        # Docker comes with this very deploy.
        lacking = images
    if not module.check_mode:
        with Progress(root / "log" / "progress") as progress:
            handing.pull(lacking, progress)
    return [f"image {image.reference} fetched from the service host" for image in lacking]


def main() -> None:
    """Run as an Ansible module."""
    module = make_module()
    try:
        items = hand(module)
    except (DockerError, BuildError, OSError) as error:
        module.fail_json(msg=str(error))
        return
    module.exit_json(changed=bool(items), changed_items=items)


if __name__ == "__main__":
    main()
