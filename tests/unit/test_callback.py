"""What a playbook run tells the program and its log, from a real run against this machine."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

ANSIBLE = Path(__file__).resolve().parents[2] / "ansible"
SECRET = "correct-horse-battery"
PLAYBOOK = """\
- name: Try everything
  hosts: all
  gather_facts: false
  tasks:
    - name: Say something
      ansible.builtin.debug: {msg: all is well}
    - name: Write a file
      ansible.builtin.copy: {content: "new\\n", dest: "{{ folder }}/plain", mode: "0600"}
    - name: Write two files
      ansible.builtin.copy: {content: x, dest: "{{ folder }}/{{ item }}", mode: "0600"}
      loop: [one, two]
    - name: Write a secret
      ansible.builtin.copy: {content: "{{ secret }}", dest: "{{ folder }}/secret", mode: "0600"}
      no_log: true
    - name: Write secrets
      ansible.builtin.copy: {content: "{{ item }}", dest: "{{ folder }}/secrets", mode: "0600"}
      loop: ["{{ secret }}"]
      no_log: true
    - name: Leave something out
      ansible.builtin.debug: {msg: never}
      when: false
    - name: Fail in between
      block:
        - name: Stumble
          ansible.builtin.command: {cmd: sh -c "echo stumbled >&2; exit 3"}
      rescue:
        - name: Get up again
          ansible.builtin.debug: {msg: up again}
    - name: Fail over a secret
      ansible.builtin.command: {cmd: "false {{ secret }}"}
      no_log: true
      ignore_errors: true
    - name: Fail for good
      ansible.builtin.command: {cmd: sh -c "echo what went wrong >&2; exit 4"}
"""


@dataclass(frozen=True)
class Run:
    """A finished run: what it printed, and its events."""

    text: str
    events: list[dict[str, Any]]

    def of(self, event: str) -> list[dict[str, Any]]:
        return [one for one in self.events if one["event"] == event]

    def result(self, task: str) -> dict[str, Any]:
        (result,) = [
            one for one in self.events if one.get("task") == task and one["event"] not in ("task", "diff")
        ]
        return result


def play(folder: Path, playbook: str, *arguments: str) -> Run:
    here = {"ansible_connection": "local", "ansible_python_interpreter": sys.executable}
    (folder / "hosts.yml").write_text(json.dumps({"all": {"hosts": {"here": here}}}))
    (folder / "playbook.yml").write_text(playbook)
    events = folder / "events.jsonl"
    environment = os.environ | {"ANSIBLE_CONFIG": str(ANSIBLE / "ansible.cfg"), "DAP_EVENTS": str(events)}
    done = subprocess.run(
        [
            str(Path(sys.executable).parent / "ansible-playbook"),
            "--inventory",
            str(folder / "hosts.yml"),
            "--extra-vars",
            json.dumps({"folder": str(folder), "secret": SECRET}),
            *arguments,
            str(folder / "playbook.yml"),
        ],
        env=environment,
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
    )
    return Run(done.stdout + done.stderr, [json.loads(line) for line in events.read_text().splitlines()])


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    return play(tmp_path_factory.mktemp("run"), PLAYBOOK, "--diff")


def test_tasks_and_results_come_in_order_with_host_and_time(run: Run) -> None:
    assert [one["event"] for one in run.events[:4]] == ["play", "task", "ok", "task"]
    assert run.events[0]["play"] == "Try everything"
    said = run.result("Say something")
    assert (said["event"], said["host"], said["message"]) == ("ok", "here", "all is well")
    assert said["elapsed"] >= 0
    assert [one["time"] for one in run.events] == sorted(one["time"] for one in run.events)


def test_change_names_the_items_that_changed(run: Run) -> None:
    assert run.result("Write a file")["event"] == "changed"
    assert run.result("Write two files")["changed_items"] == ["one", "two"]


def test_differences_are_events_and_text(run: Run) -> None:
    (plain,) = [one for one in run.of("diff") if one["task"] == "Write a file"]

    assert "+new" in plain["message"]
    assert "+new" in run.text


def test_no_log_hides_every_value_but_not_the_change(run: Run) -> None:
    assert run.result("Write a secret")["event"] == "changed"
    assert run.result("Write secrets")["event"] == "changed"
    assert run.result("Fail over a secret")["message"] == "hidden (no_log)"
    assert SECRET not in run.text
    assert SECRET not in json.dumps(run.events)


def test_failure_carries_the_end_of_what_the_command_wrote(run: Run) -> None:
    failed = run.result("Fail for good")

    assert failed["event"] == "failed"
    assert "what went wrong" in failed["message"]
    assert "what went wrong" in run.text
    assert "handled" not in failed


def test_failure_that_is_taken_care_of_says_so(run: Run) -> None:
    assert run.result("Stumble")["handled"] is True
    assert run.result("Fail over a secret")["handled"] is True
    assert run.result("Get up again")["event"] == "ok"


def test_skipped_task_has_no_message(run: Run) -> None:
    skipped = run.result("Leave something out")

    assert skipped["event"] == "skipped"
    assert "message" not in skipped


def test_run_ends_with_its_counts(run: Run) -> None:
    (stats,) = run.of("stats")

    counts = stats["hosts"]["here"]
    assert (counts["failures"], counts["rescued"], counts["ignored"], counts["skipped"]) == (1, 1, 1, 1)
    assert "DONE here:" in run.text


def test_result_of_an_own_module_is_passed_on_and_a_second_run_appends(tmp_path: Path) -> None:
    certificates = "- name: Trust\n  hosts: all\n  gather_facts: false\n  tasks:\n    - name: Look\n"
    certificates += "      dap_preflight: {root: /opt/none, data: /var/lib/none, project: none}\n"

    first = play(tmp_path, certificates)
    second = play(tmp_path, certificates)

    facts = first.result("Look")["dap"]["facts"]
    assert facts["has_data"] is False
    assert facts["cpus"] >= 1
    assert len(second.events) == 2 * len(first.events)
