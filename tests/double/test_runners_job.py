"""What the provisioning job makes of the runners in GitLab."""

from __future__ import annotations

from typing import Any

import gitlab
import pytest

from dap.errors import DapError
from dap.gitlab.runners import open_sealed
from dap.jobs.gitlab.runners import provision
from dap.jobs.report import Report
from dap.secrets import Secret
from tests.gitlab_double.fake_runner import FakeRunner
from tests.gitlab_double.local import LocalDouble

SEAL = "what-only-the-platform-knows"
KEY = "runner.token.alpha.docker"
NAME = "dap/alpha/docker"


def state(*tokens: str, **more: Any) -> dict[str, Any]:
    """What the job is given: a runner of one host, with its token if that is known."""
    wanted = {
        "description": NAME,
        "key": KEY,
        "token": "".join(tokens),
        "system_id": "r_000000000001",
        "tag_list": ["docker", "linux"],
        "run_untagged": True,
        **more,
    }
    return {"service": "gitlab", "runners": {"prefix": "dap/", "seal": SEAL, "wanted": [wanted]}}


def run(root: gitlab.Gitlab, given: dict[str, Any], check: bool = False) -> tuple[list[str], str]:
    """The changes, and the token of a new runner."""
    report = Report(check=check)
    provision(root, given, report)
    if not report.sealed:
        return report.changed, ""
    return report.changed, open_sealed(report.sealed, Secret(SEAL))[KEY].reveal()


def test_runner_is_made_once_and_its_token_comes_back(double: LocalDouble, root: gitlab.Gitlab) -> None:
    changed, token = run(root, state())
    assert changed == [f"gitlab: runner {NAME} made"]
    runner = FakeRunner(double.url, token)
    assert runner.verify().status_code == 200
    runner.close()
    assert run(root, state(token)) == ([], "")
    (found,) = root.runners_all.list(get_all=True)
    details = root.runners.get(found.id)
    assert (details.tag_list, details.run_untagged) == (["docker", "linux"], True)


def test_check_says_what_is_missing_and_changes_nothing(root: gitlab.Gitlab) -> None:
    assert run(root, state(), check=True) == ([f"gitlab: runner {NAME} made"], "")
    assert list(root.runners_all.list(get_all=True)) == []


def test_runner_whose_token_is_lost_is_replaced(root: gitlab.Gitlab) -> None:
    _, lost = run(root, state())
    (old,) = root.runners_all.list(get_all=True)
    changed, token = run(root, state("glrt-of-another-time"))
    assert changed == [f"gitlab: runner {NAME} made", f"gitlab: runner {NAME} ({old.id}) removed"]
    assert token not in ("", lost)
    assert len(root.runners_all.list(get_all=True)) == 1


def test_what_somebody_changed_is_set_back_and_a_pause_stays(root: gitlab.Gitlab) -> None:
    _, token = run(root, state())
    (made,) = root.runners_all.list(get_all=True)
    root.http_put(f"/runners/{made.id}", post_data={"tag_list": ["gpu"], "paused": True})
    assert run(root, state(token)) == ([f"gitlab: runner {NAME} set back"], "")
    details = root.runners.get(made.id)
    assert (details.tag_list, details.paused) == (["docker", "linux"], True)


def test_runner_of_a_host_that_is_gone_is_removed_and_no_other(root: gitlab.Gitlab) -> None:
    run(root, state())
    (made,) = root.runners_all.list(get_all=True)
    body = {"runner_type": "instance_type", "description": "of somebody"}
    root.http_post("/user/runners", post_data=body)
    given = state()
    given["runners"]["wanted"] = []
    assert run(root, given) == ([f"gitlab: runner {NAME} ({made.id}) removed"], "")
    assert [one.description for one in root.runners_all.list(get_all=True)] == ["of somebody"]


def test_tokens_that_were_sealed_for_others_are_refused(root: gitlab.Gitlab) -> None:
    report = Report()
    provision(root, state(), report)
    assert "glrt-" not in report.as_json()
    with pytest.raises(DapError) as error:
        open_sealed(report.sealed, Secret("another seal"))
    assert error.value.message == (
        "the tokens of new runners cannot be read: they are not sealed for this platform"
    )
