#!/usr/bin/python
"""Starts a Docker engine where no init system does, and waits until it answers."""

from __future__ import annotations

import os
import shutil
import subprocess
import time
from pathlib import Path

from ansible.module_utils.basic import AnsibleModule
from ansible.module_utils.dap_lock import FOLDER, host_lock
from ansible.module_utils.dap_probe import output_of, process_of, search_path, text_of
from ansible.module_utils.dap_proxy import environment_path, parse_environment

DOCUMENTATION = r"""
module: dap_docker_start
short_description: Wait for the Docker engine, starting it where no init system does
description:
  - An engine that answers is left alone.
author: The authors of the data analysis platform
options:
  detached:
    description: Start the engine as a process of its own. Otherwise a service has been told to, and this only
        waits.
    type: bool
    required: true
  timeout:
    description: Seconds to wait for the engine's answer.
    type: int
    default: 60
  log:
    description: File that a detached engine writes to; its last lines are shown when it does not come up.
    type: path
    default: /var/log/dockerd.log
"""

EXAMPLES = r"""
- name: Start the engine
  dap_docker_start:
    detached: true
"""

RETURN = r"""
message:
  description: What was done.
  type: str
  returned: success
"""

_SHOWN_LINES = 20
# Left behind when the container or machine went down hard. A new process that happens to have the old number
# makes the engine believe that it runs already ("process with PID … is still running"), or wait for a
# containerd that isn't.
PID_FILES = {
    "/var/run/docker.pid": "dockerd",
    "/var/run/docker/containerd/containerd.pid": "containerd",
}
PROXY_FILES = Path(environment_path("*"))


def answers() -> bool:
    """Whether the engine answers."""
    return bool(output_of("docker", "version", "--format", "{{.Server.Version}}"))


def environment() -> dict[str, str]:
    """What the engine gets to know: where its programs lie, and its proxy; nothing else from here.

    The proxy is the one that platforms on this host have set, else the host's.
    """
    names = ("http_proxy", "https_proxy", "no_proxy")
    proxy = {name: value for name, value in os.environ.items() if name.lower() in names}
    for file in sorted(PROXY_FILES.parent.glob(PROXY_FILES.name)):
        values = parse_environment(text_of(str(file)))
        if values:
            proxy = values
    return {"PATH": search_path(), **proxy}


def start(log: str) -> subprocess.Popen[bytes] | None:
    """Start the engine in a session of its own, so that it outlives this one; None when it runs already.

    Raises:
        FileNotFoundError: the engine is not installed.
    """
    processes = {program: process_of(pid_file, program) for pid_file, program in PID_FILES.items()}
    if processes["dockerd"]:
        return None  # on its way up; it only has to be waited for
    for pid_file, program in PID_FILES.items():
        if not processes[program]:
            Path(pid_file).unlink(missing_ok=True)
    program_path = shutil.which("dockerd", path=search_path())
    if not program_path:
        raise FileNotFoundError("dockerd is not installed")
    with Path(log).open("ab") as output:
        return subprocess.Popen(  # noqa: S603 - fixed command
            [program_path],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            cwd="/",
            env=environment(),
            start_new_session=True,
        )


def wait(timeout: int, process: subprocess.Popen[bytes] | None) -> str:
    """Wait until the engine answers; returns why it doesn't, empty when it does."""
    end = time.monotonic() + timeout
    while not answers():
        if process is not None and process.poll() is not None:
            return f"the Docker engine ended at once (exit code {process.returncode})"
        if time.monotonic() > end:
            return f"the Docker engine does not answer after {timeout} s"
        time.sleep(0.3)
    return ""


def bring_up(timeout: int, log: str, lock: Path = FOLDER) -> tuple[bool, str]:
    """Start the engine unless it answers, and wait for it.

    Returns:
        whether it was started here, and why it does not answer (empty when it does).

    Raises:
        OSError: it cannot be started.
    """
    # Of two deploys at once, one starts it and the other finds it: two engines would take away each other's
    # socket.
    with host_lock("docker", lock):
        if answers():
            return False, ""
        process = start(log)
        return process is not None, wait(timeout, process)


def last_words(log: str, detached: bool) -> str:
    """The end of what the engine had to say, without what it merely mentions."""
    if detached:
        lines = [line for line in text_of(log).splitlines() if "level=info" not in line]
        return "\n".join(lines[-_SHOWN_LINES:])
    return str(output_of("journalctl", "--unit", "docker", "--no-pager", "--lines", str(_SHOWN_LINES)))


def main() -> None:
    """Run the module."""
    module = AnsibleModule(
        argument_spec={
            "detached": {"type": "bool", "required": True},
            "timeout": {"type": "int", "default": 60},
            "log": {"type": "path", "default": "/var/log/dockerd.log"},
        },
        supports_check_mode=True,
    )
    detached, log = module.params["detached"], module.params["log"]
    if answers():
        module.exit_json(changed=False, message="the Docker engine answers")
    if module.check_mode:
        module.exit_json(changed=detached, message="would start the Docker engine")
    timeout = module.params["timeout"]
    try:
        started, problem = bring_up(timeout, log) if detached else (False, wait(timeout, None))
    except OSError as error:
        module.fail_json(msg=f"the Docker engine cannot be started: {error}")
    if problem:
        where = log if detached else "journalctl --unit docker"
        module.fail_json(msg=f"{problem}; the end of its log ({where}):\n{last_words(log, detached)}")
    message = f"started the Docker engine, its log is {log}" if started else "the Docker engine answers"
    module.exit_json(changed=started, message=message)


if __name__ == "__main__":
    main()
