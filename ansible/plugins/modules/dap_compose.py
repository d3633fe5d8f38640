#!/usr/bin/python
"""Start, provision or remove the platform's Compose project, and say what that changed."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible.module_utils.dap_commands import COMMAND_OPTIONS, container_of, execute
from ansible.module_utils.dap_compose_project import Project
from ansible.module_utils.dap_docker import (
    PROJECT_LABEL,
    Container,
    DockerError,
    NoEngineError,
    run_docker,
    run_heeding,
)
from ansible.module_utils.dap_files import TreeError
from ansible.module_utils.dap_job import without_servers
from ansible.module_utils.dap_planned import COMPOSE_FILE, explain, laid_out
from ansible.module_utils.dap_probe import search_path
from ansible.module_utils.dap_project import Difference, compare, parse_hashes, predict, to_signal

JOBS_LABEL = "dap.jobs"
VOLUMES = '{{range .Mounts}}{{if eq .Type "volume"}}{{.Name}} {{end}}{{end}}'

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
      - In check mode a job does not ask those of them that do not run yet.
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
  alone:
    type: bool
    default: false
    description: Only C(services) and their files count. What they need has to run already.
  left_paths:
    type: list
    elements: str
    default: []
    description: Files that differ and stay so; told along with the containers.
  touched:
    type: list
    elements: str
    default: []
    description: Services that were started in this run already, and so need no signal.
  planned_files:
    type: list
    elements: dict
    default: []
    description: The Compose files as they would be, for check mode. The project's own is JSON.
  arguments: {type: list, elements: str, default: [], description: "What C(run) runs, service first."}
  settled_arguments:
    type: list
    elements: str
    default: []
    description:
      - What C(run) runs instead, where all of C(expected) run well and no file has changed.
      - Then the result C(complete) says whether the job has done all that it would do later, too.
  job_input:
    type: str
    default: ""
    description: What the job has to bring about, in base64, to be read by it instead of the file that it has.
  commands:
    type: list
    elements: dict
    default: []
    description:
      - What makes tokens of which the job says that services do not accept them, each with its C(key).
      - Otherwise as in M(dap_exec).
      - A job that says so is run once more after the command.
"""

RETURN = """
created: {type: list, returned: up, description: "Services with a new container."}
recreated: {type: list, returned: up, description: "Services whose container was replaced."}
restarted: {type: list, returned: up, description: "Services whose container was started again."}
removed: {type: list, returned: up and absent, description: "Services whose containers are gone."}
reloaded: {type: list, returned: up, description: "Services that got their signal."}
changes: {type: list, returned: run, description: "What the job changed, or would change."}
ok: {type: int, returned: run, description: "How many things the job found in order."}
dap:
  type: dict
  returned: always
  description:
    - C(containers) lists what happens to them, each with C(service), C(action), in check mode C(reasons).
    - C(provisioning) lists the changes of the job, C(asked) the servers that it has looked at in check mode.
    - C(unasked) says of a server why it could not look at it, C(reason) of the rest.
    - C(renew) lists the keys of secrets for which the job wants new values.
    - C(sealed) holds tokens that the job was given, for the program alone to read.
    - C(left_paths) are those given to C(up).
"""


def up(project: Project, *, tell: bool = True) -> dict[str, Any]:
    """Start the project; a key ``msg`` in the result says what failed.

    Args:
        tell: whether services are told of changed files: at the end of a deploy, and to each once.
    """
    before = project.containers()
    if project.settled(before):
        return {**compare(before, before).result(), "reloaded": []}
    well = project.start()
    after = project.containers()
    difference = compare(before, after)
    if not well:
        return {**difference.result(), "reloaded": [], "msg": project.failure(after)}
    told = project.tell(difference.touched, after) if tell else []
    result = difference.result()
    return {**result, "changed": result["changed"] or bool(told), "reloaded": told}


