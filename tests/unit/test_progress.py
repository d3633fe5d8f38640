"""What a person sees of a long run, on a terminal and in a file."""

from __future__ import annotations

import io
from pathlib import Path

import pytest

from dap.deployment import progress
from dap.deployment.progress import Progress


class Terminal(io.StringIO):
    """A stream that says it is a terminal."""

    def isatty(self) -> bool:
        return True


class Clock:
    """A clock that stands still unless it is told to go on."""

    def __init__(self) -> None:
        self.now = 1000.0

    def monotonic(self) -> float:
        return self.now

    def pass_seconds(self, seconds: float) -> None:
        self.now += seconds


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(progress, "time", clock)
    return clock


def test_file_gets_one_line_for_a_step(clock: Clock) -> None:
    stream = io.StringIO()
    with Progress(stream).step("Images"):
        clock.pass_seconds(2.5)
    assert stream.getvalue() == "✓ Images (2.5 s)\n"


def test_each_step_has_its_own_time(clock: Clock) -> None:
    stream = io.StringIO()
    told = Progress(stream)
    for title, seconds in (("One", 1), ("Two", 20)):
        with told.step(title):
            clock.pass_seconds(seconds)
    assert stream.getvalue() == "✓ One (1.0 s)\n✓ Two (20.0 s)\n"


@pytest.mark.parametrize("error", [ValueError("no"), KeyboardInterrupt()])
def test_failed_step_is_marked_and_the_failure_goes_on(clock: Clock, error: BaseException) -> None:
    stream = io.StringIO()
    with pytest.raises(type(error)), Progress(stream).step("Images"):
        raise error
    assert stream.getvalue() == "✗ Images (0.0 s)\n"


def test_file_gets_a_line_now_and_then_while_a_step_waits(clock: Clock) -> None:
    stream = io.StringIO()
    told = Progress(stream)
    with told.step("Images"):
        told.waiting_for("building mlflow")
        for _ in range(700):
            clock.pass_seconds(0.1)
            told.tick()
    assert stream.getvalue().splitlines() == [
        "  … Images 30 s — building mlflow",
        "  … Images 60 s — building mlflow",
        "✓ Images (70.0 s)",
    ]


def test_note_of_one_step_is_not_told_in_the_next(clock: Clock) -> None:
    stream = io.StringIO()
    told = Progress(stream)
    with told.step("One"):
        told.waiting_for("something")
    with told.step("Two"):
        clock.pass_seconds(31)
        told.tick()
    assert "  … Two 31 s\n" in stream.getvalue()


def test_terminal_has_a_line_that_moves_and_stays_one(clock: Clock) -> None:
    stream = Terminal()
    told = Progress(stream)
    with told.step("Images"):
        told.waiting_for("building mlflow")
        clock.pass_seconds(3)
        told.tick()
    moved, last = stream.getvalue()[:-1].split("\n")[0].rsplit("\r\x1b[2K", 1)
    assert moved.endswith("Images 3 s — building mlflow")
    assert last == "✓ Images (3.0 s)"
    assert stream.getvalue().count("\n") == 1


def test_long_note_does_not_break_the_line_of_a_terminal(clock: Clock) -> None:
    stream = Terminal()
    told = Progress(stream)
    told.waiting_for("x" * 500)
    told.tick()
    assert len(stream.getvalue()) <= 160


def test_note_comes_from_a_file_as_long_as_it_is_there(clock: Clock, tmp_path: Path) -> None:
    told = Progress(io.StringIO())
    file = tmp_path / "progress"
    told.waiting_for("building")
    told.watch(file)
    assert told.note == "building"
    file.write_text("building mlflow, step 3 of 9\n")
    told.watch(file)
    assert told.note == "building mlflow, step 3 of 9"
    file.write_text("")
    told.watch(file)
    assert told.note == "building mlflow, step 3 of 9"


def test_progress_goes_to_standard_error(clock: Clock, capsys: pytest.CaptureFixture[str]) -> None:
    with Progress().step("Images"):
        pass
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err == "✓ Images (0.0 s)\n"
