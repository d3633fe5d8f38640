"""A Compose project on a host: starting it, running its job, telling its services of changed files."""

from __future__ import annotations

import base64
import contextlib
import os
import re
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from .dap_docker import (
    TIMED_OUT,
    Container,
    DockerError,
    Finished,
    Progress,
    Run,
    elapsed,
    project_containers,
    tail,
)
from .dap_files import PENDING, Tree, checked_path
from .dap_job import PROGRESS, job_result
from .dap_planned import services_in
from .dap_project import LOG_LINES, describe_failure, to_signal
from .dap_space import full_disks

POLL_SECONDS: float = 3
send = os.kill
# What Compose calls a container until the one whose place it takes is gone.
_HALF_REPLACED = re.compile(r"[0-9a-f]{12}_.+")
Feed = Callable[[Sequence[str], str, Callable[[str], None]], Finished]


class Project:
    """A Compose project on this host."""

    def __init__(self, given: Mapping[str, Any], run: Run, feed: Feed) -> None:
        self.root = Path(given["project_directory"])
        self.name: str = given["project"]
        self.wait_seconds: int = given["wait_seconds"]
        self.services: list[str] = given["services"]
        self.expected: list[str] = given["expected"]
        self.reload: list[dict[str, Any]] = given["reload"]
        self.alone: bool = given["alone"]
        self.touched: set[str] = set(given["touched"])
        self.planned_files = {
            checked_path(item["path"]): base64.b64decode(item["content"]) for item in given["planned_files"]
        }
        self.arguments: list[str] = given["arguments"]
        self.settled_arguments: list[str] = given["settled_arguments"]
        self.commands: list[dict[str, Any]] = given["commands"]
        self.job_input = base64.b64decode(given["job_input"]).decode()
        self.changed_paths = {
            path for path in {*given["changed_paths"], *Tree(self.root).owned(PENDING)} if self.concerns(path)
        }
        self.run = run
        self.feed = feed
        self.progress = Progress(self.root / "log" / "progress")
        self.log = self.root / "log" / "up.log"

    def compose(self, *arguments: str) -> list[str]:
        """The arguments of ``docker`` for a command on this project's files."""
        return ["compose", "--project-directory", str(self.root), "-p", self.name, *arguments]

    def concerns(self, path: str) -> bool:
        """Whether a file of the tree matters to what is being done."""
        return not self.alone or path.partition("/")[0] in self.services

    def containers(self) -> list[Container]:
        """All containers of the project."""
        return list(project_containers(self.run, self.name))

    def start(self) -> bool:
        """Run ``up`` and wait; returns whether everything got well in time.

        The limit is kept here: Compose (2.26) waits without one for a service that others depend on.
        """
        self.remove_half_replaced()
        # Images are there already, so that a missing one is an error here and not a surprise from a registry.
        up = ["up", "--detach", "--wait", "--wait-timeout", str(self.wait_seconds), "--no-build"]
        up += ["--pull", "never", "--quiet-pull"]
        # Not --no-deps: Compose (2.26) would forget what the services depend on, and with it their hashes.
        argv = ["docker", *self.compose(*up, *(self.services or ["--remove-orphans"]))]
        started = time.monotonic()
        with self.progress, self.log.open("wb") as output:
            process = subprocess.Popen(  # noqa: S603 - the module's own command
                argv,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                cwd=self.root,
                start_new_session=True,
            )
            try:
                while time.monotonic() - started < self.wait_seconds:
                    with contextlib.suppress(subprocess.TimeoutExpired):
                        return process.wait(timeout=POLL_SECONDS) == 0
                    waiting = {
                        item.service for item in self.containers() if not item.well and not item.one_off
                    }
                    self.progress.say(
                        f"starting {elapsed(started)}: waiting for {', '.join(sorted(waiting))}"
                    )
                return False
            finally:
                end(process)

    def settled(self, containers: Sequence[Container]) -> bool:
        """Whether the wanted services run well, and no file has changed: then Compose need not be asked.

        It compares the same things and takes a second for that. What it would notice besides, an image tag
        that means another image now, does not happen to tags that name their content.
        """
        well = {item.service for item in containers if item.well and not item.one_off}
        if self.services:
            return not self.changed_paths and well.issuperset(self.services)
        return self.all_settled(containers)

    def all_settled(self, containers: Sequence[Container]) -> bool:
        """The same of all services of this host."""
        present = {item.service for item in containers if not item.one_off}
        well = {item.service for item in containers if item.well and not item.one_off}
        return not self.changed_paths and bool(self.expected) and well == present == set(self.expected)

    def tell(self, touched: set[str], containers: Sequence[Container]) -> list[str]:
        """Send the signals that are due, then forget the changed files; returns the services told."""
        told = []
        for service, name in to_signal(self.reload, self.changed_paths, touched | self.touched):
            running = [item.process for item in containers if item.service == service and item.well]
            for process in running:
                try:
                    # Not through the engine: it takes any signal for a stop that somebody wants, and does not
                    # start the container again should it crash later.
                    send(process, signal.Signals[f"SIG{name}"])
                except OSError as error:
                    raise DockerError(f"{service} did not take signal {name}: {error.strerror}") from error
            if running:
                told.append(service)
        tree = Tree(self.root)
        if left := tree.owned(PENDING) - self.changed_paths:
            incoming = f".incoming-{self.name}"
            tree.write_record(PENDING, left, incoming)
            shutil.rmtree(self.root / incoming)
        else:
            (self.root / PENDING).unlink(missing_ok=True)
        return told

    def configuration(self, *arguments: str) -> dict[str, Any]:
        """The services as Compose understands the files; none where it cannot read them."""
        return services_in(self.run(self.compose(*arguments, "config", "--format", "json")).stdout)

    def job(self, containers: Sequence[Container], given: str, *arguments: str) -> dict[str, Any]:
        """Run the job on its own file, or on what is ``given``; ``msg`` in the result says what failed."""
        service = self.arguments[0]
        # One may be left over from a deploy that was killed; two of them would work against each other.
        self.remove_one_off(service, containers)
        given_arguments = ["--state", "-"] if given else []
        argv = self.compose("run", "--rm", "--no-deps", "-T", *self.arguments, *given_arguments, *arguments)
        with self.progress:
            self.progress.say(f"provisioning: {' '.join(self.arguments)}")
            finished = self.feed(argv, given, self.heed)
        if finished.returncode == TIMED_OUT:
            self.remove_one_off(service, self.containers())
        result: dict[str, Any] = job_result(finished, service)
        return result

    def heed(self, line: str) -> None:
        """Hand on what a job says that it is doing."""
        if line.startswith(PROGRESS):
            self.progress.say(line.removeprefix(PROGRESS))

    def remove_half_replaced(self) -> None:
        """Remove what a killed deploy had made to take a container's place, and had not started yet.

        Compose would start it beside the old one, and fail: they share names and ports. Where the old one is
        gone already, it would keep its odd name.
        """
        left = [item.identifier for item in self.containers() if _HALF_REPLACED.fullmatch(item.name)]
        if left:
            self.run(["rm", "--force", *left])

    def remove_one_off(self, service: str, containers: Sequence[Container]) -> None:
        """Remove the containers of jobs that nobody waits for any more."""
        left = [item.identifier for item in containers if item.one_off and item.service == service]
        if left:
            self.run(["rm", "--force", *left])

    def failure(self, containers: Sequence[Container]) -> str:
        """What is wrong, with the services' own last words."""
        logs = {}
        for container in containers:
            if not container.well and container.status != "created":
                said = self.run(["logs", "--tail", str(LOG_LINES), container.identifier])
                logs[container.name] = said.stdout + said.stderr
        described = describe_failure(containers, logs, tail(self.log, 40))
        return f"{described}\n  log: {self.log}"

    def full_disks(self) -> list[str]:
        """One line for each full disk that the project uses, indented as a part of a failure's message."""
        return [f"  {line}" for line in full_disks(self.run, self.containers(), str(self.root))]


def end(process: subprocess.Popen[bytes]) -> None:
    """End a client and the plugin that it started, if they still run."""
    for signal_number in (signal.SIGTERM, signal.SIGKILL):
        if process.poll() is not None:
            return
        os.killpg(process.pid, signal_number)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(timeout=10)
