"""The events of a playbook run become what the program tells; a made-up ansible-playbook writes them."""

from __future__ import annotations

import json
import stat
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from dap import hosts
from dap.errors import DapError
from dap.layout import ansible_dir
from tests.unit.platforms import executable, site_of

PROGRAM = """\
#!{python}
import json, os, sys, time
variables = sys.argv[1]
print("arguments:", *sys.argv[2:])
print("config:", os.environ["ANSIBLE_CONFIG"])
content = open(variables).read()
open("{folder}/seen.json", "w").write(json.dumps({{
    "mode": os.stat(variables).st_mode, "path": variables, "content": json.loads(content),
    "events_mode": os.stat(os.environ["DAP_EVENTS"]).st_mode, "stdin": sys.stdin.read(),
}}))
with open(os.environ["DAP_EVENTS"], "a") as events:
    for event in json.loads({events!r}):
        events.write(json.dumps(event) + "\\n")
        events.flush()
print({output!r})
{last}
sys.exit({code})
"""


@dataclass
class Ansible:
    """An ``ansible-playbook`` that reports what it is told to."""

    folder: Path
    monkeypatch: pytest.MonkeyPatch

    @property
    def log(self) -> Path:
        return self.folder / "logs" / "run.log"

    def says(
        self, *events: dict[str, Any], code: int = 0, output: str = "PLAY RECAP", last: str = ""
    ) -> None:
        text = PROGRAM.format(
            python=sys.executable,
            folder=self.folder,
            events=json.dumps(events),
            output=output,
            code=code,
            last=last,
        )
        program = executable(self.folder / "ansible-playbook", text)
        self.monkeypatch.setattr(
            hosts, "_argv", lambda playbook, inventory, variables: [str(program), str(variables)]
        )

    def play(self, variables: dict[str, Any] | None = None, **options: Any) -> hosts.Run:
        self.log.parent.mkdir(exist_ok=True)
        return hosts.play("deploy", site_of().inventory, variables or {}, log=self.log, **options)

    @property
    def seen(self) -> dict[str, Any]:
        """What the program found when it was called."""
        found: dict[str, Any] = json.loads((self.folder / "seen.json").read_text())
        return found


