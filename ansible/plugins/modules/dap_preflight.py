#!/usr/bin/python
"""Looks at a host and lists everything that keeps the platform from running there."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import socket
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from pathlib import Path
from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible.module_utils.dap_build import normal_tag
from ansible.module_utils.dap_engine import (
    EngineState,
    HostState,
    lacking,
    proxy_restart,
    refusal,
)
from ansible.module_utils.dap_gpus import look as look_for_gpus
from ansible.module_utils.dap_host import (
    SUPPORTED_SYSTEMS,
    Finding,
    HostFacts,
    Wants,
    judge,
)
from ansible.module_utils.dap_hosts_file import PATH, block_of, text_of_list, with_block
from ansible.module_utils.dap_probe import (
    differing_proxy_files,
    engine_state,
    host_facts,
    init_system,
    os_release,
    output_of,
    search_path,
    service_enabled,
    text_of,
)
from ansible.module_utils.dap_proxy import Proxy
from ansible.module_utils.dap_pull import LISTED, Listed, PulledImage, digest_of, parse_listed, rows_of
from ansible.module_utils.dap_registry import Access, EngineSettings, in_words, reasons_against
from ansible.module_utils.dap_trusted import lack_of

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
  images:
    description: Images from registries. Registries are asked only for those that the host does not have.
    type: list
    elements: dict
    default: []
    suboptions:
      name: {description: A service that runs it., type: str, required: true}
      reference: {description: What Compose names., type: str, required: true}
      source: {description: Where it is pulled from., type: str, required: true}
      digest: {description: What it was at the first pull; empty if not known., type: str, default: ""}
  bundled:
    description: Those of the images that come from a bundle. Without it they come from registries, and with
        it none is asked.
    type: list
    elements: str
  gpus:
    description: Whether anybody wants GPUs of this host, so that it is looked for them.
    type: bool
    default: false
  tags:
    description: Tags of images that are built.
    type: list
    elements: str
    default: []
  trust:
    description: What the role C(trust) will be given, as C(name), C(certificates), C(registries).
    type: dict
    default: {}
  names:
    description: What the role C(names) will be given, as C(platform), C(names), C(address), C(extra).
    type: dict
    default: {}
  endpoints:
    description: Servers of the operator's that services of this host use.
    type: list
    elements: dict
    default: []
    suboptions:
      name: {description: The service that it stands in for., type: str, required: true}
      host: {description: Its name or address., type: str, required: true}
      port: {description: Its TCP port., type: int, required: true}
  proxy:
    description: The proxy that the engine has to use (C(http), C(https), C(no_proxy)). Without one,
        registries are asked through the proxy that the engine or else this host uses.
    type: dict
    default: {}
  ca_certificates:
    description: CAs to trust beside the host's own, PEM.
    type: list
    elements: str
    default: []
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
  description: Holds C(findings) (severity, subject, value, reason, suggestion) and C(facts), what the host
      is. In there C(images) says by name whether one is C(present) (on the host), C(known) (as it was at the
      first pull) and C(available) (there, or to be pulled), and for what C(reason) it is not.
    - C(ready) lists those of the roles C(docker), C(trust) and C(names) that would find nothing to do,
      C(missing_tags) the images to be built, C(building) whether a build was interrupted, C(lacking) what
      has to be installed from packages; C(release) and C(architecture) are as Debian calls them. C(gpus)
      is what there is of GPUs, none where nobody wants any.
  type: dict
  returned: always
"""

ENDPOINT_SECONDS = 5
# As Debian calls them.
ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64"}


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


def endpoint_findings(endpoints: Iterable[Mapping[str, Any]]) -> list[Finding]:
    """Servers that cannot be reached from this host; all are tried at once."""
    wanted = list(endpoints)
    if not wanted:
        return []
    with ThreadPoolExecutor(len(wanted)) as pool:
        reasons = list(pool.map(lambda one: unreachable(one["host"], one["port"]), wanted))
    return [
        Finding(
            "error",
            f"services.{one['name']}.external.url",
            f"{one['host']}:{one['port']}",
            f"cannot be reached from this host: {reason}",
            "start that server, let its firewall pass this host, or correct the address",
            one["name"],
        )
        for one, reason in zip(wanted, reasons, strict=True)
        if reason
    ]


def unreachable(host: str, port: int) -> str:
    """Why a TCP port cannot be connected to; empty when it can."""
    try:
        socket.create_connection((host, port), timeout=ENDPOINT_SECONDS).close()
    except OSError as error:
        return str(in_words(error))
    return ""


def listed_images(engine_runs: bool) -> list[Listed]:
    """The images on the host."""
    return list(
        parse_listed(
            output_of("docker", "image", "ls", "--digests", "--format", LISTED) if engine_runs else ""
        )
    )


def images_on_offer(
    images: Iterable[Mapping[str, str]],
    listed: list[Listed],
    access: Access,
    bundled: Sequence[str] | None = None,
) -> dict[str, dict[str, Any]]:
    """By name: whether an image is on the host, whether it is to be had, and if not, why.

    Args:
        bundled: those that are to be had, where no registry is to be asked.
    """
    wanted = [PulledImage.of(one) for one in images]
    here = {image.name: bool(rows_of(image.reference, listed)) for image in wanted}
    absent = [image.source for image in wanted if not here[image.name]]
    if bundled is not None:
        have = {one.source for one in wanted if normal_tag(one.reference) in bundled}
        reasons = {source: "" if source in have else "the bundle does not have it" for source in absent}
    else:
        reasons = reasons_against(absent, access) if absent else {}
    offers = {}
    for image in wanted:
        present = here[image.name]
        reason = "" if present else reasons[image.source]
        # Without a digest of the engine's there is none to be recorded either.
        known = present and digest_of(image, listed) in ("", image.digest)
        offers[image.name] = {"present": present, "known": known, "available": not reason, "reason": reason}
    return offers


