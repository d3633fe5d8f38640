"""Serves the portal's page and says which services answer: Python's standard library only.

``/`` and the other files come from one folder whose listing is read at start, so no request can name
anything else. ``/healthz`` says that this server lives; ``/health.json`` says how the platform's services
are, found by probes from inside the platform's network. nginx-proxy in front adds TLS, compression and
security headers.
"""

from __future__ import annotations

import argparse
import hashlib
import http.client
import json
import os
import signal
import socket
import struct
import sys
import threading
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import FrameType
from typing import Any
from urllib.parse import urlsplit

PROBE_TIMEOUT_S = 2.0
"""Each network step of a probe, and a whole round of probes, ends after this."""

CACHE_S = 5.0
"""However many pages are open, the services are asked at most this often."""

STARTING_GRACE_S = 90.0
"""A service that has not answered yet counts as starting for so long after the portal itself started: they
start together, and "not reachable" would alarm people about a machine that is just booting."""

CONTENT_TYPES = {
    ".crt": "application/x-x509-ca-cert",
    ".css": "text/css; charset=utf-8",
    ".html": "text/html; charset=utf-8",
    ".ico": "image/x-icon",
    ".js": "text/javascript; charset=utf-8",
    ".png": "image/png",
    ".svg": "image/svg+xml",
}
"""What is served, by suffix. ``.json`` is missing on purpose: the probe list describes the inner network."""

HEALTHY, STARTING, UNREACHABLE = "healthy", "starting", "unreachable"

POSTGRES_SSL_REQUEST = struct.pack("!ii", 8, 80877103)
"""The SSLRequest message: length and magic code (PostgreSQL documentation, "Message Formats")."""


class ProbeListError(Exception):
    """The probe list cannot be used; the message says where and why."""


@dataclass(frozen=True)
class Probe:
    """How to find out whether one service answers; ``path`` matters to ``http`` only."""

    service: str
    kind: str
    host: str
    port: int
    path: str = "/"


@dataclass(frozen=True)
class Result:
    """What one probe found; ``elapsed_ms`` is None where it had no answer in time."""

    state: str
    elapsed_ms: int | None


def load_probes(file: Path) -> list[Probe]:
    """Reads the probe list.

    Raises:
        ProbeListError: it is missing, is no JSON, or has an entry that no probe can be made of.
    """
    try:
        entries = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ProbeListError(f"{file}: {error}") from error
    if not isinstance(entries, list):
        raise ProbeListError(f"{file}: a list of probes is expected")
    probes = []
    for index, entry in enumerate(entries):
        try:
            probes.append(_probe_of(entry))
        except (KeyError, TypeError, ValueError) as error:
            raise ProbeListError(f"{file}: entry {index}: {error!r}") from error
    names = [probe.service for probe in probes]
    if len(set(names)) != len(names):
        raise ProbeListError(f"{file}: a service has more than one probe")
    return probes


def _probe_of(entry: Any) -> Probe:
    if not isinstance(entry, dict):
        raise TypeError("an object is expected")
    service, kind = str(entry["service"]), entry["type"]
    if kind == "http":
        url = urlsplit(str(entry["url"]))
        if url.scheme != "http" or not url.hostname:
            raise ValueError(f"url {entry['url']!r} is no http:// address")
        target = (url.path or "/") + (f"?{url.query}" if url.query else "")
        return Probe(service, "http", url.hostname, url.port or 80, target)
    if kind in ("tcp", "postgres"):
        return Probe(service, kind, str(entry["host"]), int(entry["port"]))
    raise ValueError(f"type {kind!r} is none of http, postgres, tcp")


def ask_http(probe: Probe) -> str:
    """GETs the address once. A login page or a redirect to one is an answer too; 503 says "not ready yet"."""
    connection = http.client.HTTPConnection(probe.host, probe.port, timeout=PROBE_TIMEOUT_S)
    try:
        connection.request("GET", probe.path, headers={"User-Agent": "dap-portal", "Connection": "close"})
        status = connection.getresponse().status
    finally:
        connection.close()
    if status == HTTPStatus.SERVICE_UNAVAILABLE:
        return STARTING
    answered = 200 <= status < 400 or status in (HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN)
    return HEALTHY if answered else UNREACHABLE


def ask_postgres(probe: Probe) -> str:
    """Asks whether TLS is offered: PostgreSQL says yes or no before any login, others say neither."""
    with socket.create_connection((probe.host, probe.port), timeout=PROBE_TIMEOUT_S) as connection:
        connection.sendall(POSTGRES_SSL_REQUEST)
        # One byte and no more: an SSH server's greeting starts with an S as well.
        return HEALTHY if connection.recv(64) in (b"S", b"N") else UNREACHABLE


