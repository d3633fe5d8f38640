"""The door to a development container's page: whom it lets in, when it starts JupyterLab, what passes."""

from __future__ import annotations

import contextlib
import hashlib
import importlib.util
import os
import signal
import socket
import ssl
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

import pytest

from dap.layout import compose_dir
from dap.secrets import Secret
from dap.trust.page import PageKey
from tests.unit.platforms import executable

NAME = "ada-python.dap.example.com"
KEY = PageKey(Secret("text"), NAME)
GREETING = f"GET / HTTP/1.1\r\nHost: {NAME}\r\nauthorization: token {KEY.token.reveal()}\r\n\r\n".encode()
# What stands in for JupyterLab says which process it is, and answers with a digest of what follows a head.
JUPYTER = """#!/usr/bin/python3
import hashlib, os, socket, sys, threading
(path,) = (one.partition("=")[2] for one in sys.argv if one.startswith("--ServerApp.sock="))
assert "--IdentityProvider.token=" in sys.argv
if os.path.exists(path):
    os.unlink(path)
listener = socket.socket(socket.AF_UNIX)
listener.bind(path)
listener.listen()
def answer(one):
    seen = b""
    while b"\\r\\n\\r\\n" not in seen:
        seen += one.recv(65536)
    one.sendall(b"%d\\n" % os.getpid())
    body = seen.partition(b"\\r\\n\\r\\n")[2]
    digest, length, wanted = hashlib.sha256(body), len(body), int(os.environ["WANTED_LENGTH"])
    while b"POST" in seen and length < wanted:
        piece = one.recv(65536)
        digest.update(piece)
        length += len(piece)
    one.sendall(digest.hexdigest().encode() + b"\\n" + b"x" * length)
    one.close()
while True:
    threading.Thread(target=answer, args=(listener.accept()[0],), daemon=True).start()
"""
LENGTH = 24 * 1024 * 1024
# What stands in for VS Code answers each request with its first line, and with its own arguments.
CODE = """#!/usr/bin/python3
import socket, sys
(path,) = (one.partition("=")[2] for one in sys.argv if one.startswith("--socket="))
listener = socket.socket(socket.AF_UNIX)
listener.bind(path)
listener.listen()
while True:
    one = listener.accept()[0]
    head = one.recv(65536)
    one.sendall(head.partition(b"\\r\\n")[0] + b"\\n" + "\\n".join(sys.argv[1:]).encode())
    one.close()
"""


def closed(status: str, title: str, reason: str) -> bytes:
    """The page that a visitor gets who is not let in."""
    body = (
        '<!doctype html>\n<html lang="en"><meta charset="utf-8"><title>'
        f'{title}</title>\n<body style="font-family: sans-serif; margin: 4rem auto; max-width: 40rem">\n'
        f"<h1>{title}</h1><p>{reason}</p>\n"
    )
    head = f"HTTP/1.1 {status}\r\nContent-Type: text/html; charset=utf-8\r\nContent-Length: {len(body)}\r\n"
    return f"{head}Connection: close\r\n\r\n{body}".encode()


@dataclass
class Entrance:
    """A door that serves."""

    port: int
    folder: Path
    trust: ssl.SSLContext

    def visit(self, *pieces: bytes) -> bytes:
        """All that a visitor hears who says these pieces."""
        plain = socket.create_connection(("127.0.0.1", self.port), timeout=30)
        with self.trust.wrap_socket(plain, server_hostname=NAME) as connection:
            for piece in pieces:
                connection.sendall(piece)
            heard = []
            with contextlib.suppress(ssl.SSLEOFError):
                while more := connection.recv(1024 * 1024):
                    heard.append(more)
            return b"".join(heard)

    def listens(self) -> bool:
        """Whether what stands in for JupyterLab takes connections."""
        with socket.socket(socket.AF_UNIX) as client:
            return client.connect_ex(str(self.folder / "run" / "socket")) == 0

    def make_jupyter(self) -> None:
        """Install what stands in for JupyterLab."""
        executable(self.folder / "bin" / "jupyter-lab", JUPYTER)


