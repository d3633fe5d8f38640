#!/usr/bin/python
"""Bring a tree of rendered files into the wanted state, in one task whatever the number of files."""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath
from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible.module_utils.dap_files import (
    PENDING,
    Entry,
    Found,
    Tree,
    TreeError,
    checked_path,
    find_directory,
    make_directory,
    parents,
)
from ansible.module_utils.dap_removal import apply_removal, plan_removal

DOCUMENTATION = """
module: dap_tree
short_description: Bring a tree of rendered files into the wanted state
description:
  - Writes what differs, atomically, and removes the files that it wrote before and that are no longer listed.
  - Adds every path to C(<root>/.pending.json) before it touches it. M(dap_compose) empties that file once
    the services know, so no change is lost when a deploy is killed in between.
author: The authors of the data analysis platform
options:
  state:
    type: str
    default: present
    choices: [present, absent]
    description: C(absent) removes all that was written, and the data of C(marker) if that is given.
  root: {type: path, required: true, description: "The folder of the tree."}
  name: {type: str, description: "Which list this is; several lists share one tree."}
  files:
    type: list
    elements: dict
    default: []
    description: The files, content in base64 so that nothing on the way takes it for a template.
  directories:
    type: list
    elements: dict
    default: []
    description: Data folders outside the tree, made with owner and mode; what is in them is not touched.
  only:
    type: list
    elements: str
    default: []
    description:
      - Only these files, and what is in these folders of the tree, is brought into state; all if empty.
      - Of the others C(left_paths) tells which differ.
  marker:
    type: dict
    description: A file that says whose data this is. Written before any data folder; must not differ.
"""

RETURN = """
changed_paths: {type: list, returned: always, description: Files written or corrected.}
removed_paths: {type: list, returned: always, description: "Files (and data) removed."}
left: {type: list, returned: absent, description: What stays in the folder.}
changed_directories: {type: list, returned: always, description: "Data folders made or corrected."}
left_paths: {type: list, returned: always, description: "Files that differ and stay so, because of C(only)."}
dap:
  type: dict
  returned: present
  description: C(left_paths), and C(empty_directories), the data folders that hold nothing or do not exist.
"""

DIFF_LIMIT = 200_000
ENTRY = {
    "path": {"type": "str", "required": True},
    "mode": {"type": "str", "required": True},
    "uid": {"type": "int", "required": True},
    "gid": {"type": "int", "required": True},
}


@dataclass(frozen=True)
class Wanted:
    """What the module is asked for."""

    name: str
    files: dict[str, Entry]
    directories: dict[str, Entry]
    marker: Path | None
    owner: str
    only: frozenset[str]

    @classmethod
    def of(cls, given: dict[str, Any]) -> Wanted:
        """Read and check the module's parameters.

        Raises:
            TreeError: a path could lead out of the tree, stands there twice, or is file and folder at once.
        """
        files = {checked_path(item["path"]): Entry.of(item) for item in given["files"]}
        directories = {item["path"]: Entry.of(item) for item in given["directories"]}
        if len(files) != len(given["files"]) or len(directories) != len(given["directories"]):
            raise TreeError("a path is listed twice")
        for path in files:
            first = PurePosixPath(path).parts[0]
            if first == PENDING or first.startswith(".incoming-") or first.endswith("-files.json"):
                raise TreeError(f"{path} is a name that the tree needs for itself")
            for parent in parents(path):
                if parent in files:
                    raise TreeError(f"{parent} is listed as a file and as the folder of {path}")
        for path in directories:
            if not Path(path).is_absolute() or ".." in PurePosixPath(path).parts:
                raise TreeError(f"{path!r} is no absolute path of a data folder")
        marker = given["marker"] or {}
        return cls(
            given["name"],
            files,
            directories,
            Path(marker["path"]) if marker else None,
            marker.get("content", ""),
            frozenset(given["only"]),
        )

    def covers(self, path: str) -> bool:
        """Whether a file of the tree is to be brought into state."""
        return not self.only or path in self.only or path.partition("/")[0] in self.only

    @property
    def record(self) -> str:
        """The file that lists what was written."""
        return f".{self.name}-files.json"


