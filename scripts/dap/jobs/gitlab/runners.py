"""The runners in GitLab: made, kept as they are to be, and removed with their hosts.

GitLab shows the token of a new runner once, when it is made. It goes back to the program sealed, because what
this job writes passes through logs.
"""

from __future__ import annotations

import base64
import hashlib
import json
import secrets
from typing import Any

from Crypto.Cipher import AES
from gitlab import Gitlab
from gitlab.exceptions import GitlabError, GitlabGetError

from ..report import Report

_NONCE_BYTES = 12


def provision(api: Gitlab, server: dict[str, Any], report: Report) -> None:
    """Bring the runners of a GitLab into the desired state; other people's are left alone.

    Raises:
        GitlabError: it refuses something.
    """
    desired, service = server["runners"], server["service"]
    good: set[int] = set()
    made: dict[str, str] = {}
    for wanted in desired["wanted"]:
        number = _accepted(api, wanted)
        if number:
            good.add(number)
            _keep(api, service, number, wanted, report)
            continue

        def make(wanted: dict[str, Any] = wanted) -> None:
            created = api.http_post(
                "/user/runners", post_data={"runner_type": "instance_type", **_asked(wanted)}
            )
            assert isinstance(created, dict)  # noqa: S101  JSON
            good.add(created["id"])
            made[wanted["key"]] = created["token"]

        report.ensure(False, f"{service}: runner {wanted['description']} made", make)
    _remove_others(api, service, desired["prefix"], good, report)
    if made:
        report.sealed = _sealed(made, desired["seal"])


def _asked(wanted: dict[str, Any]) -> dict[str, Any]:
    """What is set of a runner."""
    return {key: wanted[key] for key in ("description", "tag_list", "run_untagged")}


def _accepted(api: Gitlab, wanted: dict[str, Any]) -> int:
    """The number of the runner whose token is known and accepted; 0 if there is none."""
    if not wanted["token"]:
        return 0
    body = {"token": wanted["token"], "system_id": wanted["system_id"]}
    try:
        found = api.http_post("/runners/verify", post_data=body)
    except GitlabError as error:
        if error.response_code == 403:
            return 0
        raise
    return int(found["id"]) if isinstance(found, dict) else 0


def _keep(api: Gitlab, service: str, number: int, wanted: dict[str, Any], report: Report) -> None:
    """Set back what somebody has changed; whether it is paused is for people to say."""
    try:
        there = api.runners.get(number)
    except GitlabGetError as error:
        raise GitlabError(f"runner {number} has a token and is not there: {error}") from error
    asked = _asked(wanted)
    now = {key: getattr(there, key) for key in asked} | {"tag_list": sorted(there.tag_list)}
    report.ensure(
        now == asked,
        f"{service}: runner {wanted['description']} set back",
        lambda: api.http_put(f"/runners/{number}", post_data=asked),
    )


def _remove_others(api: Gitlab, service: str, prefix: str, good: set[int], report: Report) -> None:
    """Remove the platform's own runners whose token is lost, or whose host is gone."""
    for runner in api.runners_all.list(iterator=True, type="instance_type"):
        if runner.description.startswith(prefix) and runner.id not in good:
            report.ensure(
                False,
                f"{service}: runner {runner.description} ({runner.id}) removed",
                lambda number=runner.id: api.runners.delete(number),  # type: ignore[misc]
            )


def _sealed(tokens: dict[str, str], seal: str) -> str:
    """The tokens as only who has ``seal`` can read them."""
    nonce = secrets.token_bytes(_NONCE_BYTES)
    cipher = AES.new(hashlib.sha256(seal.encode()).digest(), AES.MODE_GCM, nonce=nonce)
    text, tag = cipher.encrypt_and_digest(json.dumps(tokens).encode())
    return base64.b64encode(nonce + text + tag).decode()
