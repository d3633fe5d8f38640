"""The cleaner of runner hosts, with an engine of the test's own behind a real socket."""

from __future__ import annotations

import importlib.util
import json
import sys
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from socketserver import ThreadingUnixStreamServer
from types import ModuleType
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

import pytest

PROGRAM = Path(__file__).parents[2] / "compose" / "runner-cleaner" / "image" / "cleaner.py"
NOW = 1_800_000_000.0
HOUR = 3600.0
DAY = 24 * HOUR
GITLAB = "https://gitlab.dap.example.com"


def load_program() -> ModuleType:
    """The program is no part of a package: it is copied into its image as it is."""
    spec = importlib.util.spec_from_file_location("runner_cleaner", PROGRAM)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


cleaner = load_program()


@dataclass
class FakeEngine:
    """What the engine has, and what was asked of it.

    Attributes:
        busy: paths whose removal is refused because something uses it.
    """

    containers: list[dict[str, Any]] = field(default_factory=list)
    volumes: list[dict[str, Any]] = field(default_factory=list)
    images: dict[str, dict[str, Any]] = field(default_factory=dict)
    events: list[dict[str, Any]] = field(default_factory=list)
    busy: set[str] = field(default_factory=set)
    removed: list[str] = field(default_factory=list)
    queries: list[dict[str, list[str]]] = field(default_factory=list)

    def answer(self, method: str, path: str, query: dict[str, list[str]]) -> tuple[int, bytes]:
        self.queries.append(query)
        if method == "DELETE":
            if path in self.busy:
                return 409, b'{"message": "in use"}'
            self.removed.append(path)
            return 200, b""
        if path == "/events":
            return 200, "".join(f"{json.dumps(event)}\n" for event in self.events).encode()
        if path == "/containers/json":
            return 200, json.dumps(self.containers).encode()
        if path == "/volumes":
            return 200, json.dumps({"Volumes": self.volumes or None}).encode()
        name = path.removeprefix("/images/").removesuffix("/json")
        found = next((one for one in self.images.values() if name in (one["Id"], *one["RepoTags"])), None)
        return (200, json.dumps(found).encode()) if found else (404, b'{"message": "No such image"}')


