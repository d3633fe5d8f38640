"""The portal's health probes, run against tiny real servers."""

from __future__ import annotations

import importlib.util
import json
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

SERVER = Path(__file__).parents[2] / "compose" / "portal" / "image" / "server.py"
GONE_PORT = 1


def load_server() -> ModuleType:
    """The server is no part of a package: it is copied into its image as it is."""
    spec = importlib.util.spec_from_file_location("portal_server", SERVER)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


portal = load_server()


@contextmanager
def listener(answer: Callable[[socket.socket], None]) -> Iterator[tuple[int, list[int]]]:
    """A TCP server that gives each connection to ``answer``; yields its port and one entry per connection."""
    accepted: list[int] = []

    def serve() -> None:
        while True:
            try:
                connection, _ = listening.accept()
            except OSError:
                return
            accepted.append(1)
            threading.Thread(target=handle, args=(connection,), daemon=True).start()

    def handle(connection: socket.socket) -> None:
        with connection:
            answer(connection)

    listening = socket.create_server(("127.0.0.1", 0))
    threading.Thread(target=serve, daemon=True).start()
    try:
        yield listening.getsockname()[1], accepted
    finally:
        # Wakes accept(), which closing alone does not do.
        listening.shutdown(socket.SHUT_RDWR)
        listening.close()


def replies(data: bytes) -> Callable[[socket.socket], None]:
    """Reads a request, answers with the same bytes whatever it was."""

    def answer(connection: socket.socket) -> None:
        connection.recv(4096)
        connection.sendall(data)

    return answer


def stays_silent(connection: socket.socket) -> None:
    """Answers nothing until the other side leaves."""
    while connection.recv(4096):
        pass


def probe(kind: str, port: int, service: str = "service") -> Any:
    """A probe of a server on this machine."""
    return portal.Probe(service, kind, "127.0.0.1", port)


def state_of(health: Any, service: str = "service") -> Any:
    """What ``/health.json`` says of one service."""
    return json.loads(health.body())["services"][service]


def test_every_probed_service_is_listed() -> None:
    with listener(replies(b"HTTP/1.0 200 OK\r\n\r\n")) as (up, _):
        probes = [probe("http", up, "mlflow"), probe("tcp", GONE_PORT, "x")]
        answer = json.loads(portal.Health(probes, grace_s=0).body())
    assert answer["services"]["mlflow"]["state"] == "healthy"
    assert answer["services"]["mlflow"]["ms"] >= 0
    assert answer["services"]["mlflow"]["since"] == answer["checked"]
    assert answer["services"]["x"] == {"state": "unreachable", "ms": None, "since": answer["checked"]}


@pytest.mark.parametrize(
    ("status", "state"),
    [
        (200, "healthy"),
        (204, "healthy"),
        (302, "healthy"),
        (401, "healthy"),
        (403, "healthy"),
        (404, "unreachable"),
        (500, "unreachable"),
        (502, "unreachable"),
        (503, "starting"),
    ],
)
def test_http_probe_judges_by_the_status(status: int, state: str) -> None:
    with listener(replies(f"HTTP/1.1 {status} X\r\nLocation: /login\r\n\r\n".encode())) as (port, _):
        assert state_of(portal.Health([probe("http", port)], grace_s=0))["state"] == state


def test_http_probe_asks_for_the_configured_path_and_names_the_host() -> None:
    seen = []

    def answer(connection: socket.socket) -> None:
        seen.append(connection.recv(4096).decode())
        connection.sendall(b"HTTP/1.1 200 OK\r\n\r\n")

    with listener(answer) as (port, _):
        health = portal.Health([portal.Probe("s", "http", "127.0.0.1", port, "/ready?full=1")])
        assert state_of(health, "s")["state"] == "healthy"
    assert seen[0].startswith("GET /ready?full=1 HTTP/1.1\r\n")
    assert f"Host: 127.0.0.1:{port}\r\n" in seen[0]


@pytest.mark.parametrize(
    ("answer", "state"),
    [(b"S", "healthy"), (b"N", "healthy"), (b"HTTP/1.1 400", "unreachable"), (b"", "unreachable")],
)
def test_postgres_probe_wants_the_answer_of_postgres(answer: bytes, state: str) -> None:
    received = []

    def reply(connection: socket.socket) -> None:
        received.append(connection.recv(64))
        connection.sendall(answer)

    with listener(reply) as (port, _):
        assert state_of(portal.Health([probe("postgres", port)], grace_s=0))["state"] == state
    assert received == [bytes([0, 0, 0, 8, 4, 210, 22, 47])]


def test_tcp_probe_is_content_with_a_connection() -> None:
    with listener(stays_silent) as (port, _):
        assert state_of(portal.Health([probe("tcp", port)], grace_s=0))["state"] == "healthy"


@pytest.mark.parametrize("kind", ["http", "postgres"])
def test_a_server_that_is_no_such_service_is_not_reachable(kind: str) -> None:
    with listener(replies(b"SSH-2.0-OpenSSH\r\n")) as (port, _):
        health = portal.Health([probe(kind, port)], grace_s=0)
        assert state_of(health)["state"] == "unreachable"


def test_a_name_that_does_not_resolve_is_not_reachable() -> None:
    health = portal.Health([portal.Probe("s", "tcp", "name.invalid", 80)], grace_s=0)
    assert state_of(health, "s")["state"] == "unreachable"


