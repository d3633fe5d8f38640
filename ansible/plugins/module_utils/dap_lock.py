"""What belongs to the whole host is changed by one deploy at a time: several platforms may share a host."""

from __future__ import annotations

import fcntl
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

FOLDER = Path("/run/lock")


@contextmanager
def host_lock(what: str, folder: Path = FOLDER) -> Iterator[None]:
    """Wait until nobody else changes ``what``, and keep others from it while the body runs.

    The lock goes with the process, however it ends.
    """
    folder.mkdir(mode=0o1777, parents=True, exist_ok=True)
    with (folder / f"dap-{what}.lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
