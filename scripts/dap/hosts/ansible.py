"""Runs Ansible: the one way from the program to the hosts."""

from __future__ import annotations

import atexit
import json
import os
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TextIO

from dap.configuration.inventory import Inventory
from dap.errors import DapError
from dap.files import temporary_folder, write_temporary
from dap.hosts.connection import explained
from dap.hosts.playbooks import Runner
from dap.layout import ansible_dir, shown

Event = Mapping[str, Any]
_runner: Runner | None = None


@dataclass
class Run:
    """What a playbook did.

    Attributes:
        changed: (host, task or items) of everything that changed.
        failures: (host, message) of everything that failed or could not be reached, in words for people.
        results: what the platform's own modules returned, by task and host.
        events: what tasks did on hosts, in the order of the run.
        seconds: how long it took.
    """

    changed: list[tuple[str, str]] = field(default_factory=list)
    failures: list[tuple[str, str]] = field(default_factory=list)
    results: dict[tuple[str, str], dict[str, Any]] = field(default_factory=dict)
    seconds: float = 0.0
    events: list[Event] = field(default_factory=list)

    def result(self, task: str) -> dict[str, dict[str, Any]]:
        """What the module of ``task`` returned, by host."""
        return {host: result for (name, host), result in self.results.items() if name == task}


def play(
    playbook: str,
    inventory: Inventory,
    variables: Mapping[str, Any],
    *,
    log: Path,
    check: bool = False,
    diff: bool = False,
    keep_going: bool = False,
    limit: Sequence[str] = (),
    tags: Sequence[str] = (),
    skip_tags: Sequence[str] = (),
    on_event: Callable[[Event], None] = lambda event: None,
    on_wait: Callable[[], None] = lambda: None,
) -> Run:
    """Run ``ansible/<playbook>.yml`` on the inventory's hosts.

    The variables may hold secrets: they go through a private file that lives as long as the run.

    Args:
        log: file that the readable output is appended to.
        limit: the hosts to work on; all if empty.
        tags: of the roles to run; all if empty.
        skip_tags: of the roles not to run.
        keep_going: leave it to the caller what a host's failure means; it is in the result.
        on_event: called for every event of the callback plugin ``dap_events``.
        on_wait: called several times a second while nothing happens.

    Raises:
        DapError: if a host failed or could not be reached, with what each said.
    """
    started = time.monotonic()
    with temporary_folder(log.parent) as folder:
        variables_file, events_file = folder / "variables.json", folder / "events.jsonl"
        write_temporary(variables_file, json.dumps({"dap": variables}).encode())
        write_temporary(events_file, b"")
        arguments = _arguments(playbook, inventory, variables_file)
        arguments += ["--check"] * check + ["--diff"] * diff
        arguments += ["--limit", ",".join(limit)] if limit else []
        arguments += ["--tags", ",".join(tags)] if tags else []
        arguments += ["--skip-tags", ",".join(skip_tags)] if skip_tags else []
        run = Run()
        code = _follow(arguments, events_file, log, run, on_event, on_wait)
    run.seconds = time.monotonic() - started
    run.failures = _in_words(run, inventory)
    if run.failures and keep_going:
        return run
    if code != 0 or run.failures:
        raise failure(run.failures, log)
    return run


def _in_words(run: Run, inventory: Inventory) -> list[tuple[str, str]]:
    """What failed on each host, once, in the order of the inventory."""
    known = {host.name: host for host in inventory.hosts}
    hosts_file = shown(inventory.hosts_file)
    failures = dict.fromkeys(
        (host, explained(known[host], hosts_file, message) if host in known else message)
        for host, message in run.failures
    )
    order = [*known]
    return sorted(failures, key=lambda entry: order.index(entry[0]) if entry[0] in known else len(order))


def _arguments(playbook: str, inventory: Inventory, variables: Path) -> list[str]:
    file = str(ansible_dir() / f"{playbook}.yml")
    return ["--inventory", str(inventory.hosts_file), "--extra-vars", f"@{variables}", file]


def load() -> None:
    """Load Ansible in a process of its own, so that it is ready when the first playbook is to run."""
    global _runner
    if _runner is None:
        _runner = Runner(_environment())
        atexit.register(unload)


def unload() -> None:
    """End the process that `load` has started, and the playbook that it may be running."""
    global _runner
    if _runner is not None:
        _runner.end()
        _runner = None


def _environment() -> dict[str, str]:
    # Some machines set these two for every program. Ansible would compile itself at each start, and modules,
    # which Python reads from a pipe, would be read byte by byte: seconds for each run.
    slow = {"PYTHONDONTWRITEBYTECODE", "PYTHONUNBUFFERED"}
    return {name: value for name, value in os.environ.items() if name not in slow} | {
        "ANSIBLE_CONFIG": str(ansible_dir() / "ansible.cfg"),
        "LC_ALL": "C.UTF-8",
    }


def _follow(
    arguments: list[str],
    events_file: Path,
    log: Path,
    run: Run,
    on_event: Callable[[Event], None],
    on_wait: Callable[[], None],
) -> int:
    load()
    assert _runner  # noqa: S101  loaded just now
    with events_file.open(encoding="utf-8") as events:
        try:
            _runner.start(arguments, _environment() | {"DAP_EVENTS": str(events_file)}, log)
            while (code := _runner.poll(0.1)) is None:
                _drain(events, run, on_event)
                on_wait()
            if not _runner.runs:
                unload()
        except BaseException:
            unload()
            raise
        _drain(events, run, on_event)
    return code


def _drain(events: TextIO, run: Run, on_event: Callable[[Event], None]) -> None:
    while True:
        position = events.tell()
        line = events.readline()
        if not line.endswith("\n"):
            # The end, or a line that is still being written.
            events.seek(position)
            return
        event = json.loads(line)
        _note(event, run)
        on_event(event)


def _note(event: Event, run: Run) -> None:
    host, task = event.get("host", ""), event.get("task", "")
    kind = event["event"]
    if kind in ("ok", "changed", "diff"):
        run.events.append(event)
    if kind == "changed":
        for item in event.get("changed_items") or [task]:
            run.changed.append((host, str(item)))
    if kind in ("failed", "unreachable") and not event.get("handled"):
        run.failures.append((host, event.get("message") or task))
    if kind in ("ok", "changed", "failed") and isinstance(event.get("dap"), dict):
        run.results[task, host] = event["dap"]


def failure(failures: Sequence[tuple[str, str]], log: Path) -> DapError:
    """What a run ends with where hosts failed, or Ansible itself did."""
    if not failures:
        last = log.read_text(encoding="utf-8").strip().splitlines()[-5:]
        return DapError(
            "Ansible stopped:\n" + "\n".join(f"    {line}" for line in last),
            "read the log, correct what it names, then run the same command again",
            log=log,
        )
    text = "\n".join(f"{host}: {message}" for host, message in failures)
    return DapError(text, "correct this, then run the same command again", log=log)
