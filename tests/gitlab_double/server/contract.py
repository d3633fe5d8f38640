"""Holds every request and answer of the API to GitLab's own descriptions.

A violation is kept in the store, where a test's fixture reads it, and stays there until the test removes it.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from jsonschema import Draft202012Validator
from openapi_core import Config, OpenAPI
from openapi_core.datatypes import RequestParameters
from werkzeug.datastructures import Headers, ImmutableMultiDict

from .records import Violation
from .store import Store

DESCRIPTION = "openapi.json"
JOB = "job_response.schema.json"
EVERYWHERE = frozenset({"page", "per_page", "private_token", "sudo", "pagination", "order_by", "sort"})
"""Parameters that any list or any request takes, whether its description repeats them or not."""
BODY_NOT_DESCRIBED = frozenset(
    {
        # JSON with `actions`, or with `branch` and `content`; described is an upload of a file.
        ("POST", "/api/v4/projects/{id}/repository/commits"),
        ("POST", "/api/v4/projects/{id}/repository/files/{file_path}"),
        ("PUT", "/api/v4/projects/{id}/repository/files/{file_path}"),
        # The trace itself, as text.
        ("PATCH", "/api/v4/jobs/{id}/trace"),
        # A multipart body too large to be kept in memory: its parts are checked where they are read.
        ("POST", "/api/v4/jobs/{id}/artifacts"),
        # The body is optional to GitLab.
        ("POST", "/api/v4/personal_access_tokens/{id}/rotate"),
    }
)
ANSWER_NOT_DESCRIBED = frozenset(
    {
        # A text or a file; described is the job or nothing.
        ("GET", "/api/v4/projects/{id}/jobs/{job_id}/trace"),
    }
)
STATUS_NOT_DESCRIBED = {("POST", "/api/v4/projects/{id}/repository/commits", 201): 200}
"""GitLab's request specs expect what comes first; its description names what follows."""


@dataclass(frozen=True)
class Exchange:
    """A request to the API and its answer."""

    method: str
    pattern: str
    path: str
    path_values: Mapping[str, str]
    query: list[tuple[str, str]]
    headers: Mapping[str, str]
    content_type: str
    body: bytes | None
    status: int
    answer: bytes
    answer_type: str

    @property
    def call(self) -> str:
        return f"{self.method} {self.path}"


class _Request:
    """An exchange's request as openapi-core wants to see it."""

    host_url = "http://localhost"

    def __init__(self, exchange: Exchange) -> None:
        self.path, self.path_pattern = exchange.path, exchange.pattern
        self.method, self.body = exchange.method.lower(), exchange.body or None
        self.content_type = exchange.content_type or "application/json"
        self.parameters = RequestParameters(
            query=ImmutableMultiDict(exchange.query),
            header=Headers(dict(exchange.headers)),
            path=dict(exchange.path_values),
        )


@dataclass(frozen=True)
class _Answer:
    status_code: int
    content_type: str
    data: bytes
    headers: Headers


@lru_cache
def _described(file: Path) -> tuple[dict[str, Any], OpenAPI]:
    """Read once, as that takes a second."""
    description = json.loads(file.read_text(encoding="utf-8"))
    _allow_null(description)
    # The description has a few defects of form that its own validator would stop at.
    unchecked: Any = None
    return description, OpenAPI.from_dict(description, config=Config(spec_validator_cls=unchecked))


def _allow_null(description: dict[str, Any]) -> None:
    """Let an object within another be null, as GitLab's API pages show it: a job's runner, for one."""
    for schema in description["components"]["schemas"].values():
        for one in schema.get("properties", {}).values():
            if any("$ref" in other for other in one.get("anyOf", [])):
                one["anyOf"] = [*one["anyOf"], {"type": "object", "nullable": True}]


class Contract:
    """The descriptions, and where violations are kept."""

    def __init__(self, folder: Path, store: Store) -> None:
        self._description, self._api = _described(folder / DESCRIPTION)
        self._job = Draft202012Validator(json.loads((folder / JOB).read_text(encoding="utf-8")))
        self._store = store

    def describes(self, method: str, pattern: str) -> bool:
        return method.lower() in self._description["paths"].get(pattern, {})

    def properties(self, schema: str) -> list[str]:
        """The names that an object of the API has."""
        return list(self._description["components"]["schemas"][schema]["properties"])

    def note(self, call: str, message: str) -> None:
        self._store.add(Violation(call=call, message=message))

    def violations(self) -> list[dict[str, str]]:
        return [{"call": one.call, "message": one.message} for one in self._store.find(Violation)]

    def forget(self) -> None:
        self._store.clear(Violation)

    def check(self, exchange: Exchange) -> None:
        """Keep what GitLab's description does not allow.

        A request that was refused may be wrong: its sender was told so.
        """
        if exchange.status < 300:
            for message in (*self._of_request(exchange), *self._of_answer(exchange)):
                self.note(exchange.call, message)
        elif exchange.status < 500 and exchange.status != 304:
            for message in _of_refusal(exchange):
                self.note(exchange.call, message)

    def check_job(self, job: dict[str, Any]) -> None:
        """Hold a job that a runner is handed to the types that the runner reads it into."""
        for error in self._job.iter_errors(job):
            place = "/".join(map(str, error.absolute_path))
            self.note(f"job {job.get('id')}", f"{place}: {error.message}")

    def _of_request(self, exchange: Exchange) -> Iterator[str]:
        operation = self._description["paths"][exchange.pattern][exchange.method.lower()]
        # The runner's own addresses name no login, and pass over what they do not know.
        of_runners = operation.get("security") == []
        known = {one["name"] for one in operation.get("parameters", []) if one["in"] == "query"}
        sent = set() if of_runners else {name.partition("[")[0] for name, _ in exchange.query}
        for name in sorted(sent - known - EVERYWHERE):
            yield f"request: GitLab ignores the parameter {name}"
        if (exchange.method, exchange.pattern) not in BODY_NOT_DESCRIBED:
            yield from _messages("request", lambda: self._api.validate_request(_Request(exchange)))

    def _of_answer(self, exchange: Exchange) -> Iterator[str]:
        # Some are described as JSON although 204 has no body.
        empty = exchange.status == 204 and not exchange.answer
        if empty or (exchange.method, exchange.pattern) in ANSWER_NOT_DESCRIBED:
            return
        status = STATUS_NOT_DESCRIBED.get(
            (exchange.method, exchange.pattern, exchange.status), exchange.status
        )
        answer = _Answer(status, exchange.answer_type, exchange.answer, Headers())
        yield from _messages("answer", lambda: self._api.validate_response(_Request(exchange), answer))


def _messages(what: str, check: Any) -> Iterator[str]:
    try:
        check()
    except Exception as error:  # openapi-core's errors have no common parent but this
        cause: BaseException = error
        while cause.__cause__ is not None:
            cause = cause.__cause__
        details = getattr(cause, "schema_errors", None)
        for text in [one.message for one in details] if details else [str(cause) or repr(cause)]:
            yield f"{what}: {text}"


def _of_refusal(exchange: Exchange) -> Iterator[str]:
    """GitLab says why in ``message`` or in ``error``, and nothing else beside the error's own details."""
    if not exchange.answer_type.startswith("application/json") or not exchange.answer:
        return
    try:
        said = json.loads(exchange.answer)
    except ValueError:
        yield f"answer: {exchange.status} with something that is not JSON"
        return
    if not isinstance(said, dict) or not {"message", "error"} & set(said):
        yield f"answer: {exchange.status} says neither message nor error"
