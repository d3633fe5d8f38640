#!/usr/bin/python3
"""Removes what CI jobs have left on this host: containers, volumes, and images that no job uses any more.

Python's standard library only. It listens to the engine's events, because that alone tells which images
were pulled for jobs and when a job used one last: an image itself says neither. What it did not see it leaves
alone.
"""

from __future__ import annotations

import argparse
import http.client
import json
import re
import signal
import socket
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlencode

SOCKET = "/var/run/docker.sock"
SETTINGS = Path("/etc/dap/cleaner.json")
RECORDS = Path("/var/lib/cleaner/images.json")
LISTENS = Path("/tmp/listens")  # noqa: S108  the container's own
ROUND_S = 3600
PAUSE_S = 5
PULLED_FOR_A_JOB_S = 900
"""A job whose image was pulled this short a time before is the one that it was pulled for."""
ANSWER_S = 120

JOBS = "dap.jobs"
BUILT_HERE = "dap.image"
RUNNERS = "com.gitlab.gitlab-runner"
# What names of images hold and the engine reads as it stands.
_PLAIN = "/:@"


class EngineError(Exception):
    """The engine refused something; ``status`` is the one of HTTP."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


class _Connection(http.client.HTTPConnection):
    def __init__(self, path: str, timeout: float) -> None:
        super().__init__("localhost", timeout=timeout)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self._path)


class Engine:
    """The parts of the engine's API that are needed here."""

    def __init__(self, path: str = SOCKET) -> None:
        self._path = path

    def ask(self, method: str, path: str, **query: Any) -> Any:
        """The engine's answer, read from JSON; None if it has nothing to say."""
        connection = _Connection(self._path, ANSWER_S)
        try:
            connection.request(method, _address(path, query))
            answer = connection.getresponse()
            content = answer.read()
        finally:
            connection.close()
        if answer.status >= 400:
            raise EngineError(answer.status, _reason(content))
        return json.loads(content) if content.strip() else None

    def events(self, since: float, until: float) -> Iterator[dict[str, Any]]:
        """Containers that are made and images that are pulled; ends at ``until``."""
        filters = {"type": ["container", "image"], "event": ["create", "pull"]}
        query = {"filters": filters, "since": f"{since:.9f}", "until": f"{until:.9f}"}
        connection = _Connection(self._path, max(until - time.time(), 0) + ANSWER_S)
        try:
            connection.request("GET", _address("/events", query))
            answer = connection.getresponse()
            if answer.status >= 400:
                raise EngineError(answer.status, _reason(answer.read()))
            while line := answer.readline():
                if line.strip():
                    yield json.loads(line)
        finally:
            connection.close()


def _address(path: str, query: dict[str, Any]) -> str:
    text = {key: json.dumps(one) if isinstance(one, dict) else str(one) for key, one in query.items()}
    return f"{path}?{urlencode(text)}" if text else path


def _reason(content: bytes) -> str:
    try:
        return str(json.loads(content)["message"])
    except (ValueError, KeyError, TypeError):
        return content.decode(errors="replace").strip() or "no answer"


@dataclass(frozen=True)
class Settings:
    """What the platform says.

    Attributes:
        gitlab_url: with which the addresses of its jobs begin.
        days: age from which on something is left over; 0 for never.
        kept_images: the platform's own, whoever pulled them.
    """

    platform: str
    gitlab_url: str
    days: int
    kept_images: frozenset[str]

    @staticmethod
    def read(path: Path = SETTINGS) -> Settings:
        known = json.loads(path.read_text(encoding="utf-8"))
        return Settings(
            known["platform"], known["gitlab_url"], known["days"], frozenset(known["kept_images"])
        )


class Records:
    """Which images were pulled for jobs, under which names, and when a job used each last."""

    def __init__(self, path: Path = RECORDS) -> None:
        self._path = path
        self._pulls: dict[str, float] = {}
        known = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {"seen": 0.0, "images": {}}
        self.seen: float = known["seen"]
        self.images: dict[str, dict[str, Any]] = known["images"]

    def save(self) -> None:
        fresh = self._path.with_suffix(".new")
        fresh.write_text(json.dumps({"seen": self.seen, "images": self.images}), encoding="utf-8")
        fresh.replace(self._path)

    def note(self, event: dict[str, Any], engine: Engine, settings: Settings) -> None:
        """Learn from one event."""
        when, actor = event["timeNano"] / 1e9, event["Actor"]
        # Events are told from a time on, so the same one would come again.
        self.seen = max(self.seen, when + 1e-6)
        if event["Type"] == "image":
            self._pulls[actor["ID"]] = when
            return
        attributes = actor["Attributes"]
        if attributes.get(JOBS) != settings.platform:
            return
        try:
            image = engine.ask("GET", f"/images/{quote(attributes['image'], safe=_PLAIN)}/json")
        except EngineError:
            return
        pulled = {
            name for name in _names(image) if 0 <= when - self._pulls.get(name, 0) <= PULLED_FOR_A_JOB_S
        }
        if pulled or image["Id"] in self.images:
            known = self.images.setdefault(image["Id"], {"names": [], "used": when})
            known["names"] = sorted({*known["names"], *pulled})
            known["used"] = when
            self.save()


def _names(image: dict[str, Any]) -> list[str]:
    """Under which names an image is here, tags and digests."""
    return [*(image.get("RepoTags") or []), *(image.get("RepoDigests") or [])]


