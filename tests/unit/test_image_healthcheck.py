"""The probe that the base image gives to all others: bash, no curl."""

from __future__ import annotations

import subprocess
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[2] / "compose" / "debian" / "image" / "healthcheck"


class Answers(BaseHTTPRequestHandler):
    asked = 0

    def do_GET(self) -> None:
        Answers.asked += 1
        self.send_response(200 if self.path == "/health?deep=1" else 503)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, format: str, *args: object) -> None:
        """Silence."""


@pytest.fixture
def port() -> Iterator[int]:
    server = HTTPServer(("127.0.0.1", 0), Answers)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield server.server_port
    server.shutdown()
    server.server_close()


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where the probe notes that all is well; a container's /tmp, which every start empties."""
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setenv("HEALTHCHECK_HOLD", "2")
    monkeypatch.setenv("HEALTHCHECK_PAUSE", "0.1")
    return tmp_path


def probe(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(["bash", str(SCRIPT), *arguments], capture_output=True, text=True, timeout=20)


def test_a_200_is_healthy(port: int) -> None:
    assert probe(f"http://127.0.0.1:{port}/health?deep=1").returncode == 0


def test_any_other_answer_is_not_and_is_said(port: int) -> None:
    done = probe(f"http://127.0.0.1:{port}/")
    assert done.returncode == 1
    assert done.stderr == f"http://127.0.0.1:{port}/ answered 503\n"


def test_nobody_listening_is_not_healthy(port: int) -> None:
    server = HTTPServer(("127.0.0.1", 0), Answers)
    closed = server.server_port
    server.server_close()
    assert probe(f"http://127.0.0.1:{closed}/").returncode == 1


@pytest.mark.parametrize("url", ["", "127.0.0.1:80", "https://127.0.0.1:80/", "http://127.0.0.1/"])
def test_what_it_cannot_probe_is_a_usage_error(url: str) -> None:
    assert probe(url).returncode == 2


def test_a_command_may_be_the_probe(folder: Path) -> None:
    assert probe("test", "-d", str(folder)).returncode == 0
    done = probe("ls", str(folder / "missing"))
    assert done.returncode == 1
    assert "missing" in done.stderr


def test_what_becomes_well_is_told_at_once(folder: Path) -> None:
    ready = folder / "ready"
    threading.Timer(1, ready.touch).start()
    started = time.monotonic()
    assert probe("test", "-e", str(ready)).returncode == 0
    assert time.monotonic() - started < 3


def test_what_was_well_is_looked_at_from_the_inside(port: int) -> None:
    url = f"http://127.0.0.1:{port}/health?deep=1"
    assert probe(url).returncode == 0
    before, started = Answers.asked, time.monotonic()
    assert probe(url).returncode == 0
    assert time.monotonic() - started >= 1
    assert Answers.asked - before > 3


def test_what_is_no_longer_well_is_told_at_once_and_looked_at_anew(folder: Path) -> None:
    well = folder / "well"
    well.touch()
    assert probe("cat", str(well)).returncode == 0
    threading.Timer(0.5, well.unlink).start()
    done = probe("cat", str(well))
    assert (done.returncode, done.stderr) == (1, f"cat: {well}: No such file or directory\n")
    threading.Timer(0.5, well.touch).start()
    assert probe("cat", str(well)).returncode == 0


def test_probe_that_hangs_is_not_well(folder: Path) -> None:
    assert probe("sleep", "60").returncode == 1
