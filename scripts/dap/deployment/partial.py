"""Deploys that go on without a runner host that cannot be reached, or on which something fails."""

from __future__ import annotations

from collections.abc import Sequence

from dap.configuration.inventory import Inventory
from dap.deployment.outcome import Outcome
from dap.errors import DapError


def goes_on_without(
    failures: Sequence[tuple[str, str]], outcome: Outcome, inventory: Inventory, verb: str
) -> bool:
    """Whether the other hosts can be brought into state; those that failed are noted then, and left alone.

    All rests on the service host. A check is to find all that is wrong before anything is begun.

    Args:
        failures: host and message.
    """
    if verb == "check" or inventory.service_host.name in dict(failures):
        return False
    for host, message in failures:
        outcome.failed.setdefault(host, message)
    return True


def refuse_failed(outcome: Outcome, inventory: Inventory) -> None:
    """End with what is wrong with the hosts that were left as they are, if there are any.

    Raises:
        DapError: with each of them.
    """
    count, every = len(outcome.failed), len(inventory.hosts)
    if count:
        left = "it is" if count == 1 else "they are"
        head = f"{count} of {every} hosts left as {left}; the others are in order:"
        lines = [head, *(f"{host}: {message}" for host, message in outcome.failed.items())]
        raise DapError("\n  ".join(lines), "correct this, then run the same command again", log=outcome.log)
