"""``dap outdated``: newer versions of what is pinned."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING

import click

from dap.errors import EXIT_CHANGES, DapError

if TYPE_CHECKING:
    from dap.outdated import Pin


@click.command()
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@click.pass_obj
def outdated(inventory: str, as_json: bool) -> None:
    """List newer versions of the packages and images that are pinned.

    Exit code 0 if none is newer, 3 if some are. What cannot be asked is said to be unknown.
    """
    from dap.outdated import compared, pins_of
    from dap.outdated.sources import Sources
    from dap.site import load_site

    site = load_site(inventory)
    pins = compared(pins_of(site), Sources(site))
    if as_json:
        click.echo(json.dumps([pin.as_json() for pin in pins], indent=2))
    reasons = _reasons(pins)
    if pins and all(pin.unknown for pin in pins):
        raise DapError(
            f"none of {len(pins)} pinned versions can be compared: {'; '.join(reasons)}",
            "run it on a machine that reaches the mirrors of platform.yml, or the Internet",
        )
    newer = [pin for pin in pins if pin.outdated]
    if not as_json:
        for pin in newer:
            click.echo(f"{pin.kind:<6}  {pin.name}  {pin.version} -> {pin.newest}  {', '.join(pin.where)}")
        for reason, count in reasons.items():
            click.echo(f"unknown ({count}): {reason}")
        click.echo(f"{len(newer)} of {len(pins)} pinned versions have a newer one.")
    if newer:
        sys.exit(EXIT_CHANGES)


def _reasons(pins: Sequence[Pin]) -> dict[str, int]:
    """Why versions are unknown, and of how many that is so."""
    reasons: dict[str, int] = {}
    for pin in pins:
        if pin.unknown:
            reasons[pin.unknown] = reasons.get(pin.unknown, 0) + 1
    return reasons
