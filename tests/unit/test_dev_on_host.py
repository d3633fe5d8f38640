"""What becomes of the development containers on a host, with an engine that is made up."""

from __future__ import annotations

import base64
import json
import os
import socket
from pathlib import Path
from typing import Any

import pytest

from dap.dev import on_host
from dap.dev.boxes import LABEL

PLATFORM = "4b2c1d1e-0000-4000-8000-000000000000"


class Engine:
    """Containers as Docker would have them, by name."""

    def __init__(self) -> None:
        self.containers: dict[str, dict[str, Any]] = {}
        self.images = {"dap/python:1"}
        self.asked: list[str] = []

    def add(self, name: str, configuration: str, *, running: bool = True) -> None:
        labels = {LABEL: name, f"{LABEL}.configuration": configuration}
        self.containers[name] = {
            "Id": name,
            "State": {"Running": running},
            "Config": {"Labels": labels},
            "HostConfig": {},
        }

    def docker(self, *arguments: str, check: bool = True) -> str:
        self.asked.append(" ".join(arguments))
        verb, last = arguments[0], arguments[-1]
        if verb == "ps":
            return "\n".join(self.containers)
        if verb == "inspect":
            return json.dumps([self.containers[name] for name in arguments[1:]])
        if arguments[:2] == ("image", "ls"):
            return last if last in self.images else ""
        if verb == "create":
            return "new\n"
        if verb == "cp":
            (Path(last) / "bin").mkdir()
        if verb == "stop":
            self.containers[last]["State"]["Running"] = False
        if verb == "rm":
            self.containers.pop(last, None)
        if verb == "compose":
            for name in arguments[arguments.index("never") + 1 :]:
                if name in self.containers:
                    self.containers[name]["State"]["Running"] = True
                else:
                    self.add(name, "new")
        return ""

    @property
    def state(self) -> dict[str, tuple[str, bool]]:
        """What each was made from, and whether it runs."""
        return {
            name: (on_host.label_of(box), box["State"]["Running"]) for name, box in self.containers.items()
        }


@pytest.fixture
def engine(monkeypatch: pytest.MonkeyPatch) -> Engine:
    made = Engine()
    monkeypatch.setattr(on_host, "docker", made.docker)
    monkeypatch.setattr(on_host, "answers", lambda address, port: True)
    return made


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / ".platform-id").write_text(f"{PLATFORM}\n")
    return tmp_path


def wanted(folder: Path, name: str, **more: Any) -> dict[str, Any]:
    """A container as the program asks for it."""
    owner = {"uid": os.getuid(), "gid": os.getgid()}

    def file(path: str, mode: str) -> dict[str, Any]:
        return {"path": path, "mode": mode, "content": base64.b64encode(path.encode()).decode(), **owner}

    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    least = {
        "name": name,
        "image": "dap/python:1",
        "network": "",
        "address": "127.0.0.1",
        "port": port,
        "page": 0,
        "memory_mib": 16,
        "cpus": 0,
        "configuration": "new",
        "files": [file("compose.yaml", "0444"), file("config/a", "0444"), file("live/b", "0400")],
        "folders": [{"path": str(folder / "data" / "homes" / name), "mode": "0700", **owner}],
    }
    return least | more


def bring(folder: Path, *containers: dict[str, Any], **more: Any) -> dict[str, Any]:
    request = {
        "verb": "bring",
        "project": "dap-dev",
        "folder": str(folder / "dev"),
        "data": str(folder / "data"),
        "platform_id": PLATFORM,
        "wanted": containers,
        "complete": True,
    }
    return on_host.answer(request | more)


def test_missing_is_made_with_files_and_home_and_then_nothing_changes(engine: Engine, folder: Path) -> None:
    box = wanted(folder, "a")
    assert bring(folder, box) == {
        "changes": ["a: development container created"],
        "outdated": [],
        "watched": [],
    }
    live = folder / "dev" / "a" / "live" / "b"
    assert (live.read_text(), live.stat().st_mode & 0o777) == ("live/b", 0o400)
    assert (folder / "data" / "homes" / "a").stat().st_mode & 0o777 == 0o700
    assert bring(folder, box) == {"changes": [], "outdated": [], "watched": []}


