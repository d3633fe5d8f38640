"""Building the platform's images: in which order, with which command, and from which base."""

from __future__ import annotations

import os
import re
import subprocess
import threading
import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from .dap_docker import DockerError, Progress, Run, tail
from .dap_probe import search_path

CA_BUNDLE = Path("/etc/ssl/certs/ca-certificates.crt")
NAME_LABEL = "dap.image"
# The tag of what an image is built upon.
UPON_LABEL = "dap.upon"
# Which mirrors an image's apt sources name; the tag says nothing of them.
MIRRORS_LABEL = "dap.mirrors"
HELP_PAGE = "docs/how-to/use-mirrors-and-a-proxy.md"
LINES_SHOWN = 25
# Where Python packages come from; the first that is set counts.
_INDEXES = ("UV_DEFAULT_INDEX", "PIP_INDEX_URL")
# BuildKit knows these by itself, and keeps them out of an image's history.
_PROXY_VARIABLES = ("http_proxy", "https_proxy", "no_proxy", "all_proxy", "ftp_proxy")


# How apt, pip, uv, npm and Go say that the network, and not the build, is at fault.
_NETWORK_TROUBLE = re.compile(
    r"i/o timeout|no such host|temporary failure|could not (resolve|connect)"
    r"|connection (reset|refused|timed out)|no route to host|network is unreachable"
    r"|context deadline exceeded|client\.timeout exceeded|request canceled while waiting|\": eof$"
    r"|tls handshake timeout|unexpected eof|dns error|operation timed out|read timed out|newconnectionerror"
    # All that pip says of an index that does not answer.
    r"|\(from versions: none\)"
    r"|eai_again|econnreset|etimedout|50[234] (bad gateway|service unavailable|gateway time)",
    re.IGNORECASE | re.MULTILINE,
)


def network_trouble(output: str) -> bool:
    """Whether what a build wrote last looks as if it may work a moment later."""
    return _NETWORK_TROUBLE.search(output) is not None


def network_advice(output: str) -> str:
    """What to do when something could not be had over the network; empty when that was not the trouble."""
    if not network_trouble(output):
        return ""
    return (
        "\n  if this host reaches the internet only through a proxy or a mirror, set proxy or mirrors in"
        f" platform.yml ({HELP_PAGE})"
    )


def excerpt(log: Path) -> str:
    """The end of a log, what to do if it tells of a network that failed, and where the rest is."""
    lines = tail(log, LINES_SHOWN)
    shown = "\n".join(f"    {line}" for line in lines)
    return f"{shown}{network_advice(chr(10).join(lines))}\n  log: {log}"


def secret_parts(environment: Mapping[str, Any]) -> set[str]:
    """Values with a user or password in an address, and the passwords: nothing that Ansible may print."""
    secrets = set()
    for value in map(str, environment.values()):
        address = urlsplit(value if "://" in value else "")
        if address.username or address.password:
            secrets.add(value)
            secrets.update(part for part in (address.password,) if part)
    return secrets


def kept_in_history(environment: Mapping[str, str]) -> list[str]:
    """The variables whose values a build may leave in the history of its image."""
    return [name for name in environment if name.lower() not in _PROXY_VARIABLES]


@contextmanager
def said_every_second(progress: Progress, line: Callable[[], str]) -> Iterator[None]:
    """Keep a progress line up to date while the body runs."""
    ended = threading.Event()

    def keep_saying() -> None:
        while not ended.is_set():
            progress.say(line())
            ended.wait(1)

    with ThreadPoolExecutor(max_workers=1) as pool:
        pool.submit(keep_saying)
        try:
            yield
        finally:
            ended.set()


class BuildError(Exception):
    """An image could not be made."""


@dataclass(frozen=True)
class Image:
    """An image that is built here, from a tar file with its build context."""

    name: str
    tag: str
    context: str
    base: str
    depends_on: tuple[str, ...] = ()

    @classmethod
    def of(cls, given: Mapping[str, Any]) -> Image:
        """Read one entry of a module's parameters."""
        return cls(given["name"], given["tag"], given["context"], given["base"], tuple(given["depends_on"]))


@dataclass(frozen=True)
class Outcome:
    """How the building of one image ended; ``error`` is empty when it succeeded."""

    name: str
    seconds: int
    error: str = ""


def normal_tag(tag: str) -> str:
    """A tag the way the engine lists it: without the default registry, with ``latest`` spelled out."""
    for prefix in ("docker.io/library/", "docker.io/"):
        tag = tag.removeprefix(prefix)
    return tag if ":" in tag.rpartition("/")[2] else f"{tag}:latest"


def remove_old(name: str, tag: str, keep: int, run: Run) -> list[str]:
    """Remove older tags of an image that is built by the platform; returns those that went.

    The engine itself refuses those that a container uses.

    Args:
        name: of the image, as its label has it.
        tag: the one that is wanted now.
        keep: how many stay, that one counted.
        run: runs Docker.
    """
    listed = run(
        ["image", "ls", "--format", "{{.Repository}}:{{.Tag}}", "--filter", f"label={NAME_LABEL}={name}"]
    )
    if listed.returncode:
        raise DockerError(f"the images cannot be listed: {listed.last_words}")
    wanted = normal_tag(tag)
    repository = wanted.rpartition(":")[0]
    # Newest first, as the engine lists them.
    tags = [one for one in listed.stdout.split() if one.rpartition(":")[0] == repository]
    old = [one for one in tags if one != wanted and not one.endswith(":<none>")]
    return [one for one in old[max(0, keep - 1) :] if run(["image", "rm", one]).returncode == 0]


