"""Tells how the development containers of a host are, and what goes on in them. It runs there, as root.

Sent over one connection as a script, like `dap.dev.on_host`, with nothing but Python; it changes nothing.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import subprocess
import time
from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from dap.dev import quota
from dap.dev.boxes import LABEL, gpus_of

SAMPLE_SECONDS = 0.25
# Of /proc/net/tcp: an open connection to the SSH server's port, 2222.
CONNECTION = re.compile(r"^ *\d+: [0-9A-F]+:08AE [0-9A-F]+:[0-9A-F]+ 01 ", re.MULTILINE)
# What the server writes when a user comes and goes; refused attempts are nobody's doing.
COME_OR_GONE = re.compile(
    r"^(\S+) .*(Accepted publickey for|Disconnected from user|not responding from user) "
)
# Where JupyterLab listens in a container.
JUPYTER = "/run/jupyter/socket"
# Of /proc/net/unix: an open connection to VS Code's server there.
WINDOW = re.compile(r"^\S+ \S+ \S+ \S+ \S+ 03 +\d+ /run/jupyter/code$", re.MULTILINE)
LARGEST_ANSWER = 1_000_000
# What a container has noted in its user's home: how many KiB are in that, and how long it took to find out.
NOTE = (".cache", "dap", "home_size")
SIZE = re.compile(rb"(\d{1,12}) \d{1,9}\n")
# For each GPU how many hundredths of the last second it has calculated. A driver in trouble may never answer.
GPU_SECONDS = 5
GPU_USE = ["nvidia-smi", "--query-gpu=utilization.gpu", "--format=csv,noheader,nounits"]
TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d{1,9})?Z")


def docker(*arguments: str, seconds: float | None = None) -> str:
    """What a Docker command prints, errors included; `seconds` is how long it may take."""
    done = subprocess.run(  # noqa: S603  our own argv, no shell
        ["docker", *arguments],  # noqa: S607  wherever the host has it
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
        timeout=seconds,
    )
    if done.returncode:
        raise OSError((done.stdout.strip().splitlines() or ["no answer"])[-1])
    return done.stdout


def look(project: str, data: Path) -> list[dict[str, Any]]:
    """Each development container of a platform."""
    label = f"label=com.docker.compose.project={project}"
    found = docker("ps", "--all", "--quiet", "--filter", label).split()
    boxes = json.loads(docker("inspect", *found)) if found else []
    boxes = [box for box in boxes if LABEL in box["Config"]["Labels"]]
    images = built({box["Image"] for box in boxes})
    busy = processors({box["State"]["Pid"] for box in boxes if box["State"]["Running"]})
    users = {box["Config"]["Labels"][f"{LABEL}.user"] for box in boxes}
    sizes = {user: size_of(data, user) for user in users}
    # Side by side, so that those that do not answer are waited for once.
    with ThreadPoolExecutor(max_workers=16) as pool:
        return list(
            pool.map(
                lambda box: told(box, images, busy) | sizes[box["Config"]["Labels"][f"{LABEL}.user"]], boxes
            )
        )


def told(box: Mapping[str, Any], images: Mapping[str, str], busy: Mapping[int, float]) -> dict[str, Any]:
    """What there is to say of a container, but for its home."""
    labels, state = box["Config"]["Labels"], box["State"]
    return {
        "name": labels[LABEL],
        "user": labels[f"{LABEL}.user"],
        "environment": labels[f"{LABEL}.environment"],
        "configuration": labels.get(f"{LABEL}.configuration", ""),
        "state": state["Status"],
        "since": state["StartedAt" if state["Running"] else "FinishedAt"],
        "image": box["Config"]["Image"],
        "image_id": box["Image"],
        "image_built": images.get(box["Image"], ""),
        "connections": connections(state["Pid"]) if state["Running"] else 0,
        "last_login": last_login(box["Id"]),
        **(kernels(box) if state["Running"] else NO_KERNELS),
        "code_connections": windows(state["Pid"]) if state["Running"] else 0,
        "cpu": busy.get(state["Pid"], 0.0),
        "gpus": gpus_of(box),
        "gpu": gpu_use(box) if state["Running"] and gpus_of(box) else None,
    }


def size_of(data: Path, user: str) -> dict[str, Any]:
    """How much is in a user's home, and whether its file system holds homes to their limits."""
    home = data / "homes" / user
    disk = None
    with contextlib.suppress(OSError):
        platform_id = (data / ".platform-id").read_text(encoding="utf-8").strip()
        project = quota.project_of(platform_id, home.stat().st_uid)
        disk = quota.Disk.of(home)
        if disk and disk.limit(project):
            return {"home_used": disk.used(project), "home_kept": True}
    return {"home_used": noted(home), "home_kept": disk is not None}


def noted(home: Path) -> int | None:
    """The bytes in a home as a container has noted them in it; its user may have put anything there."""
    with contextlib.ExitStack() as opened:
        inside = None
        try:
            for name in (str(home), *NOTE):
                kind = os.O_NONBLOCK if name == NOTE[-1] else os.O_DIRECTORY
                inside = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | kind, dir_fd=inside)
                opened.callback(os.close, inside)
            found = SIZE.fullmatch(os.read(inside or 0, 100))
        except OSError:
            return None
        return int(found[1]) * 1024 if found and int(found[1]) else None


