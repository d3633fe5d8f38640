"""Reads a plan out of what Ansible reported, in check mode or for real."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterable, Mapping
from pathlib import PurePosixPath
from typing import Any

import yaml

from dap.deployment.selection import PROJECT_FILE
from dap.hosts.ansible import Event, Run
from dap.plan import Change, ContainerChange, Issued, Plan
from dap.plan.new_servers import changes_in_a_new_server
from dap.rendering.tree import HostTree
from dap.site import Site
from dap.trust.tls import Tls


def read(run: Run, site: Site, certificates: Tls) -> Plan:
    """What ``run`` changed, or in check mode would change."""
    plan = Plan(
        certificates=[
            Issued(service, leaf.reason) for service, leaf in certificates.leaves.items() if leaf.renewed
        ],
        left_out={name: reason for name, (_, reason) in site.left_out.items()},
    )
    renewed = {issued.service: issued.reason for issued in plan.certificates}
    for event in run.events:
        host = str(event.get("host", ""))
        if event["event"] == "diff":
            plan.differences.append(Change(host, str(event.get("message", ""))))
        own = event.get("dap")
        own = own if isinstance(own, Mapping) else {}
        plan.left_alone += [
            name for name in _services_of(own.get("left_paths", []), site) if name not in plan.left_alone
        ]
        if "containers" in own:
            plan.containers += [_container(host, item, site, renewed) for item in own["containers"]]
            plan.provisioning += [Change(host, what) for what in own["provisioning"]]
        elif event["event"] == "changed":
            _sort_in(plan, event)
    return plan


def wanted_renewals(run: Run) -> list[str]:
    """The keys of secrets for which jobs want other values."""
    return [key for event in run.events for key in (event.get("dap") or {}).get("renew", [])]


def sealed_tokens(run: Run) -> list[str]:
    """The tokens that jobs were given for new runners, sealed."""
    found = [(event.get("dap") or {}).get("sealed", "") for event in run.events]
    return [sealed for sealed in found if sealed]


def _sort_in(plan: Plan, event: Event) -> None:
    """Put the changes of a task to those of their kind."""
    role = str(event.get("role", ""))
    items = event.get("changed_items") or [event.get("task", "")]
    changes = [Change(str(event.get("host", "")), str(item)) for item in items]
    if role == "stack":
        plan.files += changes
    elif role == "images":
        # The rest is what a build needs for as long as it runs.
        plan.images += [change for change in changes if change.what.startswith("image ")]
    elif role in ("provision", "services"):
        plan.provisioning += changes
    else:
        plan.hosts += changes


def _container(host: str, item: Mapping[str, Any], site: Site, renewed: Mapping[str, str]) -> ContainerChange:
    name, action, reasons = str(item["service"]), item["action"], [str(why) for why in item["reasons"]]
    if action == "removed":
        why = site.left_out[name][1] if name in site.left_out else "no longer configured"
        reasons = [f"{why}; its data stays"]
    if any(why.startswith("tls/") for why in reasons):
        others = [why for why in reasons if not why.startswith("tls/")]
        reason = f"certificate: {renewed[name]}" if name in renewed else "certificate"
        reasons = [*others, reason]
    return ContainerChange(host, name, action, tuple(reasons))


def planned_files(tree: HostTree) -> list[dict[str, str]]:
    """The Compose files that a deploy would write, as the role `services` takes them."""
    entries = []
    for file in tree.files:
        chosen = not tree.only or file.path.partition("/")[0] in tree.only
        if PurePosixPath(file.path).name != PROJECT_FILE or not chosen:
            continue
        # The host has no YAML, and has to change what the project includes.
        content = (
            json.dumps(yaml.safe_load(file.content)).encode() if file.path == PROJECT_FILE else file.content
        )
        entries.append({"path": file.path, "content": base64.b64encode(content).decode()})
    return entries


def foresee_new_servers(
    plan: Plan, run: Run, site: Site, trees: Mapping[str, HostTree], state: Mapping[str, Any]
) -> None:
    """Add what will be made in servers that could not be asked, to a plan.

    A server without data holds nothing, so that all of its state is made. What is in the others shows when
    they run.

    Args:
        state: what the jobs have to bring about: a list of servers for each kind.
    """
    told = [event["dap"] for event in run.events if "asked" in (event.get("dap") or {})]
    asked = {name for one in told for name in one["asked"]}
    unasked = {name: str(why) for one in told for name, why in one.get("unasked", {}).items()}
    reason = next((str(one["reason"]) for one in told if one.get("reason")), "what is deployed cannot tell")
    empty = _without_data(run, trees)
    for kind, servers in state.items():
        for server in servers:
            name = str(server["service"])
            if name in asked:
                continue
            made = changes_in_a_new_server(kind, server) if name in empty else None
            if made is None:
                why = unasked.get(name, reason)
                plan.unknown.append(f"{name}: what it still needs shows when it runs ({_one_line(why)})")
                continue
            host = next((host.name for host in site.inventory.hosts if name in site.services_on(host)), "")
            plan.provisioning += [Change(host, what) for what in made]


def _without_data(run: Run, trees: Mapping[str, HostTree]) -> set[str]:
    """The services all of whose data folders are empty or still to be made."""
    empty = {
        (str(event.get("host", "")), path)
        for event in run.events
        for path in (event.get("dap") or {}).get("empty_directories", [])
    }
    found: set[str] = set()
    for host, tree in trees.items():
        folders: dict[str, list[str]] = {}
        for directory in tree.directories:
            folders.setdefault(directory.path.rsplit("/", 2)[1], []).append(directory.path)
        found |= {name for name, paths in folders.items() if all((host, path) in empty for path in paths)}
    return found


def _one_line(text: str) -> str:
    return " ".join(text.split())[:200]


def _services_of(paths: Iterable[str], site: Site) -> list[str]:
    """The services that files of the tree belong to, without the one that only runs the jobs."""
    jobs = {service.name for service in site.providers("jobs")}
    return sorted({path.partition("/")[0] for path in paths if "/" in path} - jobs)