def access_of(params: Mapping[str, Any], engine: EngineState) -> Access:
    """How this host reaches registries, as near as can be told to how the engine will."""
    wanted = Proxy.of(params["proxy"])
    try:
        logins = json.loads(text_of("/root/.docker/config.json") or "{}")
    except ValueError:
        logins = {}
    return Access(
        proxy=wanted or engine.proxy or Proxy.from_environment(os.environ),
        logins=logins if isinstance(logins, dict) else {},
        engine=EngineSettings.parse(text_of("/etc/docker/daemon.json")),
        ca_certificates=tuple(params["ca_certificates"]),
    )


def docker_ready(engine: EngineState, platform: str, proxy: Proxy) -> bool:
    """Whether Docker is there, new enough, runs with the right proxy, and will after a reboot where something
    can see to that."""
    init = init_system()
    files = differing_proxy_files(platform, init, proxy)
    as_wanted = not files and not proxy_restart(engine, proxy, files)
    return bool(engine.running) and not lacking(engine) and service_enabled(init) is not False and as_wanted


def ready_roles(params: Mapping[str, Any], engine: EngineState) -> list[str]:
    """The roles that would find nothing to do, of those that bring the host itself into state."""
    ready = []
    if docker_ready(engine, params["project"], Proxy.of(params["proxy"])):
        ready.append("docker")
    trust, names = params["trust"], params["names"]
    # What is no certificate is said by the role itself.
    with contextlib.suppress(ValueError):
        if trust and lack_of(trust["name"], trust["certificates"], trust["registries"]).nothing:
            ready.append("trust")
    if names:
        there, block = text_of_list(PATH), block_of(names["names"], names["address"], names["extra"])
        if with_block(there, names["platform"], block) == there:
            ready.append("names")
    return ready


def make_module() -> AnsibleModule:
    """The module with its parameters."""
    text = {"type": "str", "required": True}
    number = {"type": "int", "required": True}
    port = {"port": number, "address": {"type": "str", "default": "0.0.0.0"}, "service": text}  # noqa: S104 - looked for, not bound
    lists = {
        "ports": port,
        "images": {
            **{name: text for name in ("name", "reference", "source")},
            "digest": {"type": "str", "default": ""},
        },
        "endpoints": {"name": text, "host": text, "port": number},
    }
    return AnsibleModule(
        argument_spec={
            "root": {"type": "path", "required": True},
            "data": {"type": "path", "required": True},
            "project": {"type": "str", "required": True},
            "memory_required_mib": {"type": "int", "default": 0},
            "disk_required_gib": {"type": "float", "default": 0},
            "proxy": {"type": "dict", "default": {}},
            "ca_certificates": {"type": "list", "elements": "str", "default": []},
            "gpus": {"type": "bool", "default": False},
            "tags": {"type": "list", "elements": "str", "default": []},
            "bundled": {"type": "list", "elements": "str"},
            "trust": {"type": "dict", "default": {}},
            "names": {"type": "dict", "default": {}},
            **{
                name: {"type": "list", "elements": "dict", "default": [], "options": options}
                for name, options in lists.items()
            },
        },
        supports_check_mode=True,
    )


def packages_lacking(engine: EngineState, trust: Mapping[str, Any]) -> list[str]:
    """What is to be installed from packages on this host."""
    told = list(lacking(engine).values())
    if trust and shutil.which("update-ca-certificates", path=search_path()) is None:
        told.append("ca-certificates is missing")
    return told


def deployed(root: str) -> list[str]:
    """The services whose files are on the host."""
    return sorted(file.parent.name for file in Path(root).glob("*/compose.yaml"))


def main() -> None:
    """Run the module."""
    module = make_module()
    params = module.params
    wants = Wants(
        project=params["project"],
        ports=tuple((one["address"], one["port"], one["service"]) for one in params["ports"]),
        memory_mib=params["memory_required_mib"],
        disk_gib=params["disk_required_gib"],
    )
    engine = engine_state()
    ports = {port for _, port, _ in wants.ports}
    facts = host_facts(params["root"], params["data"], ports, engine, params["project"])
    findings = [
        *judge(facts, wants),
        *engine_findings(facts, engine),
        *address_findings(wants.ports),
        *endpoint_findings(params["endpoints"]),
    ]
    listed = listed_images(bool(engine.running))
    images = images_on_offer(params["images"], listed, access_of(params, engine), params["bundled"])
    present = {row.tag for row in listed}
    told = [f"{one.severity}: {one.subject}: {one.value}: {one.reason}; {one.suggestion}" for one in findings]
    module.exit_json(
        changed=False,
        message="\n".join(told) or "nothing stands in the way",
        dap={
            "facts": {
                **facts.as_dict(),
                "deployed": deployed(params["root"]),
                "ready": ready_roles(params, engine),
                "images": images,
                "missing_tags": [tag for tag in params["tags"] if normal_tag(tag) not in present],
                "building": Path(params["root"], ".build").exists(),
                "lacking": packages_lacking(engine, params["trust"]),
                "release": os_release().get("VERSION_CODENAME", ""),
                "architecture": ARCHITECTURES.get(facts.machine, facts.machine),
                "gpus": look_for_gpus() if params["gpus"] else None,
            },
            "findings": [asdict(finding) for finding in findings],
        },
    )


if __name__ == "__main__":
    main()
