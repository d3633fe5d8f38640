"""Those who use the platform while it is hit, and know what they were told is kept."""

from __future__ import annotations

import itertools
import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Collection
from dataclasses import dataclass
from hashlib import shake_256
from typing import ClassVar

PAUSE_AFTER_FAILURE_S = 0.3


@dataclass(frozen=True)
class Try:
    """One thing that was tried, from when until when, and why it was not acknowledged."""

    number: int
    begun: float
    ended: float
    error: str = ""

    def during(self, start: float, end: float) -> bool:
        """Whether some of it was then."""
        return self.begun < end and self.ended > start


class Writer(ABC):
    """Writes one thing after the other, each known by its number alone, until it is told to stop.

    Attributes:
        name: what it writes.
        needs: the services without which it cannot.
        shows: those of them whose return it is the measure of.
        pause: seconds between two things.
        forgets: whether what was acknowledged is gone, as is meant, when its service has started again.
    """

    name: ClassVar[str]
    needs: frozenset[str]
    shows: frozenset[str]
    pause: ClassVar[float] = 0.3
    forgets: ClassVar[bool] = False

    def __init__(self) -> None:
        self.tries: list[Try] = []
        self._numbers = itertools.count(1)
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._go_on, name=self.name, daemon=True)

    @abstractmethod
    def write(self, number: int) -> None:
        """Write a thing; whatever is raised says that it was not acknowledged."""

    @abstractmethod
    def wrong(self, numbers: Collection[int]) -> list[str]:
        """What is missing or damaged of what was acknowledged under these numbers, in words."""

    def clear(self) -> None:  # noqa: B027  most leave their platform together
        """Remove what was written."""

    def acknowledged(self, since: float = 0) -> list[int]:
        """The numbers of all that was acknowledged after ``since``."""
        return [one.number for one in list(self.tries) if not one.error and one.ended > since]

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self._stop.set()
        self._thread.join(timeout=120)

    def attempt(self) -> Try:
        """Try to write the next thing."""
        number, begun = next(self._numbers), time.monotonic()
        error = ""
        try:
            self.write(number)
        except Exception as raised:
            error = f"{type(raised).__name__}: {raised}"
        done = Try(number, begun, time.monotonic(), error)
        self.tries.append(done)
        return done

    def succeed(self, limit: float) -> Try:
        """Try until something is acknowledged, beside what is under way.

        Args:
            limit: until when it is tried, by the monotonic clock; the last try is returned then.
        """
        while (done := self.attempt()).error and time.monotonic() < limit:
            time.sleep(PAUSE_AFTER_FAILURE_S)
        return done

    def _go_on(self) -> None:
        while not self._stop.is_set():
            failed = self.attempt().error
            self._stop.wait(PAUSE_AFTER_FAILURE_S if failed else self.pause)


def content(name: str, number: int, size: int) -> bytes:
    """What is written under a number: nothing has to be kept to know it again."""
    return shake_256(f"{name} {number}".encode()).digest(size)
