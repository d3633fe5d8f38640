"""Tells the program what a playbook run does: one JSON line per event, beside readable text on stdout."""

from __future__ import annotations

import json
import os
import time
from typing import Any, TextIO

from ansible.constants import (
    COLOR_CHANGED,
    COLOR_ERROR,
    COLOR_SKIP,
    COLOR_UNREACHABLE,
)
from ansible.playbook.block import Block
from ansible.playbook.task_include import TaskInclude
from ansible.plugins.callback import CallbackBase
from ansible.utils.color import stringc

DOCUMENTATION = r"""
name: dap_events
type: stdout
short_description: JSON lines for the program, readable text for people
description:
  - Appends one JSON object per line to the file named by the environment variable E(DAP_EVENTS), flushed at
    once; without that variable only the text is written.
  - "Every event has C(event), C(time) (seconds since the run began) and C(play). C(event) is one of play,
    task, ok, changed, skipped, failed, unreachable, diff and stats."
  - "Events of a task have C(task), C(role) and C(action); those of its results also C(host), C(elapsed)
    (seconds the host took for it), and where there is any, C(message), C(changed_items) and the C(dap) of the
    module's result."
  - "A failure that a rescue section takes care of, or that is ignored, has C(handled) true."
  - A task under C(no_log) reports what happened, and no value.
options: {}
"""

_SHOWN_LINES = 40
_HIDDEN = "hidden (no_log)"
_COLORS = {
    "changed": COLOR_CHANGED,
    "failed": COLOR_ERROR,
    "unreachable": COLOR_UNREACHABLE,
    "skipped": COLOR_SKIP,
}
# Ansible adds it before every role; it is worth a word only when it refuses.
_ARGUMENTS_CHECK = ("ansible.builtin.validate_argument_spec", "validate_argument_spec")


def is_hidden(result: dict[str, Any]) -> bool:
    """Whether a result may not be shown."""
    return bool(result.get("_ansible_no_log")) or "censored" in result


def items_of(result: dict[str, Any]) -> list[dict[str, Any]]:
    """The results of a loop's items; none for a task without a loop."""
    items = result.get("results")
    return [item for item in items if isinstance(item, dict)] if isinstance(items, list) else []


def _tail(text: Any) -> str:
    return "\n".join(str(text).rstrip().splitlines()[-_SHOWN_LINES:])


def message_of(result: dict[str, Any], failed: bool = False) -> str:
    """What a result has to say, for people; with a failure also the end of what its command wrote."""
    if is_hidden(result):
        return _HIDDEN if failed else ""
    said = [str(result.get("message") or result.get("msg") or "")]
    if failed:
        said += [_tail(result[key]) for key in ("stderr", "module_stderr") if result.get(key)]
        if len(said) == 1:
            said += [_tail(result[key]) for key in ("stdout", "module_stdout") if result.get(key)]
        for item in items_of(result):
            if item.get("failed"):
                said.append(f"{label_of(item)}: {message_of(item, failed=True)}")
    return "\n".join(text for text in said if text)


def label_of(item: dict[str, Any]) -> str:
    """What a loop's item is called."""
    if is_hidden(item):
        return _HIDDEN
    return str(item.get("_ansible_item_label", item.get("item", "")))


def changed_items_of(result: dict[str, Any]) -> list[str]:
    """What has changed, in words: as the module says, or the items of a loop that changed."""
    if is_hidden(result):
        return []
    own = result.get("changed_items")
    if isinstance(own, list):
        return [str(item) for item in own]
    changed = [item for item in items_of(result) if item.get("changed")]
    return [text for item in changed for text in changed_items_of(item) or [label_of(item)]]


def is_rescued(task: Any) -> bool:
    """Whether a failure of a task is taken care of by a rescue section around it."""
    child, parent = task, task._parent
    while parent is not None:
        if (
            isinstance(parent, Block)
            and parent.rescue
            and any(one._uuid == child._uuid for one in parent.block)
        ):
            return True
        child, parent = parent, parent._parent
    return False


class EventFile:
    """The file that the program reads events from, if it named one."""

    def __init__(self, path: str) -> None:
        self._stream: TextIO | None = None
        self._begin = time.monotonic()
        self.play = ""
        if path:
            # Messages may tell more about a host than everybody on the controller is to know.
            number = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
            self._stream = os.fdopen(number, "a", encoding="utf-8")

    def write(self, event: str, **values: Any) -> None:
        """Append one event; values that are None or empty text or lists are left out."""
        if self._stream is None:
            return
        kept = {name: value for name, value in values.items() if value not in (None, "", [])}
        line = {"event": event, "time": round(time.monotonic() - self._begin, 3), "play": self.play, **kept}
        self._stream.write(json.dumps(line, ensure_ascii=False, default=str) + "\n")
        self._stream.flush()


