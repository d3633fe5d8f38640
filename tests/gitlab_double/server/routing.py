"""The API's addresses and who answers them.

Addresses are matched as they came, not decoded: ``team%2Fproject`` is one part of a path.
"""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote

from starlette.requests import Request

if TYPE_CHECKING:
    from .access import Login
    from .double import Double

PREFIX = "/api/v4"


@dataclass
class Reply:
    """An answer of the API. A body of bytes goes out as it is."""

    status: int = 200
    body: Any = None
    headers: dict[str, str] = field(default_factory=dict)
    content_type: str = "application/json"


class ApiError(Exception):
    """Refuses a call.

    Args:
        status: of the answer.
        body: a mapping, or the text of ``message``.
    """

    def __init__(self, status: int, body: str | Mapping[str, Any]) -> None:
        super().__init__(status, body)
        self.reply = Reply(status, {"message": body} if isinstance(body, str) else dict(body))


def not_found(what: str = "") -> ApiError:
    return ApiError(404, f"404 {what} Not Found" if what else "404 Not found")


def forbidden() -> ApiError:
    return ApiError(403, "403 Forbidden")


def missing(*names: str) -> ApiError:
    return ApiError(400, {"error": ", ".join(f"{name} is missing" for name in names)})


def bad(error: str) -> ApiError:
    return ApiError(400, {"error": error})


def invalid(field_name: str, *problems: str) -> ApiError:
    """A model that did not pass validation."""
    return ApiError(400, {"message": {field_name: list(problems)}})


@dataclass
class Call:
    """One request to the API on its way through."""

    double: Double
    request: Request
    params: dict[str, str]
    body: dict[str, Any]
    login: Login

    @property
    def query(self) -> Mapping[str, str]:
        return self.request.query_params

    def need(self, *names: str) -> list[Any]:
        """Values of the body that have to be there."""
        absent = [name for name in names if self.body.get(name) is None]
        if absent:
            raise missing(*absent)
        return [self.body[name] for name in names]

    def number(self, name: str) -> int:
        """A part of the path that is a number."""
        if not self.params[name].isdecimal():
            raise bad(f"{name} is invalid")
        return int(self.params[name])

    def flag(self, name: str, default: bool = False) -> bool:
        """A value of the body or of the address that is true or false."""
        value = self.body.get(name, self.query.get(name, default))
        return value if isinstance(value, bool) else str(value).lower() in ("true", "1", "on")


Handler = Callable[[Call], "Reply | Awaitable[Reply]"]


@dataclass(frozen=True)
class Route:
    method: str
    pattern: str
    handler: Handler
    scopes: tuple[str, ...]
    """Any of these lets a token in, beside ``api``; reading is also open to ``read_api``."""
    public: bool
    """Answers without a login: the runner's own addresses, which check the token in the body."""
    described: bool
    """GitLab's description, as it was cut, has it."""
    streams: bool
    """The handler reads the body itself."""
    expression: re.Pattern[str]


ROUTES: list[Route] = []


def route(
    method: str,
    pattern: str,
    *,
    scopes: tuple[str, ...] = (),
    public: bool = False,
    described: bool = True,
    streams: bool = False,
) -> Callable[[Handler], Handler]:
    """Says which address a function answers; the first that fits is taken."""
    # A path inside an archive comes with its slashes.
    parts = re.sub(
        r"\{(\w+)\}", lambda one: f"(?P<{one[1]}>{'.+' if one[1] == 'path' else '[^/]+'})", PREFIX + pattern
    )
    expression = re.compile(parts)

    def register(handler: Handler) -> Handler:
        ROUTES.append(
            Route(method, PREFIX + pattern, handler, scopes, public, described, streams, expression)
        )
        return handler

    return register


def match(method: str, raw_path: str) -> tuple[Route, dict[str, str]] | int:
    """Who answers a request, and the decoded parts of its path; otherwise 404 or 405."""
    status = 404
    for one in sorted(ROUTES, key=lambda one: one.pattern.count("{")):
        found = one.expression.fullmatch(raw_path)
        if found and one.method == method:
            return one, {name: unquote(value) for name, value in found.groupdict().items()}
        if found:
            status = 405
    return status
