"""What is done to containers: one small class for each fault."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from tests.integration.disks import Disk
from tests.integration.platform import docker

# `docker inspect` of a container.
Box = dict[str, Any]

_CONTROLLERS = Path("/sys/fs/cgroup")
_HOG_SECONDS = 60
# Given the files by which a process enters a cgroup, and where the kernel counts whom it has ended there.
_HOG = """
import sys
from pathlib import Path

procs, told = map(Path, sys.argv[1:])

def ended():
    lines = told.read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("oom_kill "))

before, taken = ended(), []
procs.write_text("0")
while ended() == before:
    taken.append(bytearray(b"x") * (4 << 20))
"""


class Fault(ABC):
    """Something that happens to containers.

    Attributes:
        name: in tables and on the command line.
        what: it in words.
        seconds: how long it lasts; 0 for a moment.
    """

    name: ClassVar[str]
    what: ClassVar[str]
    seconds: float = 0

    @property
    def told(self) -> str:
        """What is done, in words, and for how long."""
        return f"{self.what}, for {self.seconds:g} s" if self.seconds else self.what

    @abstractmethod
    def hit(self, boxes: Iterable[Box]) -> float:
        """Do it to all of them at once; the time, of the monotonic clock, from which on they can recover."""


class Kill(Fault):
    """From outside, as a crash would be: `docker kill` counts as being told to stop."""

    name = "SIGKILL"
    what = "the container's first process is killed"

    def hit(self, boxes: Iterable[Box]) -> float:
        for box in boxes:
            os.kill(box["State"]["Pid"], signal.SIGKILL)
        return time.monotonic()


class Restart(Fault):
    """The time that a service takes to stop counts, too."""

    name = "restart"
    what = "`docker restart`"

    def hit(self, boxes: Iterable[Box]) -> float:
        begun = time.monotonic()
        _at_once(lambda box: docker("restart", box["Id"]), boxes)
        return begun


@dataclass(frozen=True)
class Stall(Fault):
    """All processes stand still; connections to them stay open."""

    seconds: float

    name = "stall"
    what = "`docker pause`"

    def hit(self, boxes: Iterable[Box]) -> float:
        ids = [box["Id"] for box in boxes]
        docker("pause", *ids)
        try:
            time.sleep(self.seconds)
        finally:
            docker("unpause", *ids)
        return time.monotonic()


class OutOfMemory(Fault):
    """A process of ours takes memory of the container until the kernel ends one of the service's."""

    name = "memory"
    what = "the container's memory is used up until the kernel ends the largest process of the service"

    def hit(self, boxes: Iterable[Box]) -> float:
        _at_once(_use_up_memory, boxes)
        return time.monotonic()


@dataclass(frozen=True)
class Cut(Fault):
    """The host's ends of the container's network interfaces are down: nothing answers, nothing refuses."""

    seconds: float

    name = "network"
    what = "the container's network interfaces are cut off"

    def hit(self, boxes: Iterable[Box]) -> float:
        ends = [name for box in boxes for name in outer_interfaces(box["State"]["Pid"])]
        try:
            for name in ends:
                _ip("link", "set", name, "down")
            time.sleep(self.seconds)
        finally:
            for name in ends:
                _ip("link", "set", name, "up")
        return time.monotonic()


@dataclass(frozen=True)
class DiskFull(Fault):
    """The file system of all services' data has no room, whichever containers are meant."""

    disk: Disk
    seconds: float

    name = "disk full"
    what = "the file system of the platform's data is full, for all services at once"

    def hit(self, boxes: Iterable[Box]) -> float:
        end = time.monotonic() + self.seconds
        try:
            while time.monotonic() < end:
                # Services remove what they could not finish; that room goes, too.
                self.disk.fill()
                time.sleep(0.2)
            assert self.disk.is_full
        finally:
            self.disk.make_room()
        return time.monotonic()


def outer_interfaces(process: int) -> list[str]:
    """The host's ends of the network interfaces that a process has."""
    inner = json.loads(_ip("-json", "link", network_of=process))
    ends = {entry["link_index"] for entry in inner if "link_index" in entry}
    return [entry["ifname"] for entry in json.loads(_ip("-json", "link")) if entry["ifindex"] in ends]


def memory_files(cgroups: str) -> tuple[Path, Path]:
    """How to enter the cgroup that counts a process's memory, and where the kernel tells whom it has ended.

    Args:
        cgroups: of the process, as the kernel lists them (``cgroups(7)``, ``/proc/[pid]/cgroup``).
    """
    paths: dict[str, str] = {}
    for line in cgroups.splitlines():
        _, controllers, path = line.split(":", 2)
        paths |= dict.fromkeys(controllers.split(","), path.lstrip("/"))
    if "memory" in paths:
        folder = _CONTROLLERS / "memory" / paths["memory"]
        return folder / "cgroup.procs", folder / "memory.oom_control"
    folder = _CONTROLLERS / paths[""]
    return folder / "cgroup.procs", folder / "memory.events"


def _use_up_memory(box: Box) -> None:
    process = box["State"]["Pid"]
    procs, told = memory_files(Path(f"/proc/{process}/cgroup").read_text(encoding="ascii"))
    members = [Path(f"/proc/{one}/oom_score_adj") for one in procs.read_text(encoding="ascii").split()]
    before = _prefer(dict.fromkeys(members, "1000"))
    try:
        argv = [sys.executable, "-c", _HOG, str(procs), str(told)]
        done = subprocess.run(argv, capture_output=True, text=True, timeout=_HOG_SECONDS, check=False)
        assert done.returncode == 0, f"{box['Name']}: {done.returncode} {done.stderr}"
    finally:
        _prefer(before)


def _prefer(scores: dict[Path, str]) -> dict[Path, str]:
    """Tell the kernel which processes to end first; what it was told before. Some may be gone by now."""
    before = {}
    for path, score in scores.items():
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):
            before[path] = path.read_text(encoding="ascii").strip()
            path.write_text(score, encoding="ascii")
    return before


def _ip(*arguments: str, network_of: int | None = None) -> str:
    inside = [] if network_of is None else ["nsenter", f"--net=/proc/{network_of}/ns/net"]
    return subprocess.run([*inside, "ip", *arguments], check=True, capture_output=True, text=True).stdout


def _at_once(action: Callable[[Box], object], boxes: Iterable[Box]) -> None:
    with ThreadPoolExecutor(max_workers=32) as pool:
        list(pool.map(action, boxes))
