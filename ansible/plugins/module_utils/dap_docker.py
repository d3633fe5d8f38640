"""Running Docker's client, reading what it says about containers, and telling how far the work is."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from .dap_probe import search_path

PROJECT_LABEL = "com.docker.compose.project"
TIMED_OUT = 124


class DockerError(Exception):
    """Docker refused or failed."""


class NoEngineError(DockerError):
    """There is no client, or no engine answers: nothing runs here."""


@dataclass(frozen=True)
class Finished:
    """A command that has ended: exit status and what it wrote."""

    returncode: int
    stdout: str = ""
    stderr: str = ""

    @property
    def last_words(self) -> str:
        """The last line that says something, for a message of one line."""
        lines = [line.strip() for line in (self.stderr or self.stdout).splitlines() if line.strip()]
        return lines[-1] if lines else f"exit status {self.returncode}"


Run = Callable[[Sequence[str]], Finished]


def run_docker(
    argv: Sequence[str],
    timeout: float = 120,
    environment: Mapping[str, str] | None = None,
    stdin: str = "",
) -> Finished:
    """Run ``docker`` with the given arguments and wait for it.

    Args:
        argv: the arguments after ``docker``.
        timeout: seconds after which the command is ended and counts as failed (``TIMED_OUT``).
        environment: variables to add to the process environment.
        stdin: what the command reads from its standard input.

    Raises:
        NoEngineError: there is no client, or no engine answers.
    """
    try:
        # The client stands where the administrator put it; the arguments are the modules' own.
        process = subprocess.run(  # noqa: S603
            ["docker", *argv],  # noqa: S607
            capture_output=True,
            text=True,
            errors="replace",
            timeout=timeout,
            check=False,
            input=stdin,
            env={**os.environ, "PATH": search_path(), **(environment or {})},
        )
    except FileNotFoundError:
        raise NoEngineError("Docker is not installed") from None
    except subprocess.TimeoutExpired:
        return Finished(TIMED_OUT, stderr=f"docker {argv[0]} did not end within {timeout:.0f} s")
    if process.returncode and "Cannot connect to the Docker daemon" in process.stderr:
        raise NoEngineError("the Docker engine does not answer: " + process.stderr.strip().splitlines()[0])
    return Finished(process.returncode, process.stdout, process.stderr)


def run_heeding(argv: Sequence[str], timeout: float, stdin: str, heed: Callable[[str], None]) -> Finished:
    """The same, with ``heed`` called for each line of its standard error as it comes."""
    process = subprocess.Popen(  # noqa: S603  as above
        ["docker", *argv],  # noqa: S607
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        errors="replace",
        env={**os.environ, "PATH": search_path()},
    )
    assert process.stdin and process.stdout and process.stderr  # noqa: S101  they are pipes
    said: list[str] = []
    answered: list[str] = []

    def listen(stream: IO[str]) -> None:
        for line in stream:
            said.append(line)
            heed(line.rstrip("\n"))

    readers = [
        threading.Thread(target=listen, args=[process.stderr]),
        threading.Thread(target=lambda stream: answered.append(stream.read()), args=[process.stdout]),
    ]
    for reader in readers:
        reader.start()
    try:
        with contextlib.suppress(BrokenPipeError), process.stdin as pipe:
            pipe.write(stdin)
        process.wait(timeout)
    except subprocess.TimeoutExpired:
        return Finished(TIMED_OUT, stderr=f"docker {argv[0]} did not end within {timeout:.0f} s")
    finally:
        if process.poll() is None:
            process.kill()
            process.wait()
        for reader in readers:
            reader.join(timeout=10)
    return Finished(process.returncode, "".join(answered), "".join(said))


@dataclass(frozen=True)
class Container:
    """A container of a Compose project, as ``docker inspect`` describes it."""

    identifier: str
    name: str
    service: str
    number: str
    one_off: bool
    status: str
    health: str
    exit_code: int
    started_at: str
    config_hash: str
    waits_for: tuple[str, ...]
    health_output: str
    process: int = 0

    @property
    def well(self) -> bool:
        """Whether it runs, and passes its health check if it has one."""
        return self.status == "running" and self.health in ("", "healthy")


def parse_containers(inspected: str) -> list[Container]:
    """Read the output of ``docker inspect`` on containers."""
    containers = []
    for item in json.loads(inspected or "[]"):
        labels = item["Config"].get("Labels") or {}
        state = item["State"]
        health = state.get("Health") or {}
        checks = health.get("Log") or []
        depends_on = labels.get("com.docker.compose.depends_on", "")
        containers.append(
            Container(
                identifier=item["Id"],
                name=item["Name"].lstrip("/"),
                service=labels.get("com.docker.compose.service", ""),
                number=labels.get("com.docker.compose.container-number", ""),
                one_off=labels.get("com.docker.compose.oneoff", "False") == "True",
                status=state["Status"],
                health="" if health.get("Status") == "none" else health.get("Status", ""),
                exit_code=state["ExitCode"],
                started_at=state["StartedAt"],
                config_hash=labels.get("com.docker.compose.config-hash", ""),
                waits_for=tuple(entry.split(":")[0] for entry in depends_on.split(",") if entry),
                health_output=" ".join(checks[-1]["Output"].split()) if checks else "",
                process=state.get("Pid", 0),
            )
        )
    return sorted(containers, key=lambda container: container.name)


def project_containers(run: Run, project: str) -> list[Container]:
    """List all containers of a Compose project, running or not, one-off ones too."""
    listed = run(["ps", "--all", "--quiet", "--no-trunc", "--filter", f"label={PROJECT_LABEL}={project}"])
    if listed.returncode:
        raise DockerError(f"the containers cannot be listed: {listed.last_words}")
    identifiers = listed.stdout.split()
    if not identifiers:
        return []
    # A container may be gone by now: its line is then missing from the output, and that is the truth.
    return parse_containers(run(["inspect", "--type", "container", *identifiers]).stdout)


def elapsed(since: float) -> str:
    """The time since a ``time.monotonic()`` as minutes and seconds: ``01:12``."""
    minutes, seconds = divmod(int(time.monotonic() - since), 60)
    return f"{minutes:02}:{seconds:02}"


class Progress:
    """One line in a file that says what is being done, for whoever watches; gone when the work is over."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def say(self, line: str) -> None:
        """Replace the line; a reader never sees half of one. Failing to write stops nobody's work."""
        new = self.path.with_name(self.path.name + ".new")
        with contextlib.suppress(OSError):
            new.write_text(line + "\n", encoding="utf-8")
            new.replace(self.path)

    def __enter__(self) -> Progress:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        return self

    def __exit__(self, *_: object) -> None:
        with contextlib.suppress(FileNotFoundError):
            self.path.unlink()


def tail(path: Path, count: int) -> list[str]:
    """The last lines of a log, without the empty ones."""
    try:
        lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
    except FileNotFoundError:
        return []
    return [line.rstrip() for line in lines if line.strip()][-count:]
