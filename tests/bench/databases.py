"""`postgres-data` beside PostgreSQL as it is installed, and the ways to load much into it."""

from __future__ import annotations

import contextlib
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from tests.bench.measure import Goal, Number, in_turn, seconds_of
from tests.integration.platform import DeployedPlatform, docker

GROUP = "postgres-data"
# With some 80 bytes in each row.
ROWS, ROWS_FULL = 2_000_000, 10_000_000
FOLDER = "/var/lib/postgresql"
STOCK = (
    f"initdb --pgdata={FOLDER}/data --username=postgres --auth=trust >&2"
    f" && exec postgres -D {FOLDER}/data -c unix_socket_directories=/run/postgresql"
    # What it cannot do without in a container, and without the libraries that our image leaves out.
    " -c dynamic_shared_memory_type=sysv -c jit=off"
)
SOURCE = """
COPY (SELECT id, timestamptz '2026-01-01' + id * interval '1 second', id % 1000, random(), md5(id::text)
      FROM generate_series({first}, {last}) AS id) TO '{file}'
"""
COLUMNS = "(id bigint, taken timestamptz, station int, value double precision, note text)"
INDEXES = ("ALTER TABLE {table} ADD PRIMARY KEY (id)", "CREATE INDEX ON {table} (taken)")
SCAN = "SELECT station, count(*), avg(value), max(taken) FROM loaded GROUP BY station"
MEMORY = "SET maintenance_work_mem = '256MB'"


@dataclass(frozen=True)
class Server:
    """A server in a container, asked by its own administrator, and a table in it."""

    container: str
    rows: int

    def run(self, *statements: str) -> None:
        """Run statements one after the other, each for itself."""
        words = [word for statement in statements for word in ("--command", statement)]
        options = ["--host=/run/postgresql", "--username=postgres", "--quiet", "--set=ON_ERROR_STOP=1"]
        docker("exec", self.container, "psql", *options, "--output=/dev/null", *words)

    def side_by_side(self, *statements: Sequence[str]) -> None:
        """Run several rows of statements at the same time, each over a connection of its own."""
        with ThreadPoolExecutor() as pool:
            list(pool.map(lambda one: self.run(*one), statements))

    def write_files(self) -> None:
        """Write what is loaded, in two halves."""
        middle = self.rows // 2
        for half, (first, last) in enumerate(((1, middle), (middle + 1, self.rows))):
            self.run(SOURCE.format(first=first, last=last, file=_file(half)))

    def timed(self, load: Callable[[], None], *, partitions: bool = False) -> float:
        """Seconds of a way to load an empty table."""
        kind = "PARTITION BY RANGE (id)" if partitions else ""
        self.run("DROP TABLE IF EXISTS loaded", f"CREATE TABLE loaded {COLUMNS} {kind}")
        bounds = (1, self.rows // 2 + 1, self.rows + 1)
        for half in (0, 1) if partitions else ():
            values = f"FROM ({bounds[half]}) TO ({bounds[half + 1]})"
            self.run(f"CREATE TABLE loaded_{half} PARTITION OF loaded FOR VALUES {values}")
        self.run("CHECKPOINT")
        return seconds_of(load)

    def load(self) -> None:
        """The plain way: one stream, and one index after the other."""
        self.run(*(_copy("loaded", half) for half in (0, 1)), *_indexes("loaded"))

    def load_in_streams(self) -> None:
        """The documentation's way, into one table."""
        self.side_by_side(*([_copy("loaded", half)] for half in (0, 1)))
        self.side_by_side(*([MEMORY, index] for index in _indexes("loaded")))

    def load_partitions(self) -> None:
        """The documentation's way, into two partitions."""
        tables = ("loaded_0", "loaded_1")
        self.side_by_side(
            *([MEMORY, _copy(table, half), *_indexes(table)] for half, table in enumerate(tables))
        )


def _file(half: int) -> str:
    return f"{FOLDER}/data/bench-{half}"


def _copy(table: str, half: int) -> str:
    return f"COPY {table} FROM '{_file(half)}'"


def _indexes(table: str) -> list[str]:
    return [index.format(table=table) for index in INDEXES]


def measure(platform: DeployedPlatform, rounds: int, full: bool) -> Iterator[Number]:
    """Load and scan a table on both servers in turn; then the ways to load on ours."""
    rows = ROWS_FULL if full else ROWS
    size = f"{rows // 10**6} million rows"
    ours = Server(f"{platform.name}-postgres-data", rows)
    with _stock(platform) as stock:
        theirs = Server(stock, rows)
        for server in (ours, theirs):
            server.write_files()
        values, others = in_turn(rounds, lambda: ours.timed(ours.load), lambda: theirs.timed(theirs.load))
        goal = Goal("ratio", at_most=1.05)
        yield Number(GROUP, f"COPY and indexes, {size}", "s", values, "stock settings", others, goal)
        values, others = in_turn(
            2 * rounds,
            lambda: seconds_of(lambda: ours.run(SCAN)),
            lambda: seconds_of(lambda: theirs.run(SCAN)),
        )
        goal = Goal("ratio", at_most=1 / 1.5)
        yield Number(GROUP, f"scan, {size}", "s", values, "stock settings", others, goal)
    for name, way, partitions, speed in (
        ("two streams, indexes at once", ours.load_in_streams, False, 1.4),
        ("two streams into two partitions", ours.load_partitions, True, 1.8),
    ):
        values, others = in_turn(
            rounds,
            lambda way=way, partitions=partitions: ours.timed(way, partitions=partitions),  # type: ignore[misc]
            lambda: ours.timed(ours.load),
        )
        yield Number(GROUP, name, "s", values, "the plain way", others, Goal("ratio", at_most=1 / speed))
    ours.run("DROP TABLE loaded")
    docker("exec", ours.container, "rm", _file(0), _file(1))


@contextlib.contextmanager
def _stock(platform: DeployedPlatform) -> Iterator[str]:
    """A container of the same image and limits, on the same disk, with PostgreSQL's own settings."""
    box = platform.containers()["postgres-data"]
    limits = box["HostConfig"]
    name, data = f"{platform.name}-bench-stock", platform.data / "bench-stock"
    data.mkdir()
    shutil.chown(data, 10002, 10002)
    try:
        docker(
            *("run", "--detach", "--name", name, "--network", "none", "--user", "10002:10002"),
            *("--memory", str(limits["Memory"]), "--shm-size", "64m", "--tmpfs", "/run/postgresql:uid=10002"),
            *("--volume", f"{data}:{FOLDER}", "--entrypoint", "sh", box["Config"]["Image"], "-c", STOCK),
        )
        deadline = time.monotonic() + 60
        ready = ["docker", "exec", name, "pg_isready", "--quiet", "--host=/run/postgresql"]
        while subprocess.run(ready, check=False).returncode:
            assert time.monotonic() < deadline, docker("logs", name)
            time.sleep(0.2)
        yield name
    finally:
        docker("rm", "--force", "--volumes", name)
        shutil.rmtree(Path(data))
