"""Connections on which bytes are sent as they are: what no client library would send."""

from __future__ import annotations

import re
import socket
import ssl
import struct
from collections.abc import Iterable
from dataclasses import dataclass

from tests.integration.platform import DeployedPlatform

SECONDS = 5
_STATUS = re.compile(rb"^HTTP/1\.[01] (\d{3}) ", re.M)
# What a client sends to PostgreSQL that wants TLS.
_POSTGRES_TLS = bytes.fromhex("0000000804d2162f")
_HANDSHAKE, _SERVER_HELLO = 22, 2


@dataclass(frozen=True)
class Answer:
    """All that came back until the connection was closed, or stayed silent."""

    raw: bytes

    @property
    def statuses(self) -> list[int]:
        """The status of each answer that is in it."""
        return [int(found) for found in _STATUS.findall(self.raw)]

    @property
    def head(self) -> str:
        """The status line and the header lines of the first answer."""
        return self.raw.partition(b"\r\n\r\n")[0].decode("latin-1")

    def header(self, name: str) -> list[str]:
        """The values of a header of the first answer."""
        lines = [line.partition(":") for line in self.head.splitlines()[1:]]
        return [value.strip() for key, _, value in lines if key.lower() == name.lower()]


def ask(platform: DeployedPlatform, payload: bytes, *, port: str = "https", name: str = "") -> Answer:
    """Send bytes to the proxy, over TLS or not by the ``port``, and read what comes.

    Args:
        name: the server name in the TLS handshake; the portal's if empty.
    """
    with socket.create_connection(("127.0.0.1", platform.ports[port]), timeout=SECONDS) as plain:
        if port == "http":
            return _exchange(plain, payload)
        with platform.trust.wrap_socket(plain, server_hostname=name or platform.domain) as connection:
            return _exchange(connection, payload)


def _exchange(connection: socket.socket, payload: bytes) -> Answer:
    found = b""
    try:
        connection.sendall(payload)
        while piece := connection.recv(65536):
            found += piece
    except (TimeoutError, ConnectionError, ssl.SSLError):
        # What was refused in the middle of it is closed without ceremony.
        pass
    return Answer(found)


def get(host: str, path: str, *headers: str) -> bytes:
    """A request after which the connection is closed."""
    lines = [f"GET {path} HTTP/1.1", f"Host: {host}", "Connection: close", *headers]
    return "".join(f"{line}\r\n" for line in [*lines, ""]).encode("latin-1")


# --- TLS --------------------------------------------------------------------------------------------------


def _extension(number: int, content: bytes) -> bytes:
    return struct.pack(">HH", number, len(content)) + content


def _hello(version: int, ciphers: Iterable[int], host: str) -> bytes:
    """A client's first message, which asks for compression and for nothing newer than ``version``."""
    suites = b"".join(struct.pack(">H", cipher) for cipher in ciphers)
    name = host.encode()
    groups, signatures = "001d00170018", "040305030603080408050806040105010601020302010101"
    extensions = b"".join(
        [
            _extension(0, struct.pack(">HBH", len(name) + 3, 0, len(name)) + name),
            _extension(10, bytes.fromhex(f"{len(groups) // 2:04x}{groups}")),
            _extension(11, bytes.fromhex("0100")),
            _extension(13, bytes.fromhex(f"{len(signatures) // 2:04x}{signatures}")),
        ]
    )
    body = struct.pack(">H", version) + bytes(32) + b"\0" + struct.pack(">H", len(suites)) + suites
    body += bytes([2, 1, 0]) + struct.pack(">H", len(extensions)) + extensions
    message = b"\1" + struct.pack(">I", len(body))[1:] + body
    return b"\x16\3\1" + struct.pack(">H", len(message)) + message


@dataclass(frozen=True)
class ServerHello:
    """What a server has chosen of what a client offers."""

    version: int
    cipher: int
    compression: int


def offer(platform: DeployedPlatform, port: str, version: int, ciphers: Iterable[int]) -> ServerHello | None:
    """What a server chooses of a version and ciphers; None if it refuses."""
    host = f"postgres-data.{platform.domain}" if port == "postgres" else platform.domain
    with socket.create_connection(("127.0.0.1", platform.ports[port]), timeout=SECONDS) as connection:
        if port == "postgres":
            connection.sendall(_POSTGRES_TLS)
            assert connection.recv(1) == b"S"
        connection.sendall(_hello(version, ciphers, host))
        with connection.makefile("rb") as stream:
            head = stream.read(5)
            message = stream.read(struct.unpack(">H", head[3:5])[0]) if len(head) == 5 else b""
    if not message or (head[0], message[0]) != (_HANDSHAKE, _SERVER_HELLO):
        return None
    session = 39 + message[38]
    chosen, cipher, compression = message[4:6], message[session : session + 2], message[session + 2]
    return ServerHello(int.from_bytes(chosen), int.from_bytes(cipher), compression)
