"""A platform in use is hit by one fault after the other; what came back when, and what was lost."""

from __future__ import annotations

import random
import subprocess
import time
from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, ClassVar, Self

import yaml

from tests.chaos.faults import Box, Fault
from tests.chaos.writers import Try, Writer
from tests.integration.platform import BIN, DeployedPlatform, free_ports

# Within which everything is healthy and in use again.
LIMIT_S = 60
# A program that is hit in its midst has this long to end.
ENDS_S = 300


@dataclass(frozen=True)
class Outcome:
    """What a fault did to one service.

    Attributes:
        during: what the operator was at; empty, if nothing.
        seconds: until it was healthy and in use again; None, if it was not.
        tried: what was under way or begun from the fault until all had recovered, by each writer that needs
            the service: how much was acknowledged, and how much was not.
        problems: what should not be, in words.
    """

    fault: str
    service: str
    during: str
    seconds: float | None
    tried: Mapping[str, tuple[int, int]]
    problems: tuple[str, ...]

    @property
    def good(self) -> bool:
        """Whether all is as it should be."""
        return not self.problems

    @property
    def row(self) -> str:
        """Which it is, in words."""
        return f"{self.service}, {self.fault}{f', during {self.during}' if self.during else ''}"

    def as_json(self) -> dict[str, Any]:
        """For the file of results."""
        return asdict(self) | {"good": self.good}


class Work(ABC):
    """Something that the operator does, to be hit in its midst.

    Attributes:
        name: it in words.
    """

    name: ClassVar[str]

    @abstractmethod
    def begin(self, platform: DeployedPlatform) -> list[str]:
        """Prepare it; the arguments of the program."""

    @abstractmethod
    def end(self, platform: DeployedPlatform) -> list[str]:
        """Look whether it was done in the end, and put all back; what is wrong, in words."""


class Deploy(Work):
    """A deploy that replaces MLflow's container."""

    name = "dap deploy"

    def begin(self, platform: DeployedPlatform) -> list[str]:
        settings = yaml.safe_load(platform.settings_file.read_text(encoding="utf-8"))
        mlflow = settings["services"].setdefault("mlflow", {})
        self.note = str(time.monotonic())
        mlflow["environment"] = {"NOTE": self.note}
        platform.settings_file.write_text(yaml.safe_dump(settings), encoding="utf-8")
        return ["deploy", "--no-verify"]

    def end(self, platform: DeployedPlatform) -> list[str]:
        there = platform.containers()["mlflow"]["Config"]["Env"]
        return [] if f"NOTE={self.note}" in there else ["MLflow's container was not replaced"]


class DevCreate(Work):
    """A new development container."""

    name = "dap dev create"

    def begin(self, platform: DeployedPlatform) -> list[str]:
        (port,) = free_ports(1)
        return ["dev", "create", "bob", "--environment", "python", "--memory", "256m", "--port", str(port)]

    def end(self, platform: DeployedPlatform) -> list[str]:
        if "dev-bob-python" not in platform.containers():
            # Before it was written down.
            return []
        done = platform.dap("dev", "remove", "bob-python", "--with-home", "--yes")
        if done.returncode:
            return [f"bob-python cannot be removed: {done.stderr}"]
        # Takes its page away, and what else is told of it.
        platform.deploy()
        return []


