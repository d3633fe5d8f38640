#!/usr/bin/python
"""Looks at a host and lists everything that keeps the platform from running there."""

from __future__ import annotations

import socket
from collections.abc import Iterable
from dataclasses import asdict

from ansible.module_utils.basic import AnsibleModule
from ansible.module_utils.dap_engine import EngineState, HostState, lacking, refusal
from ansible.module_utils.dap_host import (
    SUPPORTED_SYSTEMS,
    Finding,
    HostFacts,
    Wants,
    judge,
)
from ansible.module_utils.dap_probe import (
    engine_state,
    host_facts,
    init_system,
    os_release,
    service_enabled,
)

DOCUMENTATION = r"""
module: dap_preflight
short_description: List everything that keeps the platform from running on a host
description:
  - Changes nothing and never fails on a finding; whoever asked judges the findings of all hosts together.
author: The authors of the data analysis platform
options:
  root:
    description: Folder of the rendered files.
    type: path
    required: true
  data:
    description: Folder of the platform's data.
    type: path
    required: true
  project:
    description: The platform's Compose project; ports that it holds itself are no conflict.
    type: str
    required: true
  platform_id:
    description: Identity of the platform; data of another one is an error. Empty when it has none yet.
    type: str
    default: ""
  ports:
    description: TCP ports that will be published on this host.
    type: list
    elements: dict
    default: []
    suboptions:
      port: {description: The port., type: int, required: true}
      address: {description: The address it is published on., type: str, default: 0.0.0.0}
      service: {description: The service behind it., type: str, required: true}
  memory_required_mib:
    description: Memory that the host must have.
    type: int
    default: 0
  disk_required_gib:
    description: Free space for data and images together; half of it for each where they lie on two file
        systems.
    type: float
    default: 0
"""

EXAMPLES = r"""
- name: Look at the host
  dap_preflight:
    root: /opt/dap
    data: /var/lib/dap
    project: dap
    ports:
      - {port: 443, address: 0.0.0.0, service: nginx-proxy}
"""

RETURN = r"""
dap:
  description: Holds C(facts) (what the host is) and C(findings) (severity, subject, value, reason,
      suggestion).
  type: dict
  returned: always
"""


def engine_findings(facts: HostFacts, engine: EngineState) -> list[Finding]:
    """What the deploy would refuse about the host's Docker."""
    if facts.version not in SUPPORTED_SYSTEMS.get(facts.distribution, ()):
        return []  # that is a finding itself, and says enough
    plan = refusal(
        HostState(facts.distribution, facts.version, os_release().get("VERSION_CODENAME", ""), "", engine)
    )
    if plan is None:
        return []
    value = engine.running or engine.installed or engine.command
    return [Finding("error", "Docker", value, plan.reasons[0], plan.suggestion)]


def address_findings(ports: Iterable[tuple[str, int, str]]) -> list[Finding]:
    """Addresses that ports are to be published on and that are not this host's."""
    findings = []
    for address in sorted({address for address, _, _ in ports}):
        family = socket.AF_INET6 if ":" in address else socket.AF_INET
        try:
            with socket.socket(family) as probe:
                probe.bind((address, 0))
        except OSError as error:
            findings.append(
                Finding(
                    "error",
                    "listen_address",
                    address,
                    f"is not an address of this host: {error.strerror}",
                    "write one of its addresses (ip address shows them), or 0.0.0.0 for all",
                )
            )
    return findings


def docker_ready(engine: EngineState) -> bool:
    """Whether Docker is there, new enough, runs, and will after a reboot where something can see to that."""
    return bool(engine.running) and not lacking(engine) and service_enabled(init_system()) is not False


def main() -> None:
    """Run the module."""
    module = AnsibleModule(
        argument_spec={
            "root": {"type": "path", "required": True},
            "data": {"type": "path", "required": True},
            "project": {"type": "str", "required": True},
            "platform_id": {"type": "str", "default": ""},
            "ports": {
                "type": "list",
                "elements": "dict",
                "default": [],
                "options": {
                    "port": {"type": "int", "required": True},
                    "address": {"type": "str", "default": "0.0.0.0"},  # noqa: S104 - looked for, not bound
                    "service": {"type": "str", "required": True},
                },
            },
            "memory_required_mib": {"type": "int", "default": 0},
            "disk_required_gib": {"type": "float", "default": 0},
        },
        supports_check_mode=True,
    )
    params = module.params
    wants = Wants(
        project=params["project"],
        platform_id=params["platform_id"],
        ports=tuple((one["address"], one["port"], one["service"]) for one in params["ports"]),
        memory_mib=params["memory_required_mib"],
        disk_gib=params["disk_required_gib"],
    )
    engine = engine_state()
    facts = host_facts(params["root"], params["data"], {port for _, port, _ in wants.ports}, engine)
    findings = [*judge(facts, wants), *engine_findings(facts, engine), *address_findings(wants.ports)]
    told = [f"{one.severity}: {one.subject}: {one.value}: {one.reason}; {one.suggestion}" for one in findings]
    module.exit_json(
        changed=False,
        message="\n".join(told) or "nothing stands in the way",
        dap={
            "facts": {**facts.as_dict(), "docker_ready": docker_ready(engine)},
            "findings": [asdict(finding) for finding in findings],
        },
    )


if __name__ == "__main__":
    main()
