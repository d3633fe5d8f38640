"""The program's answers for people: what to do next names the inventory that was asked about."""

from __future__ import annotations

from dap import summary
from dap.gpus.listing import KnownGpu
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


def test_gpus_are_listed_with_who_has_them() -> None:
    gpus = [
        KnownGpu("gpu1", "nvidia.com/gpu=GPU-a0", "GPU-a0", ("ada-ml", "the runner gpu"), "ok"),
        KnownGpu("gpu1", "nvidia.com/gpu=1", "", (), "lacks /dev/nvidia1"),
    ]
    assert summary.of_gpus(gpus).splitlines() == [
        "HOST  GPU                    UUID    PROMISED TO             STATE",
        "gpu1  nvidia.com/gpu=GPU-a0  GPU-a0  ada-ml, the runner gpu  ok",
        "gpu1  nvidia.com/gpu=1       -       -                       lacks /dev/nvidia1",
    ]
