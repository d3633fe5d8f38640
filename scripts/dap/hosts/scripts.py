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
# Makes modules of what is sent, each known by its name to those after it, and calls the last one.
_PROGRAM = """
import base64, json, sys, types
sent = json.loads(base64.b64decode({sent!r}))
for name, text in sent["modules"]:
    parts = name.split(".")
    for depth in range(1, len(parts) + 1):
        part = ".".join(parts[:depth])
        made = sys.modules.setdefault(part, types.ModuleType(part))
        if depth > 1:
            setattr(sys.modules[".".join(parts[:depth - 1])], parts[depth - 1], made)
    exec(compile(text, name, "exec"), made.__dict__)
print(json.dumps(made.answer(sent["request"])))
"""


def told_by(
    inventory: str, host: Host, modules: Mapping[str, Path], request: Mapping[str, Any], otherwise: str
) -> dict[str, Any]:
    """What the function ``answer`` of a module says to a request, on a host and with root's rights.

    Args:
        modules: files of plain Python, by the modules' names; the last one is asked and may import others.
        otherwise: what is told where it cannot be run there.

    Raises:
        DapError: it cannot be run there.
    """
    # Through standard input: what a request holds may be secret, and others see arguments.
    sources = [(name, file.read_text(encoding="utf-8")) for name, file in modules.items()]
    sent = json.dumps({"modules": sources, "request": request})
    program = _PROGRAM.format(sent=base64.b64encode(sent.encode()).decode())
    python = str(host.variables.get("ansible_python_interpreter", "/usr/bin/python3"))

    def failure(why: str) -> DapError:
        return DapError(f"{host.name}: {otherwise}: {why}", f"dap -e {inventory} check")

    lines = output_on(host, [python, "-"], _LIMIT_SECONDS, failure, program).strip().splitlines()
    if not lines:
        raise failure("no answer")
    return dict(json.loads(lines[-1]))
