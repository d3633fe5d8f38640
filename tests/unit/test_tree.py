"""Bringing a tree of files into the wanted state, with real files."""

from __future__ import annotations

import base64
import json
import os
import stat
from pathlib import Path
from typing import Any

import pytest

from tests.unit.plugins import load, run_module

OWNER = {"uid": os.getuid(), "gid": os.getgid()}


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "root"


def entry(path: str, content: str | bytes = "", mode: str = "0644") -> dict[str, Any]:
    raw = content if isinstance(content, bytes) else content.encode()
    return {"path": path, "mode": mode, "content": base64.b64encode(raw).decode(), **OWNER}


def apply(root: Path, *files: dict[str, Any], name: str = "open", **more: Any) -> dict[str, Any]:
    return run_module("dap_tree", root=str(root), name=name, files=list(files), **more)


def listing(root: Path) -> dict[str, tuple[str, int]]:
    """Content and mode of every file, but not of the tree's own records."""
    return {
        str(path.relative_to(root)): (path.read_text(encoding="utf-8"), stat.S_IMODE(path.stat().st_mode))
        for path in root.rglob("*")
        if path.is_file() and not path.name.startswith(".")
    }


def pending(root: Path) -> list[str]:
    return list(json.loads((root / ".pending.json").read_text(encoding="utf-8")))


def test_files_are_written_with_their_modes_and_the_second_run_changes_nothing(root: Path) -> None:
    files = [entry("compose.yaml", "a"), entry("web/secrets/key", "b", "0400")]

    first, second = apply(root, *files), apply(root, *files)

    assert first["changed"] and first["changed_paths"] == ["compose.yaml", "web/secrets/key"]
    assert not second["changed"] and second["changed_paths"] == [] and second["removed_paths"] == []
    assert listing(root) == {"compose.yaml": ("a", 0o644), "web/secrets/key": ("b", 0o400)}


def test_folders_can_be_entered_by_all_whatever_the_umask(root: Path) -> None:
    before = os.umask(0o077)
    try:
        apply(root, entry("web/conf/a", "1"))
    finally:
        os.umask(before)

    assert {stat.S_IMODE(path.stat().st_mode) for path in (root, root / "web", root / "web/conf")} == {0o755}


def test_only_what_differs_is_written(root: Path) -> None:
    apply(root, entry("a", "1"), entry("b", "1"))
    untouched = (root / "a").stat()

    result = apply(root, entry("a", "1"), entry("b", "2"))

    assert result["changed_paths"] == ["b"]
    assert (root / "a").stat() == untouched


def test_a_wrong_mode_is_corrected_in_place_because_containers_may_have_the_file_mounted(root: Path) -> None:
    apply(root, entry("key", "1", "0400"))
    (root / "key").chmod(0o644)
    inode = (root / "key").stat().st_ino

    assert apply(root, entry("key", "1", "0400"))["changed_paths"] == ["key"]
    assert ((root / "key").stat().st_ino, listing(root)["key"][1]) == (inode, 0o400)


def test_what_is_no_longer_listed_goes_with_its_empty_folders_and_foreign_files_stay(root: Path) -> None:
    apply(root, entry("old/etc/conf", "1"), entry("shared/conf", "1"), entry("kept", "1"))
    (root / "shared/notes").write_text("the operator's", encoding="utf-8")

    result = apply(root, entry("kept", "1"))

    assert result["removed_paths"] == ["old/etc/conf", "shared/conf"]
    assert listing(root) == {"kept": ("1", 0o644), "shared/notes": ("the operator's", 0o644)}
    assert not (root / "old").exists()
    assert not apply(root, entry("kept", "1"))["changed"]


def test_a_folder_that_is_still_needed_is_never_replaced_because_it_may_be_mounted(root: Path) -> None:
    apply(root, entry("web/conf/old", "1"))
    inode = (root / "web/conf").stat().st_ino

    apply(root, entry("web/conf/new", "1"))

    assert (root / "web/conf").stat().st_ino == inode
    assert list(listing(root)) == ["web/conf/new"]


def test_a_file_may_become_a_folder_and_a_folder_a_file(root: Path) -> None:
    apply(root, entry("a", "1"), entry("b/c", "1"))

    apply(root, entry("a/d", "2"), entry("b", "2"))

    assert listing(root) == {"a/d": ("2", 0o644), "b": ("2", 0o644)}


def test_two_lists_share_a_tree_and_a_file_may_move_from_one_to_the_other(root: Path) -> None:
    apply(root, entry("a", "1"), name="open")
    apply(root, entry("b", "1"), entry("c", "1"), name="secret")

    apply(root, entry("a", "1"), entry("c", "1"), name="open")
    result = apply(root, entry("b", "1"), name="secret")

    assert not result["changed"]
    assert sorted(listing(root)) == ["a", "b", "c"]


