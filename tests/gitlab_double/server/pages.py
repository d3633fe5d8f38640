"""The few addresses outside the API, and those that show tests what arrived.

Addresses below ``/-/stand-in/`` are no addresses of GitLab.
"""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, PlainTextResponse, Response

from .double import PATIENCE_S, Double
from .records import Key, User
from .stages import BOOTING, LOADING, READY

TITLES = ("/users/sign_in", "/help", "/users/sign_up")


class Pages:
    """Answers what is neither API nor Git nor registry."""

    def __init__(self, double: Double) -> None:
        self._double = double

    def not_yet(self, request: Request) -> Response:
        """Before Rails works its front server answers in its place."""
        return HTMLResponse("<title>GitLab is not responding</title>", 502)

    async def answer(self, request: Request) -> Response:
        path = request.url.path
        if path == "/-/readiness":
            ready = self._double.stages.now != BOOTING
            said = {"status": "ok" if ready else "failed", "master_check": [{"status": "ok"}]}
            return JSONResponse(said, 200 if ready else 503)
        if path == "/-/health":
            return PlainTextResponse("GitLab OK")
        if path == "/-/liveness":
            return JSONResponse({"status": "ok"})
        if path.endswith(".keys") and request.method == "GET":
            return self._keys(path.strip("/").removesuffix(".keys"))
        if path in TITLES:
            return HTMLResponse(f"<title>{path}</title>")
        if path == "/users" and request.method == "POST":
            self._double.sign_ups += 1
            return HTMLResponse("signed up")
        return JSONResponse({"error": "404 Not Found"}, 404)

    def _keys(self, username: str) -> Response:
        """A user's public keys, for anybody who asks, with who and where in place of each comment."""
        store = self._double.store
        user = store.first(User, username=username)
        if user is None:
            return HTMLResponse("<title>Not Found (404)</title>", 404)
        who = f"{user.name} ({self._double.site.host})"
        lines = [" ".join([*key.key.split()[:2], who]) for key in store.find(Key, user_id=user.id)]
        return PlainTextResponse("\n".join(lines))

    async def stand_in(self, request: Request) -> Response:
        """Sets the stage, counts an upload, or shows violations; otherwise tells what came."""
        name = request.url.path.rpartition("/")[2]
        if name == "violations":
            found = self._double.contract.violations()
            if request.method == "DELETE":
                self._double.contract.forget()
            return JSONResponse(found)
        if name in (BOOTING, LOADING, READY):
            self._double.stages.forced = name
        if name == "patience":
            self._double.patience_s = float(request.query_params.get("seconds", PATIENCE_S))
        if name == "upload":
            self._double.received = 0
            async for block in request.stream():
                self._double.received += len(block)
        return JSONResponse(
            {
                "headers": dict(request.headers),
                "received": self._double.received,
                "sign_ups": self._double.sign_ups,
            }
        )
