"""What the provisioning jobs decide by themselves: the policies of keys, and what counts as a change."""

from __future__ import annotations

import json
import random
from typing import Any

import pytest

from dap.jobs.report import Report
from dap.jobs.s3 import _normal, policy_of


def granted(buckets: list[str]) -> dict[str, set[str]]:
    """What a policy allows: actions by resource."""
    found: dict[str, set[str]] = {}
    for statement in policy_of(buckets)["Statement"]:
        assert statement["Effect"] == "Allow"
        for resource in statement["Resource"]:
            found.setdefault(resource, set()).update(statement["Action"])
    return found


def test_policy_reaches_its_buckets_and_nothing_else() -> None:
    assert set(granted(["demo", "models"])) == {
        "arn:aws:s3:::demo",
        "arn:aws:s3:::demo/*",
        "arn:aws:s3:::models",
        "arn:aws:s3:::models/*",
    }


def test_policy_lets_objects_be_listed_read_written_and_removed() -> None:
    found = granted(["demo"])
    assert "s3:ListBucket" in found["arn:aws:s3:::demo"]
    assert {"s3:GetObject", "s3:PutObject", "s3:DeleteObject"} <= found["arn:aws:s3:::demo/*"]
    assert {"s3:AbortMultipartUpload", "s3:ListMultipartUploadParts"} <= found["arn:aws:s3:::demo/*"]


def test_policy_names_every_action() -> None:
    actions = set().union(*granted(["demo"]).values())
    assert not [action for action in actions if "*" in action]
    # A key that could do these could shut its owner out, open the bucket to the world, or lose old versions.
    assert not actions & {
        "s3:CreateBucket",
        "s3:DeleteBucket",
        "s3:PutBucketPolicy",
        "s3:PutBucketVersioning",
        "s3:PutLifecycleConfiguration",
        "s3:BypassGovernanceRetention",
    }


def shuffled(policy: dict[str, Any]) -> dict[str, Any]:
    """The policy as a server may give it back: another order, and a statement for each resource."""
    order = random.Random(7)  # noqa: S311  no secret, the same order in every run
    statements = [
        {
            "Effect": statement["Effect"],
            "Action": order.sample(statement["Action"], len(statement["Action"])),
            "Resource": [resource],
        }
        for statement in policy["Statement"]
        for resource in statement["Resource"]
    ]
    order.shuffle(statements)
    return {"Version": policy["Version"], "Statement": statements}


def test_order_makes_no_difference() -> None:
    policy = policy_of(["demo", "models"])
    assert shuffled(policy) != policy
    assert _normal(shuffled(policy)) == _normal(policy)


def removed_action(policy: dict[str, Any]) -> None:
    policy["Statement"][1]["Action"].remove("s3:PutObject")


def added_resource(policy: dict[str, Any]) -> None:
    policy["Statement"][0]["Resource"].append("arn:aws:s3:::other")


def another_effect(policy: dict[str, Any]) -> None:
    policy["Statement"][0]["Effect"] = "Deny"


def one_statement_less(policy: dict[str, Any]) -> None:
    policy["Statement"].pop()


@pytest.mark.parametrize("change", [removed_action, added_resource, another_effect, one_statement_less])
def test_any_other_right_makes_a_difference(change: Any) -> None:
    policy = policy_of(["demo"])
    change(policy)
    assert _normal(policy) != _normal(policy_of(["demo"]))


def test_missing_policy_is_no_policy() -> None:
    assert _normal(None) == _normal({}) == set()
    assert _normal(None) != _normal(policy_of(["demo"]))


def test_what_is_right_is_left_alone() -> None:
    report, made = Report(), []
    report.ensure(True, "bucket created", lambda: made.append(1))
    assert (report.changed, report.unchanged, made) == ([], 1, [])


def test_what_is_missing_is_made_and_told() -> None:
    report, made = Report(), []
    report.ensure(False, "bucket created", lambda: made.append(1))
    assert (report.changed, report.unchanged, made) == (["bucket created"], 0, [1])


def test_check_mode_tells_and_makes_nothing() -> None:
    report, made = Report(check=True), []
    report.ensure(False, "bucket created", lambda: made.append(1))
    report.ensure(True, "policy set", lambda: made.append(2))
    assert (report.changed, report.unchanged, made) == (["bucket created"], 1, [])


def test_change_that_fails_is_not_told() -> None:
    report = Report()

    def fails() -> None:
        raise OSError("refused")

    with pytest.raises(OSError, match="refused"):
        report.ensure(False, "bucket created", fails)
    assert report.changed == []


def test_report_is_one_line_of_json() -> None:
    report = Report(changed=["a: bucket ä created", "b"], unchanged=3)
    assert "\n" not in report.as_json()
    assert json.loads(report.as_json()) == {
        "changed": ["a: bucket ä created", "b"],
        "ok": 3,
        "asked": [],
        "unasked": {},
        "wants": [],
        "renew": [],
        "complete": False,
        "sealed": "",
    }
