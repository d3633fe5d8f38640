"""``python -m jobs [--check]``: runs all jobs on the state in ``/run/secrets/desired_state.json``.

Prints one JSON line, ``{"changed": [...], "ok": N}``. Exit code 1 and a line on stderr if a job fails.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

from . import postgres, s3
from .report import Report

STATE = Path("/run/secrets/desired_state.json")


def main(arguments: list[str]) -> int:
    """Run the jobs; the exit code."""
    state = json.loads(STATE.read_text(encoding="utf-8"))
    report = Report(check="--check" in arguments)
    for job in (postgres, s3):
        for server in state[job.__name__.rpartition(".")[2]]:
            try:
                job.provision(server, report)
            except Exception as error:  # the job's own line, whatever library it came from
                sys.stderr.write(f"{server['service']}: {type(error).__name__}: {error}\n")
                sys.stdout.write(report.as_json() + "\n")
                return 1
    sys.stdout.write(report.as_json() + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