def test_a_silent_service_delays_the_others_by_no_more_than_the_timeout(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(portal, "PROBE_TIMEOUT_S", 0.3)
    with listener(stays_silent) as (silent, _), listener(replies(b"N")) as (up, _):
        probes = [probe("postgres", silent, f"silent{number}") for number in range(5)]
        health = portal.Health([*probes, probe("postgres", up, "up")], grace_s=0)
        began = time.monotonic()
        services = json.loads(health.body())["services"]
    assert time.monotonic() - began < 1.0
    assert services.pop("up")["state"] == "healthy"
    assert {service["state"] for service in services.values()} == {"unreachable"}


def test_a_probe_that_hangs_beyond_every_timeout_is_not_started_twice(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    started = []
    release = threading.Event()

    def hang(_: Any) -> str:
        started.append(1)
        release.wait(10)
        return "healthy"

    monkeypatch.setattr(portal, "PROBE_TIMEOUT_S", 0.05)
    monkeypatch.setitem(portal.ASK, "tcp", hang)
    health = portal.Health([probe("tcp", 80)], cache_s=0, grace_s=0)
    assert [state_of(health)["state"] for _ in range(3)] == ["unreachable"] * 3
    assert len(started) == 1
    release.set()
    wait_until(lambda: state_of(health)["state"] == "healthy")


def wait_until(reached: Callable[[], bool], limit_s: float = 10) -> None:
    """Polls until something holds."""
    deadline = time.monotonic() + limit_s
    while not reached():
        assert time.monotonic() < deadline, "was not reached in time"
        time.sleep(0.02)


def test_a_new_answer_is_kept_for_a_while() -> None:
    with listener(replies(b"N")) as (port, accepted):
        health = portal.Health([probe("postgres", port)], cache_s=60)
        assert health.body() == health.body()
    assert len(accepted) == 1


def test_an_old_answer_is_asked_anew() -> None:
    with listener(replies(b"N")) as (port, accepted):
        health = portal.Health([probe("postgres", port)], cache_s=0)
        health.body()
        health.body()
    assert len(accepted) == 2


def test_many_readers_at_once_cause_one_round() -> None:
    with listener(replies(b"N")) as (port, accepted):
        health = portal.Health([probe("postgres", port)], cache_s=60)
        readers = [threading.Thread(target=health.body) for _ in range(20)]
        for reader in readers:
            reader.start()
        for reader in readers:
            reader.join()
    assert len(accepted) == 1


def test_since_moves_only_with_the_state(monkeypatch: pytest.MonkeyPatch) -> None:
    states = iter(["healthy", "healthy", "unreachable"])
    monkeypatch.setattr(portal, "run_probe", lambda _: portal.Result(next(states), 1))
    health = portal.Health([probe("tcp", 80)], cache_s=0)
    first = state_of(health)
    # Times are told in whole seconds: the next round must fall into another one.
    second_of_first = int(time.time())
    wait_until(lambda: int(time.time()) > second_of_first)
    second, third = state_of(health), state_of(health)
    assert second["since"] == first["since"] < third["since"]


def test_a_service_that_never_answered_counts_as_starting_at_first() -> None:
    assert state_of(portal.Health([probe("tcp", GONE_PORT)], grace_s=60))["state"] == "starting"
    assert state_of(portal.Health([probe("tcp", GONE_PORT)], grace_s=0))["state"] == "unreachable"


def test_a_service_that_went_away_is_not_starting() -> None:
    with listener(stays_silent) as (port, _):
        health = portal.Health([probe("tcp", port)], cache_s=0, grace_s=60)
        assert state_of(health)["state"] == "healthy"
    assert state_of(health)["state"] == "unreachable"


def test_probes_are_read_from_the_rendered_list(tmp_path: Path) -> None:
    file = tmp_path / "probes.json"
    file.write_text(
        json.dumps(
            [
                {"service": "mlflow", "type": "http", "url": "http://mlflow:5000/health"},
                {"service": "web", "type": "http", "url": "http://web"},
                {"service": "postgres-data", "type": "postgres", "host": "postgres-data", "port": 5432},
                {"service": "x", "type": "tcp", "host": "x", "port": 22},
            ]
        )
    )
    assert portal.load_probes(file) == [
        portal.Probe("mlflow", "http", "mlflow", 5000, "/health"),
        portal.Probe("web", "http", "web", 80, "/"),
        portal.Probe("postgres-data", "postgres", "postgres-data", 5432),
        portal.Probe("x", "tcp", "x", 22),
    ]


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ("", "Expecting value: line 1 column 1 (char 0)"),
        ("{}", "a list of probes is expected"),
        ('["mlflow"]', "entry 0: TypeError('an object is expected')"),
        ('[{"service": "x"}]', "entry 0: KeyError('type')"),
        (
            '[{"service": "x", "type": "icmp"}]',
            "entry 0: ValueError(\"type 'icmp' is none of http, postgres, tcp\")",
        ),
        (
            '[{"service": "x", "type": "http", "url": "https://x"}]',
            "entry 0: ValueError(\"url 'https://x' is no http:// address\")",
        ),
        ('[{"service": "x", "type": "tcp", "host": "x"}]', "entry 0: KeyError('port')"),
        (
            json.dumps([{"service": "x", "type": "tcp", "host": "x", "port": 1}] * 2),
            "a service has more than one probe",
        ),
    ],
)
def test_a_list_that_cannot_be_used_is_named_with_the_reason(
    tmp_path: Path, content: str, reason: str
) -> None:
    file = tmp_path / "probes.json"
    file.write_text(content)
    with pytest.raises(portal.ProbeListError) as refused:
        portal.load_probes(file)
    assert str(refused.value) == f"{file}: {reason}"
