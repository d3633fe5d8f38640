"""A registry that answers about images and a forward proxy, both real servers on this machine."""

from __future__ import annotations

import base64
import json
import socket
import ssl
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

LOGIN = "Basic " + base64.b64encode(b"reader:geheim").decode()


class Registry:
    """What a stand-in for a registry has, how it asks for logins, and what it was asked.

    Attributes:
        images: ``repository:tag`` that it has.
        scheme: ``bearer``, ``basic`` or empty for a registry without logins.
        anonymous: whether its tokens are given without a login.
        status: answer everything with this status instead.
        requests: method, path and headers of what it was asked.
    """

    def __init__(self) -> None:
        self.images = {"team/app:1"}
        self.scheme = ""
        self.anonymous = True
        self.status = 0
        self.requests: list[tuple[str, str, dict[str, str]]] = []
        self.address = ""
        self.url = ""

    def answer(self, path: str, headers: dict[str, str]) -> tuple[int, dict[str, str], bytes]:
        if self.status:
            return self.status, {}, b""
        if path.startswith("/token"):
            granted = self.anonymous or headers.get("authorization") == LOGIN
            return (200, {}, json.dumps({"token": "t0ken"}).encode()) if granted else (401, {}, b"")
        wanted = {"bearer": "Bearer t0ken", "basic": LOGIN}.get(self.scheme)
        if wanted and headers.get("authorization") != wanted:
            scope = f'realm="{self.url}/token",service="stand-in",scope="repository:team/app:pull"'
            return 401, {"WWW-Authenticate": f"{self.scheme.title()} {scope}"}, b""
        _, _, rest = path.partition("/v2/")
        repository, _, tag = rest.partition("/manifests/")
        return (200 if f"{repository}:{tag}" in self.images else 404), {}, b""


@contextmanager
def serving(registry: Registry, context: ssl.SSLContext | None = None) -> Iterator[Registry]:
    """Serve it on a port of this machine, with TLS if there is a context."""

    class Handler(BaseHTTPRequestHandler):
        def do_HEAD(self) -> None:
            headers = {name.lower(): value for name, value in self.headers.items()}
            registry.requests.append((self.command, self.path, headers))
            status, more, body = registry.answer(self.path, headers)
            self.send_response(status)
            for name, value in {**more, "Content-Length": str(len(body))}.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(body)

        def do_GET(self) -> None:
            self.do_HEAD()

        def log_message(self, format: str, *args: Any) -> None:
            pass

    class Server(ThreadingHTTPServer):
        daemon_threads = True

        def handle_error(self, request: Any, client_address: Any) -> None:
            """A client that speaks another protocol is what some tests are about."""

    server = Server(("127.0.0.1", 0), Handler)
    if context:
        server.socket = context.wrap_socket(server.socket, server_side=True, do_handshake_on_connect=False)
    registry.address = f"127.0.0.1:{server.server_port}"
    registry.url = f"{'https' if context else 'http'}://{registry.address}"
    threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
    try:
        yield registry
    finally:
        server.shutdown()
        server.server_close()


class ForwardProxy:
    """A proxy for HTTPS (CONNECT) that leads every name to one port of this machine."""

    def __init__(self, port: int) -> None:
        self.port = port
        self.asked: list[str] = []
        self.logins: list[str] = []
        self.address = ""

    @contextmanager
    def running(self) -> Iterator[ForwardProxy]:
        with closing(socket.create_server(("127.0.0.1", 0))) as listening:
            self.address = f"127.0.0.1:{listening.getsockname()[1]}"
            threading.Thread(target=self._accept, args=(listening,), daemon=True).start()
            yield self

    def _accept(self, listening: socket.socket) -> None:
        while True:
            try:
                client, _ = listening.accept()
            except OSError:
                return
            threading.Thread(target=self._serve, args=(client,), daemon=True).start()

    def _serve(self, client: socket.socket) -> None:
        with client, client.makefile("rb") as lines:
            self.asked.append(lines.readline().decode().split()[1])
            while (line := lines.readline().decode().strip()) != "":
                if line.lower().startswith("proxy-authorization:"):
                    self.logins.append(line.partition(": ")[2])
            client.sendall(b"HTTP/1.1 200 Connection established\r\n\r\n")
            with socket.create_connection(("127.0.0.1", self.port)) as server:
                back = threading.Thread(target=_copy, args=(server, client), daemon=True)
                back.start()
                _copy(client, server)
                back.join(5)


def _copy(source: socket.socket, target: socket.socket) -> None:
    try:
        while data := source.recv(65536):
            target.sendall(data)
        target.shutdown(socket.SHUT_WR)
    except OSError:
        return


def server_context(certificate: Path, key: Path) -> ssl.SSLContext:
    """The TLS side of a server."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    return context
