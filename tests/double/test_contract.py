"""What GitLab's descriptions do not allow is noticed."""

from __future__ import annotations

import gitlab

from tests.gitlab_double.local import LocalDouble


def noticed(double: LocalDouble) -> list[dict[str, str]]:
    """The violations as a test reads them, which are then forgotten."""
    found: list[dict[str, str]] = double.ask("DELETE", "/-/stand-in/violations").json()
    return found


def test_unknown_setting_is_passed_over_but_noticed(double: LocalDouble, root: gitlab.Gitlab) -> None:
    root.http_put("/application/settings", post_data={"signup_enabled": False, "no_such_setting": 1})
    assert root.settings.get().signup_enabled is False
    assert noticed(double) == [
        {
            "call": "PUT /api/v4/application/settings",
            "message": "request: Additional properties are not allowed ('no_such_setting' was unexpected)",
        }
    ]


def test_parameter_that_gitlab_ignores_is_noticed(double: LocalDouble, root: gitlab.Gitlab) -> None:
    root.groups.list(get_all=True, named="x")
    assert noticed(double) == [
        {"call": "GET /api/v4/groups", "message": "request: GitLab ignores the parameter named"}
    ]


def test_address_that_the_double_lacks_is_noticed(double: LocalDouble) -> None:
    assert double.ask("GET", "/api/v4/todos", double.token()).status_code == 404
    assert noticed(double) == [
        {"call": "GET /api/v4/todos", "message": "the double does not have this address"}
    ]


def test_answer_with_a_wrong_type_is_noticed(double: LocalDouble) -> None:
    group = double.ask("POST", "/api/v4/groups", double.token(), json={"name": "Team", "path": "team"}).json()
    from tests.gitlab_double.server.records import Namespace

    kept = double.store.must(Namespace, group["id"])
    kept.more["lfs_enabled"] = "maybe"
    double.store.save(kept)
    double.ask("GET", "/api/v4/groups/team", double.token())
    assert noticed(double) == [
        {"call": "GET /api/v4/groups/team", "message": "answer: 'maybe' is not of type 'boolean'"}
    ]


def test_job_of_a_wrong_form_is_noticed(double: LocalDouble) -> None:
    double.double.contract.check_job({"id": "1", "token": "x", "variables": [], "steps": []})
    assert sorted(one["message"] for one in noticed(double)) == [
        ": 'git_info' is a required property",
        ": 'job_info' is a required property",
        ": 'runner_info' is a required property",
        "id: '1' is not of type 'integer'",
    ]


def test_refused_request_is_no_violation(double: LocalDouble) -> None:
    answer = double.ask("POST", "/api/v4/groups", double.token(), json={"nonsense": 1})
    assert (answer.status_code, answer.json()) == (400, {"error": "name is missing, path is missing"})
    assert noticed(double) == []
