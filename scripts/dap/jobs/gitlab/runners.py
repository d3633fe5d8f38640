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
from gitlab.exceptions import GitlabError

from ..report import Report
from .client import at_once

_NONCE_BYTES = 12


def provision(api: Gitlab, server: dict[str, Any], report: Report) -> None:
    """Bring the runners of a GitLab into the desired state; other people's are left alone.

    Raises:
        GitlabError: it refuses something.
    """
    desired, service = server["runners"], server["service"]
    good: set[int] = set()
    made: dict[str, str] = {}
    there = at_once(lambda wanted: _there(api, wanted), desired["wanted"])
    for wanted, runner in zip(desired["wanted"], there, strict=True):
        if runner:
            good.add(runner.id)
            _keep(api, service, runner, wanted, report)
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


def _there(api: Gitlab, wanted: dict[str, Any]) -> Any:
    """The runner whose token is known and accepted; None if there is none."""
    if not wanted["token"]:
        return None
    body = {"token": wanted["token"], "system_id": wanted["system_id"]}
    try:
        found = api.http_post("/runners/verify", post_data=body)
    except GitlabError as error:
        if error.response_code == 403:
            return None
        raise
    assert isinstance(found, dict)  # noqa: S101  JSON
    return api.runners.get(found["id"])


def _keep(api: Gitlab, service: str, there: Any, wanted: dict[str, Any], report: Report) -> None:
    """Set back what somebody has changed; whether it is paused is for people to say."""
    asked = _asked(wanted)
    now = {key: getattr(there, key) for key in asked} | {"tag_list": sorted(there.tag_list)}
    report.ensure(
        now == asked,
        f"{service}: runner {wanted['description']} set back",
        lambda: api.http_put(f"/runners/{there.id}", post_data=asked),
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
