"""Tells a person what a long run is doing: one line for each step, and what it waits for while it waits."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TextIO

_FRAMES = "⠋⠙⠹⠸⠼⠴⠦⠧⠇⠏"
_QUIET_SECONDS = 30.0


class Progress:
    """Progress on a terminal (a line that moves) or in a file (a line now and then).

    Args:
        stream: where to write; standard error by default, so that ``--json`` output stays clean.
    """

    def __init__(self, stream: TextIO | None = None) -> None:
        self.stream = stream or sys.stderr
        self.moving = self.stream.isatty()
        self.title = ""
        self.note = ""
        self.started = self.step_started = self.last_line = time.monotonic()

    @contextmanager
    def step(self, title: str) -> Iterator[None]:
        """A step: its title while it runs, its duration when it is done."""
        self.title, self.note = title, ""
        self.step_started = self.last_line = time.monotonic()
        self.tick()
        try:
            yield
        except BaseException:
            self._finish("✗")
            raise
        self._finish("✓")

    def waiting_for(self, note: str) -> None:
        """Say what the step waits for now."""
        self.note = note

    def watch(self, file: Path) -> None:
        """Take the note from a status file, if it is there."""
        try:
            self.note = file.read_text(encoding="utf-8").strip() or self.note
        except OSError:
            return

    def tick(self) -> None:
        """Show that time passes; call it several times a second."""
        now = time.monotonic()
        elapsed = now - self.step_started
        note = f" — {self.note}" if self.note else ""
        if self.moving:
            frame = _FRAMES[int(now * 8) % len(_FRAMES)]
            self.stream.write(f"\r\x1b[2K{frame} {self.title} {elapsed:.0f} s{note}"[:160])
            self.stream.flush()
        elif now - self.last_line > _QUIET_SECONDS:
            self.last_line = now
            self._line(f"  … {self.title} {elapsed:.0f} s{note}")

    def _finish(self, mark: str) -> None:
        elapsed = time.monotonic() - self.step_started
        start = "\r\x1b[2K" if self.moving else ""
        self._line(f"{start}{mark} {self.title} ({elapsed:.1f} s)")

    def _line(self, text: str) -> None:
        self.stream.write(text + "\n")
        self.stream.flush()
