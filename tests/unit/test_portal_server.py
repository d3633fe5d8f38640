"""The portal's server, asked over real sockets."""

from __future__ import annotations

import http.client
import importlib.util
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

SERVER = Path(__file__).parents[2] / "compose" / "portal" / "image" / "server.py"


def load_server() -> ModuleType:
    """The server is no part of a package: it is copied into its image as it is."""
    spec = importlib.util.spec_from_file_location("portal_server", SERVER)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


portal = load_server()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """What the platform mounts, with some things that must not be served."""
    served = tmp_path / "dap"
    served.mkdir()
    (served / "index.html").write_text("<!doctype html><title>Portal</title>")
    (served / "styles.css").write_text("body{}")
    (served / "app.js").write_text("'use strict';")
    (served / "favicon.svg").write_text("<svg/>")
    (served / "ca.crt").write_text("-----BEGIN CERTIFICATE-----")
    (served / "probes.json").write_text("[]")
    (served / ".hidden.html").write_text("hidden")
    (tmp_path / "outside.html").write_text("outside")
    return served


@contextmanager
def serving(folder: Path, health: Any = None) -> Iterator[int]:
    """A running server; yields its port."""
    server = portal.PortalServer(("127.0.0.1", 0), folder, health or portal.Health([]))
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield server.server_address[1]
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@pytest.fixture
def port(folder: Path) -> Iterator[int]:
    with serving(folder) as running:
        yield running


