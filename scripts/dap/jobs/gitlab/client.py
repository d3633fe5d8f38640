"""The way into GitLab's API: waits until it answers, and finds out whether the token is accepted."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import UTC, date, datetime, timedelta
from typing import Any, TypeVar

import requests
from gitlab import Gitlab
from gitlab.exceptions import GitlabAuthenticationError, GitlabHttpError
from gitlab.exceptions import GitlabError as LibraryError

from ..report import LaterError, Report

# A deploy within the last third of its life gives the token another value.
RENEW_BEFORE = timedelta(days=60)
_WAIT_S, _PAUSE_S, _TIMEOUT_S = 300.0, 2.0, 60.0
_AT_ONCE = 8
Given = TypeVar("Given")
Found = TypeVar("Found")
# What the web server in front of it answers while GitLab is not there, or not yet.
_AWAY = (502, 503, 504)


class GitlabError(Exception):
    """GitLab does not answer, or not as expected; the text says to what, and what it was."""


def connect(server: dict[str, Any], report: Report, sleep: Callable[[float], None] = time.sleep) -> Gitlab:
    """A client that is logged in as administrator.

    Raises:
        LaterError: the token has to be made or replaced first; ``report`` says which of both.
        GitlabError: GitLab does not answer in time.
    """
    api = Gitlab(
        f"http://{server['host']}:{server['port']}",
        private_token=server["token"],
        timeout=_TIMEOUT_S,
        per_page=100,
        retry_transient_errors=True,
        # Its own links have the public name, which leads through the proxy.
        keep_base_url=True,
    )
    api.headers["Host"] = server["name"]
    api.session.trust_env = False
    status, said = _token(api, report, sleep)
    key = server["token_key"]
    if status == 401 and said.get("error") != "invalid_token":
        report.wants.append(key)
        raise LaterError("its API token is not made yet")
    if status not in (200, 401, 403):
        raise GitlabError(f"{api.url} answers {status} to its API token ({_words(said)})")
    if status != 200:
        # Revoked or expired, or its owner was blocked.
        _renew(server, report)
        raise LaterError(f"its API token is no longer accepted ({_words(said)})")
    api.auth()
    if not (api.user and api.user.attributes.get("is_admin")):
        _renew(server, report)
        raise LaterError("its API token belongs to somebody who is no longer an administrator")
    ends = said.get("expires_at")
    if ends and date.fromisoformat(ends) - datetime.now(UTC).date() < RENEW_BEFORE:
        _renew(server, report)
    return api


@contextmanager
def refusals(what: str) -> Iterator[None]:
    """Say what GitLab refused, and why."""
    try:
        yield
    except LibraryError as error:
        answer = f"GitLab answered {error.response_code or 'nothing'}: {_one_line(error)}"
        raise GitlabError(f"{what}: {answer}") from error


def _one_line(error: LibraryError) -> str:
    return " ".join(str(error.error_message or error).split())[:300]


def at_once(look: Callable[[Given], Found], what: Sequence[Given]) -> list[Found]:
    """What ``look`` finds for each; several requests at a time, as one takes GitLab a while."""
    if len(what) < 2:
        return [look(one) for one in what]
    with ThreadPoolExecutor(_AT_ONCE) as pool:
        return list(pool.map(look, what))


def _renew(server: dict[str, Any], report: Report) -> None:
    report.renew.append(server["token_key"])
    if report.check:
        report.changed.append(f"{server['service']}: {server['token_key'].rpartition('.')[2]} renewed")


def _token(api: Gitlab, report: Report, sleep: Callable[[float], None]) -> tuple[int, dict[str, Any]]:
    """What GitLab says of the token: status and answer. Waits while GitLab is away."""
    wait = _WAIT_S if report.patient and not report.check else 0.0
    end = time.monotonic() + wait
    while True:
        try:
            status, body = _ask(api)
            problem = f"answers {status}"
        except requests.RequestException as error:
            status, body, problem = 0, b"", f"cannot be asked: {error}"
        if status and status not in _AWAY:
            return status, _decoded(body)
        if time.monotonic() >= end:
            raise GitlabError(f"{api.url} {problem}, after {wait:.0f} s")
        report.say(f"waiting for GitLab, which {problem}")
        sleep(_PAUSE_S)


def _ask(api: Gitlab) -> tuple[int, bytes]:
    try:
        answer = api.http_request("get", "/personal_access_tokens/self", retry_transient_errors=False)
    except (GitlabAuthenticationError, GitlabHttpError) as error:
        return error.response_code or 0, error.response_body or b""
    return answer.status_code, answer.content


def _decoded(body: bytes) -> dict[str, Any]:
    try:
        said = json.loads(body)
    except ValueError:
        return {}
    return said if isinstance(said, dict) else {}


def _words(said: dict[str, Any]) -> str:
    """The reason that a refusal gives, on one line."""
    reason = said.get("error_description") or said.get("message") or said.get("error") or "without a reason"
    return " ".join(str(reason).split())[:200]
