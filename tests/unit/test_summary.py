"""The program's answers for people: what to do next names the inventory that was asked about."""

from __future__ import annotations

from dap import summary
from dap.verify import Result


def test_failed_verification_ends_with_the_command_for_the_same_inventory() -> None:
    results = [
        Result("minio", "object store", True, "fine"),
        Result("mlflow", "tracking", False, "answered 502"),
    ]
    assert summary.of_verify("team", results).endswith("\n\n2 checks, 1 failed\nnext: dap -e team status")


def test_successful_verification_asks_for_nothing() -> None:
    results = [Result("minio", "object store", True, "fine")]
    assert summary.of_verify("team", results).endswith("\n\n1 checks, 0 failed")