def test_what_containers_share_is_unpacked_once_and_goes_with_the_last(engine: Engine, folder: Path) -> None:
    engine.images |= {"dap/code-server:1", "dap/code-server:2"}
    programs = folder / "dev" / ".programs"

    def having(name: str, version: int) -> dict[str, Any]:
        shared = {
            "image": f"dap/code-server:{version}",
            "path": "/opt/x",
            "folder": str(programs / f"{version}"),
        }
        return wanted(folder, name, programs=[shared])

    def mounted(name: str, version: int) -> None:
        engine.containers[name]["Mounts"] = [{"Source": str(programs / f"{version}")}]

    answer = bring(folder, having("a", 1), having("b", 1))
    made = [f"{name}: development container created" for name in ("a", "b")]
    assert answer["changes"] == ["1: files unpacked", *made]
    assert [path.name for path in programs.rglob("*")] == ["1", "bin"]
    assert (programs / "1").stat().st_mode & 0o777 == 0o755
    assert "create --network none dap/code-server:1" in engine.asked
    mounted("a", 1)
    mounted("b", 1)
    assert bring(folder, having("a", 1), having("b", 1))["changes"] == []
    # A newer version is beside it, until nobody has the older one any more.
    bring(folder, having("a", 2), complete=False, recreate=["a"])
    mounted("a", 2)
    assert sorted(path.name for path in programs.iterdir()) == ["1", "2"]
    bring(folder, verb="remove", name="b")
    assert [path.name for path in programs.iterdir()] == ["2"]
    assert bring(folder, wanted(folder, "a"), recreate=["a"])["changes"] == [
        "a: development container recreated"
    ]
    assert not programs.exists()
    lacking = {"error": "there is no image dap/code-server:3", "lacking": True, "changes": []}
    assert bring(folder, having("c", 3), complete=False) == lacking
    assert bring(folder, having("a", 2), check=True, recreate=["a"])["changes"][0] == "2: files unpacked"
    assert not programs.exists()


def test_what_was_just_unpacked_stays_where_another_container_goes(engine: Engine, folder: Path) -> None:
    engine.images.add("dap/code-server:1")
    programs = folder / "dev" / ".programs"
    shared = {"image": "dap/code-server:1", "path": "/opt/x", "folder": str(programs / "1")}
    bring(folder, wanted(folder, "a"))
    assert bring(folder, wanted(folder, "b", programs=[shared]))["changes"] == [
        "1: files unpacked",
        "a: development container removed",
        "b: development container created",
    ]
    assert (programs / "1" / "bin").is_dir()


