"""What the program gives to roles that check no arguments themselves is what their argument specs demand."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml
from ansible.module_utils.common.arg_spec import ArgumentSpecValidator
from jinja2.nativetypes import NativeEnvironment

from dap.deployment.deploy import Deployment
from dap.deployment.progress import Progress
from dap.hosts import ansible as hosts
from dap.layout import ansible_dir
from dap.site import load_site

FACTS = {
    **{"memory_mib": 16000, "cpus": 4, "epoch": 0.0, "platform_id": None, "has_data": False},
    **{"ready": [], "missing_tags": [], "building": False},
}


def given_to_playbooks(monkeypatch: pytest.MonkeyPatch, folder: Path) -> dict[str, dict[str, Any]]:
    """The variables of each playbook of a deploy of the inventory ``local`` in which everything has work."""
    given = {}

    def play(playbook: str, inventory: object, variables: dict[str, Any], **options: Any) -> hosts.Run:
        given[playbook] = variables
        images = variables["hosts"]["localhost"]["images"] if playbook == "preflight" else []
        there = {one["name"]: {"present": True, "known": True, "available": True} for one in images}
        facts = {"facts": FACTS | {"images": there}, "findings": []}
        return hosts.Run(results={("Look", "localhost"): facts} if playbook == "preflight" else {})

    monkeypatch.setattr(hosts, "play", play)
    monkeypatch.setattr("dap.deployment.preflight._clock", lambda facts: [])
    monkeypatch.setenv("DAP_SECRETS", str(folder))
    Deployment(load_site("local", reconsider=True), Progress()).run()
    return given


def roles_without_checks() -> list[tuple[str, str, dict[str, Any]]]:
    """Playbook, role and arguments of every import that leaves the check of its arguments out."""
    found = []
    for playbook in ("preflight", "deploy"):
        for play in yaml.safe_load((ansible_dir() / f"{playbook}.yml").read_text(encoding="utf-8")):
            for task in play.get("tasks", []):
                role = task["ansible.builtin.import_role"]
                assert role["rolespec_validate"] is False, "then it belongs below roles:"
                found.append((playbook, role["name"], task["vars"]))
    return found


def test_roles_get_what_they_demand(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    given = given_to_playbooks(monkeypatch, tmp_path)
    imports = roles_without_checks()
    assert {name for _, name, _ in imports} == {"preflight", "stack", "provision", "services"}
    for playbook, name, arguments in imports:
        specs = (ansible_dir() / "roles" / name / "meta" / "argument_specs.yml").read_text(encoding="utf-8")
        options = yaml.safe_load(specs)["argument_specs"]["main"]["options"]
        dap = given[playbook]
        names = {"dap": dap, "inventory_hostname": "localhost", "deploy_host": dap["hosts"]["localhost"]}
        environment = NativeEnvironment()
        values = {
            key: environment.from_string(text).render(names) if isinstance(text, str) else text
            for key, text in arguments.items()
        }
        assert values.keys() <= options.keys()
        result = ArgumentSpecValidator(options).validate(values)
        assert result.error_messages == [], name