class CallbackModule(CallbackBase):
    """Receives what happens in a run, and passes it on."""

    CALLBACK_VERSION = 2.0
    CALLBACK_TYPE = "stdout"
    CALLBACK_NAME = "dap_events"

    def __init__(self) -> None:
        super().__init__()
        self._events = EventFile(os.environ.get("DAP_EVENTS", ""))
        self._started: dict[tuple[str, str], float] = {}

    def v2_playbook_on_play_start(self, play: Any) -> None:
        """A play begins."""
        self._events.play = play.get_name().strip()
        self._events.write("play")
        self._display.display(f"\nPLAY {self._events.play}{' (check mode)' if play.check_mode else ''}")

    def v2_playbook_on_task_start(self, task: Any, is_conditional: bool) -> None:
        """A task begins, on whichever hosts."""
        if task.action in _ARGUMENTS_CHECK:
            return
        self._events.write("task", **self._about(task))
        self._display.display(f"TASK {task.get_name().strip()}")

    def v2_playbook_on_handler_task_start(self, task: Any) -> None:
        """A handler begins."""
        self.v2_playbook_on_task_start(task, False)

    def v2_runner_on_start(self, host: Any, task: Any) -> None:
        """A task begins on one host."""
        self._started[host.get_name(), task._uuid] = time.monotonic()

    def v2_runner_on_ok(self, result: Any) -> None:
        """A task is done on one host."""
        if result.task.action in _ARGUMENTS_CHECK or isinstance(result.task, TaskInclude):
            return
        self._report("changed" if result.is_changed() else "ok", result)

    def v2_runner_on_skipped(self, result: Any) -> None:
        """A task has nothing to do on one host."""
        self._report("skipped", result)

    def v2_runner_on_failed(self, result: Any, ignore_errors: bool = False) -> None:
        """A task has failed on one host."""
        handled = True if ignore_errors or is_rescued(result.task) else None
        self._report("failed", result, handled=handled)

    def v2_runner_on_unreachable(self, result: Any) -> None:
        """A host cannot be reached."""
        self._report("unreachable", result)

    def v2_runner_retry(self, result: Any) -> None:
        """A task waits for something; the text shows that the run is alive."""
        left = result.result.get("retries", 0) - result.result.get("attempts", 0)
        self._display.display(f"  waiting      {result.host.get_name()}  {left} attempts left")

    def v2_on_file_diff(self, result: Any) -> None:
        """A task has changed files, and differences are wanted (--diff)."""
        values = result.result
        if is_hidden(values):
            return
        for one in items_of(values) or [values]:
            if is_hidden(one) or not one.get("diff") or not one.get("changed"):
                continue
            difference = self._get_diff(one["diff"])
            if difference.strip():
                host = result.host.get_name()
                self._events.write("diff", host=host, **self._about(result.task), message=difference)
                self._display.display(difference)

    def v2_playbook_on_stats(self, stats: Any) -> None:
        """The run is over."""
        hosts = {host: stats.summarize(host) for host in sorted(stats.processed)}
        self._events.write("stats", hosts=hosts)
        self._display.display("")
        for host, counts in hosts.items():
            told = ", ".join(f"{count} {name}" for name, count in counts.items() if count)
            self._display.display(f"DONE {host}: {told}")

    def _about(self, task: Any) -> dict[str, str]:
        role = task._role.get_name() if task._role else ""
        return {"task": str(task.name or task.action), "role": role, "action": task.action}

    def _report(self, event: str, result: Any, handled: bool | None = None) -> None:
        """Pass on the result of a task on one host."""
        values, host = result.result, result.host.get_name()
        self._handle_warnings(values)
        failed = event in ("failed", "unreachable")
        message, changed_items = message_of(values, failed), changed_items_of(values)
        begun = self._started.pop((host, result.task._uuid), None)
        elapsed = round(time.monotonic() - begun, 3) if begun else 0
        self._events.write(
            event,
            host=host,
            **self._about(result.task),
            elapsed=elapsed,
            message=message,
            changed_items=changed_items,
            handled=handled,
            dap=None if is_hidden(values) else values.get("dap"),
        )
        self._tell(event + (" (handled)" if handled else ""), host, elapsed, message, changed_items)

    def _tell(self, event: str, host: str, elapsed: float, message: str, changed_items: list[str]) -> None:
        told = f"  {event:<12} {host}  {elapsed:.1f} s"
        lines = message.splitlines()
        if event == "skipped" or not lines:
            lines = []
        elif len(lines) == 1:
            told, lines = f"{told}  {lines[0]}", []
        lines += [f"- {item}" for item in changed_items if item not in message]
        color = _COLORS.get(event)
        text = "\n".join([told, *(f"      {line}" for line in lines)])
        self._display.display(stringc(text, color) if color else text)
