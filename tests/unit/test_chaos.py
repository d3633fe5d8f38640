"""What is made of faults and of those who write meanwhile."""

from __future__ import annotations

import itertools
import os
import subprocess
import sys
import time
from collections.abc import Collection, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import pytest

from tests.chaos import faults, report
from tests.chaos.campaign import Campaign, Outcome, counted, is_well, waves
from tests.chaos.clients import missing
from tests.chaos.faults import Box, Fault, Kill, Stall, memory_files
from tests.chaos.writers import Try, Writer, content
from tests.integration.platform import DeployedPlatform

WELL = Outcome("SIGKILL", "minio", "", 2.04, {"upload": (7, 1)}, ())
ILL = Outcome("stall", "minio", "", None, {"upload": (0, 9)}, ("upload 3 is lost",))
AT_WORK = Outcome("SIGKILL", "minio", "dap deploy", 9.0, {"upload": (1, 0)}, ())


class Notes(Writer):
    """Writes into a list, unless it is told that it cannot."""

    name = "note"
    needs = shows = frozenset({"book", "desk"})
    pause = 0.01

    def __init__(self) -> None:
        super().__init__()
        self.notes: list[int] = []
        self.works = True

    def write(self, number: int) -> None:
        if not self.works:
            raise ConnectionError("no pen")
        self.notes.append(number)

    def wrong(self, numbers: Collection[int]) -> list[str]:
        return missing(numbers, self.notes)


class Library:
    """A platform of two containers."""

    def __init__(self) -> None:
        self.healthy = {"book", "desk", "shelf"}
        self.changes = 0

    def containers(self) -> dict[str, Box]:
        return {
            name: box("healthy" if name in self.healthy else "starting") for name in ("book", "desk", "shelf")
        }

    def deploy(self) -> int:
        return self.changes


class Spill(Fault):
    """Ink over the notes."""

    name = "spill"
    what = "ink"

    def __init__(self, writer: Notes) -> None:
        self.writer = writer

    def hit(self, boxes: Any) -> float:
        self.writer.notes[:] = self.writer.notes[1:]
        return time.monotonic()


class Nothing(Fault):
    name = "nothing"
    what = "nothing"

    def hit(self, boxes: Any) -> float:
        return time.monotonic()


def box(health: str, **state: Any) -> Box:
    return {
        "State": {"Pid": os.getpid(), "Paused": False, "StartedAt": "1", "Health": {"Status": health}} | state
    }


@pytest.fixture
def library() -> Library:
    return Library()


@pytest.fixture
def notes() -> Notes:
    return Notes()


@pytest.fixture
def at_work(library: Library, notes: Notes) -> Iterator[Campaign]:
    with Campaign(cast(DeployedPlatform, library), [notes], limit=0.5) as begun:
        while len(notes.notes) < 3:
            time.sleep(0.01)
        yield begun


def test_fault_that_nobody_notices_is_no_problem(at_work: Campaign) -> None:
    book, shelf = at_work.hit(Nothing(), ["book", "shelf"])
    assert (book.problems, book.service, book.fault) == ((), "book", "nothing")
    assert book.seconds is not None and book.seconds < 0.5
    assert book.tried["note"][0] >= 1
    assert shelf.tried == {}
    assert at_work.lost() == []


def test_what_was_acknowledged_and_is_gone_is_told(at_work: Campaign, notes: Notes) -> None:
    (found,) = at_work.hit(Spill(notes), ["book"])
    assert found.problems == ("note 1 is lost",)
    assert at_work.lost() == ["note 1 is lost"]


def test_service_that_does_not_come_back_is_told_and_so_is_who_waits_for_it(
    at_work: Campaign, library: Library, notes: Notes
) -> None:
    library.healthy.remove("desk")
    notes.works = False
    book, desk = at_work.hit(Nothing(), ["book", "desk"])
    assert desk.seconds is None
    assert book.problems == desk.problems
    assert book.problems == (
        "desk is not healthy after 0.5 s",
        "no note within 0.5 s: ConnectionError: no pen",
    )


def test_deploy_that_has_something_to_change_is_told(at_work: Campaign, library: Library) -> None:
    library.changes = 2
    (found,) = at_work.hit(Nothing(), ["book"])
    assert found.problems == ("the deploy made 2 changes",)
    (found,) = at_work.hit(Nothing(), ["book"], deploy=False)
    assert found.good


def test_writer_is_patient_until_it_is_served(notes: Notes) -> None:
    notes.works = False
    assert notes.succeed(time.monotonic() + 0.2).error == "ConnectionError: no pen"
    notes.works = True
    done = notes.succeed(time.monotonic())
    assert (done.error, notes.acknowledged()) == ("", [done.number])
    assert notes.acknowledged(since=done.ended) == []
    assert len({one.number for one in notes.tries}) == len(notes.tries) > 1


def test_tries_count_when_some_of_them_was_then() -> None:
    tries = [Try(1, 0, 1), Try(2, 1, 4), Try(3, 2, 3, "refused"), Try(4, 5, 6)]
    assert counted(one for one in tries if one.during(1.5, 5)) == (1, 1)