def test_check_mode_tells_the_same_and_changes_nothing(root: Path, tmp_path: Path) -> None:
    apply(root, entry("gone", "1"), entry("changed", "1"))
    before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")}
    wanted = [entry("changed", "2"), entry("sub/new", "1")]
    data = [{"path": str(tmp_path / "data"), "mode": "0700", **OWNER}]

    checked = apply(root, *wanted, directories=data, check=True)
    assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")} == before
    done = apply(root, *wanted, directories=data)

    assert {**checked, "invocation": None} == {**done, "invocation": None}
    assert checked["removed_paths"] == ["gone"] and checked["changed_directories"] == [str(tmp_path / "data")]


def test_check_mode_works_before_the_first_deploy(root: Path) -> None:
    assert apply(root, entry("a/b", "1"), check=True)["changed_paths"] == ["a/b"]
    assert not root.exists()


def test_the_diff_shows_text_sizes_of_what_is_no_text_and_modes(root: Path, tmp_path: Path) -> None:
    apply(root, entry("gone", "x\n"), entry("mode", "1"), entry("text", "old\n"), entry("blob", b"\0\1"))
    data = [{"path": str(tmp_path / "data"), "mode": "0700", **OWNER}]
    wanted = [entry("mode", "1", "0600"), entry("text", "new\n"), entry("blob", b"\xff\0\0")]

    diff = apply(root, *wanted, directories=data, check=True, diff=True)["diff"]

    owner = f"{os.getuid()}:{os.getgid()}"
    assert diff == [
        {"before_header": "gone", "after_header": "gone", "before": "x\n", "after": ""},
        {"prepared": "blob: 2 bytes -> 3 bytes\n"},
        {"before_header": "text", "after_header": "text", "before": "old\n", "after": "new\n"},
        {"prepared": f"{tmp_path}/data: absent -> 0700 {owner}\n"},
        {"prepared": f"mode: 0644 {owner} -> 0600 {owner}\n"},
    ]


def test_without_diff_mode_no_content_is_returned(root: Path) -> None:
    assert "diff" not in apply(root, entry("a", "1"))


@pytest.mark.parametrize("path", ["/etc/passwd", "../a", "a/../../b", "", ".", "a//b", "./a", "a/"])
def test_a_path_that_could_lead_out_of_the_tree_is_refused(root: Path, path: str) -> None:
    result = apply(root, entry(path, "1"))

    assert result["failed"] and result["msg"] == f"{path!r} is no plain path inside the tree"
    assert not root.exists()


@pytest.mark.parametrize(
    ("paths", "message"),
    [
        (["a", "a"], "a path is listed twice"),
        (["a", "a/b"], "a is listed as a file and as the folder of a/b"),
        ([".pending.json"], ".pending.json is a name that the tree needs for itself"),
        ([".open-files.json"], ".open-files.json is a name that the tree needs for itself"),
    ],
)
def test_lists_that_contradict_themselves_are_refused(root: Path, paths: list[str], message: str) -> None:
    assert apply(root, *(entry(path) for path in paths))["msg"] == message


def test_a_mode_or_content_that_is_none_is_refused_without_showing_the_content(root: Path) -> None:
    broken = {**entry("a"), "content": "not base64!"}

    assert apply(root, entry("a", mode="rw"))["msg"].startswith("a: mode must be octal")
    assert "not base64!" not in apply(root, broken)["msg"]


