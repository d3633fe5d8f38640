"""The GPUs of a host: what its CDI specs name, and whether its engine hands that out.

The Container Device Interface is how containers get devices: a spec says for each device which nodes, files
and variables a container is given. The program sends this module to hosts as a script, too, so it needs
nothing but Python, and none of the modules beside it.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

# Where engines look unless they are told otherwise.
FOLDERS = ("/etc/cdi", "/var/run/cdi")
DRIVER = "/proc/driver/nvidia/version"
LIMIT_SECONDS = 20
LABEL = "dap.dev"
SEARCH_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


class SpecError(Exception):
    """A spec cannot be read; says why."""


def look() -> dict[str, Any]:
    """What there is to know of this host's GPUs.

    Returns:
        ``engine``: its version; ``cdi``: whether it hands devices out; ``devices``: each with ``name``,
        ``nodes`` and ``lacking``, which are files that the spec names and that are not there; ``unread``:
        specs that cannot be read, and why; ``driver``: the version of NVIDIA's that is loaded; ``complaint``:
        what is wrong with it, as its own tool says; ``toolkit``: whether NVIDIA's is installed; ``uuids``: by
        index; ``held``: what development containers run with, by container.
    """
    code, told = said_by("docker", "info", "--format", "{{json .}}")
    try:
        engine = json.loads(told) if code == 0 else {}
    except ValueError:
        engine = {}
    folders = engine.get("CDISpecDirs") or ()
    devices, unread = found_in(spec_files(folders or FOLDERS))
    code, listed = said_by("nvidia-smi", "-L")
    return {
        "engine": engine.get("ServerVersion", ""),
        "cdi": bool(folders),
        "devices": devices,
        "unread": unread,
        "driver": driver_version(text_of(DRIVER)),
        "complaint": (listed.strip().splitlines() or ["it says nothing"])[0] if code > 0 else "",
        "toolkit": program("nvidia-ctk") is not None,
        "uuids": uuids_of(listed) if code == 0 else {},
        "held": held() if folders else {},
    }


def held() -> dict[str, list[str]]:
    """The devices that development containers run with, whatever the configuration says by now."""
    _, found = said_by("docker", "ps", "--quiet", "--filter", f"label={LABEL}")
    layout = f'{{{{json (index .Config.Labels "{LABEL}")}}}} {{{{json .HostConfig.DeviceRequests}}}}'
    code, told = said_by("docker", "inspect", "--format", layout, *found.split())
    devices = {}
    # Without any container it was asked for none, and has failed.
    for line in told.splitlines() if code == 0 else ():
        name, _, requests = line.partition(" ")
        wanted = [one for request in json.loads(requests) or () for one in request["DeviceIDs"] or ()]
        if wanted:
            devices[json.loads(name)] = wanted
    return devices


def program(name: str) -> str | None:
    """Where a program is."""
    return shutil.which(name, path=f"{os.environ.get('PATH', '')}:{SEARCH_PATH}".lstrip(":"))


def said_by(name: str, *arguments: str) -> tuple[int, str]:
    """How a command ended, and what it said; -1 where there is no such program, or it hangs."""
    path = program(name)
    if path is None:
        return -1, ""
    try:
        done = subprocess.run(  # noqa: S603  our own argv, no shell
            [path, *arguments],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=LIMIT_SECONDS,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):
        return -1, ""
    return done.returncode, done.stdout or done.stderr


def text_of(path: str) -> str:
    """The text of a file; empty where it cannot be read."""
    try:
        return Path(path).read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""


def driver_version(text: str) -> str:
    """The version in ``/proc/driver/nvidia/version``; empty where there is none."""
    found = re.search(r"Kernel Module(?:\s+for\s+\S+)?\s+(\d+(?:\.\d+)+)", text)
    return found[1] if found else ""


def uuids_of(listed: str) -> dict[str, str]:
    """The UUIDs of GPUs by their indexes, from what ``nvidia-smi -L`` says."""
    return dict(re.findall(r"^GPU (\d+): .*\(UUID: (GPU-[^)]+)\)", listed, re.MULTILINE))


def spec_files(folders: Iterable[str]) -> list[Path]:
    """The specs that an engine would read."""
    # One is often a link to the other.
    every = {path.resolve() for folder in folders for path in Path(folder).glob("*.*")}
    return sorted(path for path in every if path.suffix in (".json", ".yaml", ".yml"))


def found_in(files: Iterable[Path]) -> tuple[list[dict[str, Any]], dict[str, str]]:
    """The devices of specs, and the specs that cannot be read."""
    devices: dict[str, dict[str, Any]] = {}
    unread = {}
    for file in files:
        try:
            text = file.read_text(encoding="utf-8")
            spec = json.loads(text) if file.suffix == ".json" else parsed(text)
            for device in devices_of(spec):
                # What is written anew at each boot counts more, and comes later.
                devices[device["name"]] = device
        except (OSError, ValueError, SpecError) as error:
            unread[str(file)] = str(error)
        except (AttributeError, KeyError, TypeError):
            unread[str(file)] = "it is no CDI spec"
    return [*devices.values()], unread


def devices_of(spec: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """The devices that a spec names."""
    for_all = host_files(spec.get("containerEdits") or {})
    for device in spec["devices"] or ():
        edits = device.get("containerEdits") or {}
        nodes = [str(node.get("hostPath") or node["path"]) for node in edits.get("deviceNodes") or ()]
        lacking = [path for path in [*host_files(edits), *for_all] if not os.path.exists(path)]
        yield {"name": f"{spec['kind']}={device['name']}", "nodes": nodes, "lacking": lacking}


def host_files(edits: Mapping[str, Any]) -> list[str]:
    """The files of the host that a container would be given, or that prepare it."""
    nodes = [node.get("hostPath") or node["path"] for node in edits.get("deviceNodes") or ()]
    mounts = [mount["hostPath"] for mount in edits.get("mounts") or ()]
    return [*nodes, *mounts, *(hook["path"] for hook in edits.get("hooks") or ())]


# --- YAML, as far as specs use it: hosts have no library for it ---


def parsed(text: str) -> Any:
    """A document of mappings, lists and texts in blocks; every value is a text.

    Raises:
        SpecError: it is written in another way.
    """
    lines = []
    for number, line in enumerate(text.splitlines(), start=1):
        content = re.sub(r"(^|\s)#.*$", "", line) if '"' not in line and "'" not in line else line
        if content.strip() not in ("", "---", "...") and not content.lstrip().startswith("#"):
            lines.append((len(content) - len(content.lstrip(" ")), content.strip(), number))
    lines.reverse()
    value = block(lines, 0) if lines else {}
    if lines:
        raise unusual(lines[-1][2])
    return value


def unusual(number: int) -> SpecError:
    """What is told of a line that is written in another way."""
    return SpecError(f"line {number} is not written as specs are")


def block(lines: list[tuple[int, str, int]], least: int) -> Any:
    """The mapping or list that comes next; ``lines`` are those that are left, the next one last."""
    indent, content, number = lines[-1]
    if indent < least:
        return ""
    found: Any = [] if is_item(content) else {}
    while lines and lines[-1][0] == indent and is_item(lines[-1][1]) == isinstance(found, list):
        _, content, number = lines.pop()
        if isinstance(found, list):
            rest = content[1:].lstrip()
            if not rest:
                found.append(block(lines, indent + 1) if lines else "")
            elif separated(rest):
                lines.append((indent + len(content) - len(rest), rest, number))
                found.append(block(lines, indent + 1))
            else:
                found.append(scalar(rest, number))
            continue
        pair = separated(content)
        if not pair:
            raise unusual(number)
        key, rest = pair
        if rest:
            found[key] = scalar(rest, number)
        else:
            # The items of a list may stand below the key itself.
            below = lines and is_item(lines[-1][1])
            found[key] = block(lines, indent if below else indent + 1) if lines else ""
    return found


def is_item(content: str) -> bool:
    """Whether a line begins an item of a list."""
    return content == "-" or content.startswith("- ")


def separated(content: str) -> tuple[str, str] | None:
    """Key and value of a line of a mapping; None for any other line."""
    found = re.match(r"""("[^"]*"|'[^']*'|[^\s"'\[\]{}&*!|>%@`-][^"'\[\]{}]*?)\s*:(?:\s+(.*))?$""", content)
    return (found[1].strip("\"'"), (found[2] or "").strip()) if found else None


def scalar(text: str, number: int) -> Any:
    """A value on a line."""
    if text in ("[]", "{}"):
        return [] if text == "[]" else {}
    if text.startswith('"'):
        try:
            return json.loads(text)
        except ValueError as error:
            raise unusual(number) from error
    if text.startswith("'") and text.endswith("'") and len(text) > 1:
        return text[1:-1].replace("''", "'")
    if text.startswith("[") and text.endswith("]") and not re.search(r"[\[\]{}\"']", text[1:-1]):
        return [part.strip() for part in text[1:-1].split(",")]
    if text[0] in "[{&*!|>%@`'":
        raise unusual(number)
    return text


def answer(request: Mapping[str, Any]) -> dict[str, Any]:
    """What the program asks, which sends this as a script."""
    return {**request, "gpus": look()}