@pytest.fixture
def fake(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeEngine]:
    known = FakeEngine()

    class Handler(BaseHTTPRequestHandler):
        def answer(self) -> None:
            address = urlsplit(self.path)
            status, content = known.answer(self.command, unquote(address.path), parse_qs(address.query))
            self.send_response(status)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            # Who has heard that there is nothing to read may have gone.
            if content:
                self.wfile.write(content)

        do_GET = do_DELETE = answer  # noqa: N815

        def address_string(self) -> str:
            return "socket"

        def log_message(self, *_: object) -> None:
            pass

    monkeypatch.setattr(cleaner, "LISTENS", tmp_path / "listens")
    with ThreadingUnixStreamServer(str(tmp_path / "docker.sock"), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        yield known
        server.shutdown()
        thread.join()


@pytest.fixture
def engine(fake: FakeEngine, tmp_path: Path) -> Any:
    return cleaner.Engine(str(tmp_path / "docker.sock"))


@pytest.fixture
def settings() -> Any:
    return cleaner.Settings("dap", GITLAB, 7, frozenset({"gitlab/gitlab-runner-helper:1"}))


@pytest.fixture
def records(tmp_path: Path) -> Any:
    return cleaner.Records(tmp_path / "images.json")


def container(
    number: str, age_s: float, state: str = "exited", timeout: str = "1h0m0s", job: str = ""
) -> dict[str, Any]:
    runner = "com.gitlab.gitlab-runner.job"
    labels = {"dap.jobs": "dap", f"{runner}.timeout": timeout, f"{runner}.id": job or number}
    return {"Id": number, "Created": int(NOW - age_s), "State": state, "Labels": labels}


def test_containers_of_jobs_go_when_they_are_old_and_a_job_may_use_its_time(
    fake: FakeEngine, engine: Any, settings: Any, records: Any
) -> None:
    fake.containers = [
        container("young", HOUR),
        container("old", 8 * DAY),
        container("running", 7 * DAY + 2 * HOUR, "running", "3h0m0s"),
        container("its helper", 7 * DAY + 2 * HOUR, "exited", "3h0m0s", job="running"),
        container("forgotten", 7 * DAY + 2 * HOUR, "running", "1h30m0s"),
        container("gone", 8 * DAY),
    ]
    fake.busy = {"/containers/gone"}
    assert cleaner.clean(engine, settings, records, 7 * DAY, NOW) == {
        "containers": 2,
        "volumes": 0,
        "images": 0,
    }
    assert fake.removed == ["/containers/old", "/containers/forgotten"]
    assert json.loads(fake.queries[0]["filters"][0]) == {"label": ["dap.jobs=dap"]}


def test_volumes_go_that_belong_to_jobs_of_this_gitlab(
    fake: FakeEngine, engine: Any, settings: Any, records: Any
) -> None:
    def volume(name: str, made: str, url: str) -> dict[str, Any]:
        return {"Name": name, "CreatedAt": made, "Labels": {"com.gitlab.gitlab-runner.job.url": url}}

    fake.volumes = [
        volume("old", "2027-01-01T10:00:00+01:00", f"{GITLAB}/team/data/-/jobs/1"),
        volume("young", "2027-01-15T07:00:00.123456789Z", f"{GITLAB}/team/data/-/jobs/2"),
        volume("other", "2027-01-01T10:00:00Z", f"{GITLAB}.example.org/team/data/-/jobs/1"),
        {"Name": "none", "CreatedAt": "2027-01-01T10:00:00Z", "Labels": None},
    ]
    assert cleaner.clean(engine, settings, records, 7 * DAY, NOW)["volumes"] == 1
    assert fake.removed == ["/volumes/old"]
    assert json.loads(fake.queries[1]["filters"][0]) == {
        "label": ["com.gitlab.gitlab-runner.managed=true"],
        "dangling": ["true"],
    }


def image(number: str, *tags: str, label: str = "") -> dict[str, Any]:
    labels = {label: "x"} if label else None
    return {"Id": number, "RepoTags": list(tags), "RepoDigests": [], "Config": {"Labels": labels}}


def pull(name: str, age_s: float) -> dict[str, Any]:
    return {"Type": "image", "Actor": {"ID": name}, "timeNano": int((NOW - age_s) * 1e9)}


def start(name: str, age_s: float, platform: str = "dap") -> dict[str, Any]:
    attributes = {"image": name, "dap.jobs": platform}
    return {"Type": "container", "Actor": {"Attributes": attributes}, "timeNano": int((NOW - age_s) * 1e9)}


def test_images_go_that_were_pulled_for_a_job_and_not_used_since(
    fake: FakeEngine, engine: Any, settings: Any, records: Any, tmp_path: Path
) -> None:
    known = {
        "python:3": image("sha256:1", "python:3"),
        "used": image("sha256:2", "used:1"),
        "admins": image("sha256:3", "admins:1"),
        "tagged": image("sha256:4", "tagged:1", "kept:1"),
        "helper": image("sha256:5", "gitlab/gitlab-runner-helper:1"),
        "built": image("sha256:6", "built:1", label="dap.image"),
        "busy": image("sha256:7", "busy:1"),
        "others": image("sha256:8", "others:1"),
        "lost": image("sha256:9", "lost:1"),
        "renamed": image("sha256:10", "renamed:1"),
    }
    fake.images = known
    for name, one in known.items():
        reference = one["RepoTags"][0]
        # Long before the job it was not pulled for it.
        fake.events.append(pull(reference, 9 * DAY + (HOUR if name == "admins" else 60)))
        fake.events.append(start(one["Id"], 9 * DAY, "another" if name == "others" else "dap"))
    fake.events.append(start("sha256:2", HOUR))
    cleaner.listen(engine, settings, records, NOW)
    assert (tmp_path / "listens").exists()
    del fake.images["lost"]
    fake.images["renamed"]["RepoTags"] = []
    fake.busy = {"/images/busy:1"}
    # Another process has to know as much.
    again = cleaner.Records(tmp_path / "images.json")
    assert cleaner.clean(engine, settings, again, 7 * DAY, NOW)["images"] == 2
    assert fake.removed == ["/images/python:3", "/images/sha256:10"]
    assert again.images.keys() == {"sha256:2", "sha256:4", "sha256:5", "sha256:6", "sha256:7"}
    assert cleaner.clean(engine, settings, again, HOUR / 2, NOW)["images"] == 1
    assert fake.removed[2:] == ["/images/used:1"]


def test_events_are_told_from_the_last_one_on(
    fake: FakeEngine, engine: Any, settings: Any, records: Any
) -> None:
    fake.images = {"python:3": image("sha256:1", "python:3")}
    fake.events = [pull("python:3", 60), start("sha256:1", 30)]
    cleaner.listen(engine, settings, records, NOW)
    cleaner.listen(engine, settings, records, NOW + HOUR)
    (since,), (until,) = fake.queries[-2]["since"], fake.queries[-2]["until"]
    assert NOW - 30 < float(since) < NOW - 29.9
    assert float(until) == NOW + HOUR


class StoppedError(Exception):
    """Ends the loop that has no end."""


def test_it_cleans_by_the_settings_age_and_asks_an_engine_again_that_does_not_answer(
    fake: FakeEngine,
    engine: Any,
    settings: Any,
    records: Any,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(cleaner.time, "time", lambda: NOW)
    fake.containers = [container("old", 8 * DAY), container("young", 6 * DAY)]
    silent = cleaner.Engine("/nowhere/docker.sock")
    pauses: list[float] = []

    def pause(seconds: float) -> None:
        pauses.append(seconds)
        raise StoppedError

    def listened(*_: Any) -> None:
        raise StoppedError

    monkeypatch.setattr(cleaner.time, "sleep", pause)
    with pytest.raises(StoppedError):
        cleaner.serve(silent, settings, records)
    assert pauses == [cleaner.PAUSE_S]
    assert not cleaner.LISTENS.exists()
    monkeypatch.setattr(cleaner, "listen", listened)
    with pytest.raises(StoppedError):
        cleaner.serve(engine, settings, records)
    assert fake.removed == ["/containers/old"]
    first, second = capsys.readouterr().out.splitlines()
    assert first.endswith("the engine cannot be asked: [Errno 2] No such file or directory")
    assert second.endswith("1 containers, 0 volumes, 0 images removed")
    never = cleaner.Settings("dap", GITLAB, 0, frozenset())
    with pytest.raises(StoppedError):
        cleaner.serve(engine, never, records)
    assert fake.removed == ["/containers/old"]
