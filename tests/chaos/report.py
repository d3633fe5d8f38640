"""Tables of what a campaign has found."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from tests import this_machine
from tests.chaos.campaign import LIMIT_S, Outcome
from tests.chaos.faults import Fault
from tests.chaos.writers import Writer

_HERE = Path(__file__).parent


@dataclass(frozen=True)
class Part:
    """A campaign on one platform.

    Attributes:
        name: what was hit.
        lost: what was missing in the end of all that was acknowledged, in words.
    """

    name: str
    faults: Sequence[Fault]
    writers: Sequence[Writer]
    outcomes: Sequence[Outcome]
    lost: Sequence[str]

    @property
    def failed(self) -> list[str]:
        """What was not as it should be, in words."""
        rows = [outcome.row for outcome in self.outcomes if not outcome.good]
        return [*rows, *(f"lost in the end: {one}" for one in self.lost)]

    def as_json(self) -> dict[str, Any]:
        """For the file of results, and for the page."""
        return {
            "name": self.name,
            "faults": {fault.name: fault.told for fault in self.faults},
            "writers": [
                {
                    "name": writer.name,
                    "needs": sorted(writer.needs),
                    "acknowledged": len(writer.acknowledged()),
                    "median_seconds": round(usual(writer), 3),
                }
                for writer in self.writers
            ],
            "lost": list(self.lost),
            "outcomes": [outcome.as_json() for outcome in self.outcomes],
        }


def described(parts: Sequence[Part], seed: int) -> dict[str, Any]:
    """All that is known of a run, for JSON and for the page."""
    return {
        "date": datetime.now(UTC).date().isoformat(),
        "machine": this_machine.description(),
        "seed": seed,
        "limit_seconds": LIMIT_S,
        "parts": [part.as_json() for part in parts],
    }


def usual(writer: Writer) -> float:
    """How long something takes that is acknowledged, in seconds."""
    return statistics.median(
        [one.ended - one.begun for one in writer.tries if not one.error] or [float("nan")]
    )


def page(parts: Sequence[Part], seed: int) -> str:
    """The page of the documentation."""
    environment = Environment(  # noqa: S701  Markdown
        loader=FileSystemLoader(_HERE),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.globals.update(times=times, refusals=refusals, targets=targets)
    run = described(parts, seed)
    return environment.get_template("page.md.j2").render(run=run, parts=zip(parts, run["parts"], strict=True))


def times(part: Part, during: bool) -> str:
    """Seconds until all was back: for each service, or for each work that was hit in its midst."""
    chosen = [outcome for outcome in part.outcomes if bool(outcome.during) is during]
    if during:
        return table(chosen, "during", lambda outcome: outcome.during)
    return table(chosen, "hit", lambda outcome: outcome.service)


def targets(part: Part) -> dict[tuple[str, str], list[str]]:
    """What was hit by each fault during each work."""
    found: dict[tuple[str, str], list[str]] = {}
    for outcome in part.outcomes:
        if outcome.during:
            found.setdefault((outcome.during, outcome.fault), []).append(outcome.service)
    return found


def table(outcomes: Sequence[Outcome], corner: str, row_of: Callable[[Outcome], str]) -> str:
    """Markdown: a column for each fault, a row for each of what ``row_of`` tells."""
    faults = list(dict.fromkeys(outcome.fault for outcome in outcomes))
    rows: dict[str, dict[str, list[Outcome]]] = {}
    for outcome in outcomes:
        rows.setdefault(row_of(outcome), {}).setdefault(outcome.fault, []).append(outcome)
    lines = [[corner, *faults], ["---"] * (1 + len(faults))]
    lines += [
        [name, *(seconds_in_words(found[fault]) if fault in found else "" for fault in faults)]
        for name, found in sorted(rows.items())
    ]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def seconds_in_words(outcomes: Iterable[Outcome]) -> str:
    """The median of the seconds, and the most where they differ; whether anything was wrong."""
    several = list(outcomes)
    found = [outcome.seconds for outcome in several if outcome.seconds is not None]
    wrong = not all(outcome.good for outcome in several) or len(found) < len(several)
    parts = [f"{statistics.median(found):.1f} s"] if found else []
    if len(found) > 1 and max(found) - statistics.median(found) >= 0.1:
        parts.append(f"(up to {max(found):.1f})")
    return " ".join([*parts, *["**failed**"] * wrong])


def refusals(part: Part) -> str:
    """Markdown: for each writer and fault, how much was refused of all that was tried while it lasted."""
    outcomes = [outcome for outcome in part.outcomes if not outcome.during]
    faults = list(dict.fromkeys(outcome.fault for outcome in outcomes))
    sums: dict[str, dict[str, list[int]]] = {}
    for outcome in outcomes:
        for writer, (done, refused) in outcome.tried.items():
            total = sums.setdefault(writer, {}).setdefault(outcome.fault, [0, 0])
            total[0] += done
            total[1] += refused
    lines = [["what is written", *faults], ["---"] * (1 + len(faults))]
    for writer, found in sums.items():
        cells = [f"{found[fault][1]} of {sum(found[fault])}" if fault in found else "" for fault in faults]
        lines.append([writer, *cells])
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def line(outcome: Outcome) -> str:
    """One line for whoever watches."""
    refused = sum(count for _, count in outcome.tried.values())
    done = sum(count for count, _ in outcome.tried.values())
    told = f"{outcome.row}: {seconds_in_words([outcome])}; {done} acknowledged, {refused} refused"
    return "\n  ".join([told, *outcome.problems])
