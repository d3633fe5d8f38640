#!/usr/bin/python
"""Start, provision or remove the platform's Compose project, and say what that changed."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible.module_utils.dap_docker import (
    PROJECT_LABEL,
    TIMED_OUT,
    Container,
    DockerError,
    Finished,
    NoEngineError,
    Progress,
    Run,
    elapsed,
    project_containers,
    run_docker,
    tail,
)
from ansible.module_utils.dap_files import PENDING, Tree
from ansible.module_utils.dap_probe import search_path
from ansible.module_utils.dap_project import (
    LOG_LINES,
    Difference,
    compare,
    describe_failure,
    parse_hashes,
    predict,
    to_signal,
)

DOCUMENTATION = """
module: dap_compose
short_description: Start, provision or remove the platform's Compose project
author: The authors of the data analysis platform
options:
  state:
    type: str
    default: up
    choices: [up, run, absent]
    description:
      - C(up) starts what differs, removes what is no longer wanted, and waits until all of it is well.
      - C(run) runs one container to its end; its last line is JSON with C(changed) (a list) and C(ok).
      - Before that it starts C(services), on which the job works.
      - C(absent) removes containers and networks, found by their label; data and images stay.
  project_directory: {type: path, required: true, description: "The folder with compose.yaml."}
  project: {type: str, required: true, description: "The name of the project."}
  wait_seconds: {type: int, default: 300, description: "How long to wait for C(up) or C(run)."}
  services:
    type: list
    elements: str
    default: []
    description: Only these services and what they need; all if empty, and then orphans are removed too.
  expected:
    type: list
    elements: str
    default: []
    description:
      - All services that run. Where just these run well, and no file has changed, Compose is not asked.
  reload:
    type: list
    elements: dict
    default: []
    description: Services that read changed files again at a signal, without a restart.
  changed_paths:
    type: list
    elements: str
    default: []
    description: Files that changed, or would in check mode, beside those in C(.pending.json).
  services_changed: {type: bool, default: false, description: "In check mode, that C(up) would change them."}
  arguments: {type: list, elements: str, default: [], description: "What C(run) runs, service first."}
"""

RETURN = """
created: {type: list, returned: up, description: "Services with a new container."}
recreated: {type: list, returned: up, description: "Services whose container was replaced."}
restarted: {type: list, returned: up, description: "Services whose container was started again."}
removed: {type: list, returned: up and absent, description: "Services whose containers are gone."}
reloaded: {type: list, returned: up, description: "Services that got their signal."}
changes: {type: list, returned: run, description: "What the job changed, or would change."}
ok: {type: int, returned: run, description: "How many things the job found in order."}
"""

COMPOSE_FILE = "compose.yaml"
POLL_SECONDS: float = 3


class Project:
    """A Compose project on this host."""

    def __init__(self, given: Mapping[str, Any], run: Run) -> None:
        self.root = Path(given["project_directory"])
        self.name: str = given["project"]
        self.wait_seconds: int = given["wait_seconds"]
        self.services: list[str] = given["services"]
        self.expected: list[str] = given["expected"]
        self.reload: list[dict[str, Any]] = given["reload"]
        self.arguments: list[str] = given["arguments"]
        self.changed_paths = {*given["changed_paths"], *Tree(self.root).owned(PENDING)}
        self.services_changed = given["services_changed"] or bool(self.changed_paths)
        self.run = run
        self.progress = Progress(self.root / "log" / "progress")
        self.log = self.root / "log" / "up.log"

    def compose(self, *arguments: str) -> list[str]:
        """The arguments of ``docker`` for a command on this project's files."""
        return ["compose", "--project-directory", str(self.root), "-p", self.name, *arguments]

    def containers(self) -> list[Container]:
        """All containers of the project."""
        return list(project_containers(self.run, self.name))

    def start(self) -> bool:
        """Run ``up`` and wait; returns whether everything got well in time.

        The limit is kept here: Compose (2.26) waits without one for a service that others depend on.
        """
        # Images are there already, so that a missing one is an error here and not a surprise from a registry.
        up = ["up", "--detach", "--wait", "--wait-timeout", str(self.wait_seconds), "--no-build"]
        up += ["--pull", "never", "--quiet-pull"]
        argv = ["docker", *self.compose(*up, *(self.services or ["--remove-orphans"]))]
        started = time.monotonic()
        with self.progress, self.log.open("wb") as output:
            process = subprocess.Popen(  # noqa: S603 - the module's own command
                argv,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                cwd=self.root,
                start_new_session=True,
            )
            try:
                while time.monotonic() - started < self.wait_seconds:
                    with contextlib.suppress(subprocess.TimeoutExpired):
                        return process.wait(timeout=POLL_SECONDS) == 0
                    waiting = {
                        item.service for item in self.containers() if not item.well and not item.one_off
                    }
                    self.progress.say(
                        f"starting {elapsed(started)}: waiting for {', '.join(sorted(waiting))}"
                    )
                return False
            finally:
                end(process)

    def settled(self, containers: Sequence[Container]) -> bool:
        """Whether the wanted services run well, and no file has changed: then Compose need not be asked.

        It compares the same things and takes a second for that. What it would notice besides, an image tag
        that means another image now, does not happen to tags that name their content.
        """
        if self.changed_paths:
            return False
        present = {item.service for item in containers if not item.one_off}
        well = {item.service for item in containers if item.well and not item.one_off}
        if self.services:
            return well.issuperset(self.services)
        return bool(self.expected) and well == present == set(self.expected)

    def tell(self, touched: set[str], containers: Sequence[Container]) -> list[str]:
        """Send the signals that are due, then forget the changed files; returns the services told."""
        told = []
        for service, name in to_signal(self.reload, self.changed_paths, touched):
            running = [item.identifier for item in containers if item.service == service and item.well]
            if running:
                sent = self.run(["kill", "--signal", name, *running])
                if sent.returncode:
                    raise DockerError(f"{service} did not take signal {name}: {sent.last_words}")
                told.append(service)
        (self.root / PENDING).unlink(missing_ok=True)
        return told

    def remove_one_off(self, service: str, containers: Sequence[Container]) -> None:
        """Remove the containers of jobs that nobody waits for any more."""
        left = [item.identifier for item in containers if item.one_off and item.service == service]
        if left:
            self.run(["rm", "--force", *left])

    def failure(self, containers: Sequence[Container]) -> str:
        """What is wrong, with the services' own last words."""
        logs = {}
        for container in containers:
            if not container.well and container.status != "created":
                said = self.run(["logs", "--tail", str(LOG_LINES), container.identifier])
                logs[container.name] = said.stdout + said.stderr
        described = describe_failure(containers, logs, tail(self.log, 40))
        return f"{described}\n  log: {self.log}"


