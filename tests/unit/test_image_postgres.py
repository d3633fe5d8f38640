"""What PostgreSQL's image makes of the memory and processors that its container may use."""

import os
import subprocess
from pathlib import Path

import pytest

TUNING = Path(__file__).parents[2] / "compose" / "postgres-service" / "image" / "tuning.sh"
MIB = 1 << 20


def tune(root: Path, profile: str) -> dict[str, str]:
    environment = os.environ | {"TUNING_ROOT": str(root), "PGDATA": "/data"}
    done = subprocess.run(
        ["sh", str(TUNING), profile], env=environment, capture_output=True, text=True, check=True, timeout=20
    )
    return dict(line.split(" = ") for line in done.stdout.splitlines())


def write(root: Path, path: str, content: str) -> None:
    file = root / path
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(content)


@pytest.fixture
def machine(tmp_path: Path) -> Path:
    """A machine with 64 GiB and no limits."""
    write(tmp_path, "proc/meminfo", f"MemTotal: {64 * MIB} kB\nMemFree: 1 kB\n")
    return tmp_path


def test_bulk_takes_shares_of_a_version_2_limit(machine: Path) -> None:
    write(machine, "sys/fs/cgroup/memory.max", f"{8192 * MIB}\n")
    settings = tune(machine, "bulk")
    assert settings["shared_buffers"] == "2048MB"
    assert settings["effective_cache_size"] == "6144MB"
    assert settings["maintenance_work_mem"] == "512MB"
    assert settings["work_mem"] == "128MB"


def test_bulk_takes_shares_of_a_version_1_limit(machine: Path) -> None:
    write(machine, "sys/fs/cgroup/memory/memory.limit_in_bytes", f"{4096 * MIB}\n")
    assert tune(machine, "bulk")["shared_buffers"] == "1024MB"


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("sys/fs/cgroup/memory.max", "max"),
        ("sys/fs/cgroup/memory/memory.limit_in_bytes", "9223372036854771712"),
        ("sys/fs/cgroup/nothing", "here"),
    ],
)
def test_without_a_limit_the_machine_counts(machine: Path, path: str, value: str) -> None:
    write(machine, path, f"{value}\n")
    assert tune(machine, "bulk")["shared_buffers"] == "16384MB"


@pytest.mark.parametrize(
    ("files", "workers"),
    [
        ({"sys/fs/cgroup/cpu.max": "50000 100000\n"}, "1"),
        (
            {
                "sys/fs/cgroup/cpu/cpu.cfs_quota_us": "100000\n",
                "sys/fs/cgroup/cpu/cpu.cfs_period_us": "100000\n",
            },
            "1",
        ),
    ],
)
def test_parallel_workers_follow_the_processor_limit(
    machine: Path, files: dict[str, str], workers: str
) -> None:
    for path, content in files.items():
        write(machine, path, content)
    assert tune(machine, "bulk")["max_parallel_workers"] == workers


def test_small_stays_small_on_a_large_machine(machine: Path) -> None:
    settings = tune(machine, "small")
    assert settings["shared_buffers"] == "1024MB"
    assert "max_wal_size" not in settings


def test_no_profile_gives_up_durability(machine: Path) -> None:
    for profile in ("small", "bulk"):
        assert not {"fsync", "synchronous_commit", "full_page_writes"} & tune(machine, profile).keys()


def test_an_unknown_profile_is_refused(machine: Path) -> None:
    with pytest.raises(subprocess.CalledProcessError) as refusal:
        tune(machine, "huge")
    assert refusal.value.returncode == 78
    assert "must be small or bulk" in refusal.value.stderr
