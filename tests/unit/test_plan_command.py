"""The verbs `plan` and `deploy` with `--check`, `--json` and `--only`: exit codes, and what they ask for."""

from __future__ import annotations

import json
from contextlib import nullcontext
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from click.testing import CliRunner, Result

from dap import cli
from dap.deployment.outcome import Outcome
from dap.plan import Change, Plan
from dap.verify import Result as Proof
from tests.unit.platforms import service_of, site_of

CHANGES = Plan(files=[Change("alpha", "web/compose.yaml written")], left_alone=["wiki"])


class FakeDeployment:
    """A deployment whose outcome is known; notes what was asked of it."""

    def __init__(self, plan: Plan) -> None:
        self.site = site_of(service_of("web"), service_of("wiki"))
        self.inventory = self.site.inventory
        self.progress = SimpleNamespace(step=lambda title: nullcontext())
        self.plan = plan
        self.asked: dict[str, Any] = {}

    def run(self, **options: Any) -> Outcome:
        self.asked = options
        changes = [(change.host, change.what) for change in self.plan.changes]
        return Outcome(changes, ["disk is small"], plan=self.plan, only=options["only"], log=Path("/log"))


def dap(monkeypatch: pytest.MonkeyPatch, plan: Plan, *arguments: str) -> tuple[Result, FakeDeployment]:
    deployment = FakeDeployment(plan)
    monkeypatch.setattr(cli, "_deployment", lambda *given: deployment)
    return CliRunner().invoke(cli.main, list(arguments)), deployment


@pytest.mark.parametrize(("plan", "code"), [(Plan(), 0), (CHANGES, 3)])
@pytest.mark.parametrize("option", [(), ("--json",)])
def test_plan_ends_with_3_where_something_would_change(
    monkeypatch: pytest.MonkeyPatch, plan: Plan, code: int, option: tuple[str, ...]
) -> None:
    result, deployment = dap(monkeypatch, plan, "plan", *option)
    assert result.exit_code == code
    assert deployment.asked == {"check": True, "diff": False, "only": ()}


@pytest.mark.parametrize("verb", [("plan",), ("deploy", "--check")])
def test_plan_and_check_say_the_same(monkeypatch: pytest.MonkeyPatch, verb: tuple[str, ...]) -> None:
    result, deployment = dap(monkeypatch, CHANGES, *verb, "--diff", "--only", "web")
    assert result.exit_code == (3 if verb == ("plan",) else 0)
    assert deployment.asked == {"check": True, "diff": True, "only": ("web",)}
    assert result.stdout.splitlines()[:4] == [
        "1 change would be made",
        "",
        "Files",
        "  web/compose.yaml written",
    ]


def test_plan_in_json_has_the_warnings_and_the_log(monkeypatch: pytest.MonkeyPatch) -> None:
    result, _ = dap(monkeypatch, CHANGES, "plan", "--json")
    told = json.loads(result.stdout)
    assert (told["count"], told["warnings"], told["log"]) == (1, ["disk is small"], "/log")


def test_deploy_of_some_services_names_those_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    result, deployment = dap(monkeypatch, CHANGES, "deploy", "--no-verify", "--only", "web")
    assert result.exit_code == 0
    assert deployment.asked == {"diff": False, "only": ("web",)}
    lines = result.stdout.splitlines()
    assert lines[:2] == ["1 change", "  alpha: web/compose.yaml written"]
    assert "Left as they are although the configuration says otherwise: wiki" in lines
    assert [line.split()[0] for line in lines[3:5]] == ["SERVICE", "web"]
    assert not any(line.startswith("wiki") for line in lines)


def test_deploy_in_json_tells_changes_and_checks_of_the_chosen_services(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    proven: list[list[str]] = []

    def prove(place: Any, services: list[Any]) -> list[Proof]:
        proven.append([service.name for service in services])
        return [Proof("web", "page", True, "fine")]

    place = SimpleNamespace(site=site_of(service_of("web"), service_of("wiki")))
    monkeypatch.setattr(cli, "_place", lambda deployment: place)
    monkeypatch.setattr("dap.verify.verify", prove)
    result, _ = dap(monkeypatch, CHANGES, "deploy", "--json", "--only", "web")
    told = json.loads(result.stdout)
    assert result.exit_code == 0
    assert told["files"] == [{"host": "alpha", "what": "web/compose.yaml written"}]
    assert [check["check"] for check in told["checks"]] == ["page"]
    assert proven == [["web"]]
