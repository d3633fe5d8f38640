"""``python -m jobs [after|all] [--check] [--state -]``: runs jobs on ``/run/secrets/desired_state.json``.

Without a word those that come before the services start, with ``after`` those that need all of them running.
With ``all`` both, where all seem to run: if one of the latter fails, the summary does not say ``complete``,
and ``after`` is to follow.
With ``--state -`` the state is read from the standard input, with ``--check`` nothing is changed. Prints one
JSON line, ``{"changed": [...], "ok": N, …}``. Exit code 1 and a line on stderr if a job fails.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from . import gitlab, portainer, postgres, s3
from .report import LaterError, Report

STATE = Path("/run/secrets/desired_state.json")
BEFORE = (postgres, s3)
AFTER = (portainer, gitlab)
ADDRESS = ("host", "port", "verify", "endpoint", "secure")


def main(arguments: list[str]) -> int:
    """Run the jobs; the exit code. To check, servers that cannot be asked are listed, and are no failure."""
    given = sys.stdin.read() if "--state" in arguments else STATE.read_text(encoding="utf-8")
    state = json.loads(given)
    check, both = "--check" in arguments, "all" in arguments
    report = Report(check=check, patient=not both)
    if report.check and "--state" in arguments:
        at_deployed_addresses(state)
    before, after = (BEFORE, AFTER) if both else ((), AFTER) if "after" in arguments else (BEFORE, ())
    failed = _run(before, state, report)
    if not failed and after:
        left = _run(after, state, report)
        report.complete = not left
        failed = "" if both else left
    sys.stderr.write(failed)
    sys.stdout.write(report.as_json() + "\n")
    return 1 if failed else 0


def _run(jobs: Sequence[Any], state: dict[str, Any], report: Report) -> str:
    """Run jobs up to the first that fails; its line, or nothing."""
    for job in jobs:
        for server in state[job.__name__.rpartition(".")[2]]:
            try:
                job.provision(server, report)
                report.asked.append(server["service"])
            except LaterError as error:
                report.unasked[server["service"]] = str(error)
            except Exception as error:  # the job's own line, whatever library it came from
                line = f"{type(error).__name__}: {error}"
                if not report.check:
                    return f"{server['service']}: {line}\n"
                report.unasked[server["service"]] = line
    return ""


def at_deployed_addresses(state: dict[str, Any]) -> None:
    """Let the platform's own servers be asked where they are, not where a deploy would bring them."""
    if not STATE.exists():
        return
    deployed = json.loads(STATE.read_text(encoding="utf-8"))
    for kind, servers in state.items():
        there = {server["service"]: server for server in deployed.get(kind, [])}
        for server in servers:
            old = there.get(server["service"], {"external": True})
            if not server.get("external") and not old.get("external"):
                server.update({key: old[key] for key in ADDRESS if key in old and key in server})


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