def end(process: subprocess.Popen[bytes]) -> None:
    """End a client and the plugin that it started, if they still run."""
    for signal_number in (signal.SIGTERM, signal.SIGKILL):
        if process.poll() is not None:
            return
        os.killpg(process.pid, signal_number)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(timeout=10)


def up(project: Project) -> dict[str, Any]:
    """Start the project; a key ``msg`` in the result says what failed."""
    before = project.containers()
    if project.settled(before):
        return {**compare(before, before).result(), "reloaded": []}
    well = project.start()
    after = project.containers()
    difference = compare(before, after)
    if not well:
        return {**difference.result(), "reloaded": [], "msg": project.failure(after)}
    # The signals are sent when all services are up, and to each once.
    told = [] if project.services else project.tell(difference.touched, after)
    result = difference.result()
    return {**result, "changed": result["changed"] or bool(told), "reloaded": told}


def predict_up(project: Project) -> dict[str, Any]:
    """What ``up`` would do. Known only in part where files would change first, which is a change itself."""
    difference = Difference()
    if (project.root / COMPOSE_FILE).exists():
        printed = project.run(project.compose("config", "--hash", "*"))
        if printed.returncode and not project.changed_paths:
            return {"changed": False, "msg": f"docker compose: {printed.last_words}"}
        if not printed.returncode:
            difference = predict(parse_hashes(printed.stdout), project.containers())
    result = difference.result()
    told = [service for service, _ in to_signal(project.reload, project.changed_paths, difference.touched)]
    changed = result["changed"] or bool(project.changed_paths)
    return {**result, "changed": changed, "reloaded": told}


def run_job(project: Project, check: bool) -> dict[str, Any]:
    """Run a container to its end and read what it changed."""
    containers = project.containers()
    if check and (project.services_changed or not any(item.well for item in containers)):
        return {"changed": True, "changes": ["known once the services run with their new files"], "ok": 0}
    started = up(project) if project.services and not check else {}
    if "msg" in started:
        return started
    service = project.arguments[0]
    # One may be left over from a deploy that was killed; two of them would work against each other.
    project.remove_one_off(service, containers)
    argv = project.compose(
        "run", "--rm", "--no-deps", "-T", *project.arguments, *(["--check"] if check else [])
    )
    with project.progress:
        project.progress.say(f"provisioning: {' '.join(project.arguments)}")
        finished = project.run(argv)
    if finished.returncode == TIMED_OUT:
        project.remove_one_off(service, project.containers())
    result = job_result(finished, service)
    return {**started, **result, "changed": result["changed"] or started.get("changed", False)}