def ask(
    port: int, path: str, method: str = "GET", headers: dict[str, str] | None = None
) -> tuple[http.client.HTTPResponse, bytes]:
    """One request; returns the response and its content."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
    connection.request(method, path, headers=headers or {})
    response = connection.getresponse()
    content = response.read()
    connection.close()
    return response, content


def ask_raw(port: int, request: bytes) -> bytes:
    """Sends bytes as they are, returns all that comes back until the server closes."""
    with socket.create_connection(("127.0.0.1", port), timeout=5) as connection:
        connection.sendall(request)
        connection.shutdown(socket.SHUT_WR)
        return b"".join(iter(lambda: connection.recv(65536), b""))


@pytest.mark.parametrize(
    ("path", "content_type"),
    [
        ("/", "text/html; charset=utf-8"),
        ("/index.html", "text/html; charset=utf-8"),
        ("/styles.css", "text/css; charset=utf-8"),
        ("/app.js?version=1", "text/javascript; charset=utf-8"),
        ("/favicon.svg", "image/svg+xml"),
        ("/ca.crt", "application/x-x509-ca-cert"),
    ],
)
def test_files_come_with_their_type_and_are_always_revalidated(
    port: int, path: str, content_type: str
) -> None:
    response, content = ask(port, path)
    assert (response.status, response.headers["Content-Type"]) == (200, content_type)
    assert response.headers["Cache-Control"] == "no-cache"
    assert response.headers["Server"] == "portal"
    assert int(response.headers["Content-Length"]) == len(content) > 0


@pytest.mark.parametrize("form", ["{}", "W/{}", '"other", {}'])
def test_a_known_file_is_not_sent_again(port: int, form: str) -> None:
    tag = ask(port, "/")[0].headers["ETag"]
    response, content = ask(port, "/", headers={"If-None-Match": form.format(tag)})
    assert (response.status, content) == (304, b"")
    assert response.headers["ETag"] == tag


def test_a_file_that_was_rendered_anew_is_sent_with_a_new_tag(port: int, folder: Path) -> None:
    tag = ask(port, "/")[0].headers["ETag"]
    (folder / "index.html").write_text("new")
    response, content = ask(port, "/", headers={"If-None-Match": tag})
    assert (response.status, content) == (200, b"new")


@pytest.mark.parametrize(
    "target",
    [
        "/nothing.html",
        "/probes.json",
        "/.hidden.html",
        "/../outside.html",
        "/%2e%2e/outside.html",
        "/..%2foutside.html",
        "/./index.html",
        "/../../../../etc/passwd",
        "http://elsewhere/index.html",
        "/index.html/",
        "/\\..\\outside.html",
    ],
)
def test_nothing_but_the_listed_files_is_served(port: int, target: str) -> None:
    answer = ask_raw(port, f"GET {target} HTTP/1.1\r\nHost: portal\r\nConnection: close\r\n\r\n".encode())
    assert answer.startswith(b"HTTP/1.1 404 ")
    assert answer.endswith(b"\r\n\r\nNot found\n")


def test_a_file_that_came_after_the_start_is_not_served(port: int, folder: Path) -> None:
    (folder / "late.html").write_text("late")
    assert ask(port, "/late.html")[0].status == 404


def test_a_file_that_went_after_the_start_is_not_found(port: int, folder: Path) -> None:
    (folder / "ca.crt").unlink()
    assert ask(port, "/ca.crt")[0].status == 404


@pytest.mark.parametrize("path", ["/", "/healthz", "/health.json", "/nothing"])
def test_head_answers_like_get_without_the_content(port: int, path: str) -> None:
    got, _ = ask(port, path)
    answer = ask_raw(port, f"HEAD {path} HTTP/1.1\r\nHost: portal\r\nConnection: close\r\n\r\n".encode())
    head, _, content = answer.partition(b"\r\n\r\n")
    assert content == b""
    assert head.startswith(f"HTTP/1.1 {got.status} ".encode())
    assert f"Content-Type: {got.headers['Content-Type']}".encode() in head
    if path != "/health.json":
        assert f"Content-Length: {got.headers['Content-Length']}\r\n".encode() in head + b"\r\n"


@pytest.mark.parametrize("method", ["POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "BREW"])
def test_every_other_method_is_refused(port: int, method: str) -> None:
    response, content = ask(port, "/", method)
    assert (response.status, content) == (405, b"Method Not Allowed\n")
    assert response.headers["Allow"] == "GET, HEAD"
    assert response.headers["Connection"] == "close"


@pytest.mark.parametrize("method", ["GET", "POST"])
def test_a_body_is_never_taken_for_the_next_request(port: int, method: str) -> None:
    hidden = b"GET /healthz HTTP/1.1\r\nHost: portal\r\n\r\n"
    head = f"{method} / HTTP/1.1\r\nHost: portal\r\nContent-Length: {len(hidden)}\r\n\r\n".encode()
    assert ask_raw(port, head + hidden).count(b"HTTP/1.1 ") == 1


def test_a_broken_request_is_refused_without_naming_versions(port: int) -> None:
    answer = ask_raw(port, b"GET / HTTP/1.1 and more\r\n\r\n")
    assert answer.rstrip().endswith(b"Bad Request")
    assert b"Python" not in answer


def test_connections_are_kept_open(port: int) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
    connection.connect()
    first = connection.sock
    for _ in range(2):
        connection.request("GET", "/")
        connection.getresponse().read()
    assert connection.sock is first
    connection.close()


def test_health_is_told_as_json_and_never_stored(folder: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as up:
        health = portal.Health([portal.Probe("mlflow", "tcp", "127.0.0.1", up.getsockname()[1])])
        with serving(folder, health) as port:
            response, content = ask(port, "/health.json")
    assert response.headers["Content-Type"] == "application/json"
    assert response.headers["Cache-Control"] == "no-store"
    assert json.loads(content)["services"]["mlflow"]["state"] == "healthy"


def test_healthz_says_ok(port: int) -> None:
    response, content = ask(port, "/healthz")
    assert (response.status, content) == (200, b"ok\n")


def wait_until(reached: Callable[[], bool], limit_s: float = 10) -> None:
    """Polls until something holds."""
    deadline = time.monotonic() + limit_s
    while not reached():
        assert time.monotonic() < deadline, "was not reached in time"
        time.sleep(0.02)


@contextmanager
def program(folder: Path, **environment: str) -> Iterator[tuple[subprocess.Popen[str], int]]:
    """The server as its container starts it; yields the process, and its port once it answers."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    command = [sys.executable, "-I", str(SERVER), "--folder", str(folder), "--address", "127.0.0.1"]
    process = subprocess.Popen(
        [*command, "--port", str(port)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, **environment},
    )

    def answers() -> bool:
        with socket.socket() as connection:
            return connection.connect_ex(("127.0.0.1", port)) == 0

    try:
        wait_until(answers)
        yield process, port
    finally:
        process.kill()
        process.wait()


def test_the_program_stops_at_once_when_it_is_told_to_and_logs_nothing(folder: Path) -> None:
    with program(folder) as (process, port):
        assert ask(port, "/")[0].status == 200
        assert ask(port, "/nothing")[0].status == 404
        process.send_signal(signal.SIGTERM)
        output, errors = process.communicate(timeout=5)
    assert (process.returncode, output, errors) == (0, "", "")


def test_the_access_log_is_one_json_object_per_request_when_asked_for(folder: Path) -> None:
    with program(folder, PORTAL_ACCESS_LOG="1") as (process, port):
        ask(port, "/nothing?at=all")
        process.send_signal(signal.SIGTERM)
        line = json.loads(process.communicate(timeout=5)[0])
    assert line.pop("time").startswith("20")
    assert line == {"method": "GET", "path": "/nothing?at=all", "status": 404}


def test_the_program_refuses_to_start_without_its_probe_list(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, str(SERVER), "--folder", str(tmp_path)], capture_output=True, text=True, timeout=10
    )
    assert done.returncode == 1
    assert done.stderr.startswith(f"portal: {tmp_path}/probes.json: [Errno 2]")