def clean(engine: Engine, settings: Settings, records: Records, age_s: float, now: float) -> dict[str, int]:
    """Remove what has been left over for ``age_s``; how much of each kind has gone."""
    limit = now - age_s
    return {
        "containers": sum(1 for one in _old_containers(engine, settings, limit) if _removed(engine, one)),
        "volumes": sum(1 for one in _old_volumes(engine, settings, limit) if _removed(engine, one)),
        "images": _clean_images(engine, settings, records, limit),
    }


def _removed(engine: Engine, path: str) -> bool:
    """Remove something unless it is in use or gone."""
    query = {"force": "true", "v": "true"} if path.startswith("/containers/") else {}
    try:
        engine.ask("DELETE", path, **query)
    except EngineError as error:
        if error.status in (404, 409):
            return False
        raise
    return True


def _old_containers(engine: Engine, settings: Settings, limit: float) -> list[str]:
    """Those of jobs that must be over; of a job that runs all stay for as long as it may run."""
    filters = {"label": [f"{JOBS}={settings.platform}"]}
    jobs: dict[str, list[dict[str, Any]]] = {}
    for one in engine.ask("GET", "/containers/json", all="true", filters=filters):
        jobs.setdefault(one["Labels"].get(f"{RUNNERS}.job.id", one["Id"]), []).append(one)
    found = []
    for containers in jobs.values():
        over = max(one["Created"] for one in containers)
        if any(one["State"] == "running" for one in containers):
            over += max(_timeout_s(one["Labels"]) for one in containers)
        if over < limit:
            found += [f"/containers/{one['Id']}" for one in containers]
    return found


def _timeout_s(labels: dict[str, str]) -> float:
    """How long a job may run, which its runner writes as ``1h0m0s``."""
    units = {"h": 3600.0, "m": 60.0, "s": 1.0}
    parts = re.findall(r"(\d+(?:\.\d+)?)([hms])", labels.get(f"{RUNNERS}.job.timeout", ""))
    return sum(float(number) * units[unit] for number, unit in parts)


def _old_volumes(engine: Engine, settings: Settings, limit: float) -> list[str]:
    """Those of jobs that no container has."""
    filters = {"label": [f"{RUNNERS}.managed=true"], "dangling": ["true"]}
    found = engine.ask("GET", "/volumes", filters=filters)["Volumes"] or []
    return [
        f"/volumes/{quote(one['Name'], safe='')}"
        for one in found
        if (one["Labels"] or {}).get(f"{RUNNERS}.job.url", "").startswith(f"{settings.gitlab_url}/")
        and _time(one["CreatedAt"]) < limit
    ]


def _time(text: str) -> float:
    """The engine's times, some of which have more digits than Python reads."""
    return datetime.fromisoformat(re.sub(r"(\.\d{6})\d+", r"\1", text).replace("Z", "+00:00")).timestamp()


def _clean_images(engine: Engine, settings: Settings, records: Records, limit: float) -> int:
    """Remove images that were pulled for jobs, have no other name, and were not used since."""
    gone = 0
    for number, known in list(records.images.items()):
        if known["used"] >= limit:
            continue
        try:
            image = engine.ask("GET", f"/images/{quote(number, safe=_PLAIN)}/json")
        except EngineError as error:
            if error.status != 404:
                raise
            del records.images[number]
            continue
        tags = image.get("RepoTags") or []
        own = settings.kept_images.intersection(_names(image)) or BUILT_HERE in (
            (image.get("Config") or {}).get("Labels") or {}
        )
        if own or not {*tags} <= {*known["names"]}:
            continue
        # Without force: what any container is made of stays.
        if all([_removed(engine, f"/images/{quote(name, safe=_PLAIN)}") for name in tags or [number]]):
            del records.images[number]
            gone += 1
    return gone


def listen(engine: Engine, settings: Settings, records: Records, until: float) -> None:
    """Learn from the engine's events until a time."""
    LISTENS.touch()
    for event in engine.events(records.seen or time.time(), until):
        records.note(event, engine, settings)


def serve(engine: Engine, settings: Settings, records: Records) -> None:
    """Listen and clean, for ever; an engine that does not answer is asked again."""
    while True:
        try:
            if settings.days:
                gone = clean(engine, settings, records, settings.days * 86400, time.time())
                if any(gone.values()):
                    _say(", ".join(f"{count} {kind}" for kind, count in gone.items()) + " removed")
                records.save()
            listen(engine, settings, records, time.time() + ROUND_S)
        except (OSError, http.client.HTTPException, EngineError, ValueError) as error:
            LISTENS.unlink(missing_ok=True)
            _say(f"the engine cannot be asked: {error}")
            time.sleep(PAUSE_S)


def _say(text: str) -> None:
    print(f"{datetime.now(UTC):%Y-%m-%dT%H:%M:%SZ} {text}", flush=True)


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="cleaner", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--once", action="store_true", help="clean, say what has gone as JSON, and end")
    parser.add_argument(
        "--hours", type=float, default=24, help="with --once: the age in place of the settings'"
    )
    chosen = parser.parse_args(arguments)
    # As the first process of its container it would not hear of it otherwise.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    engine, settings, records = Engine(), Settings.read(), Records()
    if not chosen.once:
        serve(engine, settings, records)
    try:
        gone = clean(engine, settings, records, chosen.hours * 3600, time.time())
    except (OSError, http.client.HTTPException, EngineError) as error:
        print(error, file=sys.stderr)
        return 1
    print(json.dumps(gone))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
