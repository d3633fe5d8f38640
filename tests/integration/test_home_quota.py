"""Limits of homes, kept by real file systems, in a kernel with quotas: this machine's own may have none."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest

from dap.layout import compose_dir
from tests.packages import installed

GUEST = Path(__file__).with_name("quota_guest.py")
MODULES = Path("/usr/lib/uml/modules")
SECONDS = 120


@pytest.fixture(scope="module")
def told(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What a guest tells of homes, by what their file system is."""
    folder = tmp_path_factory.mktemp("quota")
    kernel = installed("linux.uml", "user-mode-linux")
    (modules,) = MODULES.glob("*/kernel/fs/quota")
    kinds = {
        "ext4": ["mkfs.ext4", "-q", "-O", "quota,project", "-E", "quotatype=prjquota"],
        "xfs": [str(installed("mkfs.xfs", "xfsprogs")), "-q"],
    }
    for kind, argv in kinds.items():
        with (folder / kind).open("wb") as image:
            image.truncate(400 * 1024**2)
        subprocess.run([*argv, str(folder / kind)], check=True, capture_output=True)
    scripts = Path(__file__).parents[2] / "scripts"
    profile = compose_dir() / "dev-container" / "config" / "profile.sh"
    argv = [
        *(str(kernel), "mem=256M", "quiet", "con=null", "con0=null,fd:1", f"uml_dir={folder}/"),
        *(f"ubda={folder / 'ext4'}", f"ubdb={folder / 'xfs'}", "rootfstype=hostfs", "root=none", "ro"),
        *(f"GUEST={modules}:{scripts}:{profile}", f"init={GUEST}"),
    ]
    done = subprocess.run(
        argv,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=SECONDS,
        check=False,
    )
    answers = [line for line in done.stdout.splitlines() if line.startswith("TOLD ")]
    assert len(answers) == 1, done.stdout
    found: dict[str, Any] = json.loads(answers[0].removeprefix("TOLD "))
    assert "error" not in found, done.stdout
    return found


@pytest.mark.parametrize(
    ("kind", "refusal"), [("ext4", "Disk quota exceeded"), ("xfs", "No space left on device")]
)
def test_home_is_held_to_its_limit_where_the_file_system_does_that(
    told: dict[str, Any], kind: str, refusal: str
) -> None:
    home = f"/mnt/{kind}-prjquota/prjquota/homes/ada"

    def changed(*changes: str) -> dict[str, Any]:
        lines = [f"ada: {home} may hold {change}" for change in changes]
        return {"error": None, "changes": lines, "watched": []}

    full = "WARNING: /home/ada is nearly full: 0 MB are left. Make room before you work on.\n"
    small, large, any_size = "20 MiB at most", "40 MiB at most", "as much as there is room for"
    assert told[f"{kind}-prjquota"] == {
        "plan of a new one": changed(small),
        "made": changed(),
        "before": "",
        "plan": changed(small),
        "limited": changed(small),
        "limited again": changed(),
        # With what was in it before.
        "too much": refusal,
        "greeting": f"welcome\n{full}",
        "full": {"home_used": 20.0, "home_kept": True},
        "raised": changed(large),
        "enough": "",
        "lowered": changed(small),
        "no more": refusal,
        "room": "",
        "removed": changed(any_size),
        "removed again": changed(),
        "free": "",
        "free greeting": "welcome\n",
        "limit before and after its end": [20 * 1024**2, 0],
    }


def test_home_is_watched_where_the_file_system_has_no_quotas(told: dict[str, Any]) -> None:
    assert told["ext4-noquota"] == {
        "limited": {"error": None, "changes": [], "watched": ["/mnt/ext4-noquota/noquota/homes"]},
        "list": {"home_used": 0.0, "home_kept": False},
    }
