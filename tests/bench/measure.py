"""Numbers beside a baseline: both are measured in turn, in the same run, on the same machine."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Literal, TypeVar

Measured = TypeVar("Measured")


@dataclass(frozen=True)
class Goal:
    """What a number is to reach.

    Attributes:
        of: what is looked at: the median itself, or its ratio to the baseline's, or its difference from it.
        at_most: the largest that is good enough.
        at_least: the smallest that is good enough.
    """

    of: Literal["value", "ratio", "difference"]
    at_most: float | None = None
    at_least: float | None = None

    def met_by(self, found: float) -> bool:
        """Whether a number is good enough."""
        return (self.at_most is None or found <= self.at_most) and (
            self.at_least is None or found >= self.at_least
        )


@dataclass(frozen=True)
class Number:
    """What was measured of one thing.

    Attributes:
        group: which benchmark it belongs to.
        name: what it is of.
        unit: of the values; empty for a ratio.
        values: one for each round.
        baseline: what it is compared with, in words; empty without one.
        baseline_values: one for each round.
        goal: what it is to reach; None where it is only told.
        note: what bounds it, or how it is to be read.
    """

    group: str
    name: str
    unit: str
    values: Sequence[float]
    baseline: str = ""
    baseline_values: Sequence[float] = field(default=())
    goal: Goal | None = None
    note: str = ""

    @property
    def median(self) -> float:
        """Of the values."""
        return statistics.median(self.values)

    @property
    def baseline_median(self) -> float | None:
        """Of the baseline's values."""
        return statistics.median(self.baseline_values) if self.baseline_values else None

    @property
    def found(self) -> float:
        """What the goal looks at."""
        baseline = self.baseline_median
        if self.goal is None or self.goal.of == "value" or baseline is None:
            return self.median
        return self.median / baseline if self.goal.of == "ratio" else self.median - baseline

    @property
    def good(self) -> bool:
        """Whether the goal is reached; without one it is."""
        return self.goal is None or self.goal.met_by(self.found)

    def as_json(self) -> dict[str, Any]:
        """For the file of results."""
        return asdict(self) | {
            "median": self.median,
            "baseline_median": self.baseline_median,
            "found": self.found,
            "good": self.good,
        }


def seconds_of(action: Callable[[], object]) -> float:
    """How long an action takes."""
    begin = time.perf_counter()
    action()
    return time.perf_counter() - begin


def in_turn(
    rounds: int, ours: Callable[[], Measured], theirs: Callable[[], Measured]
) -> tuple[list[Measured], list[Measured]]:
    """Measure two things in turn, each first in every other round; the values of each."""
    values: list[Measured] = []
    others: list[Measured] = []
    for number in range(rounds):
        pairs = [(values, ours), (others, theirs)]
        for kept, measured in pairs if number % 2 == 0 else pairs[::-1]:
            kept.append(measured())
    return values, others