def test_unpacking_that_fails_leaves_nothing(
    engine: Engine, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine.images.add("dap/code-server:1")
    programs = folder / "dev" / ".programs"

    def docker(*arguments: str, check: bool = True) -> str:
        if arguments[0] == "cp":
            raise on_host.HostError("docker cp: no space left on device")
        return engine.docker(*arguments, check=check)

    monkeypatch.setattr(on_host, "docker", docker)
    shared = {"image": "dap/code-server:1", "path": "/opt/x", "folder": str(programs / "1")}
    assert bring(folder, wanted(folder, "a", programs=[shared])) == {
        "error": "docker cp: no space left on device",
        "changes": ["1: files unpacked"],
    }
    assert [*programs.iterdir()] == []
    assert "rm --force new" in engine.asked
    assert engine.state == {}


def test_running_one_is_left_alone_and_reads_its_new_logins(engine: Engine, folder: Path) -> None:
    box = wanted(folder, "a")
    bring(folder, box)
    newer = box | {"configuration": "newer"}
    newer["files"] = [one | {"content": base64.b64encode(b"2").decode()} for one in box["files"]]
    assert bring(folder, newer) == {"changes": ["a: files written"], "outdated": ["a"], "watched": []}
    assert engine.state == {"a": ("new", True)}
    written = {path: (folder / "dev" / "a" / path).read_text() for path in ("live/b", "config/a")}
    assert written == {"live/b": "2", "config/a": "config/a"}
    answer = bring(folder, newer, complete=False, recreate=["a"])
    assert answer["changes"] == ["a: development container recreated"]
    assert (folder / "dev" / "a" / "config" / "a").read_text() == "2"


def test_crashed_one_is_started_and_with_other_settings_made_anew(engine: Engine, folder: Path) -> None:
    box = wanted(folder, "a")
    bring(folder, box)
    engine.docker("stop", "a")
    assert bring(folder, box)["changes"] == ["a: development container started"]
    engine.docker("stop", "a")
    assert bring(folder, box | {"configuration": "newer"})["changes"] == [
        "a: development container recreated"
    ]


def test_stopped_one_stays_stopped_until_it_is_started(engine: Engine, folder: Path) -> None:
    box = wanted(folder, "a")
    bring(folder, box)
    bring(folder, box, verb="stop", name="a")
    assert bring(folder, box)["changes"] == []
    assert engine.state == {"a": ("new", False)}
    started = bring(folder, box, complete=False, start=["a"])
    assert started["changes"] == ["a: development container started"]
    assert bring(folder, box)["changes"] == []


def test_unwanted_one_goes_with_its_files_and_its_home_stays(engine: Engine, folder: Path) -> None:
    bring(folder, wanted(folder, "a"), wanted(folder, "b"))
    other = wanted(folder, "c")
    assert bring(folder, other, complete=False)["changes"] == ["c: development container created"]
    assert bring(folder, wanted(folder, "b"))["changes"] == [
        "a: development container removed",
        "c: development container removed",
    ]
    assert [path.name for path in (folder / "dev").iterdir()] == ["b"]
    assert (folder / "data" / "homes" / "a").is_dir()
    # Its logins go, too, where somebody has removed the container by hand.
    engine.containers.clear()
    assert bring(folder, check=True)["changes"] == bring(folder)["changes"] == ["b: files removed"]
    assert not (folder / "dev").exists()


def test_plan_says_what_would_happen_and_changes_nothing(engine: Engine, folder: Path) -> None:
    bring(folder, wanted(folder, "a"))
    before = engine.state
    answer = bring(folder, wanted(folder, "b", image="dap/python:2"), check=True)
    assert answer["changes"] == ["a: development container removed", "b: development container created"]
    assert engine.state == before
    assert not (folder / "dev" / "b").exists()


@pytest.mark.parametrize(
    ("more", "answer"),
    [
        ({"image": "dap/python:2"}, {"error": "there is no image dap/python:2", "lacking": True}),
        ({"network": "dap-dev"}, {"error": "there is no network dap-dev", "lacking": True}),
        (
            {"memory_mib": 10**9, "cpus": 5000},
            {
                "error": "a: 1000000000 MiB of memory are wanted, and there are {memory}\n"
                "a: 5000 processors are wanted, and there are {cores}",
                "refused": True,
            },
        ),
    ],
)
def test_what_cannot_be_made_is_refused_before_anything_changes(
    engine: Engine, folder: Path, more: dict[str, Any], answer: dict[str, Any]
) -> None:
    answer["error"] = answer["error"].format(memory=on_host.memory_mib(), cores=os.cpu_count())
    assert bring(folder, wanted(folder, "a", **more)) == {**answer, "changes": []}
    assert not (folder / "dev").exists()
    assert engine.state == {}


def test_device_that_a_container_still_runs_with_is_given_to_no_other(engine: Engine, folder: Path) -> None:
    engine.add("a", "before")
    request = {"Driver": "cdi", "DeviceIDs": ["nvidia.com/gpu=0"]}
    engine.containers["a"]["HostConfig"] = {"DeviceRequests": [request]}
    other = wanted(folder, "b", gpus=["nvidia.com/gpu=0"])
    refused = {
        "error": "b: nvidia.com/gpu=0 is still that of a, which runs as it was made before",
        "refused": True,
        "changes": [],
    }
    assert bring(folder, other, complete=False) == refused
    assert bring(folder, wanted(folder, "a"), other) == refused
    # Unless it is made anew, too, or goes.
    assert "error" not in bring(folder, wanted(folder, "a"), other, recreate=["a"])
    engine.containers["b"]["HostConfig"] = {"DeviceRequests": [request]}
    moved = bring(folder, wanted(folder, "c", gpus=["nvidia.com/gpu=0"]))
    assert moved["changes"] == [
        *("b: development container removed", "a: development container removed"),
        "c: development container created",
    ]


def test_data_of_another_platform_is_not_touched(engine: Engine, folder: Path) -> None:
    marker = folder / "data" / ".platform-id"
    marker.write_text("another\n")
    assert bring(folder, wanted(folder, "a")) == {
        "error": f"{marker} is that of another platform",
        "refused": True,
        "changes": [],
    }
    marker.unlink()
    assert bring(folder, wanted(folder, "a")) == {
        "error": "the platform was never deployed to this host",
        "lacking": True,
        "changes": [],
    }