def ask_tcp(probe: Probe) -> str:
    """Opens a connection and closes it again."""
    with socket.create_connection((probe.host, probe.port), timeout=PROBE_TIMEOUT_S):
        return HEALTHY


ASK: dict[str, Callable[[Probe], str]] = {"http": ask_http, "postgres": ask_postgres, "tcp": ask_tcp}


def run_probe(probe: Probe) -> Result:
    """Runs one probe; whatever goes wrong on the way means that the service is not reachable."""
    began = time.monotonic()
    try:
        state = ASK[probe.kind](probe)
    except (OSError, http.client.HTTPException):
        return Result(UNREACHABLE, None)
    return Result(state, round((time.monotonic() - began) * 1000))


class Health:
    """The state of all services, asked anew when somebody wants to know and the last answer is old.

    Args:
        probes: what to ask.
        cache_s: for how long an answer counts as new.
        grace_s: for how long a service that never answered counts as starting.
    """

    def __init__(
        self, probes: Iterable[Probe], cache_s: float = CACHE_S, grace_s: float = STARTING_GRACE_S
    ) -> None:
        self._probes = list(probes)
        self._cache_s = cache_s
        self._grace_until = time.monotonic() + grace_s
        self._lock = threading.Lock()
        self._running: dict[str, threading.Thread] = {}
        self._results: dict[str, Result] = {}
        self._answered: set[str] = set()
        self._since: dict[str, tuple[str, str]] = {}
        self._body = b""
        self._fresh_until = 0.0

    def body(self) -> bytes:
        """The answer of ``/health.json``; one caller asks the services, the others wait for that."""
        with self._lock:
            if time.monotonic() >= self._fresh_until:
                self._body = json.dumps(self._refresh()).encode()
                self._fresh_until = time.monotonic() + self._cache_s
            return self._body

    def _refresh(self) -> dict[str, Any]:
        self._ask_all()
        checked = datetime.now(UTC).isoformat(timespec="seconds")
        services = {}
        for probe in self._probes:
            result = self._judge(probe.service)
            state, since = self._since.get(probe.service, ("", ""))
            if state != result.state:
                since = checked
                self._since[probe.service] = (result.state, since)
            services[probe.service] = {"state": result.state, "ms": result.elapsed_ms, "since": since}
        return {"services": services, "checked": checked}

    def _ask_all(self) -> None:
        # Threads that are left behind, not a pool: resolving the name of a stopped container can hang far
        # longer than any socket timeout. Such a probe is not started again before it has ended.
        for probe in self._probes:
            before = self._running.get(probe.service)
            if before is None or not before.is_alive():
                self._results.pop(probe.service, None)
                thread = threading.Thread(target=self._ask, args=(probe,), daemon=True)
                self._running[probe.service] = thread
                thread.start()
        deadline = time.monotonic() + PROBE_TIMEOUT_S
        for thread in self._running.values():
            thread.join(max(0.0, deadline - time.monotonic()))

    def _ask(self, probe: Probe) -> None:
        self._results[probe.service] = run_probe(probe)

    def _judge(self, service: str) -> Result:
        late = self._running[service].is_alive()
        result = Result(UNREACHABLE, None) if late else self._results.get(service, Result(UNREACHABLE, None))
        if result.state == HEALTHY:
            self._answered.add(service)
        elif service not in self._answered and time.monotonic() < self._grace_until:
            return Result(STARTING, result.elapsed_ms)
        return result


def list_files(folder: Path) -> dict[str, Path]:
    """What may be asked for: each regular file of a known type in the folder, by its path in the address."""
    files = {
        f"/{entry.name}": entry
        for entry in sorted(folder.iterdir())
        if entry.is_file() and entry.suffix in CONTENT_TYPES and not entry.name.startswith(".")
    }
    if "/index.html" in files:
        files["/"] = files["/index.html"]
    return files


class PortalServer(ThreadingHTTPServer):
    """The listening server.

    Args:
        address: host and port to listen on; port 0 takes a free one.
        folder: where the files to serve are.
        health: answers ``/health.json``.
        access_log: whether to write one JSON line per request to standard output.
    """

    request_queue_size = 64

    def __init__(
        self, address: tuple[str, int], folder: Path, health: Health, *, access_log: bool = False
    ) -> None:
        self.files = list_files(folder)
        self.health = health
        self.access_log = access_log
        super().__init__(address, Handler)

    def server_bind(self) -> None:
        # HTTPServer's own looks its host name up in the DNS, which can hang and which nothing here needs.
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self.socket.bind(self.server_address)
        self.server_address = self.socket.getsockname()
        self.server_name, self.server_port = "portal", self.server_address[1]

    def handle_error(self, request: Any, client_address: Any) -> None:
        # A browser that leaves in the middle of an answer is daily life, no error.
        if not isinstance(sys.exception(), (ConnectionError, TimeoutError)):
            super().handle_error(request, client_address)


