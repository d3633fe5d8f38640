"""The platform's token for GitLab: how the job finds out about it, and the script that makes it."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import jinja2
import pytest

from dap.jobs.gitlab.client import GitlabError, connect
from dap.jobs.report import LaterError, Report
from dap.layout import compose_dir
from tests.gitlab_double.local import LocalDouble
from tests.gitlab_double.server import clock, rails
from tests.gitlab_double.server.api import tokens
from tests.gitlab_double.server.records import PersonalAccessToken, User
from tests.gitlab_double.server.stages import BOOTING, LOADING, READY

VALUE = "glpat-what-the-platform-has-in-its-store"
KEY = "gitlab.api_token"
NAME = "Data Analysis Platform"


def state(double: LocalDouble, **more: Any) -> dict[str, Any]:
    address = urlsplit(double.url)
    place = {"host": address.hostname, "port": address.port, "name": address.netloc}
    return {"service": "gitlab", "token": VALUE, "token_key": KEY, **place, **more}


def make(double: LocalDouble, capfd: pytest.CaptureFixture[str], value: str = VALUE) -> tuple[int, str]:
    """Run the script of the token; its status and its complaint."""
    environment = jinja2.Environment(undefined=jinja2.StrictUndefined, autoescape=False)  # noqa: S701  Ruby
    template = Path(compose_dir()) / "gitlab" / "tokens" / "api_token.rb.j2"
    script = environment.from_string(template.read_text()).render(secret=lambda name: value)
    status = rails.run(double.double, script)
    return status, (capfd.readouterr().err.splitlines() or [""])[0]


def stored(double: LocalDouble, **more: Any) -> PersonalAccessToken:
    """Keep a token of the administrator's with the platform's value."""
    root = double.store.first(User, username="root")
    assert root
    ends = str(clock.today() + timedelta(days=100))
    given: dict[str, Any] = {"user_id": root.id, "name": NAME, "expires_at": ends, "scopes": ["api"], **more}
    return tokens.save(double.store, PersonalAccessToken(**given), VALUE)


def asked(double: LocalDouble, **options: Any) -> tuple[str, list[str], list[str]]:
    """What the job waits for, if anything, and the tokens that it wants made or renewed."""
    report = Report(**options)
    try:
        connect(state(double), report)
    except LaterError as waits:
        return str(waits), report.wants, report.renew
    return "", report.wants, report.renew


def test_token_is_made_once_and_lasts_for_half_a_year(
    double: LocalDouble, capfd: pytest.CaptureFixture[str]
) -> None:
    assert asked(double) == ("its API token is not made yet", [KEY], [])
    assert make(double, capfd) == make(double, capfd) == (0, "")
    assert asked(double) == ("", [], [])
    (made,) = double.store.find(PersonalAccessToken)
    assert (made.name, made.scopes) == (NAME, ["api", "admin_mode"])
    assert made.expires_at == str(clock.today() + timedelta(days=180))


def test_new_value_revokes_the_one_before_and_no_token_of_people(
    double: LocalDouble, capfd: pytest.CaptureFixture[str]
) -> None:
    own = double.token()
    stored(double)
    assert make(double, capfd, "glpat-another-value-of-the-platforms") == (0, "")
    assert asked(double) == (
        "its API token is no longer accepted (Token was revoked. You have to re-authorize from the user.)",
        [],
        [KEY],
    )
    assert double.ask("GET", "/api/v4/user", own).status_code == 200
    # Somebody has revoked it, so its value is not to come back.
    assert make(double, capfd) == (
        1,
        "this token was revoked: dap rotate gitlab.api_token makes another one (RuntimeError)",
    )


def test_token_is_renewed_before_its_end(double: LocalDouble) -> None:
    token = stored(double, expires_at=str(clock.today() + timedelta(days=60)))
    assert asked(double) == ("", [], [])
    token.expires_at = str(clock.today() + timedelta(days=59))
    double.store.save(token)
    assert asked(double) == ("", [], [KEY])
    report = Report(check=True)
    connect(state(double), report)
    assert report.changed == ["gitlab: api_token renewed"]
    token.expires_at = str(clock.today())
    double.store.save(token)
    ended = "Token is expired. You can either do re-authorization or token refresh."
    assert asked(double) == (f"its API token is no longer accepted ({ended})", [], [KEY])


def test_another_administrator_takes_the_place_of_one_who_is_gone(
    double: LocalDouble, capfd: pytest.CaptureFixture[str]
) -> None:
    token = stored(double)
    root = double.store.must(User, token.user_id)
    double.store.add(User(username="ada", name="Ada", email="ada@example.com", admin=True))
    root.admin = False
    double.store.save(root)
    left = "its API token belongs to somebody who is no longer an administrator"
    assert asked(double) == (left, [], [KEY])
    root.state = "blocked"
    double.store.save(root)
    blocked = "403 Forbidden - Your account has been blocked."
    assert asked(double) == (f"its API token is no longer accepted ({blocked})", [], [KEY])
    assert make(double, capfd, "glpat-another-value-of-the-platforms") == (0, "")
    made = double.store.find(PersonalAccessToken)[-1]
    assert double.store.must(User, made.user_id).username == "ada"


def test_gitlab_that_is_away_is_waited_for(double: LocalDouble, capfd: pytest.CaptureFixture[str]) -> None:
    stored(double)
    stages, coming = double.double.stages, iter([LOADING, READY])
    stages.forced = BOOTING
    api = connect(state(double), Report(), sleep=lambda seconds: setattr(stages, "forced", next(coming)))
    assert api.user
    assert api.user.username == "root"
    assert capfd.readouterr().err == "progress: waiting for GitLab, which answers 502\n" * 2
    stages.forced = LOADING
    with pytest.raises(GitlabError) as caught:
        connect(state(double), Report(check=True))
    assert str(caught.value) == f"{double.url} answers 502, after 0 s"
