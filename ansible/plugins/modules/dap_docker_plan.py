#!/usr/bin/python
"""Decides what a host's Docker needs."""

from __future__ import annotations

import os
from dataclasses import asdict, replace
from pathlib import Path

from ansible.module_utils.basic import AnsibleModule
from ansible.module_utils.dap_engine import (
    EngineState,
    HostState,
    Plan,
    lacking,
    plan,
)
from ansible.module_utils.dap_probe import (
    apparmor_unready,
    apt_sources,
    differing_proxy_files,
    engine_state,
    init_system,
    os_release,
    service_enabled,
)
from ansible.module_utils.dap_proxy import Proxy

DOCUMENTATION = r"""
module: dap_docker_plan
short_description: Decide what a host's Docker needs
description:
  - Looks at the engine, its plugins, the packages and the apt sources, and says what is to be done.
  - Changes nothing. In check mode it reports as changed what the role would do.
  - Docker's own repository is asked for only when something has to be installed.
author: The authors of the data analysis platform
options:
  platform:
    description: Name of the platform; files on the host are named after it.
    type: str
    required: true
  repository:
    description: Address of Docker's own repository, above the distributions.
    type: str
    required: true
  proxy:
    description: The proxy that the engine has to use (C(http), C(https), C(no_proxy)); empty to leave that to
        the operator.
    type: dict
    default: {}
  bundled:
    description: Packages come from a bundle, and no repository is asked.
    type: bool
    default: false
  must_be_ready:
    description: Fail if anything is left to do; for a last look after the role has done its work.
    type: bool
    default: false
"""

EXAMPLES = r"""
- name: Decide what Docker needs
  dap_docker_plan:
    platform: dap
    repository: https://download.docker.com/linux
"""

RETURN = r"""
plan:
  description: >-
    What is to be done: outcome (use, docker-repository, distribution), needed, installs, reasons, packages,
    upgrade,
    files (path and content), key, start (systemd, sysv, detached or empty), proxy_files, restart, notes.
  type: dict
  returned: success
dap:
  description: Holds C(engine) (what is there), C(outcome), C(reasons) and C(notes).
  type: dict
  returned: always
"""

_REACH_LIMIT_S = 5


def reachable(repository: str, os_id: str, codename: str) -> bool:
    """Whether Docker's repository answers, and has packages for this release."""
    # Costs a tenth of a second, and a host that has everything never comes here.
    from ansible.module_utils.urls import open_url

    try:
        answer = open_url(
            f"{repository}/{os_id}/dists/{codename}/InRelease", method="HEAD", timeout=_REACH_LIMIT_S
        )
    except Exception:  # whatever keeps it from answering: names, network, TLS, proxy, a login page
        return False
    return bool(answer.status == 200)


def host_state(platform: str, repository: str, proxy: Proxy, bundled: bool) -> HostState:
    """Look at the host; what only an installation needs to know is looked at only then."""
    system, init, engine = os_release(), init_system(), engine_state()
    state = HostState(
        os_id=system.get("ID", ""),
        os_version=system.get("VERSION_ID", ""),
        codename=system.get("VERSION_CODENAME", ""),
        init=init,
        engine=engine,
        enabled=service_enabled(init),
        proxy=proxy,
        proxy_files=differing_proxy_files(platform, init, proxy),
        bundled=bundled,
    )
    if not lacking(engine):
        return state
    return replace(
        state,
        sources=apt_sources(),
        apparmor_unready=apparmor_unready(),
        repository_reachable=None
        if engine.family == "distribution" or bundled
        else reachable(repository, state.os_id, state.codename),
    )


def steps(decided: Plan) -> list[str]:
    """What the role would do, in words."""
    told = [f"{'removes' if file.content is None else 'writes'} {file.path}" for file in decided.proxy_files]
    told += [f"writes {file.path}" for file in decided.files]
    if decided.packages:
        told.append(f"installs {', '.join(decided.packages)}")
    if decided.upgrade:
        told.append(f"upgrades {', '.join(decided.upgrade)}")
    if decided.restart:
        told.append(f"restarts the Docker engine {decided.restart}")
    elif decided.start:
        told.append(f"starts the Docker engine ({decided.start})")
    return told


def shown(engine: EngineState) -> dict[str, object]:
    """The engine for the result: a login in its proxy's address is nobody's business."""
    return {**asdict(engine), "proxy": engine.proxy.name}


def result_of(decided: Plan, engine: EngineState, check_mode: bool) -> dict[str, object]:
    """The module's result for a plan that is not a refusal."""
    told = steps(decided)
    summary = f"Docker {engine.running}, Compose {engine.compose}, buildx {engine.buildx}"
    result: dict[str, object] = {
        "changed": check_mode and decided.needed,
        "plan": {**asdict(decided), "needed": decided.needed, "installs": decided.installs},
        "message": "; ".join([*decided.reasons, *told]) or summary,
        "dap": {
            "engine": shown(engine),
            "outcome": decided.outcome,
            "reasons": list(decided.reasons),
            "notes": list(decided.notes),
        },
    }
    if check_mode and decided.needed:
        result["changed_items"] = told
        result["diff"] = [
            {"before_header": file.path, "after_header": file.path, "before": before, "after": file.content}
            for file in decided.files
            if (before := _text(file.path)) != file.content
        ]
    return result


def _text(path: str) -> str:
    return Path(path).read_text(encoding="utf-8") if os.path.exists(path) else ""


def main() -> None:
    """Run the module."""
    module = AnsibleModule(
        argument_spec={
            "platform": {"type": "str", "required": True},
            "repository": {"type": "str", "required": True},
            "proxy": {"type": "dict", "default": {}},
            "bundled": {"type": "bool", "default": False},
            "must_be_ready": {"type": "bool", "default": False},
        },
        supports_check_mode=True,
    )
    platform, repository = module.params["platform"], module.params["repository"]
    proxy = Proxy.of(module.params["proxy"])
    state = host_state(platform, repository, proxy, module.params["bundled"])
    decided = plan(state, platform, repository)
    if decided.outcome == "refuse":
        module.fail_json(
            msg=f"{'; '.join(decided.reasons)}. {decided.suggestion}",
            dap={
                "engine": shown(state.engine),
                "outcome": decided.outcome,
                "reasons": list(decided.reasons),
            },
        )
    if module.params["must_be_ready"] and decided.restart:
        module.fail_json(
            msg=f"the Docker engine runs with the proxy {state.engine.proxy.name or 'none'} although it was"
            f" restarted {decided.restart}. Something else sets it: look into /etc/docker/daemon.json and"
            " the files of the service docker, and remove it there or write the same into proxy in"
            " platform.yml"
        )
    if module.params["must_be_ready"] and decided.needed:
        left = "; ".join([*decided.reasons, *steps(decided)])
        module.fail_json(msg=f"Docker is not ready after all: {left}. See what apt said above")
    module.exit_json(**result_of(decided, state.engine, module.check_mode))


if __name__ == "__main__":
    main()
