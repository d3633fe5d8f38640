"""MLflow as the platform runs it beside `mlflow server` as it comes: SQLite, local files, four workers."""

from __future__ import annotations

import base64
import contextlib
import http.client
import json
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from tests.bench.measure import Goal, Number, in_turn
from tests.integration.platform import DeployedPlatform, docker, free_ports

GROUP = "MLflow"
SECONDS, SECONDS_FULL = 5, 20
RUNS, RUNS_FULL = 500, 10_000
MIB = 1024 * 1024
STOCK = (
    "mlflow server --host 0.0.0.0 --port 5000 --workers 4 --allowed-hosts '*'"
    " --backend-store-uri sqlite:////scratch/mlflow.db --artifacts-destination /scratch/artifacts"
)


@dataclass(frozen=True)
class Tracker:
    """A server, and how a client reaches it."""

    host: str
    port: int
    headers: dict[str, str] = field(default_factory=dict)
    trust: ssl.SSLContext | None = None

    def client(self) -> Client:
        """A client with a connection of its own."""
        if self.trust:
            return Client(http.client.HTTPSConnection(self.host, self.port, context=self.trust), self.headers)
        return Client(http.client.HTTPConnection(self.host, self.port), self.headers)


@dataclass(frozen=True)
class Client:
    """A kept connection."""

    connection: http.client.HTTPConnection
    headers: dict[str, str]

    def ask(self, method: str, path: str, body: bytes | None = None) -> bytes:
        """The answer's content."""
        self.connection.request(method, path, body, self.headers | {"Content-Type": "application/json"})
        answer = self.connection.getresponse()
        content = answer.read()
        assert answer.status == 200, (answer.status, content[:300])
        return content

    def call(self, name: str, **fields: Any) -> Any:
        """What an endpoint of the REST API says."""
        return json.loads(self.ask("POST", f"/api/2.0/mlflow/{name}", json.dumps(fields).encode()))

    def run(self) -> str:
        """A new run of the default experiment; its id."""
        started = self.call("runs/create", experiment_id="0", start_time=1_700_000_000_000)
        return str(started["run"]["info"]["run_id"])


def per_second(
    tracker: Tracker, clients: int, seconds: float, work: Callable[[Client, str, int], int]
) -> float:
    """How much several clients get done in a second, each with a run of its own.

    Args:
        work: one request, given its number; how much it was.
    """
    done = [0] * clients
    begin = threading.Barrier(clients)

    def go(number: int) -> None:
        client = tracker.client()
        run = client.run()
        begin.wait()
        end, step = time.perf_counter() + seconds, 0
        while time.perf_counter() < end:
            done[number] += work(client, run, step)
            step += 1

    threads = [threading.Thread(target=go, args=(number,)) for number in range(clients)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return sum(done) / seconds


def log_metric(client: Client, run: str, step: int) -> int:
    client.call("runs/log-metric", run_id=run, key="loss", value=1 / (step + 1), timestamp=step, step=step)
    return 1


def log_batch(client: Client, run: str, step: int) -> int:
    metrics = [
        {"key": "loss", "value": 0.5, "timestamp": step, "step": 1000 * step + one} for one in range(1000)
    ]
    client.call("runs/log-batch", run_id=run, metrics=metrics)
    return len(metrics)


def measure(platform: DeployedPlatform, rounds: int, full: bool) -> Iterator[Number]:
    """Metrics one by one and many at once, a search over many runs, and artifacts."""
    seconds = SECONDS_FULL if full else SECONDS
    user, password = platform.login("Platform login")
    login = base64.b64encode(f"{user}:{password}".encode()).decode()
    name, port = f"mlflow.{platform.domain}", platform.ports["https"]
    ours = Tracker(name, port, {"Authorization": f"Basic {login}"}, platform.trust)
    with _stock(platform) as theirs:
        for title, unit, clients, work, least in (
            ("log_metric, 1 client", "calls/s", 1, log_metric, 5),
            ("log_metric, 8 clients", "calls/s", 8, log_metric, 1.8),
            ("log_batch of 1000, 8 clients", "metrics/s", 8, log_batch, 1.15),
        ):
            timed = partial(per_second, clients=clients, seconds=seconds, work=work)
            values, others = _both(rounds, ours, theirs, timed)
            yield Number(GROUP, title, unit, values, "mlflow server", others, Goal("ratio", at_least=least))
        runs = RUNS_FULL if full else RUNS
        for tracker in (ours, theirs):
            client = tracker.client()
            for _ in range(runs):
                client.run()
        values, others = _both(3 * rounds, ours, theirs, _search)
        yield Number(
            GROUP,
            f"search_runs over {runs} runs",
            "s",
            values,
            "mlflow server",
            others,
            Goal("ratio", at_most=1),
        )
        values, others = _both(rounds, ours, theirs, _artifact)
        goal = Goal("ratio", at_least=1)
        yield Number(
            GROUP, "artifact of 100 MiB, there and back", "MiB/s", values, "mlflow server", others, goal
        )


def _both(
    rounds: int, ours: Tracker, theirs: Tracker, measured: Callable[[Tracker], float]
) -> tuple[list[float], list[float]]:
    return in_turn(rounds, lambda: measured(ours), lambda: measured(theirs))


def _search(tracker: Tracker) -> float:
    client = tracker.client()
    begin = time.perf_counter()
    found = client.call(
        "runs/search", experiment_ids=["0"], max_results=1000, order_by=["attributes.start_time"]
    )
    assert found["runs"]
    return time.perf_counter() - begin


def _artifact(tracker: Tracker) -> float:
    client, path = tracker.client(), "/api/2.0/mlflow-artifacts/artifacts/bench/large.bin"
    content = bytes(100 * MIB)
    begin = time.perf_counter()
    client.ask("PUT", path, content)
    assert len(client.ask("GET", path)) == len(content)
    return 200 / (time.perf_counter() - begin)


@contextlib.contextmanager
def _stock(platform: DeployedPlatform) -> Iterator[Tracker]:
    """MLflow's own server, from the same image and with the same limit of memory."""
    box = platform.containers()["mlflow"]
    name, (port,) = f"{platform.name}-bench-mlflow", free_ports(1)
    try:
        docker(
            *("run", "--detach", "--name", name, "--publish", f"127.0.0.1:{port}:5000"),
            *("--memory", str(box["HostConfig"]["Memory"]), "--mount", "type=volume,target=/scratch"),
            *("--user", "0", "--entrypoint", "sh", box["Config"]["Image"], "-c", STOCK),
        )
        theirs = Tracker("127.0.0.1", port)
        deadline = time.monotonic() + 120
        while True:
            try:
                theirs.client().ask("GET", "/health")
                break
            except (OSError, http.client.HTTPException):
                assert time.monotonic() < deadline, docker("logs", name)
                time.sleep(0.5)
        yield theirs
    finally:
        docker("rm", "--force", "--volumes", name)
