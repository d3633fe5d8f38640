"""Takes each request to who answers it: the API, Git, the registry, or one of the few pages."""

from __future__ import annotations

import inspect
import json
import sys
import traceback
from pathlib import Path
from typing import Any

from starlette.requests import ClientDisconnect, Request
from starlette.responses import FileResponse, JSONResponse, Response
from starlette.types import Receive, Scope, Send

from . import access, api, coordinator, git_http, pages, registry, registry_tokens
from .contract import Exchange
from .double import Double
from .routing import PREFIX, ROUTES, ApiError, Call, Reply, Route, bad, match
from .stages import READY

REGISTERED = (api, coordinator)
"""Importing these is what fills the list of routes."""


class Application:
    """The server, as ASGI wants it."""

    def __init__(self, double: Double) -> None:
        self.double = double
        self._registry = registry.Proxy(double)
        self._git = git_http.GitHttp(double)
        self._pages = pages.Pages(double)
        for route in ROUTES:
            known = double.contract.describes(route.method, route.pattern)
            assert known == route.described, f"{route.method} {route.pattern}: described is {known}"

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return
        request = Request(scope, receive)
        try:
            response = await self._respond(request)
            await response(scope, receive, send)
        except ClientDisconnect:
            return

    async def _respond(self, request: Request) -> Any:
        path = request.url.path
        raw = request.scope["raw_path"].decode()
        host = request.headers.get("host", "").partition(":")[0]
        if host == self.double.site.registry_host:
            return await self._registry.answer(request)
        if raw.startswith("/-/stand-in/"):
            return await self._pages.stand_in(request)
        if self.double.stages.now != READY and path != "/-/readiness":
            return self._pages.not_yet(request)
        if raw.startswith(f"{PREFIX}/"):
            return await self._api(request, raw)
        if ".git/" in path:
            return await self._git.answer(request)
        if path == "/jwt/auth":
            return await registry_tokens.answer(self.double, request)
        return await self._pages.answer(request)

    async def _api(self, request: Request, raw: str) -> Response:
        found = match(request.method, raw)
        if isinstance(found, int):
            if found == 405:
                return JSONResponse({"error": "405 Not Allowed"}, 405)
            self.double.contract.note(f"{request.method} {raw}", "the double does not have this address")
            return JSONResponse({"error": "404 Not Found"}, 404)
        route, params = found
        body = b""
        try:
            if not route.streams:
                body = await request.body()
            reply = await self._reply(request, route, params, body)
        except ApiError as error:
            reply = error.reply
            if route.streams:
                await _drain(request)
        except ClientDisconnect:
            raise
        except Exception as error:
            # Tells a test about the double's own mistakes, which would look like GitLab's otherwise.
            traceback.print_exc(file=sys.stderr)
            self.double.contract.note(f"{request.method} {raw}", f"the double failed: {error!r}")
            reply = Reply(500, {"message": "500 Internal Server Error"})
        response = _response(reply)
        self._check(request, route, params, body, reply, response)
        return response

    async def _reply(self, request: Request, route: Route, params: dict[str, str], body: bytes) -> Reply:
        login = access.log_in(self.double, request, route)
        call = Call(self.double, request, params, await _parsed(request, body), login)
        if not route.public and login.user is None and not _open_to_all(route):
            raise ApiError(401, "401 Unauthorized")
        answer = route.handler(call)
        return await answer if inspect.isawaitable(answer) else answer

    def _check(
        self,
        request: Request,
        route: Route,
        params: dict[str, str],
        body: bytes,
        reply: Reply,
        response: Response,
    ) -> None:
        if not route.described:
            return
        content = b"" if isinstance(reply.body, Path) else bytes(response.body)
        self.double.contract.check(
            Exchange(
                method=route.method,
                pattern=route.pattern,
                path=request.scope["raw_path"].decode(),
                path_values=params,
                query=list(request.query_params.multi_items()),
                headers=dict(request.headers),
                content_type=request.headers.get("content-type", ""),
                body=body,
                status=reply.status,
                answer=content,
                answer_type=reply.content_type,
            )
        )


def _open_to_all(route: Route) -> bool:
    """What strangers may ask: whatever is public is found by the handler."""
    places = (f"{PREFIX}/projects", f"{PREFIX}/groups")
    return route.method == "GET" and route.pattern.startswith(places)


async def _parsed(request: Request, body: bytes) -> dict[str, Any]:
    kind = request.headers.get("content-type", "").partition(";")[0]
    if not body:
        return {}
    if kind == "application/json":
        try:
            found = json.loads(body)
        except ValueError:
            raise bad("Problems parsing JSON") from None
        if not isinstance(found, dict):
            raise bad("Problems parsing JSON")
        return found
    if kind in ("application/x-www-form-urlencoded", "multipart/form-data"):
        async with request.form() as form:
            return {key.removesuffix("[]"): value for key, value in form.items()}
    if request.method == "GET":
        return {}
    raise ApiError(415, {"error": f"The provided content-type '{kind}' is not supported."})


async def _drain(request: Request) -> None:
    """Read what is still coming: a client that is sending does not look at the answer."""
    try:
        async for _ in request.stream():
            pass
    except (RuntimeError, ClientDisconnect):
        return


def _response(reply: Reply) -> Response:
    if isinstance(reply.body, Path):
        return FileResponse(reply.body, reply.status, reply.headers, reply.content_type)
    if isinstance(reply.body, bytes):
        return Response(reply.body, reply.status, reply.headers, reply.content_type)
    if reply.status == 204:
        return Response(None, 204, reply.headers)
    return JSONResponse(reply.body, reply.status, reply.headers)
