"""The registry's host name: all goes on to Debian's registry, which checks the tokens itself."""

from __future__ import annotations

from collections.abc import AsyncIterator

import httpx
import yaml
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from .double import Double
from .registry_tokens import CERTIFICATE, ISSUER, SERVICE
from .site import Site
from .streaming import Streamed

PORT = 5000
HOP_BY_HOP = frozenset(
    {"connection", "keep-alive", "transfer-encoding", "te", "trailer", "upgrade", "content-length"}
)


def configuration(site: Site) -> str:
    """The registry's own configuration."""
    return yaml.safe_dump(
        {
            "version": 0.1,
            "log": {"level": "warn"},
            "storage": {
                "filesystem": {"rootdirectory": str(site.data / "registry")},
                "delete": {"enabled": True},
            },
            "http": {"addr": f"127.0.0.1:{PORT}", "relativeurls": False},
            "auth": {
                "token": {
                    "realm": f"{site.external_url}/jwt/auth",
                    "service": SERVICE,
                    "issuer": ISSUER,
                    "rootcertbundle": str(site.state / CERTIFICATE),
                }
            },
        }
    )


class Proxy:
    """Passes requests on, bodies as they come."""

    def __init__(self, double: Double, backend: str = f"http://127.0.0.1:{PORT}") -> None:
        self._double = double
        self._backend = backend
        self._client: httpx.AsyncClient | None = None

    async def answer(self, request: Request) -> Response | Streamed:
        if not request.url.path.startswith("/v2"):
            return JSONResponse({"errors": [{"code": "NAME_UNKNOWN"}]}, 404)
        if self._client is None:
            # Layers may take as long as they take; environment and system have no say in this.
            self._client = httpx.AsyncClient(
                timeout=httpx.Timeout(10, read=None, write=None), trust_env=False
            )
        headers = [(k, v) for k, v in request.headers.items() if k not in HOP_BY_HOP]
        length = request.headers.get("content-length")
        if length is not None:
            headers.append(("content-length", length))
        has_body = length not in (None, "0") or "transfer-encoding" in request.headers
        target = self._backend + request.scope["raw_path"].decode()
        asked = self._client.build_request(
            request.method,
            target,
            params=request.url.query.encode() or None,
            headers=headers,
            content=request.stream() if has_body else None,
        )
        try:
            said = await self._client.send(asked, stream=True)
        except httpx.TransportError:
            return JSONResponse({"errors": [{"code": "UNAVAILABLE"}]}, 502)

        async def body() -> AsyncIterator[bytes]:
            try:
                async for block in said.aiter_raw():
                    yield block
            finally:
                await said.aclose()

        # The date is added once more on the way out.
        dropped = HOP_BY_HOP - {"content-length"} | {"date"}
        kept = [(name, text) for name, text in said.headers.multi_items() if name.lower() not in dropped]
        return Streamed(said.status_code, kept, body())