@dataclass(frozen=True)
class Plan:
    """What has to be done. Each value holds what is there now, None for nothing."""

    removals: dict[str, Found | None]
    writes: dict[str, tuple[Entry, Found | None]]
    adjustments: dict[str, tuple[Entry, Found]]
    directories: dict[str, tuple[Entry, Found | None]]
    marker_missing: bool
    before: frozenset[str]
    """What the record lists."""
    after: frozenset[str]
    """What it has to list."""

    @property
    def changed_paths(self) -> list[str]:
        """Files that get new content, owner or mode."""
        return sorted([*self.writes, *self.adjustments])

    @property
    def removed_paths(self) -> list[str]:
        """Files that are there and go."""
        return sorted(path for path, found in self.removals.items() if found is not None)

    @property
    def record_differs(self) -> bool:
        """Whether the record has to be written."""
        return self.before != self.after

    def restricted(self, wanted: Wanted) -> Plan:
        """The plan without the files that are to be left as they are."""
        if not wanted.only:
            return self
        return replace(
            self,
            removals={path: found for path, found in self.removals.items() if wanted.covers(path)},
            writes={path: one for path, one in self.writes.items() if wanted.covers(path)},
            adjustments={path: one for path, one in self.adjustments.items() if wanted.covers(path)},
            after=frozenset(
                {path for path in self.before if not wanted.covers(path)}
                | {path for path in self.after if wanted.covers(path)}
            ),
        )

    @property
    def changed(self) -> bool:
        """Whether anything is to be done that an operator would call a change."""
        return bool(self.changed_paths or self.removed_paths or self.directories or self.marker_missing)


def marker_missing(wanted: Wanted) -> bool:
    """Whether the marker still has to be written.

    Raises:
        TreeError: the data belongs to another platform, or to nobody known.
    """
    if wanted.marker is None:
        return False
    with contextlib.suppress(FileNotFoundError):
        written = wanted.marker.read_text(encoding="utf-8").strip()
        if written == wanted.owner:
            return False
        raise TreeError(
            f"{wanted.marker.parent} holds another platform's data ({written[:80]}, not {wanted.owner}): "
            "deploy with the secrets that belong to that data, or choose another data folder"
        )
    for path in map(Path, wanted.directories):
        if wanted.marker.parent in path.parents and path.is_dir() and any(path.iterdir()):
            raise TreeError(
                f"{path} is not empty, but without {wanted.marker} nothing says that it is this platform's "
                f"data: move it away, or write {wanted.owner} into that file if it is"
            )
    return True


def make_plan(tree: Tree, wanted: Wanted) -> Plan:
    """Compare what is there with what is wanted; changes nothing."""
    owned = tree.owned(wanted.record)
    removals: dict[str, Found | None] = {}
    for path in sorted(owned - set(wanted.files) - tree.others(wanted.record)):
        # A folder or a link where the file was is somebody else's, and stays.
        with contextlib.suppress(TreeError):
            removals[path] = tree.find(path)
    writes: dict[str, tuple[Entry, Found | None]] = {}
    adjustments: dict[str, tuple[Entry, Found]] = {}
    for path, entry in wanted.files.items():
        # What is in the way only because it is about to be removed is not in the way.
        file_goes = any(parent in removals for parent in parents(path))
        folder_goes = any(path in parents(removal) for removal in removals)
        found = None if file_goes or folder_goes else tree.find(path)
        if found is None or found.content != entry.content:
            writes[path] = (entry, found)
        elif found.differs(entry):
            adjustments[path] = (entry, found)
    compared = [(path, entry, find_directory(Path(path))) for path, entry in wanted.directories.items()]
    directories = {
        path: (entry, found) for path, entry, found in compared if not found or found.differs(entry)
    }
    missing = marker_missing(wanted)
    return Plan(
        removals, writes, adjustments, directories, missing, frozenset(owned), frozenset(wanted.files)
    )


def apply_plan(tree: Tree, wanted: Wanted, plan: Plan) -> None:
    """Do what the plan says, in an order that the next run can take up from anywhere.

    What is to be touched stands in the records first; what is gone leaves them last.
    """
    incoming = f".incoming-{wanted.name}"
    if plan.marker_missing and wanted.marker:
        owner = Entry(wanted.marker.name, 0o644, os.geteuid(), os.getegid(), f"{wanted.owner}\n".encode())
        Tree(wanted.marker.parent).write(owner, incoming)
    for entry, _ in plan.directories.values():
        make_directory(entry)
    touched = {*plan.changed_paths, *plan.removed_paths}
    if touched:
        tree.write_record(PENDING, tree.owned(PENDING) | touched, incoming)
    if plan.record_differs:
        tree.write_record(wanted.record, plan.before | plan.after, incoming)
    needed = {parent for path in plan.after | tree.others(wanted.record) for parent in parents(path)}
    for path in plan.removals:
        tree.remove(path, needed)
    for entry, _ in plan.writes.values():
        tree.write(entry, incoming)
    for entry, _ in plan.adjustments.values():
        tree.adjust(entry)
    if plan.record_differs:
        tree.write_record(wanted.record, plan.after, incoming)