def predict_up(project: Project) -> dict[str, Any]:
    """What ``up`` would do, and why; a key ``msg`` in the result says what is wrong with the files."""
    there = (project.root / COMPOSE_FILE).exists()
    containers, difference, why = project.containers(), Difference(), []
    with laid_out(project.root, project.planned_files) as arguments:
        if arguments or there:
            printed = project.run(project.compose(*arguments, "config", "--hash", "*"))
            if printed.returncode and project.run(["compose", "version"]).returncode:
                raise NoEngineError("Docker has no Compose")
            if printed.returncode:
                words = printed.last_words
                if arguments:
                    words = words.replace(str(Path(arguments[-1]).parent), str(project.root))
                return {"changed": False, "msg": f"docker compose: {words}"}
            wanted = set(project.services) if project.alone else None
            difference = predict(parse_hashes(printed.stdout), containers, wanted)
        signals = to_signal(project.reload, project.changed_paths, difference.touched)
        told = [service for service, _ in signals]
        result = difference.result()
        if result["changed"] or told:
            old = project.configuration() if there else {}
            new = project.configuration(*arguments) if arguments else old
            why = explain(difference, told, containers, (old, new), project.changed_paths)
    return {**result, "changed": result["changed"] or bool(told), "reloaded": told, "explained": why}


def run_job(project: Project, check: bool) -> dict[str, Any]:
    """Run a container to its end and read what it changed."""
    containers = project.containers()
    if check:
        return check_job(project, containers)
    if project.settled_arguments and project.all_settled(containers):
        project.arguments = project.settled_arguments
    started = up(project, tell=False) if project.services else {}
    if "msg" in started:
        return started
    result = project.job(containers, project.job_input)
    if result.get("wants"):
        result = with_tokens(project, containers, result)
    return {**started, **result, "changed": result["changed"] or started.get("changed", False)}


def with_tokens(
    project: Project, containers: Sequence[Container], first: Mapping[str, Any]
) -> dict[str, Any]:
    """Make the tokens that a job wants, then run it again."""
    made = []
    with project.progress:
        for entry in wanted_commands(project, first):
            project.progress.say(f"{entry['service']}: {' '.join(entry['command'])}")
            execute(entry, container_of(containers, entry["service"]), project.wait_seconds)
            made.append(entry["change"])
    second = project.job(containers, project.job_input)
    if still := second.get("wants"):
        second["msg"] = f"{', '.join(still)}: not accepted, although it was just set"
    changes = [*first["changes"], *made, *second.get("changes", [])]
    return {**second, "changed": bool(changes), "changes": changes}


