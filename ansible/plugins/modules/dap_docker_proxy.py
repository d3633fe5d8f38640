#!/usr/bin/python
"""Tells a host's Docker engine which proxy it reaches registries through."""

from __future__ import annotations

import os
from pathlib import Path

from ansible.module_utils.basic import AnsibleModule
from ansible.module_utils.dap_engine import proxy_restart
from ansible.module_utils.dap_probe import differing_proxy_files, engine_state, init_system
from ansible.module_utils.dap_proxy import Proxy, ProxyFile
from ansible.module_utils.dap_restart import RestartError, call, restart

DOCUMENTATION = r"""
module: dap_docker_proxy
short_description: Write the engine's proxy settings, and restart it when it runs with others
description:
  - An engine that runs with these settings already is left alone, and so is one whose proxy the operator has
    set when C(proxy) is empty.
  - Without an init system the engine is stopped; M(dap_docker_start) then starts it with the new settings.
author: The authors of the data analysis platform
options:
  platform:
    description: Name of the platform; files on the host are named after it.
    type: str
    required: true
  proxy:
    description: C(http), C(https) and C(no_proxy) (a list); empty to take the platform's settings back.
    type: dict
    default: {}
  restart:
    description: Restart a running engine that uses other settings.
    type: bool
    default: true
"""

EXAMPLES = r"""
- name: Tell the engine of the proxy
  dap_docker_proxy:
    platform: dap
    proxy:
      http: http://proxy.example.com:3128
      no_proxy: [localhost]
"""

RETURN = r"""
changed_items:
  description: What was done, in words.
  type: list
  returned: success
"""


def write(file: ProxyFile) -> None:
    """Put a file's text in place; one that is to go only becomes empty, so that a killed run is noticed."""
    path = Path(file.path)
    if file.content is None and not path.exists():
        return
    path.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
    new = path.with_name(f".{path.name}.new")
    new.unlink(missing_ok=True)
    number = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(number, "w", encoding="utf-8") as output:
        output.write(file.content or "")
    new.chmod(file.mode)
    new.replace(path)


def read_drop_ins(module: AnsibleModule, init: str) -> None:
    """Make systemd notice that files of its own have come or gone.

    Raises:
        RestartError: it did not work.
    """
    if init == "systemd":
        call(module, "systemctl", "daemon-reload")


def main() -> None:
    """Run the module."""
    module = AnsibleModule(
        argument_spec={
            "platform": {"type": "str", "required": True},
            "proxy": {"type": "dict", "default": {}},
            "restart": {"type": "bool", "default": True},
        },
        supports_check_mode=True,
    )
    platform, proxy = module.params["platform"], Proxy.of(module.params["proxy"])
    init = init_system()
    files = differing_proxy_files(platform, init, proxy)
    reason = proxy_restart(engine_state(), proxy, files) if module.params["restart"] else ""
    told = [f"{file.path} {'removed' if file.content is None else 'written'}" for file in files]
    told += [f"Docker restarted {reason}"] if reason else []
    if module.check_mode:
        module.exit_json(changed=bool(told), changed_items=told)
    try:
        for file in files:
            write(file)
        if files:
            read_drop_ins(module, init)
        if reason:
            restart(module, init)
        gone = [Path(file.path) for file in files if file.content is None]
        for path in gone:
            path.unlink(missing_ok=True)
        if gone:
            read_drop_ins(module, init)
    except (OSError, RestartError) as error:
        module.fail_json(msg=f"the Docker engine cannot be told of the proxy: {error}")
    module.exit_json(changed=bool(told), changed_items=told)


if __name__ == "__main__":
    main()
