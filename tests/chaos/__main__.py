"""``python -m tests.chaos``: hit a platform in use, and write what came of it into the documentation."""

from __future__ import annotations

import json
import signal
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import click

from tests.chaos import report, victim
from tests.chaos.campaign import Campaign, Deploy, DevCreate, Outcome, Work, waves
from tests.chaos.faults import Cut, DiskFull, Fault, Kill, OutOfMemory, Restart, Stall
from tests.chaos.report import Part
from tests.integration.platform import KEPT_LOGS, ROOT
from tests.packages import installed

PAGE = ROOT / "docs" / "reference" / "faults.md"
RESULTS = PAGE.with_suffix(".json")
WORKS: tuple[type[Work], ...] = (Deploy, DevCreate)
SHORT_S, STALL_S, CUT_S = 3, 60, 20
# How many services are ended at the same time.
TOGETHER = 3


@dataclass(frozen=True)
class Choice:
    """What somebody wants of a run.

    Attributes:
        faults: their names; all of them without any.
        services: those that are hit; all of them without any.
        short: whether faults last for seconds, and none is made during the operator's work.
    """

    faults: tuple[str, ...]
    services: tuple[str, ...]
    short: bool
    seed: int

    @property
    def whole(self) -> bool:
        """Whether nothing is left out."""
        return not (self.faults or self.services or self.short)

    def of_faults(self, every: Iterable[Fault]) -> list[Fault]:
        return [fault for fault in every if not self.faults or fault.name in self.faults]

    def of_services(self, every: Iterable[str]) -> list[str]:
        return [name for name in sorted(every) if not self.services or name in self.services]


def of_services(choice: Choice, folder: Path) -> Part:
    """All services of one machine."""
    with victim.deployed(folder) as (platform, disk):
        stall, cut = (SHORT_S, SHORT_S) if choice.short else (STALL_S, CUT_S)
        every = [Kill(), Restart(), Stall(stall), OutOfMemory(), Cut(cut), DiskFull(disk, cut)]
        faults = choice.of_faults(every)

        def outcomes(campaign: Campaign) -> Iterator[Outcome]:
            services = choice.of_services(platform.containers())
            for fault in faults:
                # Those that start at the same time keep each other waiting; those that stand still don't.
                groups = waves(services, campaign.writers, most=len(services) if fault.seconds else TOGETHER)
                for group in [services] if isinstance(fault, DiskFull) else groups:
                    yield from campaign.hit(fault, group)
            groups = waves(services, campaign.writers, TOGETHER)
            # What a deploy says of a full disk has a test of its own: it refuses.
            for fault in choice.of_faults([Kill(), Stall(SHORT_S), OutOfMemory(), Cut(SHORT_S)]):
                for work in WORKS if not choice.short else ():
                    yield from campaign.hit_during(work(), fault, campaign.chance.choice(groups))

        campaign = Campaign(platform, victim.writers(platform), choice.seed)
        told = list(watched(campaign, outcomes(campaign)))
        return Part("Services", faults, campaign.writers, told, campaign.lost())


def watched(campaign: Campaign, outcomes: Iterable[Outcome]) -> Iterator[Outcome]:
    """Say what comes of each fault while clients are at work."""
    began = time.monotonic()
    click.echo(f"deployed; logs will be in {KEPT_LOGS / campaign.platform.name}")
    with campaign:
        for outcome in outcomes:
            click.echo(f"{time.monotonic() - began:.0f} s: {report.line(outcome)}")
            yield outcome


@click.command()
@click.option("--faults", multiple=True, metavar="NAME", help="Only this fault.")
@click.option("--services", multiple=True, metavar="NAME", help="Only this service.")
@click.option("--short", is_flag=True, help="Faults of seconds, and none during a deploy.")
@click.option("--seed", type=int, help="Of what is left to chance; another one each time without it.")
def main(faults: tuple[str, ...], services: tuple[str, ...], short: bool, seed: int | None) -> None:
    """Only a run with all faults on all services changes the documentation."""
    seed = time.time_ns() % 10_000 if seed is None else seed
    choice = Choice(faults, services, short, seed)
    click.echo(f"--seed {seed}")
    # Whoever ends the run with a signal, as in the background, is to leave nothing behind either.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    installed("ip", "iproute2")
    with tempfile.TemporaryDirectory() as folder:
        part = of_services(choice, Path(folder))
    if not part.outcomes:
        raise click.UsageError("nothing has that name")
    if choice.whole:
        RESULTS.write_text(json.dumps(report.described([part], seed), indent=2) + "\n", encoding="utf-8")
        PAGE.write_text(report.page([part], seed), encoding="utf-8")
    if part.failed:
        click.echo("\n".join(["failed:", *part.failed]))
        sys.exit(1)


if __name__ == "__main__":
    main()
