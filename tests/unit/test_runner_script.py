"""What the runner's container runs: the runner as long as there is room for jobs, and its healthcheck."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.unit.platforms import executable

SCRIPT = Path(__file__).parents[2] / "compose" / "gitlab-runner" / "config" / "run.sh"
LEAST = 2048
FULL = (
    "the disk is full: no jobs are taken with 100 MiB free in Docker's folder, and again with 2048 MiB;"
    " make room, for example with: dap runner clean\n"
)
# Notes its arguments and the signals it gets; asked to end, it waits for its job. Not a script of the
# shell's: like the runner, it has to take a signal that the shell told it to ignore.
RUNNER = """#!{python}
import pathlib, signal, sys, time
def say(text):
    with open("{folder}/said", "a") as file: file.write(text + "\\n")
signal.signal(signal.SIGQUIT, lambda *_: say("quit"))
signal.signal(signal.SIGTERM, lambda *_: (say("term"), sys.exit(7)))
say("start " + repr(sys.argv[1:]))
job = pathlib.Path("{folder}/job")
while job.exists(): time.sleep(0.02)
say("end")
sys.exit(5)
"""
START = "start ['run', '--config', 'a b']"
LIMIT_S = 20


@dataclass
class Box:
    """A container's place: its disk, its runner, what they say."""

    folder: Path

    def disk(self, mib: int) -> None:
        """Leave so much room."""
        table = f"Filesystem 1024-blocks Used Available Capacity Mounted on\\noverlay 9 9 {mib * 1024} 9%% /"
        executable(self.folder / "bin" / "df", f"#!/bin/sh\nprintf '{table}\\n'\n")

    @property
    def said(self) -> list[str]:
        file = self.folder / "said"
        return file.read_text().splitlines() if file.exists() else []

    def begin_job(self) -> None:
        (self.folder / "job").touch()

    def end_job(self) -> None:
        (self.folder / "job").unlink(missing_ok=True)

    def start(self, *arguments: str) -> subprocess.Popen[str]:
        # Of tests that run in the background, too, a shell tells all that it starts to ignore this one.
        argv = ["env", "--default-signal=QUIT", "sh", str(SCRIPT), *arguments]
        return subprocess.Popen(argv, stderr=subprocess.PIPE, text=True)

    def check(self) -> subprocess.CompletedProcess[str]:
        return subprocess.run(["sh", str(SCRIPT), "check"], capture_output=True, text=True, timeout=60)


@pytest.fixture
def box(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Box:
    for name, value in {"STATE": str(tmp_path), "LIVE": str(tmp_path), "PAUSE": "0.02"}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("PATH", f"{tmp_path}/bin:{os.environ['PATH']}")
    (tmp_path / "free_mib").write_text(f"{LEAST}\n")
    made = Box(tmp_path)
    made.disk(LEAST)
    made.begin_job()
    executable(tmp_path / "bin" / "gitlab-runner", RUNNER.format(python=sys.executable, folder=tmp_path))
    executable(tmp_path / "bin" / "wget", f"#!/bin/sh\ntest -e {tmp_path}/job\n")
    return made


@pytest.fixture
def running(box: Box) -> Iterator[subprocess.Popen[str]]:
    process = box.start("run", "run", "--config", "a b")
    yield process
    box.end_job()
    process.kill()
    process.wait()


def wait_for(condition: Callable[[], object]) -> None:
    end = time.monotonic() + LIMIT_S
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.01)


def test_runner_runs_while_there_is_room_and_its_end_is_the_containers(
    box: Box, running: subprocess.Popen[str]
) -> None:
    wait_for(lambda: box.said == [START])
    box.end_job()
    assert running.wait(LIMIT_S) == 5
    assert box.said == [START, "end"]
    assert running.stderr and running.stderr.read() == ""


def test_runner_on_a_full_disk_ends_its_jobs_and_takes_none_until_there_is_room(
    box: Box, running: subprocess.Popen[str]
) -> None:
    wait_for(lambda: box.said == [START])
    box.disk(100)
    wait_for(lambda: box.said == [START, "quit"])
    told = box.check()
    assert (told.returncode, told.stdout) == (1, FULL)
    box.end_job()
    wait_for(lambda: box.said == [START, "quit", "end"])
    time.sleep(0.2)
    assert (running.poll(), box.said) == (None, [START, "quit", "end"])
    box.begin_job()
    box.disk(LEAST)
    wait_for(lambda: box.said == [START, "quit", "end", START])
    assert box.check().returncode == 0
    running.send_signal(signal.SIGTERM)
    assert running.wait(LIMIT_S) == 7
    assert running.stderr and running.stderr.read() == FULL


@pytest.mark.parametrize(("number", "said", "code"), [("QUIT", "quit", 5), ("TERM", "term", 7)])
def test_signal_of_the_engine_is_the_runners_which_is_waited_for(
    box: Box, running: subprocess.Popen[str], number: str, said: str, code: int
) -> None:
    wait_for(lambda: box.said == [START])
    running.send_signal(signal.Signals[f"SIG{number}"])
    wait_for(lambda: said in box.said)
    box.end_job()
    assert running.wait(LIMIT_S) == code


def test_container_ends_at_once_where_it_waits_for_room(box: Box) -> None:
    box.disk(100)
    process = box.start("run", "run")
    wait_for(lambda: (box.folder / "full").exists())
    process.send_signal(signal.SIGQUIT)
    assert (process.wait(LIMIT_S), box.said) == (0, [])


def test_healthcheck_tells_the_engine_at_once_of_what_has_changed(box: Box) -> None:
    assert box.check().returncode == 0
    box.end_job()
    done = box.check()
    complaint = "the runner does not answer at http://127.0.0.1:9252/metrics\n"
    assert (done.returncode, done.stdout) == (1, complaint)
    box.begin_job()
    assert box.check().returncode == 0


def test_healthcheck_is_quick_after_one_that_was_broken_off(box: Box) -> None:
    assert box.check().returncode == 0
    with box.start("check") as broken_off:
        wait_for(lambda: not (box.folder / "well").exists())
        broken_off.kill()
    began = time.monotonic()
    assert box.check().returncode == 0
    assert time.monotonic() - began < LIMIT_S / 2