def build_argv(
    image: Image, ca_bundle: Path | None, passed_on: Collection[str], mirrors: str = ""
) -> list[str]:
    """The command that builds an image from a context on its standard input.

    ``mirrors`` tells later which apt mirrors it was built with. ``passed_on`` names variables of the
    environment that become build arguments: without a value in the command, because the value may hold a
    password and every user may read the arguments of a process.
    """
    argv = ["docker", "build", "--progress", "plain", "--tag", image.tag]
    argv += ["--label", f"{NAME_LABEL}={image.name}", "--build-arg", f"BASE_IMAGE={image.base}"]
    argv += ["--label", f"{UPON_LABEL}={image.base}"]
    argv += ["--label", f"org.opencontainers.image.title={image.tag.partition(':')[0]}"]
    if mirrors:
        argv += ["--label", f"{MIRRORS_LABEL}={mirrors}"]
    for name in sorted(passed_on):
        argv += ["--build-arg", name]
    # For steps whose variables stay in the image's history: a secret does not.
    index = next((name for name in _INDEXES if name in passed_on), "")
    if index:
        argv += ["--secret", f"id=pypi,env={index}"]
    if ca_bundle:
        argv += ["--secret", f"id=ca,src={ca_bundle}"]
    return [*argv, "-"]


def run_logged(
    argv: Sequence[str],
    log: Path,
    *,
    timeout: float,
    environment: Mapping[str, str] | None = None,
    stdin: Path | None = None,
) -> int:
    """Run a command with all it writes going to a log that only its owner reads; returns its exit status.

    Raises:
        BuildError: it did not end in time, or is not installed.
    """
    log.parent.mkdir(parents=True, exist_ok=True)
    log.unlink(missing_ok=True)
    descriptor = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "wb") as output, open(stdin or os.devnull, "rb") as given:
        try:
            return subprocess.run(  # noqa: S603 - the modules' own commands
                list(argv),
                stdin=given,
                stdout=output,
                stderr=subprocess.STDOUT,
                env={**os.environ, "PATH": search_path(), **(environment or {})},
                timeout=timeout,
                check=False,
            ).returncode
        except FileNotFoundError:
            raise BuildError(f"{argv[0]} is not installed") from None
        except subprocess.TimeoutExpired:
            raise BuildError(f"{argv[0]} did not end within {timeout:.0f} s") from None


def run_patiently(
    argv: Sequence[str],
    log: Path,
    *,
    timeout: float,
    pauses: Sequence[float],
    environment: Mapping[str, str] | None = None,
    stdin: Path | None = None,
) -> int:
    """Run a command like ``run_logged``, again after each of the pauses (in seconds) while the network fails.

    Raises:
        BuildError: it did not end in time, or is not installed.
    """
    for pause in (*pauses, None):
        status = run_logged(argv, log, timeout=timeout, environment=environment, stdin=stdin)
        if not status or pause is None or not network_trouble("\n".join(tail(log, LINES_SHOWN))):
            return status
        # What was fetched or built already is kept, so another try costs little.
        time.sleep(pause)
    return status


def build_all(
    images: Sequence[Image],
    build: Callable[[Image], None],
    parallel: int,
    watch: Callable[[Mapping[str, float], int], None],
) -> list[Outcome]:
    """Build images side by side, each one after those that it depends on.

    A failure stops only the images that depend on it.

    Args:
        images: what to build; dependencies on images that are not among them are taken as met.
        build: builds one, or raises BuildError.
        parallel: how many at a time.
        watch: told about once a second what is running (name to ``time.monotonic()`` of its start) and
            how many have ended.

    Returns:
        One outcome per image, in the order in which they ended.
    """
    waiting = {image.name: image for image in images}
    started: dict[str, float] = {}
    running: dict[Future[None], str] = {}
    outcomes: list[Outcome] = []
    with ThreadPoolExecutor(max_workers=max(1, parallel)) as pool:
        while waiting or running:
            failed = {outcome.name for outcome in outcomes if outcome.error}
            for name, image in list(waiting.items()):
                culprits = failed.intersection(image.depends_on)
                if culprits:
                    del waiting[name]
                    outcomes.append(Outcome(name, 0, f"not built, because {min(culprits)} failed"))
                    break
                ahead = {*waiting, *running.values()} - {name}
                if len(running) < max(1, parallel) and not ahead.intersection(image.depends_on):
                    del waiting[name]
                    started[name] = time.monotonic()
                    running[pool.submit(build, image)] = name
            else:
                if not running:
                    outcomes += [Outcome(name, 0, "depends on itself") for name in waiting]
                    break
                watch({name: started[name] for name in running.values()}, len(outcomes))
                for future in wait(running, timeout=1, return_when=FIRST_COMPLETED).done:
                    name = running.pop(future)
                    error = future.exception()
                    if error and not isinstance(error, (BuildError, OSError)):
                        raise error
                    outcomes.append(
                        Outcome(name, round(time.monotonic() - started[name]), str(error) if error else "")
                    )
    return outcomes