def file_diff(path: str, before: bytes | None, after: bytes | None) -> dict[str, str]:
    """One entry of Ansible's diff: unified text, or a line with sizes for what is no text."""
    with contextlib.suppress(UnicodeDecodeError):
        old, new = (before or b"").decode(), (after or b"").decode()
        if "\0" not in old + new and len(old + new) <= DIFF_LIMIT:
            return {"before_header": path, "after_header": path, "before": old, "after": new}
    sizes = ["absent" if content is None else f"{len(content)} bytes" for content in (before, after)]
    return {"prepared": f"{path}: {sizes[0]} -> {sizes[1]}\n"}


def ownership_diff(path: str, found: Found | None, entry: Entry) -> dict[str, str]:
    """One entry of Ansible's diff for owner and mode."""
    before = f"{found.mode:04o} {found.uid}:{found.gid}" if found else "absent"
    return {"prepared": f"{path}: {before} -> {entry.mode:04o} {entry.uid}:{entry.gid}\n"}


def make_diff(plan: Plan) -> list[dict[str, str]]:
    """Everything that the plan changes, readable."""
    diff = [file_diff(path, found.content, None) for path, found in plan.removals.items() if found]
    for path, (entry, before) in sorted(plan.writes.items()):
        diff.append(file_diff(path, before.content if before else None, entry.content))
        if before and before.differs(entry):
            diff.append(ownership_diff(path, before, entry))
    changes: dict[str, tuple[Entry, Found | None]] = {**plan.adjustments, **plan.directories}
    diff += [ownership_diff(path, found, entry) for path, (entry, found) in sorted(changes.items())]
    return diff


def is_empty(directory: Path) -> bool:
    """Whether a data folder holds nothing, or is not there."""
    try:
        return not any(directory.iterdir())
    except FileNotFoundError:
        return True


def options(names: Iterable[str]) -> dict[str, dict[str, Any]]:
    """Options of a dictionary that are all required strings."""
    return {name: {"type": "str", "required": True} for name in names}


def present(tree: Tree, module: AnsibleModule) -> dict[str, Any]:
    """Bring the files and folders into the wanted state."""
    wanted = Wanted.of(module.params)
    everything = make_plan(tree, wanted)
    plan = everything.restricted(wanted)
    touched = {*plan.changed_paths, *plan.removed_paths}
    left = sorted({*everything.changed_paths, *everything.removed_paths} - touched)
    empty = [path for path in wanted.directories if is_empty(Path(path))]
    if not module.check_mode:
        try:
            apply_plan(tree, wanted, plan)
        finally:
            # Also after a failure: on a full disk the half of a file takes the room that others need.
            incoming = f".incoming-{wanted.name}"
            for folder in (tree.root, *([wanted.marker.parent] if wanted.marker else [])):
                shutil.rmtree(folder / incoming, ignore_errors=True)
    return {
        "changed": plan.changed,
        "changed_paths": plan.changed_paths,
        "removed_paths": plan.removed_paths,
        "changed_directories": sorted(plan.directories),
        "left_paths": left,
        "changed_items": [
            *(f"{path} written" for path in plan.changed_paths),
            *(f"{path} removed" for path in plan.removed_paths),
            *(f"{path} made right" for path in sorted(plan.directories)),
            *([f"{wanted.marker} written"] if plan.marker_missing else []),
        ],
        "dap": {"empty_directories": empty, "left_paths": left},
        **({"diff": make_diff(plan)} if module._diff else {}),
    }


def absent(tree: Tree, module: AnsibleModule) -> dict[str, Any]:
    """Remove the files, and the data if a marker is given."""
    marker = module.params["marker"]
    removal = plan_removal(
        tree, Path(marker["path"]) if marker else None, marker["content"] if marker else ""
    )
    left = [] if module.check_mode else apply_removal(tree, removal)
    if left:
        module.warn(f"{tree.root} stays, for what is not the platform's: {', '.join(left)}")
    return {
        "changed": bool(removal.paths),
        "removed_paths": removal.paths,
        "changed_items": [f"{path} removed" for path in removal.paths],
        "left": left,
    }


def main() -> None:
    """Run as an Ansible module."""
    files = {"type": "list", "elements": "dict", "default": [], "options": {**ENTRY, **options(["content"])}}
    module = AnsibleModule(
        argument_spec={
            "state": {"type": "str", "default": "present", "choices": ["present", "absent"]},
            "name": {"type": "str"},
            "root": {"type": "path", "required": True},
            "files": files,
            "directories": {"type": "list", "elements": "dict", "default": [], "options": ENTRY},
            "only": {"type": "list", "elements": "str", "default": []},
            "marker": {"type": "dict", "options": options(["path", "content"])},
        },
        required_if=[("state", "present", ["name"])],
        supports_check_mode=True,
    )
    tree = Tree(Path(module.params["root"]))
    try:
        result = present(tree, module) if module.params["state"] == "present" else absent(tree, module)
    except (TreeError, OSError) as error:
        module.fail_json(msg=str(error))
        return
    module.exit_json(**result)


if __name__ == "__main__":
    main()