def test_nobody_needs_two_services_that_are_hit_together() -> None:
    class Other(Notes):
        needs = frozenset({"desk", "lamp"})

    services = ["lamp", "book", "desk", "shelf"]
    assert waves(services, [Notes(), Other()], most=4) == [["book", "lamp", "shelf"], ["desk"]]
    assert waves(services, [Notes(), Other()], most=2) == [["book", "lamp"], ["desk", "shelf"]]


@pytest.mark.parametrize(
    ("state", "well"),
    [
        (box("healthy"), True),
        (box("starting"), False),
        (box("healthy", Paused=True), False),
        (box("healthy", Pid=0), False),
        ({"State": {"Pid": os.getpid(), "Paused": False}}, False),
    ],
)
def test_container_is_well_if_it_runs_and_is_healthy(state: Box, well: bool) -> None:
    assert is_well(state) is well


@pytest.mark.parametrize(
    ("cgroups", "procs", "told"),
    [
        (
            "9:name=systemd:/docker/1\n4:cpu,memory:/docker/2\n0::/docker/3\n",
            "/sys/fs/cgroup/memory/docker/2/cgroup.procs",
            "/sys/fs/cgroup/memory/docker/2/memory.oom_control",
        ),
        (
            "0::/system.slice/docker-3.scope\n",
            "/sys/fs/cgroup/system.slice/docker-3.scope/cgroup.procs",
            "/sys/fs/cgroup/system.slice/docker-3.scope/memory.events",
        ),
    ],
)
def test_cgroup_that_counts_memory_is_found_in_both_versions(cgroups: str, procs: str, told: str) -> None:
    assert memory_files(cgroups) == (Path(procs), Path(told))


def test_memory_is_taken_until_the_kernel_has_ended_a_process(tmp_path: Path) -> None:
    procs, told = tmp_path / "procs", tmp_path / "told"
    procs.touch()
    told.write_text("oom_kill_disable 0\noom_kill 3\n")
    argv = [sys.executable, "-c", faults._HOG, str(procs), str(told)]
    with subprocess.Popen(argv) as process:
        deadline = time.monotonic() + 20
        while procs.read_text() != "0" and time.monotonic() < deadline:
            time.sleep(0.01)
        told.write_text("oom_kill_disable 0\noom_kill 4\n")
        assert process.wait(timeout=20) == 0
    assert procs.read_text() == "0"


def test_killed_is_the_first_process() -> None:
    with subprocess.Popen(["sleep", "60"]) as process:
        assert Kill().hit([box("healthy", Pid=process.pid)]) <= time.monotonic()
        assert process.wait(timeout=10) == -9


def test_faults_say_what_they_are() -> None:
    assert (Kill().told, Stall(60).told) == (
        "the container's first process is killed",
        "`docker pause`, for 60 s",
    )


def test_content_is_known_by_its_number() -> None:
    assert content("row", 1, 40) == content("row", 1, 40)
    assert len({content(name, number, 40) for name, number in itertools.product("ab", (1, 2))}) == 4


def test_lines_name_the_row_and_what_is_wrong() -> None:
    assert report.line(WELL) == "minio, SIGKILL: 2.0 s; 7 acknowledged, 1 refused"
    assert report.line(ILL) == "minio, stall: **failed**; 0 acknowledged, 9 refused\n  upload 3 is lost"
    assert AT_WORK.row == "minio, SIGKILL, during dap deploy"


def test_times_are_the_median_and_the_most() -> None:
    several = [WELL, replace(WELL, seconds=4.0), replace(WELL, seconds=9.25)]
    assert report.seconds_in_words(several) == "4.0 s (up to 9.2)"
    assert report.seconds_in_words([WELL, ILL]) == "2.0 s **failed**"


def test_page_has_a_row_for_each_service_and_a_column_for_each_fault() -> None:
    outcomes = [WELL, ILL, replace(WELL, service="portal", tried={}), AT_WORK]
    notes = Notes()
    notes.tries = [Try(1, 0, 0.25), Try(2, 1, 9, "refused")]
    part = report.Part("Services", [Kill(), Stall(60)], [notes], outcomes, ["note 1 is lost"])
    text = report.page([part], seed=7)
    assert text.startswith("<!-- Generated by `make chaos`. -->\n\n# Faults\n")
    lines = text.splitlines()
    assert "## Services" in lines
    assert "| hit | SIGKILL | stall |" in lines
    assert "| minio | 2.0 s | **failed** |" in lines
    assert "| portal | 2.0 s |  |" in lines
    assert "| upload | 1 of 8 | 9 of 9 |" in lines
    assert "| note | book, desk | 0.25 s | 1 |" in lines
    assert "Lost of what was acknowledged: 1." in lines
    assert "| dap deploy | 9.0 s |" in lines
    assert "| `dap deploy` | SIGKILL | minio |" in lines
    run = report.described([part], seed=7)
    assert (run["seed"], len(run["parts"][0]["outcomes"])) == (7, 4)


def test_failed_is_what_was_not_good_and_what_is_lost() -> None:
    part = report.Part("Services", [], [], [WELL, ILL], ["note 1 is lost"])
    assert part.failed == ["minio, stall", "lost in the end: note 1 is lost"]
