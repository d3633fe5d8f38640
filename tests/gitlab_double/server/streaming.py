"""An answer that is sent while it is made."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable

from starlette.types import Receive, Scope, Send


class Streamed:
    """Sends blocks as they come.

    Starlette's own class reads from the client meanwhile, to notice when it goes away, and would
    swallow parts of a body that somebody else is still reading.
    """

    def __init__(self, status: int, headers: Iterable[tuple[str, str]], blocks: AsyncIterator[bytes]) -> None:
        self.status_code = status
        self._headers = [(name.lower().encode("latin-1"), text.encode("latin-1")) for name, text in headers]
        self._blocks = blocks

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": self.status_code, "headers": self._headers})
        async for block in self._blocks:
            await send({"type": "http.response.body", "body": block, "more_body": True})
        await send({"type": "http.response.body", "body": b"", "more_body": False})
