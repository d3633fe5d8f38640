"""The probe that the base image gives to all others: bash, no curl."""

import subprocess
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[2] / "compose" / "base" / "image" / "healthcheck"


class Answers(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
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


def probe(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(["bash", str(SCRIPT), *arguments], capture_output=True, text=True, timeout=20)


def test_a_200_is_healthy(port: int) -> None:
    assert probe(f"http://127.0.0.1:{port}/health?deep=1").returncode == 0


def test_any_other_answer_is_not_and_is_said(port: int) -> None:
    done = probe(f"http://127.0.0.1:{port}/")
    assert done.returncode == 1
    assert "503" in done.stderr


def test_nobody_listening_is_not_healthy(port: int) -> None:
    server = HTTPServer(("127.0.0.1", 0), Answers)
    closed = server.server_port
    server.server_close()
    assert probe(f"http://127.0.0.1:{closed}/").returncode == 1


@pytest.mark.parametrize("url", ["", "127.0.0.1:80", "https://127.0.0.1:80/", "http://127.0.0.1/"])
def test_what_it_cannot_probe_is_a_usage_error(url: str) -> None:
    assert probe(url).returncode == 2
