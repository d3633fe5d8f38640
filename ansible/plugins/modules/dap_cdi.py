#!/usr/bin/python
"""Lets a host's Docker engine hand out devices by CDI."""

from __future__ import annotations

import json
import os
from pathlib import Path

from ansible.module_utils.basic import AnsibleModule
from ansible.module_utils.dap_gpus import look
from ansible.module_utils.dap_lock import host_lock
from ansible.module_utils.dap_probe import init_system, text_of
from ansible.module_utils.dap_restart import RestartError, restart

DOCUMENTATION = r"""
module: dap_cdi
short_description: Let a Docker engine hand out devices by CDI
description:
  - An engine that does is left alone, as those from 28.2 on do by themselves.
  - Others are told to in their C(daemon.json), whose other settings stay, and restarted, as they read that
    only when they start.
  - Without an init system the engine is stopped; M(dap_docker_start) then starts it.
author: The authors of the data analysis platform
options:
  settings:
    description: The engine's settings.
    type: path
    default: /etc/docker/daemon.json
"""

EXAMPLES = r"""
- name: Let the engine hand out devices
  dap_cdi: {}
"""

RETURN = r"""
changed_items:
  description: What was done, in words.
  type: list
  returned: success
detached:
  description: Whether no init system starts the engine.
  type: bool
  returned: success
"""


class SettingsError(Exception):
    """The engine's settings are none; says why."""


def with_cdi(text: str) -> str:
    """The engine's settings with CDI switched on.

    Raises:
        SettingsError: they are no JSON object.
    """
    try:
        settings = json.loads(text or "{}")
    except ValueError as error:
        raise SettingsError(str(error)) from error
    features = settings.setdefault("features", {}) if isinstance(settings, dict) else None
    if not isinstance(features, dict):
        raise SettingsError("it holds no settings of an engine")
    features["cdi"] = True
    return json.dumps(settings, indent=2) + "\n"


def write(path: Path, text: str) -> None:
    """Replace a file in one step; a new one can be read by everybody."""
    path.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
    mode = path.stat().st_mode & 0o7777 if path.exists() else 0o644
    new = path.with_name(f".{path.name}.new")
    new.unlink(missing_ok=True)
    number = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(number, "w", encoding="utf-8") as output:
        output.write(text)
    new.chmod(mode)
    new.replace(path)


def main() -> None:
    """Run the module."""
    module = AnsibleModule(
        argument_spec={"settings": {"type": "path", "default": "/etc/docker/daemon.json"}},
        supports_check_mode=True,
    )
    path, init = Path(module.params["settings"]), init_system()
    with host_lock("docker-settings"):
        if look()["cdi"]:
            module.exit_json(changed=False, changed_items=[], detached=init == "none")
        before = text_of(str(path))
        told = [f"{path}: CDI switched on", "Docker restarted to hand out devices by CDI"]
        try:
            after = with_cdi(before)
            if not module.check_mode:
                write(path, after)
                restart(module, init)
        except (SettingsError, OSError) as error:
            module.fail_json(msg=f"CDI cannot be switched on in {path}: {error}. Correct that file")
        except RestartError as error:
            module.fail_json(msg=f"the Docker engine cannot be restarted to hand out devices by CDI: {error}")
    module.exit_json(
        changed=True,
        changed_items=told,
        detached=init == "none",
        diff={"before_header": str(path), "after_header": str(path), "before": before, "after": after},
    )


if __name__ == "__main__":
    main()
