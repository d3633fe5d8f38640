"""A WebSocket that accepts, sends one text with the request's headers, and closes."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import json
from typing import Any, cast

GUID = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
PATH = "/-/cable"


def accepted(key: str) -> str:
    """The answer to a client's key (RFC 6455, section 1.3)."""
    digest = hashlib.sha1((key + GUID).encode(), usedforsecurity=False).digest()
    return base64.b64encode(digest).decode()


class Cable(asyncio.Protocol):
    """Takes a connection over from the HTTP server when a client asks for a WebSocket."""

    def __init__(self, config: Any, server_state: Any, app_state: Any, _loop: Any = None) -> None:
        self._connections: set[Any] = server_state.connections
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        self._connections.add(self)

    def connection_lost(self, exc: Exception | None) -> None:
        self._connections.discard(self)

    def shutdown(self) -> None:
        if self._transport:
            self._transport.close()

    def data_received(self, data: bytes) -> None:
        """The request, as the HTTP server has put it together again."""
        assert self._transport
        first, *lines = data.decode("latin-1").partition("\r\n\r\n")[0].split("\r\n")
        headers = {name.lower(): text.strip() for name, _, text in (line.partition(":") for line in lines)}
        key = headers.get("sec-websocket-key", "")
        if first.split(" ")[1].partition("?")[0] != PATH or not key:
            self._transport.write(
                b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
            )
            self._transport.close()
            return
        answer = [
            "HTTP/1.1 101 Switching Protocols",
            "Upgrade: websocket",
            "Connection: Upgrade",
            f"Sec-WebSocket-Accept: {accepted(key)}",
        ]
        text = json.dumps(headers).encode()
        frame = bytes([0x81, 126]) + len(text).to_bytes(2, "big") + text
        self._transport.write(("\r\n".join(answer) + "\r\n\r\n").encode() + frame)
        self._transport.close()
