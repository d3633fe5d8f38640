"""How soon the program is there."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator

from tests.bench.measure import Goal, Number, seconds_of
from tests.integration.platform import BIN, DeployedPlatform

GROUP = "The program"


def measure(platform: DeployedPlatform, rounds: int, full: bool) -> Iterator[Number]:
    """`dap --help` and `dap status`, each as an operator calls it."""

    def help_() -> float:
        return seconds_of(
            lambda: subprocess.run([BIN / "dap", "--help"], stdout=subprocess.DEVNULL, check=True)
        )

    def status() -> float:
        return seconds_of(lambda: platform.must("status"))

    for name, limit, timed in (("dap --help", 150, help_), ("dap status, one host", 1000, status)):
        timed()
        values = [1000 * timed() for _ in range(3 * rounds)]
        yield Number(GROUP, name, "ms", values, goal=Goal("value", at_most=limit))
