"""What the jobs did, or in check mode would do."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from dataclasses import dataclass, field


class LaterError(Exception):
    """Nothing can be asked of a server now; the text says what it waits for, and the report what to do."""


@dataclass
class Report:
    """Collects changes.

    Attributes:
        check: only say what would change.
        patient: wait for servers that may not answer yet.
        changed: one line for each change.
        unchanged: number of things that were right already.
        asked: servers that were looked at.
        unasked: servers that could not be, and why.
        wants: keys of tokens that a server does not accept: a command has to make them there.
        complete: whether the jobs that need all services running have done their work, too.
        sealed: tokens that a server shows only once, for the program alone to read.
        renew: keys of secrets that want another value: they were revoked, or are about to end.
    """

    check: bool = False
    patient: bool = True
    changed: list[str] = field(default_factory=list)
    unchanged: int = 0
    asked: list[str] = field(default_factory=list)
    unasked: dict[str, str] = field(default_factory=dict)

    wants: list[str] = field(default_factory=list)
    renew: list[str] = field(default_factory=list)
    complete: bool = False
    sealed: str = ""

    def ensure(self, right: bool, change: str, make: Callable[[], object]) -> bool:
        """Call ``make`` if the thing is not ``right`` yet, and note ``change``; returns ``right``."""
        if right:
            self.unchanged += 1
            return True
        if not self.check:
            make()
        self.changed.append(change)
        return False

    def say(self, doing: str) -> None:
        """Tell what is being done, for whoever waits."""
        sys.stderr.write(f"progress: {doing}\n")
        sys.stderr.flush()

    def as_json(self) -> str:
        """The line that the program reads."""
        return json.dumps(
            {
                "changed": self.changed,
                "ok": self.unchanged,
                "asked": self.asked,
                "unasked": self.unasked,
                "wants": self.wants,
                "renew": self.renew,
                "complete": self.complete,
                "sealed": self.sealed,
            }
        )