@pytest.fixture
def entrance(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Entrance]:
    # What is in that folder goes to hosts.
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    door = loaded()
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    (tmp_path / "pair").write_bytes(KEY.private.reveal().encode() + KEY.certificate)
    (tmp_path / "token").write_text(KEY.token.reveal())
    for name, value in {
        "PORT": port,
        "RUN": str(tmp_path / "run"),
        "JUPYTER": str(tmp_path / "run" / "socket"),
        "CODE": str(tmp_path / "run" / "code"),
        "CODE_SERVER": str(tmp_path / "code-server"),
        "TOKEN": str(tmp_path / "token"),
        "PAIR": str(tmp_path / "pair"),
    }.items():
        monkeypatch.setattr(door, name, value)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:/usr/bin:/bin")
    monkeypatch.setenv("DAP_ENVIRONMENT", "base")
    monkeypatch.setenv("WANTED_LENGTH", str(LENGTH))
    opened = door.Door()
    threading.Thread(target=opened.serve, daemon=True).start()
    wait_until(lambda: answers(port))
    trust = ssl.create_default_context(cadata=KEY.certificate.decode())
    yield Entrance(port, tmp_path, trust)
    for program in (opened.jupyter, opened.code):
        if program.child:
            program.child.kill()
            program.child.wait()


def loaded() -> ModuleType:
    file = compose_dir() / "dev-container" / "config" / "door.py"
    spec = importlib.util.spec_from_file_location("door", file)
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def answers(port: int) -> bool:
    with contextlib.suppress(OSError):
        socket.create_connection(("127.0.0.1", port), timeout=1).close()
        return True
    return False


