"""A process that has Ansible loaded and runs playbooks, one after the other.

Loading Ansible takes longer than most playbooks have to do. A deploy runs two of them, and the program has
something else to do while Ansible loads.

Started as ``python -m dap.hosts.playbooks``, it reads requests from standard input and answers each one on
standard output, a line of JSON and a line with the exit status. It ends with its input.
"""

from __future__ import annotations

import gc
import json
import os
import select
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import FrameType
from typing import Any, NoReturn

from dap.hosts.module_cache import keep_modules

END_SECONDS = 30


class Runner:
    """The process, seen from the program.

    Args:
        argv: what to start; for tests.
    """

    def __init__(self, environment: Mapping[str, str], argv: Sequence[str] = ()) -> None:
        self._process = subprocess.Popen(  # noqa: S603  our own argv, no shell
            argv or [sys.executable, "-m", "dap.hosts.playbooks"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env=dict(environment),
        )

    def start(self, arguments: Sequence[str], environment: Mapping[str, str], log: Path) -> None:
        """Run a playbook.

        Args:
            arguments: of ``ansible-playbook``.
            environment: what the playbook and its modules find; what Ansible itself reads there it has read.
            log: file that its output is appended to.
        """
        request = {"arguments": [*arguments], "environment": dict(environment), "log": str(log)}
        assert self._process.stdin  # noqa: S101  it is a pipe
        self._process.stdin.write(f"{json.dumps(request)}\n".encode())
        self._process.stdin.flush()

    @property
    def runs(self) -> bool:
        """Whether it can run another playbook."""
        return self._process.poll() is None

    def poll(self, seconds: float) -> int | None:
        """The exit status of the playbook; None if it has not ended after ``seconds``."""
        assert self._process.stdout  # noqa: S101  it is a pipe
        if not select.select([self._process.stdout], [], [], seconds)[0]:
            return None
        answer = self._process.stdout.readline()
        return int(answer) if answer else self._process.wait(END_SECONDS) or 1

    def end(self) -> None:
        """End it, and the playbook that it may be running."""
        self._process.terminate()
        self._process.communicate(timeout=END_SECONDS)


def serve() -> None:
    """Run the playbooks that are asked for until there is no more input."""
    from ansible import constants
    from ansible.cli.playbook import PlaybookCLI
    from ansible.release import __version__

    keep_modules(Path(constants.DEFAULT_LOCAL_TMP), __version__)
    child = 0

    def end(number: int, frame: FrameType | None) -> NoReturn:
        if child:
            os.kill(child, signal.SIGTERM)
            os.waitpid(child, 0)
        sys.exit(128 + number)

    signal.signal(signal.SIGTERM, end)
    while line := sys.stdin.readline():
        # A process of its own for each: Ansible keeps much of a run in global variables.
        child = os.fork()
        if not child:
            signal.signal(signal.SIGTERM, signal.SIG_DFL)
            _run(PlaybookCLI, json.loads(line))
        _, status = os.waitpid(child, 0)
        child = 0
        print(os.waitstatus_to_exitcode(status), flush=True)


def _run(program: Any, request: Mapping[str, Any]) -> NoReturn:
    """Be ``ansible-playbook``."""
    os.environ.clear()
    os.environ.update(request["environment"])
    with open(os.devnull, "rb") as nothing, Path(request["log"]).open("ab") as log:
        os.dup2(nothing.fileno(), 0)
        os.dup2(log.fileno(), 1)
        os.dup2(log.fileno(), 2)
    # Each task is a fork of this process, and the collector would have it copy what both could share.
    gc.disable()
    gc.freeze()
    status: Any = 1
    try:
        program.cli_executor(["ansible-playbook", *request["arguments"]])
        status = 0
    except SystemExit as ended:
        status = ended.code
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        # Nothing of the process that it was forked from is to be cleaned up here.
        os._exit(status if isinstance(status, int) else 1)


if __name__ == "__main__":
    serve()
