#!/usr/bin/python3
"""Runs as the first process of a kernel with quotas, and tells what becomes of homes on two file systems.

What hosts run is run here, but for the engine, of which there is none.
"""

from __future__ import annotations

import ctypes
import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

MODULES, SCRIPTS, PROFILE = map(Path, os.environ["GUEST"].split(":"))
sys.path.insert(0, str(SCRIPTS))
from dap.dev import looking, on_host, quota  # noqa: E402  found now

MIB = 1024 * 1024
PATH = "/usr/sbin:/usr/bin:/sbin:/bin"
PLATFORM, UID, LIMIT = "4b2c1d1e-0000-4000-8000-000000000000", 20000, 20 * MIB


def run(*argv: str) -> str:
    return subprocess.run(argv, check=True, capture_output=True, text=True).stdout


def as_user(argv: list[str], environment: dict[str, str] | None = None) -> subprocess.CompletedProcess[str]:
    owner: dict[str, Any] = {"user": UID, "group": UID, "extra_groups": []}
    return subprocess.run(argv, env=environment, capture_output=True, text=True, check=False, **owner)


def load(module: Path) -> None:
    """Load a part of the kernel."""
    libc = ctypes.CDLL(None, use_errno=True)
    descriptor = os.open(module, os.O_RDONLY)
    # finit_module
    assert libc.syscall(313, descriptor, b"", 0) == 0, os.strerror(ctypes.get_errno())


def prepare() -> None:
    os.environ["PATH"] = PATH
    run("mount", "-t", "proc", "proc", "/proc")
    for folder in ("/mnt", "/run", "/home"):
        run("mount", "-t", "tmpfs", "tmpfs", folder)
    for name in ("quota_tree", "quota_v2"):
        load(MODULES / f"{name}.ko")
    Path("/run/dap").mkdir()
    Path("/run/dap/motd").write_text("welcome\n", encoding="utf-8")
    nothing: dict[str, Any] = {
        # All images are there, and no containers.
        "docker": lambda *arguments, check=True: "x" * (arguments[0] == "image"),
        "answers": lambda _address, _port: True,
    }
    vars(on_host).update(nothing)


class Home:
    """A home on a file system of its own kind."""

    def __init__(self, data: Path) -> None:
        self.data, self.folder = data, data / "homes" / "ada"
        data.mkdir()
        (data / ".platform-id").write_text(f"{PLATFORM}\n", encoding="utf-8")

    def bring(self, limit: int, **more: Any) -> dict[str, Any]:
        """What a deploy says that wants this limit; of changes, those of the home only."""
        owner = {"uid": UID, "gid": UID}
        file = {"path": "live/a", "mode": "0400", "content": "", **owner}
        box = dict[str, Any](name="a", image="i", network="", address="127.0.0.1", port=0, page=0)
        box |= {"memory_mib": 1, "cpus": 0, "configuration": "", "files": [file]}
        box["folders"] = [{"path": str(self.folder), "mode": "0700", **owner}]
        box["home"] = {"path": str(self.folder), "uid": UID, "limit": limit}
        request: dict[str, Any] = {
            "verb": "bring",
            "project": "p",
            "folder": str(self.data / "dev"),
            "data": str(self.data),
        }
        request |= {"platform_id": PLATFORM, "wanted": [box], "complete": False, **more}
        told = on_host.answer(request)
        return {
            "error": told.get("error"),
            "changes": [line for line in told["changes"] if "container" not in line],
            "watched": told["watched"],
        }

    def write(self, mib: int, name: str = "big") -> str:
        """What the user is told who writes so much; nothing where there is room for it."""
        argv = ["dd", "if=/dev/zero", f"of={self.folder / name}", "bs=1M", f"count={mib}", "status=none"]
        done = as_user(argv)
        return done.stderr.strip().rpartition(": ")[2]

    def greeting(self) -> str:
        """What the user is told at login."""
        mounted = Path("/home/ada")
        mounted.mkdir(exist_ok=True)
        run("mount", "--bind", str(self.folder), str(mounted))
        environment = {"HOME": str(mounted), "SSH_TTY": "x", "PATH": PATH}
        try:
            return as_user(["sh", "-c", PROFILE.read_text(encoding="utf-8")], environment).stdout
        finally:
            run("umount", str(mounted))

    def told(self) -> dict[str, Any]:
        """What the list of development containers says of it."""
        found = looking.size_of(self.data, "ada")
        return found | {"home_used": round((found["home_used"] or 0) / MIB, 1)}


def live(home: Home) -> dict[str, Any]:
    """All that becomes of a home, in its order."""
    found: dict[str, Any] = {"plan of a new one": home.bring(LIMIT, check=True), "made": home.bring(0)}
    (home.folder / "sub").mkdir()
    os.chown(home.folder / "sub", UID, UID)
    found["before"] = home.write(5, "sub/old")
    # Neither is followed, or waited for.
    (home.folder / "link").symlink_to("/etc/hostname")
    os.mkfifo(home.folder / "pipe")
    found["plan"] = home.bring(LIMIT, check=True)
    found["limited"] = home.bring(LIMIT)
    found["limited again"] = home.bring(LIMIT)
    found["too much"] = home.write(30)
    found["greeting"] = home.greeting()
    found["full"] = home.told()
    found["raised"] = home.bring(2 * LIMIT)
    found["enough"] = home.write(30)
    found["lowered"] = home.bring(LIMIT)
    found["no more"] = home.write(1, "more")
    (home.folder / "big").unlink()
    found["room"] = home.write(1, "more")
    found["removed"] = home.bring(0)
    found["removed again"] = home.bring(0)
    found["free"] = home.write(30)
    found["free greeting"] = home.greeting()
    home.bring(LIMIT)
    disk = quota.Disk.of(home.folder)
    project = quota.project_of(PLATFORM, UID)
    assert disk
    limits = [disk.limit(project)]
    request = {"project": "p", "folder": str(home.data / "dev"), "data": str(home.data)}
    on_host.answer(request | {"platform_id": PLATFORM, "verb": "remove", "name": "a", "home": "ada"})
    found["limit before and after its end"] = [*limits, disk.limit(project)]
    return found


def main() -> None:
    prepare()
    found = {}
    for device, kind, option in (
        ("a", "ext4", "prjquota"),
        ("b", "xfs", "prjquota"),
        ("a", "ext4", "noquota"),
    ):
        folder = Path(f"/mnt/{kind}-{option}")
        folder.mkdir()
        run("mount", "-t", kind, "-o", option, f"/dev/ubd{device}", str(folder))
        home = Home(folder / option)
        if option == "prjquota":
            found[folder.name] = live(home)
        else:
            found[folder.name] = {"limited": home.bring(LIMIT), "list": home.told()}
        run("umount", str(folder))
    print(f"\nTOLD {json.dumps(found)}", flush=True)


try:
    main()
except BaseException as error:
    print(f"\nTOLD {json.dumps({'error': repr(error)})}", flush=True)
    raise
finally:
    Path("/proc/sysrq-trigger").write_text("o", encoding="utf-8")
    time.sleep(60)
