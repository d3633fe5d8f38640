"""Git over HTTP through git's own server program. Bodies pass in both directions as they come."""

from __future__ import annotations

import asyncio
import base64
import binascii
import os
from collections.abc import AsyncIterator
from contextlib import suppress
from typing import Any

from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response

from . import git_access
from .api.projects import keep_project
from .ci.pushes import look
from .double import Double
from .git_access import Holder
from .records import Project
from .streaming import Streamed

BLOCK = 1 << 16
DENIED = "HTTP Basic: Access denied."
SERVICES = {"info/refs", "git-upload-pack", "git-receive-pack"}


class GitHttp:
    """Answers addresses with ``.git/`` in them."""

    def __init__(self, double: Double) -> None:
        self._double = double

    async def answer(self, request: Request) -> Response | Streamed:
        path, _, service = request.url.path.partition(".git/")
        if service not in SERVICES:
            return await _refused(request, 404, "404 Not Found")
        pushing = "git-receive-pack" in (request.query_params.get("service"), service)
        said = basic_login(request)
        who = git_access.holder(self._double, *said) if said else None
        project = git_access.find_project(self._double, path)
        if who is None and (said or pushing or project is None or project.visibility != "public"):
            return await _refused(request, 401, DENIED, {"WWW-Authenticate": 'Basic realm="GitLab"'})
        if project is None and pushing and who:
            project = self._made(who, path)
        if project is None or not git_access.reads(self._double, who, project):
            missing = (
                "The project you were looking for could not be found or you don't have permission to view it."
            )
            return await _refused(request, 404, missing)
        if pushing and not git_access.writes(self._double, who, project):
            return await _refused(request, 403, "You are not allowed to push code to this project.")
        return await self._served(request, project, service, who)

    def _made(self, who: Holder, path: str) -> Project | None:
        place = git_access.namespace_for(self._double, who, path)
        if place is None or who.user is None:
            return None
        namespace, name = place
        return keep_project(
            self._double, namespace, who.user, Project(name=name, path=name), f"{namespace.full_path}/{name}"
        )

    async def _served(self, request: Request, project: Project, service: str, who: Holder | None) -> Streamed:
        before = self._double.repositories.refs(project.id)
        backend = await asyncio.create_subprocess_exec(
            "git",
            "http-backend",
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            env=self._environment(request, project, service, who),
        )
        early = await _said_meanwhile(backend, asyncio.create_task(self._feed(request, backend)))
        status, headers, first = await _head(backend, early)

        async def body() -> AsyncIterator[bytes]:
            yield first
            assert backend.stdout
            while block := await backend.stdout.read(BLOCK):
                yield block
            await backend.wait()
            if service == "git-receive-pack" and who and who.user:
                look(self._double, project, before, who.user)

        return Streamed(status, headers.items(), body())

    def _environment(
        self, request: Request, project: Project, service: str, who: Holder | None
    ) -> dict[str, str]:
        kept = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}
        name = who.name if who else ""
        return kept | {
            "GIT_PROJECT_ROOT": str(self._double.site.repositories),
            "GIT_HTTP_EXPORT_ALL": "1",
            "PATH_INFO": f"/{project.id}.git/{service}",
            "QUERY_STRING": request.url.query,
            "REQUEST_METHOD": request.method,
            "CONTENT_TYPE": request.headers.get("content-type", ""),
            "HTTP_CONTENT_ENCODING": request.headers.get("content-encoding", ""),
            "GIT_PROTOCOL": request.headers.get("git-protocol", ""),
            "REMOTE_USER": name,
            **git_access.hook_environment(self._double, who, project),
        }

    async def _feed(self, request: Request, backend: asyncio.subprocess.Process) -> None:
        assert backend.stdin
        with suppress(BrokenPipeError, ConnectionResetError):
            async for block in request.stream():
                self._double.received += len(block)
                backend.stdin.write(block)
                await backend.stdin.drain()
            backend.stdin.close()


def basic_login(request: Request) -> tuple[str, str] | None:
    kind, _, text = request.headers.get("authorization", "").partition(" ")
    if kind.lower() != "basic":
        return None
    try:
        name, _, password = base64.b64decode(text).decode().partition(":")
    except (binascii.Error, UnicodeDecodeError):
        return None
    return name, password


async def _refused(
    request: Request, status: int, text: str, headers: dict[str, str] | None = None
) -> Response:
    async for _ in request.stream():
        pass
    return PlainTextResponse(text, status, headers)


async def _said_meanwhile(backend: asyncio.subprocess.Process, feeding: asyncio.Task[None]) -> bytes:
    """What a CGI program says while it is still being told something.

    The answer must not begin before the request has ended: nginx passes nothing on of a request after that.
    """
    assert backend.stdout
    said = b""
    reading = asyncio.create_task(backend.stdout.read(BLOCK))
    while not feeding.done():
        await asyncio.wait({feeding, reading}, return_when=asyncio.FIRST_COMPLETED)
        if reading.done():
            block = reading.result()
            said += block
            if not block:
                await feeding
                return said
            reading = asyncio.create_task(backend.stdout.read(BLOCK))
    await feeding
    return said + await reading


async def _head(backend: asyncio.subprocess.Process, head: bytes) -> tuple[int, dict[str, Any], bytes]:
    """Status and headers of a CGI program's answer, and what came with them of the body.

    Args:
        head: what has been read of it.
    """
    assert backend.stdout
    while b"\r\n\r\n" not in head:
        block = await backend.stdout.read(BLOCK)
        if not block:
            return 500, {}, b"git http-backend said nothing"
        head += block
    text, _, rest = head.partition(b"\r\n\r\n")
    headers = dict(line.split(": ", 1) for line in text.decode().splitlines() if ": " in line)
    return int(headers.pop("Status", "200 OK").split()[0]), headers, rest
