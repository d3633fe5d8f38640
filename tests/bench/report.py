"""Tables and a picture of what was measured."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined, Template

from tests import this_machine
from tests.bench.measure import Number

_HERE = Path(__file__).parent


def described(numbers: Sequence[Number], *, full: bool) -> dict[str, Any]:
    """All that is known of a run, for JSON and for the pages."""
    return {
        "date": datetime.now(UTC).date().isoformat(),
        "machine": this_machine.description(),
        "full": full,
        "numbers": [number.as_json() for number in numbers],
    }


def table(numbers: Sequence[Number]) -> str:
    """Markdown, one table for each group."""
    parts = []
    for group, members in itertools.groupby(numbers, key=lambda number: number.group):
        lines = [
            f"## {group}",
            "",
            "| | median | from … to | baseline | goal | |",
            "| --- | --- | --- | --- | --- | --- |",
        ]
        lines += [f"| {' | '.join(_cells(number))} |" for number in members]
        parts.append("\n".join(lines))
    return "\n\n".join(parts) + "\n"


def _cells(number: Number) -> list[str]:
    baseline = number.baseline_median
    return [
        f"{number.name}{f' ({number.note})' if number.note else ''}",
        f"{rounded(number.median)} {number.unit}",
        f"{rounded(min(number.values))} … {rounded(max(number.values))}",
        "" if baseline is None else f"{rounded(baseline)} {number.unit} ({number.baseline})",
        _goal(number),
        "" if number.goal is None else f"{'met' if number.good else '**missed**'}: {_found(number)}",
    ]


def _goal(number: Number) -> str:
    goal = number.goal
    if goal is None:
        return ""
    words = [f"at most {rounded(goal.at_most)}"] if goal.at_most is not None else []
    words += [f"at least {rounded(goal.at_least)}"] if goal.at_least is not None else []
    return " and ".join(words) + _sign(number)


def _found(number: Number) -> str:
    return f"{rounded(number.found)}{_sign(number)}"


def _sign(number: Number) -> str:
    assert number.goal
    more = " more" if number.goal.of == "difference" else ""
    return " times" if number.goal.of == "ratio" else f" {number.unit}{more}"


def line(number: Number) -> str:
    """One line for whoever watches."""
    name, median, spread, baseline, goal, met = _cells(number)
    more = [f"baseline {baseline}"] * bool(baseline) + [f"goal {goal}, {met}"] * bool(goal)
    return "; ".join([f"{number.group}: {name}: {median} ({spread})", *more]).replace("**", "")


def rounded(value: float) -> str:
    """Three digits that count."""
    return f"{value:.0f}" if abs(value) >= 100 else f"{value:.3g}"


def page(numbers: Sequence[Number], run: dict[str, Any], picture: str) -> str:
    """The page of the documentation."""
    return _template("page.md.j2").render(run=run, tables=table(numbers), picture=picture)


def picture(numbers: Sequence[Number]) -> str:
    """An SVG: how each number with a goal stands to it, the goal being 1."""
    rows = []
    for number in numbers:
        if number.goal is None:
            continue
        bound = number.goal.at_most if number.goal.at_most is not None else number.goal.at_least
        assert bound
        rows.append(
            {
                "name": number.name,
                "share": number.found / bound,
                "good": number.good,
                "found": _found(number),
                "goal": _goal(number),
            }
        )
    return _template("picture.svg.j2").render(rows=rows)


def _template(name: str) -> Template:
    loader = FileSystemLoader(_HERE)
    return Environment(
        loader=loader,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        autoescape=name.endswith(".svg.j2"),
    ).get_template(name)