def test_a_link_to_elsewhere_is_not_followed(root: Path, tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    apply(root, entry("other", "1"))
    (root / "web").symlink_to(elsewhere)

    result = apply(root, entry("other", "1"), entry("web/conf", "1"))

    assert result["msg"] == f"{root}/web is in the way: it is no folder"
    assert list(elsewhere.iterdir()) == []


def test_a_link_in_place_of_a_file_is_replaced_and_its_target_stays(root: Path, tmp_path: Path) -> None:
    target = tmp_path / "target"
    target.write_text("theirs", encoding="utf-8")
    root.mkdir()
    (root / "conf").symlink_to(target)

    apply(root, entry("conf", "ours"))

    assert not (root / "conf").is_symlink()
    assert (target.read_text(encoding="utf-8"), listing(root)["conf"][0]) == ("theirs", "ours")


def test_a_foreign_folder_in_place_of_a_removed_file_stays(root: Path) -> None:
    apply(root, entry("a", "1"), entry("b", "1"))
    (root / "a").unlink()
    (root / "a").mkdir()

    assert apply(root, entry("b", "1"))["removed_paths"] == []
    assert (root / "a").is_dir()


def test_changed_and_removed_paths_stay_noted_until_the_services_know(root: Path) -> None:
    apply(root, entry("a", "1"), entry("b", "1"))
    (root / ".pending.json").unlink()

    apply(root, entry("a", "2"), entry("b", "1"))
    apply(root, entry("a", "2"))
    apply(root, entry("a", "2"))

    assert pending(root) == ["a", "b"]


class Killed(BaseException):
    """Stands for the end of the process."""


@pytest.mark.parametrize("survived", range(12))
def test_an_interrupted_run_is_completed_by_the_next(
    root: Path, monkeypatch: pytest.MonkeyPatch, survived: int
) -> None:
    apply(root, entry("old/a", "1"), entry("changed", "1"))
    (root / ".pending.json").unlink()
    wanted = [entry("changed", "2"), entry("new/b", "1"), entry("old", "now a file")]
    steps = iter(range(survived))

    def until_killed(function: Any) -> Any:
        def step(*arguments: Any, **keywords: Any) -> Any:
            if next(steps, None) is None:
                raise Killed
            return function(*arguments, **keywords)

        return step

    with monkeypatch.context() as patch:
        for name in ("rename", "unlink", "rmdir", "fchmod"):
            patch.setattr(os, name, until_killed(getattr(os, name)))
        with pytest.raises(Killed):
            apply(root, *wanted)
    apply(root, *wanted)

    assert {path: content for path, (content, _) in listing(root).items()} == {
        "changed": "2",
        "new/b": "1",
        "old": "now a file",
    }
    assert pending(root) == ["changed", "new/b", "old", "old/a"]
    assert sorted(path.name for path in root.iterdir() if path.name.startswith(".")) == [
        ".open-files.json",
        ".pending.json",
    ]
    assert not apply(root, *wanted)["changed"]


@pytest.mark.parametrize("content", ["", "[", "{}", "[1]", '["../../etc/passwd"]', "null"])
def test_a_damaged_record_removes_nothing(root: Path, tmp_path: Path, content: str) -> None:
    apply(root, entry("a", "1"), entry("b", "1"))
    (root / ".open-files.json").write_text(content, encoding="utf-8")

    assert not apply(root, entry("a", "1"))["changed"]
    assert sorted(listing(root)) == ["a", "b"]


def test_data_folders_are_made_and_corrected_but_not_what_is_in_them(root: Path, tmp_path: Path) -> None:
    data = tmp_path / "data/web"
    wanted = [{"path": str(data), "mode": "0700", **OWNER}]

    assert apply(root, directories=wanted)["changed_directories"] == [str(data)]
    (data / "rows").write_text("rows", encoding="utf-8")
    (data / "rows").chmod(0o640)
    data.chmod(0o755)
    assert apply(root, directories=wanted)["changed_directories"] == [str(data)]
    assert not apply(root, directories=wanted)["changed"]
    assert not apply(root)["changed"]

    assert (stat.S_IMODE(data.stat().st_mode), stat.S_IMODE(data.parent.stat().st_mode)) == (0o700, 0o755)
    assert stat.S_IMODE((data / "rows").stat().st_mode) == 0o640


def test_a_link_that_a_service_made_in_its_data_folder_is_not_followed(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    elsewhere, link = tmp_path / "elsewhere", tmp_path / "data"
    elsewhere.mkdir(mode=0o755)
    link.symlink_to(elsewhere)
    lstat = Path.lstat

    def owned_by_service(path: Path) -> os.stat_result:
        values = list(lstat(path))
        return os.stat_result([*values[:4], 10001 if path == link else values[4], *values[5:]])

    monkeypatch.setattr(Path, "lstat", owned_by_service)

    result = apply(root, directories=[{"path": str(link), "mode": "0700", **OWNER}])

    assert result["msg"] == f"{link} is a link that belongs to uid 10001: not followed"
    assert stat.S_IMODE(elsewhere.stat().st_mode) == 0o755


@pytest.mark.parametrize("path", ["data", "/var/../etc", ""])
def test_a_data_folder_needs_an_absolute_path(root: Path, path: str) -> None:
    result = apply(root, directories=[{"path": path, "mode": "0700", **OWNER}])

    assert result["msg"] == f"{path!r} is no absolute path of a data folder"


def marked(tmp_path: Path, owner: str = "me") -> dict[str, Any]:
    data = tmp_path / "data"
    return {
        "directories": [{"path": str(data / "web"), "mode": "0700", **OWNER}],
        "marker": {"path": str(data / ".platform-id"), "content": owner},
    }


def test_the_marker_is_there_before_any_data_folder(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(_: object) -> None:
        raise Killed

    with monkeypatch.context() as patch, pytest.raises(Killed):
        patch.setattr(load("modules.dap_tree"), "make_directory", fail)
        apply(root, **marked(tmp_path))
    assert [path.name for path in (tmp_path / "data").iterdir()] == [".platform-id"]

    assert apply(root, **marked(tmp_path))["changed"]
    assert not apply(root, **marked(tmp_path))["changed"]
    assert (tmp_path / "data/.platform-id").read_text(encoding="utf-8") == "me\n"


def test_another_platforms_data_is_refused_before_anything_is_written(root: Path, tmp_path: Path) -> None:
    apply(root, **marked(tmp_path))

    result = apply(root, entry("a", "1"), **marked(tmp_path, "you"))

    assert result["msg"].startswith(
        f"{tmp_path}/data holds another platform's data (me, not you): deploy with"
    )
    assert listing(root) == {}


def test_data_of_unknown_origin_is_refused(root: Path, tmp_path: Path) -> None:
    (tmp_path / "data/web").mkdir(parents=True)
    (tmp_path / "data/web/base").touch()

    result = apply(root, **marked(tmp_path))

    assert result["msg"].startswith(
        f"{tmp_path}/data/web is not empty, but without {tmp_path}/data/.platform-id"
    )
    assert not (tmp_path / "data/.platform-id").exists()


def remove(root: Path, *, check: bool = False, **more: Any) -> dict[str, Any]:
    return run_module("dap_tree", state="absent", root=str(root), check=check, **more)


def test_removal_takes_all_that_was_written_and_keeps_the_data(root: Path, tmp_path: Path) -> None:
    apply(root, entry("a/b", "1"), **marked(tmp_path))
    apply(root, entry("a/key", "1", "0400"), name="secret")
    (root / "log").mkdir()
    (root / "log/up.log").touch()
    (root / "a/made/by-docker").mkdir(parents=True)

    assert remove(root, check=True)["changed"] and (root / "a/b").exists()
    assert remove(root)["changed"]
    assert not remove(root)["changed"]

    assert not root.exists()
    assert (tmp_path / "data/web").is_dir()


def test_removal_leaves_what_somebody_else_put_there(root: Path) -> None:
    apply(root, entry("a", "1"))
    (root / "notes").touch()

    assert remove(root)["left"] == ["notes"]
    assert [path.name for path in root.iterdir()] == ["notes"]
    assert not remove(root)["changed"]


def test_data_is_removed_only_when_it_is_this_platforms(root: Path, tmp_path: Path) -> None:
    given = marked(tmp_path)
    apply(root, entry("a", "1"), **given)
    (tmp_path / "data/web/rows").touch()
    foreign = {**given["marker"], "content": "you"}

    assert "is not removed: .platform-id there says me" in remove(root, marker=foreign)["msg"]
    assert (tmp_path / "data/web/rows").exists() and root.exists()

    assert remove(root, marker=given["marker"])["changed"]
    assert not (tmp_path / "data").exists()
    assert not remove(root, marker=given["marker"])["changed"]


def test_an_interrupted_removal_of_data_can_be_taken_up_again(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    given = marked(tmp_path)
    apply(root, **given)
    removal = load("ansible.module_utils.dap_removal")
    with monkeypatch.context() as patch, pytest.raises(Killed):

        def remove_and_die(path: Path) -> None:
            path.rmdir()
            raise Killed

        patch.setattr(removal, "remove_whole", remove_and_die)
        remove(root, marker=given["marker"])

    remove(root, marker=given["marker"])

    assert not (tmp_path / "data").exists() and not root.exists()


def test_only_the_chosen_folders_are_brought_into_state_and_the_others_are_named(root: Path) -> None:
    apply(
        root,
        entry("compose.yaml", "1"),
        entry("db/conf", "1"),
        entry("web/conf", "1"),
        entry("old/conf", "1"),
    )
    (root / ".pending.json").unlink()
    files = [
        entry("compose.yaml", "2"),
        entry("db/conf", "2"),
        entry("web/conf", "2"),
        entry("new/conf", "2"),
    ]

    result = apply(root, *files, only=["web", "compose.yaml"])

    assert (result["changed_paths"], result["removed_paths"]) == (["compose.yaml", "web/conf"], [])
    assert result["dap"]["left_paths"] == ["db/conf", "new/conf", "old/conf"]
    assert {path: content for path, (content, _) in listing(root).items()} == {
        "compose.yaml": "2",
        "db/conf": "1",
        "old/conf": "1",
        "web/conf": "2",
    }
    assert pending(root) == ["compose.yaml", "web/conf"]
    # What was left alone is still the platform's, and goes when all is brought into state.
    assert apply(root, *files)["removed_paths"] == ["old/conf"]


def test_empty_and_missing_data_folders_are_named(root: Path, tmp_path: Path) -> None:
    folders = [{"path": str(tmp_path / name), "mode": "0700", **OWNER} for name in ("full", "empty", "new")]
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "data").touch()
    (tmp_path / "empty").mkdir()

    result = apply(root, directories=folders, check=True)

    assert result["dap"]["empty_directories"] == [str(tmp_path / "empty"), str(tmp_path / "new")]
