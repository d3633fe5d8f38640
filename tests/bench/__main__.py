"""``python -m tests.bench [--full] [NAME …]``: measure, and write what was found into the documentation."""

from __future__ import annotations

import json
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import click

from tests.bench import (
    databases,
    deploys,
    desks,
    hosts,
    idle,
    objects,
    programs,
    report,
    repositories,
    tracking,
)
from tests.bench.measure import Number
from tests.engine import start_engine
from tests.integration.platform import ROOT, DeployedPlatform, from_nothing

Benchmark = Callable[[DeployedPlatform, int, bool], Iterator[Number]]
BENCHMARKS: dict[str, Benchmark] = {
    "programs": programs.measure,
    "deploys": deploys.measure,
    "databases": databases.measure,
    "tracking": tracking.measure,
    "objects": objects.measure,
    "repositories": repositories.measure,
    "desks": desks.measure,
    "hosts": hosts.measure,
    "idle": idle.measure,
}
ROUNDS, ROUNDS_FULL = 3, 7
PAGE = ROOT / "docs" / "reference" / "benchmarks.md"
RESULTS = PAGE.with_suffix(".json")
PICTURE = ROOT / "docs" / "images" / "benchmarks.svg"


@click.command()
@click.option("--full", is_flag=True, help="More rounds.")
@click.argument("names", nargs=-1, type=click.Choice(list(BENCHMARKS)))
def main(full: bool, names: tuple[str, ...]) -> None:
    """Measure; only a run of all benchmarks changes the documentation."""
    numbers: list[Number] = []
    with tempfile.TemporaryDirectory() as folder:
        start_engine(Path(folder, "engine"))
        made = DeployedPlatform(Path(folder, "bench"))
        made.write_inventory()
        with from_nothing(made):
            for name in names or BENCHMARKS:
                for number in BENCHMARKS[name](made, ROUNDS_FULL if full else ROUNDS, full):
                    numbers.append(number)
                    click.echo(report.line(number))
    run = report.described(numbers, full=full)
    if not names:
        RESULTS.write_text(json.dumps(run, indent=2) + "\n", encoding="utf-8")
        PICTURE.write_text(report.picture(numbers), encoding="utf-8")
        PAGE.write_text(report.page(numbers, run, "../images/benchmarks.svg"), encoding="utf-8")
    missed = [number.name for number in numbers if not number.good]
    if missed:
        click.echo(f"missed: {', '.join(missed)}")
        sys.exit(1)


if __name__ == "__main__":
    main()