class Handler(BaseHTTPRequestHandler):
    """Answers one connection's requests."""

    server: PortalServer
    protocol_version = "HTTP/1.1"
    timeout = 30

    def do_GET(self) -> None:
        """Answers with the content."""
        path = self.path.partition("?")[0]
        # A body is never read here; kept open, the connection would take it for the next request.
        if self.headers.get("Transfer-Encoding") or self.headers.get("Content-Length", "0") != "0":
            self.close_connection = True
        if path == "/healthz":
            self._answer(HTTPStatus.OK, b"ok\n")
        elif path == "/health.json":
            body = self.server.health.body()
            self._answer(HTTPStatus.OK, body, "application/json", {"Cache-Control": "no-store"})
        elif path in self.server.files:
            self._answer_file(self.server.files[path])
        else:
            self._answer(HTTPStatus.NOT_FOUND, b"Not found\n")

    def do_HEAD(self) -> None:
        """Answers as GET would, without the content."""
        self.do_GET()

    def send_error(self, code: int, message: str | None = None, explain: str | None = None) -> None:
        """Answers what the base class cannot serve: broken requests, and all other methods."""
        unknown_method = code == HTTPStatus.NOT_IMPLEMENTED
        status = HTTPStatus.METHOD_NOT_ALLOWED if unknown_method else HTTPStatus(code)
        self.close_connection = True
        allow = {"Allow": "GET, HEAD"} if unknown_method else None
        self._answer(status, f"{status.phrase}\n".encode(), extra=allow)

    def _answer_file(self, file: Path) -> None:
        try:
            content = file.read_bytes()
        except FileNotFoundError:
            self._answer(HTTPStatus.NOT_FOUND, b"Not found\n")
            return
        tag = f'"{hashlib.sha256(content).hexdigest()[:32]}"'
        headers = {"ETag": tag, "Cache-Control": "no-cache"}
        # nginx marks the tag as weak (W/) when it compresses.
        known = {part.strip().removeprefix("W/") for part in self.headers.get("If-None-Match", "").split(",")}
        if tag in known:
            self._answer(HTTPStatus.NOT_MODIFIED, b"", extra=headers)
        else:
            self._answer(HTTPStatus.OK, content, CONTENT_TYPES[file.suffix], headers)

    def _answer(
        self,
        status: HTTPStatus,
        content: bytes,
        content_type: str = "text/plain; charset=utf-8",
        extra: dict[str, str] | None = None,
    ) -> None:
        self.send_response(status)
        if status != HTTPStatus.NOT_MODIFIED:
            self.send_header("Content-Type", content_type)
            self.send_header("Content-Length", str(len(content)))
        for name, value in (extra or {}).items():
            self.send_header(name, value)
        if self.close_connection:
            self.send_header("Connection", "close")
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)

    def version_string(self) -> str:
        """Names the server without the versions that Python would tell."""
        return "portal"

    def log_request(self, code: int | str = "-", size: int | str = "-") -> None:
        """Writes the access log, if it is on."""
        if self.server.access_log:
            status = int(code)
            line = {"time": datetime.now(UTC).isoformat(timespec="milliseconds"), "method": self.command}
            print(json.dumps({**line, "path": self.path, "status": status}), flush=True)


def main(arguments: list[str] | None = None) -> int:
    """Runs the server until it is told to stop."""
    parser = argparse.ArgumentParser(description="Serves the portal.")
    parser.add_argument("--folder", type=Path, default=Path("/etc/dap"))
    parser.add_argument("--address", default="0.0.0.0", help="where to listen")  # noqa: S104 - a container's own
    parser.add_argument("--port", type=int, default=8000)
    options = parser.parse_args(arguments)
    # As process 1 of a container Python would otherwise ignore the signal and be killed ten seconds later.
    signal.signal(signal.SIGTERM, _stop)
    try:
        health = Health(load_probes(options.folder / "probes.json"))
        access_log = os.environ.get("PORTAL_ACCESS_LOG") == "1"
        server = PortalServer((options.address, options.port), options.folder, health, access_log=access_log)
    except (ProbeListError, OSError) as error:
        print(f"portal: {error}", file=sys.stderr)
        return 1
    with server:
        server.serve_forever()
    return 0


def _stop(_signal: int, _frame: FrameType | None) -> None:
    raise SystemExit(0)


if __name__ == "__main__":
    sys.exit(main())
