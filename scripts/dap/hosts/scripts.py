"""Runs a module of plain Python on a host, over one connection, and takes what it answers."""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from dap.configuration.inventory import Host
from dap.containers import output_on
from dap.errors import DapError

_LIMIT_SECONDS = 600
_CALL = """
import base64
print(json.dumps(answer(json.loads(base64.b64decode({request!r})))))
"""


def told_by(
    inventory: str, host: Host, script: Path, request: Mapping[str, Any], otherwise: str
) -> dict[str, Any]:
    """What the function ``answer`` of a module says to a request, on a host and with root's rights.

    Args:
        otherwise: what is told where it cannot be run there.

    Raises:
        DapError: it cannot be run there.
    """
    # Through standard input: what a request holds may be secret, and others see arguments.
    packed = base64.b64encode(json.dumps(request).encode()).decode()
    program = script.read_text(encoding="utf-8") + _CALL.format(request=packed)
    python = str(host.variables.get("ansible_python_interpreter", "/usr/bin/python3"))

    def failure(why: str) -> DapError:
        return DapError(f"{host.name}: {otherwise}: {why}", f"dap -e {inventory} check")

    lines = output_on(host, [python, "-"], _LIMIT_SECONDS, failure, program).strip().splitlines()
    if not lines:
        raise failure("no answer")
    return dict(json.loads(lines[-1]))