def job_result(finished: Finished, service: str) -> dict[str, Any]:
    """Read what a job wrote; a key ``msg`` in the result says what failed."""
    lines = [line for line in finished.stdout.splitlines() if line.strip()]
    if finished.returncode:
        said = [
            line
            for line in finished.stderr.splitlines()
            if line.strip() and not line.startswith(" Container ")
        ]
        words = "\n".join(f"  {line}" for line in (said or lines)[-LOG_LINES:])
        return {"changed": False, "msg": f"{service} ended with status {finished.returncode}:\n{words}"}
    try:
        summary = json.loads(lines[-1])
        changes, in_order = list(summary["changed"]), int(summary["ok"])
    except (ValueError, KeyError, TypeError, IndexError):
        last = lines[-1][:200] if lines else "nothing"
        return {"changed": False, "msg": f"{service} should end with a summary in JSON, but wrote: {last}"}
    return {"changed": bool(changes), "changes": changes, "ok": in_order}


def remove(project: Project, check: bool) -> dict[str, Any]:
    """Remove containers and networks, whatever has become of the files that made them."""
    selection = ["--filter", f"label={PROJECT_LABEL}={project.name}"]
    containers = project.containers()
    networks = project.run(["network", "ls", "--quiet", *selection]).stdout.split()
    services = sorted({container.service for container in containers})
    result = {"changed": bool(containers or networks), "removed": services}
    if check or not result["changed"]:
        return result
    # From a folder without a Compose file, so that labels decide; in the order of their dependencies.
    project.run(["compose", "--project-directory", "/", "-p", project.name, "down", "--remove-orphans"])
    left = [container.identifier for container in project.containers()]
    if left:
        project.run(["rm", "--force", *left])
    left_networks = project.run(["network", "ls", "--quiet", *selection]).stdout.split()
    for network in left_networks:
        removed = project.run(["network", "rm", network])
        if removed.returncode:
            return {**result, "msg": f"a network of {project.name} cannot be removed: {removed.last_words}"}
    return result


def changed_items(result: Mapping[str, Any]) -> list[str]:
    """What changed, one line for each thing."""
    verbs = ("created", "recreated", "restarted", "removed", "reloaded")
    lines = [f"{service}: container {verb}" for verb in verbs for service in result.get(verb, [])]
    return [*lines, *result.get("changes", [])]


def make_module() -> AnsibleModule:
    """The module with its parameters."""
    strings = {"type": "list", "elements": "str"}
    text = {"type": "str", "required": True}
    return AnsibleModule(
        argument_spec={
            "state": {"type": "str", "default": "up", "choices": ["up", "run", "absent"]},
            "project_directory": {"type": "path", "required": True},
            "project": text,
            "wait_seconds": {"type": "int", "default": 300},
            "services": {**strings, "default": []},
            "expected": {**strings, "default": []},
            "reload": {
                "type": "list",
                "elements": "dict",
                "default": [],
                "options": {"service": text, "signal": text, "paths": {**strings, "required": True}},
            },
            "changed_paths": {**strings, "default": []},
            "services_changed": {"type": "bool", "default": False},
            "arguments": {**strings, "default": []},
        },
        required_if=[("state", "run", ["arguments"])],
        supports_check_mode=True,
    )


def without_engine(module: AnsibleModule, reason: str) -> None:
    """End the module where the lack of an engine is no failure."""
    if module.params["state"] == "absent":
        if "not installed" not in reason:
            module.warn(f"{reason}; containers of {module.params['project']} would be back when it starts")
        module.exit_json(changed=False, removed=[])
    if module.check_mode:
        # Docker comes with this very deploy, so nothing runs yet.
        module.exit_json(changed=True)


def main() -> None:
    """Run as an Ansible module."""
    module = make_module()
    given = module.params
    os.environ["PATH"] = search_path()
    # Compose would take these for the project's own settings.
    for name in ("COMPOSE_FILE", "COMPOSE_PROFILES", "COMPOSE_PROJECT_NAME"):
        os.environ.pop(name, None)
    try:
        project = Project(given, lambda argv: run_docker(argv, timeout=given["wait_seconds"] + 60))
        if given["state"] == "absent":
            result = remove(project, module.check_mode)
        elif given["state"] == "run":
            result = run_job(project, module.check_mode)
        else:
            result = predict_up(project) if module.check_mode else up(project)
    except DockerError as error:
        if isinstance(error, NoEngineError):
            without_engine(module, str(error))
        module.fail_json(msg=str(error))
        return
    result["changed_items"] = changed_items(result)
    if "msg" in result:
        module.fail_json(**result)
    module.exit_json(**result)


if __name__ == "__main__":
    main()
