"""The provisioning job: what it is to bring about, and what it says it did."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any

from .dap_docker import Finished
from .dap_project import LOG_LINES

# Before a line on standard error that says what a job is doing.
PROGRESS = "progress: "


def without_servers(state: str, absent: Iterable[str]) -> str:
    """What a job has to bring about (JSON: a list of servers for each kind), without some of the servers.

    Empty if none is left.
    """
    if not state:
        return ""
    gone = set(absent)
    kinds: dict[str, list[dict[str, Any]]] = json.loads(state)
    kept = {
        kind: [server for server in servers if server.get("service") not in gone]
        for kind, servers in kinds.items()
    }
    return json.dumps(kept) if any(kept.values()) else ""


def job_result(finished: Finished, service: str) -> dict[str, Any]:
    """Read what a job wrote; a key ``msg`` in the result says what failed."""
    lines = [line for line in finished.stdout.splitlines() if line.strip()]
    if finished.returncode:
        said = [
            line
            for line in finished.stderr.splitlines()
            if line.strip() and not line.startswith((" Container ", PROGRESS))
        ]
        words = "\n".join(f"  {line}" for line in (said or lines)[-LOG_LINES:])
        return {"changed": False, "msg": f"{service} ended with status {finished.returncode}:\n{words}"}
    try:
        summary = json.loads(lines[-1])
        changes, in_order = list(summary["changed"]), int(summary["ok"])
        asked, unasked = list(summary.get("asked") or []), dict(summary.get("unasked") or {})
        wants, renew = list(summary.get("wants") or []), list(summary.get("renew") or [])
        complete = bool(summary.get("complete"))
    except (ValueError, KeyError, TypeError, IndexError):
        last = lines[-1][:200] if lines else "nothing"
        return {"changed": False, "msg": f"{service} should end with a summary in JSON, but wrote: {last}"}
    return {
        "changed": bool(changes),
        "changes": changes,
        "ok": in_order,
        "asked": asked,
        "unasked": unasked,
        "wants": wants,
        "renew": renew,
        "complete": complete,
        "sealed": str(summary.get("sealed") or ""),
    }