def wait_until(true: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 20
    while not true():
        assert time.monotonic() < deadline
        time.sleep(0.02)


@pytest.mark.parametrize(
    "greeting",
    [
        GREETING.replace(KEY.token.reveal().encode(), b"0" * 64),
        GREETING.replace(b"authorization", b"x-authorization"),
        GREETING.replace(b"\r\n\r\n", b"\r\nAuthorization: token other\r\n\r\n"),
    ],
)
def test_without_the_token_nobody_comes_in_and_nothing_is_started(
    entrance: Entrance, greeting: bytes
) -> None:
    entrance.make_jupyter()
    refused = closed("403 Forbidden", "Not your page", "The platform's proxy is the way in.")
    assert entrance.visit(greeting) == refused
    assert [*(entrance.folder / "run").iterdir()] == []


def test_what_is_no_request_gets_a_page(entrance: Entrance) -> None:
    refused = closed("400 Bad Request", "Bad request", "This is no request that can be understood.")
    assert entrance.visit(b"x" * 70_000) == refused


def test_environment_without_jupyterlab_says_so(entrance: Entrance) -> None:
    reason = "The environment <code>base</code> of this container has no JupyterLab. SSH works."
    assert entrance.visit(GREETING) == closed("502 Bad Gateway", "No JupyterLab here", reason)


def test_jupyterlab_that_ends_at_once_says_where_the_reason_is(entrance: Entrance) -> None:
    executable(entrance.folder / "bin" / "jupyter-lab", "#!/bin/sh\nexit 1\n")
    reason = (
        "Its last lines are in the log of the container, which your platform's administrators can show."
        " Over SSH, <code>jupyter lab --no-browser</code> says the same."
    )
    assert entrance.visit(GREETING) == closed("502 Bad Gateway", "JupyterLab does not start", reason)


def test_one_jupyterlab_serves_all_and_starts_anew_after_it_has_died(entrance: Entrance) -> None:
    entrance.make_jupyter()
    nothing = hashlib.sha256(b"").hexdigest()
    first, told = entrance.visit(GREETING).decode().split()
    assert told == nothing
    assert entrance.visit(GREETING).decode().split() == [first, nothing]
    os.kill(int(first), signal.SIGKILL)
    wait_until(lambda: not entrance.listens())
    second, told = entrance.visit(GREETING).decode().split()
    assert (second != first, told) == (True, nothing)


@pytest.mark.parametrize("seconds", ["", "300"])
def test_jupyterlab_ends_what_is_idle_only_where_that_is_wanted(
    entrance: Entrance, monkeypatch: pytest.MonkeyPatch, seconds: str
) -> None:
    monkeypatch.setenv("DAP_IDLE_SECONDS", seconds)
    seen = entrance.folder / "seen"
    executable(entrance.folder / "bin" / "jupyter-lab", f'#!/bin/sh\nprintf "%s\\n" "$@" >{seen}\nexit 1\n')
    entrance.visit(GREETING)
    idle = [line for line in seen.read_text().splitlines() if "cull" in line or "no_activity" in line]
    assert idle == (
        [
            f"--MappingKernelManager.cull_idle_timeout={seconds}",
            "--MappingKernelManager.cull_connected=True",
            "--MappingKernelManager.cull_interval=60",
            f"--TerminalManager.cull_inactive_timeout={seconds}",
            "--TerminalManager.cull_interval=60",
            f"--ServerApp.shutdown_no_activity_timeout={seconds}",
        ]
        if seconds
        else []
    )


def test_much_passes_in_both_ways_as_it_is(entrance: Entrance) -> None:
    entrance.make_jupyter()
    body = os.urandom(LENGTH)
    heard = entrance.visit(GREETING.replace(b"GET", b"POST"), body)
    _, told, back = heard.split(b"\n")
    assert told.decode() == hashlib.sha256(body).hexdigest()
    assert back == b"x" * LENGTH


def test_vs_code_is_below_its_path_and_takes_requests_without_it(entrance: Entrance) -> None:
    executable(entrance.folder / "code-server" / "bin" / "code-server", CODE)
    entrance.make_jupyter()

    def heard(path: str) -> list[str]:
        return entrance.visit(GREETING.replace(b"GET /", b"GET " + path.encode())).decode().splitlines()

    first, *arguments = heard("/code/")
    run, home = entrance.folder / "run", entrance.folder
    assert first == "GET / HTTP/1.1"
    assert arguments == [
        "--auth=none",
        f"--socket={run / 'code'}",
        "--socket-mode=600",
        "--config=/dev/null",
        f"--session-socket={run / 'code_session'}",
        "--disable-telemetry",
        "--disable-update-check",
        "--disable-getting-started-override",
        "--disable-workspace-trust",
        str(home),
    ]
    assert heard("/code/stable-1/a%2Fb?type=Management&x=/code/")[0] == (
        "GET /stable-1/a%2Fb?type=Management&x=/code/ HTTP/1.1"
    )
    # What only begins like it is JupyterLab's.
    for path in ("/codes", "/lab/code/", "/"):
        assert heard(path)[0].isdigit(), path


def test_container_without_vs_code_says_so(entrance: Entrance) -> None:
    reason = "This container was made without VS Code. Your platform's administrators can give it to you."
    told = entrance.visit(GREETING.replace(b"GET /", b"GET /code/"))
    assert told == closed("404 Not Found", "No VS Code here", reason)


def test_vs_code_that_ends_at_once_says_where_the_reason_is(entrance: Entrance) -> None:
    program = executable(entrance.folder / "code-server" / "bin" / "code-server", "#!/bin/sh\nexit 1\n")
    reason = (
        "Its last lines are in the log of the container, which your platform's administrators can show."
        f" Over SSH, <code>{program}</code> says the same."
    )
    told = entrance.visit(GREETING.replace(b"GET /", b"GET /code/"))
    assert told == closed("502 Bad Gateway", "VS Code does not start", reason)


@pytest.mark.parametrize(("jupyter", "path"), [("", "/code"), ("no", "/"), ("no", "/lab?reset")])
def test_visitor_is_led_to_vs_code(
    entrance: Entrance, monkeypatch: pytest.MonkeyPatch, jupyter: str, path: str
) -> None:
    if jupyter:
        monkeypatch.setenv("DAP_NO_JUPYTER", jupyter)
    told = entrance.visit(GREETING.replace(b"GET /", f"GET {path}".encode()))
    assert told == b"HTTP/1.1 302 Found\r\nLocation: /code/\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
