"""Keeps what Ansible makes of a module for later runs.

Ansible packs each module with all that it imports, for which it parses some fifty files: a quarter of a
second of processor time for each kind of task, in every run anew.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import stat
import sys
import time
from pathlib import Path

from dap.layout import ROOT, ansible_dir

FOLDER = ROOT / ".cache" / "ansible-modules"
# Those of an earlier version of the program go once no run of it can be under way any more.
KEPT_SECONDS = 24 * 3600


def keep_modules(local_temporary: Path, version: str, folder: Path = FOLDER) -> None:
    """Let Ansible look for packed modules, and leave them, in a folder that outlives the run.

    Nothing happens where that folder cannot be written or is somebody else's: Ansible packs them anew then.

    Args:
        local_temporary: Ansible's folder for temporary files (``DEFAULT_LOCAL_TMP``).
        version: Ansible's.
        folder: has one folder for each state of the modules and each user.
    """
    kept = folder / f"{_digest(version)}-{os.geteuid()}"
    try:
        kept.mkdir(mode=0o700, parents=True, exist_ok=True)
        if not _is_private(kept):
            return
        os.utime(kept)
        (local_temporary / "ansiballz_cache").symlink_to(kept)
    except OSError:
        return
    for other in folder.iterdir():
        if other.stat().st_mtime < time.time() - KEPT_SECONDS:
            shutil.rmtree(other, ignore_errors=True)


def _is_private(folder: Path) -> bool:
    """Whether nobody else writes there: Ansible runs what it finds."""
    there = folder.lstat()
    return (
        stat.S_ISDIR(there.st_mode)
        and there.st_uid == os.geteuid()
        and not stat.S_IMODE(there.st_mode) & 0o077
    )


def _digest(version: str) -> str:
    """Of everything that decides what a packed module consists of."""
    digest = hashlib.sha256(f"{version} {sys.version} {ROOT}".encode())
    plugins = ansible_dir() / "plugins"
    for path in sorted([*plugins.rglob("*.py"), ansible_dir() / "ansible.cfg"]):
        digest.update(f"{path}\0".encode() + path.read_bytes())
    return digest.hexdigest()[:16]
