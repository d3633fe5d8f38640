"""Removing what a deploy wrote to a host: files, and the data when that is asked for; nothing else."""

from __future__ import annotations

import contextlib
import os
import shutil
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from .dap_files import PENDING, Tree, TreeError

BUILD_CONTEXTS = ".build"
# Belongs to the file system, not to what is on it.
LOST = "lost+found"


@dataclass(frozen=True)
class Removal:
    """What goes: files in the tree, the tree's own records, and the data folder's content."""

    files: list[str]
    records: list[Path]
    data: list[Path]

    @property
    def paths(self) -> list[str]:
        """Everything that goes, for the operator."""
        return [*self.files, *map(str, [*self.records, *self.data])]


def is_record(name: str) -> bool:
    """Whether a name in the tree's folder is one that the tree needs for itself."""
    own = name in (PENDING, BUILD_CONTEXTS) or name.startswith(".incoming-")
    return own or (name.startswith(".") and name.endswith("-files.json"))


def is_there(tree: Tree, path: str) -> bool:
    """Whether a file of the tree is there; what took its place is not it."""
    try:
        return tree.find(path) is not None
    except TreeError:
        return False


def data_to_remove(marker: Path | None, owner: str) -> list[Path]:
    """What is in the data folder, the marker last, so that an interrupted removal can be taken up again.

    Raises:
        TreeError: the folder is not this platform's.
    """
    if marker is None or not marker.parent.is_dir():
        return []
    content = [path for path in sorted(marker.parent.iterdir()) if path != marker and path.name != LOST]
    written = marker.read_text(encoding="utf-8").strip() if marker.exists() else ""
    if not content and not written:
        return []
    if not owner or written != owner:
        raise TreeError(
            f"{marker.parent} is not removed: {marker.name} there says {written or 'nothing'}, "
            f"and this platform is {owner or 'unknown'}"
        )
    return [*content, marker]


def plan_removal(tree: Tree, marker: Path | None, owner: str) -> Removal:
    """Find what belongs to the platform; changes nothing."""
    data = data_to_remove(marker, owner)
    if not tree.root.is_dir():
        return Removal([], [], data)
    owned = {path for path in tree.others("") if is_there(tree, path)}
    logs = {f"log/{path.name}" for path in tree.root.glob("log/*") if path.suffix == ".log"}
    if (tree.root / "log" / "progress").exists():
        logs.add("log/progress")
    records = [path for path in sorted(tree.root.iterdir()) if is_record(path.name)]
    return Removal(sorted(owned | logs), records, data)


def apply_removal(tree: Tree, removal: Removal) -> list[str]:
    """Remove it; returns the names that stay in the tree's folder because somebody else put them there.

    The folder itself goes only when nothing is left in it: a wrong setting must not cost anybody's files.
    """
    for path in removal.files:
        tree.remove(path, set())
    for top in {PurePosixPath(path).parts[0] for path in [*removal.files, *tree.others("")]}:
        # Docker makes an empty folder of each mount whose source is missing.
        for folder, _, _ in os.walk(tree.root / top, topdown=False):
            with contextlib.suppress(OSError):
                os.rmdir(folder)
    for item in [*removal.data, *removal.records]:
        remove_whole(item)
    if removal.data:
        # A mount point or a link to another disk stays.
        with contextlib.suppress(OSError):
            removal.data[-1].parent.rmdir()
    with contextlib.suppress(OSError):
        tree.root.rmdir()
    return (
        sorted(path.name for path in tree.root.iterdir() if path.name != LOST) if tree.root.is_dir() else []
    )


def remove_whole(path: Path) -> None:
    """Remove a file, a link (not what it leads to), or a folder with all that is in it."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