def wanted_commands(project: Project, result: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The commands for the tokens that a job wants."""
    return [entry for entry in project.commands if entry["key"] in result.get("wants", [])]


def check_job(project: Project, containers: Sequence[Container]) -> dict[str, Any]:
    """Let the job say what it would change, as far as its servers run; the others cannot be asked."""
    running = {item.service for item in containers if item.well and not item.one_off}
    absent = {name for name in (*project.services, *project.expected) if name not in running}
    state = without_servers(project.job_input, absent)
    unasked = dict.fromkeys(absent, "does not run")
    nothing = {"changed": False, "changes": [], "ok": 0, "asked": [], "unasked": unasked}
    if not (project.root / COMPOSE_FILE).exists() or (absent and not state):
        return nothing
    result = project.job(containers, state, "--check")
    if "msg" in result:
        # A deploy brings the jobs themselves into state first.
        return {**nothing, "reason": result["msg"]}
    changes = [*result["changes"], *(entry["change"] for entry in wanted_commands(project, result))]
    unasked = {**result["unasked"], **unasked}
    return {**result, "changed": bool(changes), "changes": changes, "unasked": unasked}


def end_jobs(project: Project) -> None:
    """Remove the containers of CI jobs: nobody is there any more for what they would say."""
    jobs = project.run(["ps", "--all", "--quiet", "--filter", f"label={JOBS_LABEL}={project.name}"])
    containers = jobs.stdout.split()
    if not containers:
        return
    # Where their files were; these have names, and so do not go with the containers.
    volumes = project.run(["inspect", "--format", VOLUMES, *containers]).stdout.split()
    project.run(["rm", "--force", "--volumes", *containers])
    if volumes:
        project.run(["volume", "rm", "--force", *sorted({*volumes})])


def remove(project: Project, check: bool) -> dict[str, Any]:
    """Remove containers and networks, whatever has become of the files that made them."""
    selection = ["--filter", f"label={PROJECT_LABEL}={project.name}"]
    containers = project.containers()
    networks = project.run(["network", "ls", "--quiet", *selection]).stdout.split()
    services = sorted({container.service for container in containers})
    result = {"changed": bool(containers or networks), "removed": services}
    if check or not result["changed"]:
        return result
    end_jobs(project)
    # From a folder without a Compose file, so that labels decide; in the order of their dependencies.
    project.run(["compose", "--project-directory", "/", "-p", project.name, "down", "--remove-orphans"])
    left = [container.identifier for container in project.containers()]
    if left:
        project.run(["rm", "--force", *left])
    # What a runner has begun until it was told to end.
    end_jobs(project)
    left_networks = project.run(["network", "ls", "--quiet", *selection]).stdout.split()
    for network in left_networks:
        removed = project.run(["network", "rm", network])
        if removed.returncode:
            return {**result, "msg": f"a network of {project.name} cannot be removed: {removed.last_words}"}
    return result


def changed_items(result: Mapping[str, Any]) -> list[str]:
    """What changed, one line for each thing."""
    lines = [f"{item['service']}: container {item['action']}" for item in containers_in(result)]
    return [*lines, *result.get("changes", [])]


def containers_in(result: Mapping[str, Any]) -> list[dict[str, Any]]:
    """What happens to containers, one entry for each."""
    if explained := result.get("explained"):
        return list(explained)
    return [
        {"service": service, "action": action, "reasons": []}
        for action in ("created", "recreated", "restarted", "removed", "reloaded")
        for service in result.get(action, [])
    ]


def described(result: Mapping[str, Any]) -> dict[str, Any]:
    """The result for the program."""
    job = {name: result[name] for name in ("asked", "unasked", "reason", "renew", "sealed") if name in result}
    return {"containers": containers_in(result), "provisioning": result.get("changes", []), **job}


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
            "left_paths": {**strings, "default": []},
            "alone": {"type": "bool", "default": False},
            "touched": {**strings, "default": []},
            "planned_files": {
                "type": "list",
                "elements": "dict",
                "default": [],
                "options": {"path": text, "content": text},
            },
            "arguments": {**strings, "default": []},
            "settled_arguments": {**strings, "default": []},
            "job_input": {"type": "str", "default": "", "no_log": True},
            "commands": {
                "type": "list",
                "elements": "dict",
                "default": [],
                "options": {"key": {**text, "no_log": False}, **COMMAND_OPTIONS},
            },
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
        expected = module.params["expected"] if module.params["state"] == "up" else []
        result = {"created": expected, "changed": bool(expected)}
        module.exit_json(**result, changed_items=changed_items(result), dap=described(result))


def main() -> None:
    """Run as an Ansible module."""
    module = make_module()
    given = module.params
    os.environ["PATH"] = search_path()
    # Compose would take these for the project's own settings.
    for name in ("COMPOSE_FILE", "COMPOSE_PROFILES", "COMPOSE_PROJECT_NAME"):
        os.environ.pop(name, None)
    try:
        timeout = given["wait_seconds"] + 60
        project = Project(
            given,
            lambda argv: run_docker(argv, timeout=timeout),
            lambda argv, stdin, heed: run_heeding(argv, timeout, stdin, heed),
        )
        if given["state"] == "absent":
            result = remove(project, module.check_mode)
        elif given["state"] == "run":
            result = run_job(project, module.check_mode)
        else:
            at_the_end = project.alone or not project.services
            result = predict_up(project) if module.check_mode else up(project, tell=at_the_end)
    except (DockerError, TreeError) as error:
        if isinstance(error, NoEngineError):
            without_engine(module, str(error))
        module.fail_json(msg=str(error))
        return
    result["changed_items"] = changed_items(result)
    result["dap"] = described(result)
    if given["state"] == "up":
        result["dap"]["left_paths"] = given["left_paths"]
    if "msg" in result:
        result["msg"] = "\n".join([result["msg"], *project.full_disks()])
        module.fail_json(**result)
    module.exit_json(**result)


if __name__ == "__main__":
    main()