@pytest.fixture
def ansible(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Ansible:
    return Ansible(tmp_path, monkeypatch)


def event(kind: str, task: str = "Write files", host: str = "alpha", **more: Any) -> dict[str, Any]:
    return {"event": kind, "task": task, "host": host, **more}


def test_changed_items_are_told_one_by_one(ansible: Ansible) -> None:
    ansible.says(
        event("changed", changed_items=["compose.yaml written", "old/ removed"]),
        event("ok"),
        event("changed", "Restart Docker", "beta"),
    )
    run = ansible.play()
    assert run.changed == [
        ("alpha", "compose.yaml written"),
        ("alpha", "old/ removed"),
        ("beta", "Restart Docker"),
    ]
    assert run.failures == []
    assert run.seconds > 0


def test_results_of_the_modules_are_kept_by_task_and_host(ansible: Ansible) -> None:
    ansible.says(
        event("ok", "Look", dap={"cpus": 4}),
        event("changed", "Look", "beta", dap={"cpus": 8}),
        event("ok", "Look again", dap={"cpus": 1}),
        event("ok", "Ping"),
    )
    run = ansible.play()
    assert run.result("Look") == {"alpha": {"cpus": 4}, "beta": {"cpus": 8}}
    assert run.result("Ping") == {}


def test_what_tasks_did_is_kept_in_order(ansible: Ansible) -> None:
    done = [event("ok"), event("diff", message="--- before"), event("changed", changed_items=["a"])]
    ansible.says(event("task"), *done, event("skipped"))
    assert [kept["event"] for kept in ansible.play().events] == ["ok", "diff", "changed"]


def test_handled_failure_is_none(ansible: Ansible) -> None:
    ansible.says(event("failed", message="no such image", handled=True), event("ok"))
    assert ansible.play().failures == []


def test_failure_says_what_each_host_said_once(ansible: Ansible) -> None:
    ansible.says(
        event("failed", message="disk full\nno space left"),
        event("failed", message="disk full\nno space left"),
        event("unreachable", "Gather facts", "beta", message="connection refused"),
        event("failed", "Start services", "gamma", dap={"log": "x"}),
        code=2,
    )
    with pytest.raises(DapError) as caught:
        ansible.play()
    assert str(caught.value) == (
        "alpha: disk full\nno space left\nbeta: connection refused\ngamma: Start services\n"
        "  next: correct this, then run the same command again\n"
        f"  log:  {ansible.log}"
    )


def test_who_wants_to_go_on_gets_the_failures_with_the_rest(ansible: Ansible) -> None:
    ansible.says(event("failed", message="disk full"), event("ok", host="beta", dap={"cpus": 8}), code=2)
    run = ansible.play(keep_going=True)
    assert run.failures == [("alpha", "disk full")]
    assert run.result("Write files") == {"beta": {"cpus": 8}}


def test_failure_counts_although_ansible_ends_well(ansible: Ansible) -> None:
    ansible.says(event("failed", message="disk full"))
    with pytest.raises(DapError, match="alpha: disk full"):
        ansible.play()


def test_ansible_that_stops_without_a_word_is_told_by_the_end_of_its_log(ansible: Ansible) -> None:
    ansible.says(code=4, output="\n".join(f"line {number}" for number in range(9)))
    with pytest.raises(DapError) as caught:
        ansible.play()
    lines = "".join(f"    line {number}\n" for number in range(4, 9))
    assert str(caught.value) == (
        f"Ansible stopped:\n{lines.rstrip()}\n"
        "  next: read the log, correct what it names, then run the same command again\n"
        f"  log:  {ansible.log}"
    )


def test_variables_reach_ansible_in_a_private_file_that_is_gone_afterwards(ansible: Ansible) -> None:
    ansible.says()
    ansible.play({"secret": "{{ geheim }}"})
    seen = ansible.seen
    assert seen["content"] == {"dap": {"secret": "{{ geheim }}"}}
    assert stat.S_IMODE(seen["mode"]) == stat.S_IMODE(seen["events_mode"]) == 0o600
    assert not Path(seen["path"]).exists()
    assert [path.name for path in ansible.log.parent.iterdir()] == ["run.log"]
    assert "geheim" not in ansible.log.read_text()


def test_variables_are_gone_after_a_failure_too(ansible: Ansible) -> None:
    ansible.says(code=1)
    with pytest.raises(DapError):
        ansible.play({"secret": "geheim"})
    assert [path.name for path in ansible.log.parent.iterdir()] == ["run.log"]


def test_options_become_ansibles_own(ansible: Ansible) -> None:
    ansible.says()
    ansible.play(check=True, diff=True, tags=["images", "stack"])
    log = ansible.log.read_text()
    assert "arguments: --check --diff --tags images,stack\n" in log
    assert f"config: {ansible_dir()}/ansible.cfg\n" in log


def test_log_is_appended_to(ansible: Ansible) -> None:
    ansible.says(output="first")
    ansible.play()
    ansible.says(output="second")
    ansible.play()
    text = ansible.log.read_text()
    assert text.index("first") < text.index("second")


def test_events_are_passed_on_in_order_and_waiting_is_told(ansible: Ansible) -> None:
    ansible.says(event("task"), event("ok"), last="time.sleep(0.3)")
    seen: list[str] = []
    waits: list[int] = []
    note: Callable[[hosts.Event], None] = lambda event: seen.append(event["event"])  # noqa: E731
    ansible.play(on_event=note, on_wait=lambda: waits.append(1))
    assert seen == ["task", "ok"]
    assert waits


def test_interruption_ends_ansible_and_removes_the_variables(ansible: Ansible) -> None:
    ansible.says(last="time.sleep(60)")

    def interrupt() -> None:
        if (ansible.folder / "seen.json").exists():
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        ansible.play({"secret": "geheim"}, on_wait=interrupt)
    assert [path.name for path in ansible.log.parent.iterdir()] == ["run.log"]


def test_ansible_asks_nothing(ansible: Ansible) -> None:
    ansible.says()
    ansible.play()
    assert ansible.seen["stdin"] == ""


def test_real_arguments_name_playbook_inventory_and_variables() -> None:
    argv = hosts._argv("deploy", site_of().inventory, Path("/private/variables.json"))
    assert Path(argv[0]).name == "ansible-playbook"
    assert argv[1:] == [
        "--inventory",
        "inventories/team/hosts.yml",
        "--extra-vars",
        "@/private/variables.json",
        str(ansible_dir() / "deploy.yml"),
    ]
