"""Running a playbook while somebody looks on."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from dap.configuration.inventory import Inventory
from dap.deployment.progress import Progress
from dap.hosts import ansible as hosts


def play(
    playbook: str,
    inventory: Inventory,
    variables: Mapping[str, Any],
    progress: Progress,
    *,
    log: Path,
    **options: Any,
) -> hosts.Run:
    """Run a playbook, and show what it is waiting for.

    Args:
        log: file that the readable output is appended to.
        options: of `dap.hosts.ansible.play`.
    """
    status_file = Path(variables["root"]) / "log" / "progress"

    def on_event(event: hosts.Event) -> None:
        if event["event"] == "task":
            progress.waiting_for(str(event.get("task", "")))

    def on_wait() -> None:
        # Written by long tasks while they work; on another machine the name of the task has to do.
        progress.watch(status_file)
        progress.tick()

    return hosts.play(playbook, inventory, variables, log=log, on_event=on_event, on_wait=on_wait, **options)
