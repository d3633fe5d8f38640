"""The events of a playbook run become what the program tells; a made-up Ansible writes them."""

from __future__ import annotations

import json
import re
import stat
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from dap.errors import DapError
from dap.hosts import ansible as hosts
from dap.layout import ansible_dir
from tests.unit.platforms import loaded_ansible, site_of

PROGRAM = """\
import json, os, sys, time
variables = sys.argv[sys.argv.index("--extra-vars") + 1].removeprefix("@")
print("arguments:", *sys.argv)
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
    program: Path

    @property
    def log(self) -> Path:
        return self.folder / "logs" / "run.log"

    def says(
        self, *events: dict[str, Any], code: int = 0, output: str = "PLAY RECAP", last: str = ""
    ) -> None:
        text = PROGRAM.format(
            folder=self.folder,
            events=json.dumps(events),
            output=output,
            code=code,
            last=last,
        )
        self.program.write_text(text, encoding="utf-8")

    def play(self, variables: dict[str, Any] | None = None, **options: Any) -> hosts.Run:
        self.log.parent.mkdir(exist_ok=True)
        return hosts.play("deploy", site_of().inventory, variables or {}, log=self.log, **options)

    @property
    def seen(self) -> dict[str, Any]:
        """What the program found when it was called."""
        found: dict[str, Any] = json.loads((self.folder / "seen.json").read_text())
        return found


@pytest.fixture
def ansible(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Ansible]:
    yield Ansible(tmp_path, loaded_ansible(tmp_path, monkeypatch))
    hosts.unload()


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
    ansible.play(check=True, diff=True, limit=["a", "b"], tags=["images", "stack"], skip_tags=["after"])
    log = ansible.log.read_text()
    options = "--check --diff --limit a,b --tags images,stack --skip-tags after"
    assert re.search(rf"^arguments: .*ansible-playbook .*/deploy.yml {options}$", log, re.MULTILINE)
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


def test_arguments_name_playbook_inventory_and_variables() -> None:
    assert hosts._arguments("deploy", site_of().inventory, Path("/private/variables.json")) == [
        "--inventory",
        "inventories/team/hosts.yml",
        "--extra-vars",
        "@/private/variables.json",
        str(ansible_dir() / "deploy.yml"),
    ]


def test_ansible_is_loaded_once_for_all_playbooks(ansible: Ansible) -> None:
    ansible.says(output="first", last="print('parent', os.getppid(), 'child', os.getpid())")
    ansible.play()
    ansible.play()
    found = re.findall(r"parent (\d+) child (\d+)", ansible.log.read_text())
    assert len({parent for parent, _ in found}) == 1
    assert len({child for _, child in found}) == 2


def test_ansible_that_dies_is_a_failure(ansible: Ansible) -> None:
    ansible.says(last="sys.stdout.flush(); os.kill(os.getpid(), 9)")
    with pytest.raises(DapError, match=r"Ansible stopped:\n    arguments"):
        ansible.play()


def test_lost_runner_is_a_failure_and_the_next_playbook_has_another(ansible: Ansible) -> None:
    ansible.says(last="os.kill(os.getppid(), 9); time.sleep(60)")
    with pytest.raises(DapError, match="Ansible stopped"):
        ansible.play()
    ansible.says()
    assert ansible.play().failures == []


def test_playbook_is_told_nothing_that_makes_python_slow(
    ansible: Ansible, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("PYTHONDONTWRITEBYTECODE", "PYTHONUNBUFFERED"):
        monkeypatch.setenv(name, "1")
    ansible.says(last="print('slow:', sorted(name for name in os.environ if name.startswith('PYTHON')))")
    ansible.play()
    assert "slow: ['PYTHONPATH']\n" in ansible.log.read_text()


def test_playbook_finds_the_environment_of_now(ansible: Ansible, monkeypatch: pytest.MonkeyPatch) -> None:
    ansible.says(last="print('proxy:', os.environ.get('https_proxy'))")
    for proxy in ("http://first.test", "http://second.test"):
        monkeypatch.setenv("https_proxy", proxy)
        ansible.play()
        assert f"proxy: {proxy}\n" in ansible.log.read_text()