class Campaign:
    """Writers at work on a platform, and the faults that it is hit by.

    Args:
        seed: of what is left to chance.
        limit: seconds within which all has to be back.
    """

    def __init__(
        self, platform: DeployedPlatform, writers: Sequence[Writer], seed: int = 0, limit: float = LIMIT_S
    ) -> None:
        self.platform, self.writers, self.limit = platform, writers, limit
        self.chance = random.Random(seed)  # noqa: S311  no secret
        # Since when what is acknowledged is still to be looked for.
        self._looked = dict.fromkeys((writer.name for writer in writers), 0.0)

    def __enter__(self) -> Self:
        for writer in self.writers:
            writer.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for writer in self.writers:
            writer.stop()

    def hit(self, fault: Fault, services: Iterable[str], *, deploy: bool = True) -> list[Outcome]:
        """Hit services at the same time and wait until all is well without a hand; what came of each.

        Args:
            deploy: whether a deploy is asked afterwards if it has anything to do.
        """
        before, begun = self.platform.containers(), time.monotonic()
        over = fault.hit([before[name] for name in services])
        seconds, problems = self._await_return(set(before), over)
        end = time.monotonic()
        problems += self._deployed() if deploy else []
        problems += self._lost(self._started_again(before), over)
        return self._outcomes(fault, services, "", seconds, problems, (begun, end))

    def hit_during(self, work: Work, fault: Fault, services: Iterable[str]) -> list[Outcome]:
        """Hit services while the operator is at work; a deploy then has to put all in order."""
        before = self.platform.containers()
        process = subprocess.Popen(
            [str(BIN / "dap"), *work.begin(self.platform)],
            env=self.platform.environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        time.sleep(self.chance.uniform(0.5, 6))
        begun = time.monotonic()
        now = self.platform.containers()
        # One of them may just be replaced.
        running = [now[name] for name in services if name in now and now[name]["State"]["Pid"]]
        over = fault.hit(running)
        said, _ = process.communicate(timeout=ENDS_S)
        problems = [] if process.returncode in (0, 1, 2) and "Traceback" not in said else [said]
        done = self.platform.dap("deploy", "--no-verify")
        problems += [] if done.returncode == 0 else [f"the next deploy: {done.stderr.strip()}"]
        seconds, more = self._await_return(set(before), over)
        end = time.monotonic()
        problems += more + self._deployed() + work.end(self.platform)
        problems += self._lost(self._started_again(before), over)
        return self._outcomes(fault, services, work.name, seconds, problems, (begun, end))

    def lost(self) -> list[str]:
        """What is missing in the end of all that was acknowledged, in words."""
        return [
            found for writer in self.writers if not writer.forgets for found in looked_for(writer, since=0)
        ]

    def _await_return(self, expected: set[str], over: float) -> tuple[dict[str, float], list[str]]:
        """Seconds until each service was well and in use; and what is not, in words."""
        limit = over + self.limit
        with ThreadPoolExecutor(max_workers=len(self.writers) or 1) as pool:
            tries = {writer: pool.submit(writer.succeed, limit) for writer in self.writers}
            well = self._await_health(expected, limit)
            used = {writer: found.result() for writer, found in tries.items()}
        problems = [f"{name} is not healthy after {self.limit:g} s" for name in sorted(expected - set(well))]
        problems += [
            f"no {writer.name} within {self.limit:g} s: {done.error}"
            for writer, done in used.items()
            if done.error
        ]
        return {name: back(name, moment, used) - over for name, moment in well.items()}, problems

    def _await_health(self, expected: set[str], limit: float) -> dict[str, float]:
        """Since when each container is well, as soon as all are so at the same time."""
        well: dict[str, float] = {}
        while True:
            boxes = self.platform.containers()
            now = time.monotonic()
            well = {name: well.get(name, now) for name, box in boxes.items() if is_well(box)}
            if expected <= set(well) or now > limit:
                return well
            time.sleep(0.2)

    def _deployed(self) -> list[str]:
        try:
            changes = self.platform.deploy()
        except AssertionError as error:
            return [f"the deploy: {error}"]
        return [f"the deploy made {changes} changes"] if changes else []

    def _lost(self, started_again: bool, over: float) -> list[str]:
        """What is missing of what was acknowledged since it was looked at last, in words."""
        problems = []
        for writer in self.writers:
            since = self._looked[writer.name]
            if writer.forgets and started_again:
                since = max(since, over)
            self._looked[writer.name] = time.monotonic()
            problems += looked_for(writer, since)
        return problems

    def _started_again(self, before: Mapping[str, Box]) -> bool:
        then = {name: box["State"]["StartedAt"] for name, box in before.items()}
        return then != {name: box["State"]["StartedAt"] for name, box in self.platform.containers().items()}

    def _outcomes(
        self,
        fault: Fault,
        services: Iterable[str],
        during: str,
        seconds: Mapping[str, float],
        problems: Sequence[str],
        window: tuple[float, float],
    ) -> list[Outcome]:
        return [
            Outcome(
                fault.name,
                name,
                during,
                seconds.get(name),
                {
                    writer.name: counted(one for one in list(writer.tries) if one.during(*window))
                    for writer in self.writers
                    if name in writer.needs
                },
                tuple(problems),
            )
            for name in services
        ]


def is_well(box: Box) -> bool:
    """Whether a container runs and is healthy; that a process has ended is noticed a moment later."""
    state = box["State"]
    process = Path(f"/proc/{state['Pid']}")
    return bool(
        state.get("Health", {}).get("Status") == "healthy" and not state["Paused"] and process.exists()
    )


def back(service: str, healthy: float, used: Mapping[Writer, Try]) -> float:
    """When a service was well and in use by those who are the measure of it."""
    return max([healthy, *(done.ended for writer, done in used.items() if service in writer.shows)])


def looked_for(writer: Writer, since: float) -> list[str]:
    """What is wrong with what was acknowledged after ``since``, in words."""
    try:
        found = writer.wrong(writer.acknowledged(since))
    except Exception as error:
        found = [f"cannot be read: {error}"]
    return [f"{writer.name} {one}" for one in found]


def counted(tries: Iterable[Try]) -> tuple[int, int]:
    """How many were acknowledged, and how many were not."""
    errors = [bool(one.error) for one in tries]
    return errors.count(False), errors.count(True)


def waves(services: Iterable[str], writers: Iterable[Writer], most: int) -> list[list[str]]:
    """Services in groups of at most ``most`` that are hit together: no writer needs two of one group."""
    needs = [writer.needs for writer in writers]
    found: list[list[str]] = []
    for service in sorted(services):
        free = (
            wave
            for wave in found
            if len(wave) < most and not any(service in need and not need.isdisjoint(wave) for need in needs)
        )
        wave = next(free, None)
        if wave is None:
            found.append([service])
        else:
            wave.append(service)
    return found
