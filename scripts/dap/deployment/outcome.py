"""What a run of the program did, and the log that it leaves."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

from dap.files import make_private_folder, unwritable
from dap.layout import logs_dir
from dap.plan import Plan

_KEEP_LOGS = 30


@dataclass
class Outcome:
    """What a deploy did.

    Attributes:
        changes: (host, what) of everything that changed.
        warnings: what the operator should know although it did not stop the deploy.
        rotated: keys of the secrets whose new values are in use everywhere now.
        plan: what changed, or in check mode would, by kind.
        only: the services that it was for; all if empty.
        failed: runner hosts that could not be brought into state, and why; the others are.
        log: the full log.
    """

    changes: list[tuple[str, str]] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    rotated: list[str] = field(default_factory=list)
    plan: Plan = field(default_factory=Plan)
    only: tuple[str, ...] = ()
    failed: dict[str, str] = field(default_factory=dict)
    log: Path = Path()


def open_log(inventory: str, verb: str) -> Path:
    """A new log file; the oldest ones of the inventory are removed."""
    folder = logs_dir(inventory)
    make_private_folder(folder.parent)
    make_private_folder(folder)
    for old in sorted(folder.glob("*.log"))[:-_KEEP_LOGS]:
        old.unlink(missing_ok=True)
    log = folder / f"{datetime.now(UTC):%Y%m%dT%H%M%S}-{verb}.log"
    try:
        log.touch(mode=0o600)
    except OSError as error:
        raise unwritable(log, folder, error) from error
    return log
