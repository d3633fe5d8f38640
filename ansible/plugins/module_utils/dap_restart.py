"""Restarts a host's Docker engine, the way that the host starts services."""

from __future__ import annotations

import os
import signal
import time

from ansible.module_utils.basic import AnsibleModule

from .dap_probe import process_of, search_path

PID_FILE = "/var/run/docker.pid"
# Containers get ten seconds to stop, and the engine fifteen for all of them.
STOP_SECONDS = 60


class RestartError(Exception):
    """The engine could not be stopped or restarted; says why, and what to do."""


def stop_detached() -> None:
    """End an engine that no service started, and wait until it is gone.

    Raises:
        RestartError: it is not known which process it is, or it does not end.
    """
    process = process_of(PID_FILE, "dockerd")
    if not process:
        raise RestartError(
            f"{PID_FILE} does not tell which process the engine is: stop it, then deploy again"
        )
    os.kill(process, signal.SIGTERM)
    end = time.monotonic() + STOP_SECONDS
    while process_of(PID_FILE, "dockerd"):
        if time.monotonic() > end:
            raise RestartError(f"the engine (process {process}) did not end within {STOP_SECONDS} s")
        time.sleep(0.2)


def restart(module: AnsibleModule, init: str) -> None:
    """Restart the engine the way its host starts services.

    Raises:
        RestartError: it did not work.
    """
    if init == "none":
        stop_detached()
    elif init == "sysv":
        call(module, "service", "docker", "restart")
    else:
        call(module, "systemctl", "restart", "docker.service")


def call(module: AnsibleModule, *command: str) -> None:
    """Run a command.

    Raises:
        RestartError: it failed; says why.
    """
    status, output, errors = module.run_command(list(command), environ_update={"PATH": search_path()})
    if status:
        said = (errors or output).strip()
        raise RestartError(f"{' '.join(command)} failed: {said}. The log of the service docker has more")