def gpu_use(box: Mapping[str, Any]) -> int | None:
    """How much the busiest of a container's GPUs has calculated, in percent; None where nobody can tell.

    The driver's own program is asked, as the CDI spec brings it into the container.
    """
    ask = ["exec", box["Id"], "timeout", "--kill-after=1", str(GPU_SECONDS), *GPU_USE]
    try:
        return busiest(docker(*ask, seconds=2 * GPU_SECONDS))
    except (OSError, ValueError, subprocess.TimeoutExpired):
        return None


def busiest(answer: str) -> int:
    """The largest number of the driver's answer.

    Raises:
        ValueError: it has none, or something else besides, as for a part of a GPU.
    """
    return max(int(line) for line in answer.splitlines())


def built(images: Iterable[str]) -> dict[str, str]:
    """When images were built; those that are gone are left out."""
    found = {}
    for image in sorted(images):
        with contextlib.suppress(OSError):
            found[image] = docker("image", "inspect", "--format", "{{.Created}}", image).strip()
    return found


def connections(pid: int) -> int:
    """How many SSH connections there are to the container of a process."""
    try:
        return len(CONNECTION.findall(Path(f"/proc/{pid}/net/tcp").read_text(encoding="ascii")))
    except OSError:
        return 0


def windows(pid: int) -> int:
    """How many connections there are to VS Code in the container of a process, some for each window."""
    try:
        return len(WINDOW.findall(Path(f"/proc/{pid}/net/unix").read_text(encoding="utf-8")))
    except OSError:
        return 0


def last_login(container: str) -> str:
    """When a user has logged in or left last, as far back as the log goes; empty where nobody has."""
    lines = docker("logs", "--timestamps", "--tail", "1000", container).splitlines()
    return next((found[1] for line in reversed(lines) if (found := COME_OR_GONE.match(line))), "")


NO_KERNELS = {"kernels": 0, "busy_kernels": 0, "last_kernel": ""}


def kernels(box: Mapping[str, Any]) -> dict[str, Any]:
    """The kernels of a container's JupyterLab, where that runs: how many, how many at work, and when last.

    It is its user who answers, so what is said is taken for nothing but numbers and times.
    """
    try:
        if not runs_jupyter(Path(f"/proc/{box['State']['Pid']}/net/unix").read_text(encoding="utf-8")):
            return NO_KERNELS
        limits = ["--max-time", "2", "--max-filesize", str(LARGEST_ANSWER)]
        curl = ["curl", "-q", "--silent", "--fail", *limits, "--unix-socket", JUPYTER]
        return kernels_in(docker("exec", box["Id"], *curl, "http://localhost/api/kernels"))
    except (OSError, ValueError):
        return NO_KERNELS


def runs_jupyter(sockets: str) -> bool:
    """Whether one of the sockets of ``/proc/<process>/net/unix`` is JupyterLab's."""
    return any(line.endswith(f" {JUPYTER}") for line in sockets.splitlines())


def kernels_in(answer: str) -> dict[str, Any]:
    """What a JupyterLab's answer says.

    Raises:
        ValueError: it is no such answer.
    """
    told = json.loads(answer)
    if not isinstance(told, list) or not all(isinstance(one, dict) for one in told):
        raise ValueError("no list of kernels")
    times = [str(one.get("last_activity")) for one in told]
    return {
        "kernels": len(told),
        "busy_kernels": sum(one.get("execution_state") == "busy" for one in told),
        "last_kernel": max((one for one in times if TIME.fullmatch(one)), default=""),
    }


def processors(pids: Iterable[int]) -> dict[int, float]:
    """How many processors the containers of these processes take at present."""
    groups = {group: pid for pid in pids if (group := group_of(pid))}
    before = used(groups.values(), groups)
    time.sleep(SAMPLE_SECONDS if groups else 0)
    after = used(groups.values(), groups)
    ticks = os.sysconf("SC_CLK_TCK") * SAMPLE_SECONDS
    return {
        pid: round(sum(max(0, now - before[pid].get(one, now)) for one, now in after[pid].items()) / ticks, 1)
        for pid in groups.values()
    }


def group_of(pid: int) -> str:
    """What all processes of a container have in common, and no others."""
    try:
        return Path(f"/proc/{pid}/cgroup").read_text(encoding="utf-8")
    except OSError:
        return ""


def used(pids: Iterable[int], groups: Mapping[str, int]) -> dict[int, dict[int, int]]:
    """The processor time that the processes of containers have had, in ticks."""
    found: dict[int, dict[int, int]] = {pid: {} for pid in pids}
    for entry in os.listdir("/proc") if groups else ():
        if not entry.isdigit() or (pid := groups.get(group_of(int(entry)))) is None:
            continue
        with contextlib.suppress(OSError):
            line = Path(f"/proc/{entry}/stat").read_text(encoding="utf-8", errors="replace")
            # The name of a program, in brackets, may hold anything.
            found[pid][int(entry)] = sum(map(int, line.rpartition(")")[2].split()[11:13]))
    return found


def answer(request: Mapping[str, Any]) -> dict[str, Any]:
    """Do what is asked."""
    try:
        return {"containers": look(request["project"], Path(request["data"]))}
    except OSError as error:
        return {"error": error.strerror or str(error)}
