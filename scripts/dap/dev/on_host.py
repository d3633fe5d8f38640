"""Brings development containers into state on their host. It runs there, as root, with nothing but Python.

Sent over one connection as a script, it takes one request and answers with one line of JSON. A running
container is left as it is: what a user has open there is not the platform's to end.
"""

from __future__ import annotations

import base64
import contextlib
import json
import os
import shutil
import socket
import stat
import struct
import subprocess
import tempfile
import time
from collections.abc import Collection, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from dap.dev import quota
from dap.dev.boxes import LABEL, gpus_of

GRACE_SECONDS = 10
WAIT_SECONDS = 30
MIB = 1024 * 1024
# In a container's folder: somebody has stopped it on purpose.
STOPPED = "stopped"
# Beside the folders of containers: what several share that an image brings, a folder for each version of it.
PROGRAMS = ".programs"


class HostError(Exception):
    """Something is wrong on this host, in words for the operator."""


class LackingError(HostError):
    """This host lacks what a deploy brings."""


def docker(*arguments: str, check: bool = True) -> str:
    """Standard output of a Docker command."""
    environment = {**os.environ, "COMPOSE_IGNORE_ORPHANS": "true"}
    try:
        done = subprocess.run(  # noqa: S603  our own argv, no shell
            ["docker", *arguments],  # noqa: S607  wherever the host has it
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            env=environment,
            check=False,
        )
    except OSError as error:
        if not check:
            return ""
        raise HostError(f"Docker cannot be asked: {error.strerror}") from error
    if check and done.returncode:
        said = done.stderr.strip().splitlines()[-1:] or ["no answer"]
        raise HostError(f"docker {arguments[0]}: {said[0]}")
    return done.stdout


class Host:
    """This host, as far as it concerns the development containers of one platform."""

    def __init__(self, request: Mapping[str, Any]) -> None:
        self.project: str = request["project"]
        self.root = Path(request["folder"])
        self.data = Path(request["data"])
        self.platform_id: str = request["platform_id"]
        self.check: bool = request.get("check", False)
        self.changes: list[str] = []
        self.outdated: list[str] = []
        self.watched: set[str] = set()
        self.refused: list[HostError] = []

    def containers(self) -> dict[str, dict[str, Any]]:
        """What ``docker inspect`` says of each container, by name."""
        label = f"label=com.docker.compose.project={self.project}"
        # A plan may be made before there is an engine.
        found = docker("ps", "--all", "--quiet", "--filter", label, check=not self.check).split()
        boxes = json.loads(docker("inspect", *found)) if found else []
        return {box["Config"]["Labels"][LABEL]: box for box in boxes if LABEL in box["Config"]["Labels"]}

    def change(self, name: str, what: str) -> None:
        """Note a change."""
        self.changes.append(f"{name}: {what}")

    # --- what is asked -------------------------------------------------------------------------------------

    def bring(
        self,
        wanted: Sequence[Mapping[str, Any]],
        *,
        complete: bool,
        recreate: Sequence[str] = (),
        start: Sequence[str] = (),
    ) -> None:
        """Bring containers into state.

        Args:
            complete: these are all that the host is to have; others go, their homes stay.
            recreate: those that are replaced even if they run.
            start: those that are started even if somebody has stopped them.
        """
        there = self.containers()
        for name in start:
            (self.root / name / STOPPED).unlink(missing_ok=True)
        names = {one["name"] for one in wanted}
        missing, replaced, kept = [], [], []
        for one in wanted:
            box = there.get(one["name"])
            differs = box is not None and label_of(box) != one["configuration"]
            if box is None:
                missing.append(one)
            elif one["name"] in recreate or (differs and not self.runs(box) and not self.stopped(one)):
                replaced.append(one)
            else:
                kept.append(one)
                if differs:
                    self.outdated.append(one["name"])
        new = [*missing, *replaced]
        leaving = {one["name"] for one in replaced} | ({*there} - names if complete else set())
        staying = {name: box for name, box in there.items() if name not in leaving}
        self.refused = self.problems(new, there) or self.held(new, staying)
        if self.refused:
            return
        rewritten = [one for one in kept if self.differing(one)]
        self.unpack(new)
        if not self.check:
            self.lay_out(wanted)
        self.size_homes(wanted)
        if complete:
            self.remove_others(names, there)
        for one in rewritten:
            self.change(one["name"], "files written")
        for one in replaced:
            self.end(there[one["name"]])
        idle = [one for one in kept if not self.runs(there[one["name"]]) and not self.stopped(one)]
        self.start([*missing, *replaced, *idle])
        for what, of_kind in (("created", missing), ("recreated", replaced), ("started", idle)):
            for one in of_kind:
                self.change(one["name"], f"development container {what}")
        self.tidy(wanted)

    def stop(self, name: str) -> None:
        """Stop a container until it is started again; no deploy does that."""
        box = self.one(name)
        (self.root / name / STOPPED).touch()
        if self.runs(box):
            docker("stop", "--time", str(GRACE_SECONDS), box["Id"])
            self.change(name, "development container stopped")

    def remove_others(self, names: Collection[str], there: Mapping[str, Mapping[str, Any]]) -> None:
        """Remove all but these: containers, and the files of one that somebody has removed by hand."""
        files = {path.name for path in self.root.iterdir() if path.is_dir()} if self.root.is_dir() else set()
        for name in [*there, *sorted(files - {*there, PROGRAMS})]:
            if name not in names:
                self.remove(name, there.get(name))

    def remove(self, name: str, box: Mapping[str, Any] | None) -> None:
        """Remove a container and its files; home and scratch stay."""
        self.change(name, "development container removed" if box else "files removed")
        if not self.check:
            if box:
                self.end(box)
            shutil.rmtree(self.root / name, ignore_errors=True)

    def remove_home(self, user: str) -> None:
        """Remove what a user has in home and scratch on this host."""
        for folder in (self.data / "homes" / user, self.data / "scratch" / user):
            if folder.is_dir() and not self.check:
                self.free(folder)
                shutil.rmtree(folder)
                self.change(user, f"{folder} removed")

    def remove_all(self) -> None:
        """Remove all containers, their network and their files."""
        for name, box in self.containers().items():
            self.remove(name, box)
        label = f"label=com.docker.compose.project={self.project}"
        for network in docker("network", "ls", "--quiet", "--filter", label).split():
            docker("network", "rm", network)
        shutil.rmtree(self.root, ignore_errors=True)
        homes = self.data / "homes"
        for home in sorted(homes.iterdir()) if homes.is_dir() else ():
            self.free(home)

    # --- how it is done ------------------------------------------------------------------------------------

    def one(self, name: str) -> dict[str, Any]:
        """A container that has to be there."""
        box = self.containers().get(name)
        if box is None:
            raise HostError(f"there is no container {name} on this host")
        return box

    @staticmethod
    def runs(box: Mapping[str, Any]) -> bool:
        """Whether a container runs."""
        return bool(box["State"]["Running"])

    def stopped(self, one: Mapping[str, Any]) -> bool:
        """Whether somebody has stopped a container on purpose."""
        return Path(self.root, one["name"], STOPPED).exists()

    def problems(self, new: Sequence[Mapping[str, Any]], there: Mapping[str, Any]) -> list[HostError]:
        """What keeps containers from being made; nothing was changed then."""
        found = []
        marker = self.data / ".platform-id"
        with contextlib.suppress(OSError):
            if not self.check and marker.read_text(encoding="utf-8").strip() != self.platform_id:
                return [HostError(f"{marker} is that of another platform")]
        if new and not self.check and not marker.exists():
            raise LackingError("the platform was never deployed to this host")
        memory, cores = memory_mib(), os.cpu_count() or 1
        for one in new:
            name, wanted = one["name"], one["memory_mib"]
            if wanted > memory:
                found.append(HostError(f"{name}: {wanted} MiB of memory are wanted, and there are {memory}"))
            if one["cpus"] > cores:
                found.append(
                    HostError(f"{name}: {one['cpus']:g} processors are wanted, and there are {cores}")
                )
            for port in (one["port"], one["page"]) if name not in there else ():
                if port and (reason := taken(one["address"], port)):
                    found.append(HostError(f"{name}: port {port} cannot be published: {reason}"))
        if not found and not self.check:
            self.refuse_lacking(new)
        return found

    def held(self, new: Sequence[Mapping[str, Any]], staying: Mapping[str, Any]) -> list[HostError]:
        """Devices of new containers that others run with, whatever the configuration says by now."""
        return [
            HostError(f"{one['name']}: {device} is still that of {name}, which runs as it was made before")
            for one in new
            for name, box in staying.items()
            for device in sorted({*one.get("gpus", ())} & {*gpus_of(box)})
            if self.runs(box)
        ]

    def refuse_lacking(self, new: Sequence[Mapping[str, Any]]) -> None:
        """End here where there is no image, or not the network of the services."""
        images = {one["image"] for one in new} | {each["image"] for one in new for each in programs_of(one)}
        for image in sorted(images):
            if not docker("image", "ls", "--quiet", image, check=False).strip():
                raise LackingError(f"there is no image {image}")
        for network in sorted({one["network"] for one in new if one["network"]}):
            if not docker("network", "ls", "--quiet", "--filter", f"name=^{network}$").strip():
                raise LackingError(f"there is no network {network}")

    def differing(self, one: Mapping[str, Any]) -> bool:
        """Whether any file of a container, or one of the user's folders, is not as it is to be."""
        folder = self.root / one["name"]
        files = any(not same(folder / file["path"], file) for file in self.files_of(one))
        return files or any(not Path(entry["path"]).is_dir() for entry in one["folders"])

    def files_of(self, one: Mapping[str, Any]) -> list[Mapping[str, Any]]:
        """The files of a container; of one that is left as it is, those that it reads again while it runs."""
        if one["name"] not in self.outdated:
            return list(one["files"])
        # What it says at login is about limits that it does not have yet.
        live = [file for file in one["files"] if file["path"].startswith("live/")]
        return [file for file in live if file["path"] != "live/motd"]

    def lay_out(self, wanted: Iterable[Mapping[str, Any]]) -> None:
        """Write the files of containers, and have the folders of their users."""
        for one in wanted:
            folder = self.root / one["name"]
            for name, mode in (("", 0o755), ("config", 0o755), ("live", 0o700)):
                (folder / name).mkdir(mode=mode, parents=True, exist_ok=True)
            for file in self.files_of(one):
                if not same(folder / file["path"], file):
                    write(folder / file["path"], file)
            live = [file for file in one["files"] if file["path"].startswith("live/")]
            os.chown(folder / "live", live[0]["uid"], live[0]["gid"])
            for entry in one["folders"]:
                path = Path(entry["path"])
                path.parent.mkdir(mode=0o711, exist_ok=True)
                # Open to nobody until it is its owner's; what is in it stays as that one has it.
                if not path.exists():
                    path.mkdir(mode=0o700)
                    os.chown(path, entry["uid"], entry["gid"])
                    path.chmod(mode := int(entry["mode"], 8))
                    if mode & stat.S_ISGID:
                        open_to_group(path)

    def size_homes(self, wanted: Iterable[Mapping[str, Any]]) -> None:
        """Hold homes to their limits, where their file systems do that; users hear of it in any case."""
        homes = {one["home"]["path"]: one["home"] for one in wanted if "home" in one}
        for path, home in homes.items():
            folder, limit = Path(path), home["limit"]
            if disk := quota.Disk.of(folder):
                project = quota.project_of(self.platform_id, home["uid"])
                if changed := quota.keep(disk, folder, project, limit, check=self.check):
                    self.change(folder.name, changed)
            elif limit:
                self.watched.add(str(folder.parent))

    def free(self, folder: Path) -> None:
        """Forget the limit of a home, which nobody would know of any more."""
        if disk := quota.Disk.of(folder):
            disk.set_limit(quota.project_of(self.platform_id, folder.stat().st_uid), 0)

    def unpack(self, new: Sequence[Mapping[str, Any]]) -> None:
        """Have what new containers share that an image brings, as root's: in one step, or not at all."""
        for program in {each["folder"]: each for one in new for each in programs_of(one)}.values():
            folder = Path(program["folder"])
            if folder.is_dir():
                continue
            self.change(folder.name, "files unpacked")
            if self.check:
                continue
            folder.parent.mkdir(parents=True, exist_ok=True)
            incoming = Path(tempfile.mkdtemp(dir=folder.parent, prefix=".new-"))
            # Never started: its files are what is wanted.
            box = docker("create", "--network", "none", program["image"]).strip()
            try:
                docker("cp", f"{box}:{program['path']}/.", str(incoming))
                incoming.chmod(0o755)
                # Another run may have been quicker.
                with contextlib.suppress(OSError):
                    incoming.rename(folder)
            finally:
                docker("rm", "--force", box, check=False)
                shutil.rmtree(incoming, ignore_errors=True)

    def tidy(self, wanted: Iterable[Mapping[str, Any]] = ()) -> None:
        """Remove what no container shares any more, neither one that is there nor one that is to be."""
        if self.check:
            return
        folder = self.root / PROGRAMS
        if folder.is_dir():
            used = {Path(each["folder"]) for one in wanted for each in programs_of(one)}
            for box in self.containers().values():
                used |= {Path(mount.get("Source", "")) for mount in box.get("Mounts", ())}
            for path in folder.iterdir():
                if path not in used:
                    shutil.rmtree(path, ignore_errors=True)
        for empty in (folder, self.root):
            with contextlib.suppress(OSError):
                empty.rmdir()

    def end(self, box: Mapping[str, Any]) -> None:
        """End and remove a container."""
        if not self.check:
            docker("stop", "--time", str(GRACE_SECONDS), box["Id"])
            docker("rm", "--force", box["Id"])

    def start(self, wanted: Sequence[Mapping[str, Any]]) -> None:
        """Start containers, and wait until their SSH servers answer."""
        if not wanted or self.check:
            return
        for one in wanted:
            (self.root / one["name"] / STOPPED).unlink(missing_ok=True)
        files = [part for one in wanted for part in ("-f", str(self.root / one["name"] / "compose.yaml"))]
        project = ["compose", "--project-name", self.project, "--project-directory", str(self.root), *files]
        names = [one["name"] for one in wanted]
        docker(*project, "up", "--detach", "--no-recreate", "--no-build", "--pull", "never", *names)
        deadline = time.monotonic() + WAIT_SECONDS
        for one in wanted:
            while not answers(one["address"], one["port"]):
                if time.monotonic() > deadline:
                    raise HostError(f"{one['name']} does not answer on port {one['port']}: {self.said(one)}")
                time.sleep(0.05)

    def said(self, one: Mapping[str, Any]) -> str:
        """The last line that a container has written."""
        box = self.containers().get(one["name"])
        if box is None:
            return "it is not there"
        done = subprocess.run(  # noqa: S603  our own argv, no shell
            ["docker", "logs", "--tail", "3", box["Id"]],  # noqa: S607
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
        )
        return (done.stdout.strip().splitlines() or ["it says nothing"])[-1]


def programs_of(one: Mapping[str, Any]) -> Sequence[Mapping[str, str]]:
    """What a container shares with others: an image, a folder of it, and the folder here with its files."""
    return one.get("programs") or ()


def label_of(box: Mapping[str, Any]) -> str:
    """What a container was made from."""
    return str(box["Config"]["Labels"].get(f"{LABEL}.configuration", ""))


def memory_mib() -> int:
    """The memory of this host."""
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // MIB


def taken(address: str, port: int) -> str:
    """Why a port cannot be listened on; empty when it can."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((address, port))
        except OSError as error:
            return str(error.strerror)
    return ""


def answers(address: str, port: int) -> bool:
    """Whether an SSH server says who it is."""
    host = "127.0.0.1" if address == "0.0.0.0" else address  # noqa: S104  connected to, not bound
    try:
        with socket.create_connection((host, port), timeout=2) as connection:
            return bytes(connection.recv(4)) == b"SSH-"
    except OSError:
        return False


def open_to_group(folder: Path) -> None:
    """Let a group change whatever its members put into a folder, with whichever umask they do that."""
    # As the kernel has it: a version, then tag, rights and no number for owner, group and others.
    rights = struct.pack("<I", 2) + b"".join(
        struct.pack("<HHI", tag, allowed, 0xFFFFFFFF) for tag, allowed in ((1, 7), (4, 7), (0x20, 0))
    )
    # Not all file systems have such lists; there its members can read, and change what they are let.
    with contextlib.suppress(OSError):
        os.setxattr(folder, "system.posix_acl_default", rights)


def same(path: Path, file: Mapping[str, Any]) -> bool:
    """Whether a file is as it is to be."""
    try:
        found = path.stat()
        rights = (found.st_mode & 0o7777, found.st_uid, found.st_gid)
        if rights != (int(file["mode"], 8), file["uid"], file["gid"]):
            return False
        return path.read_bytes() == base64.b64decode(file["content"])
    except OSError:
        return False


def write(path: Path, file: Mapping[str, Any]) -> None:
    """Replace a file in one step, with nobody able to read it meanwhile who may not later."""
    descriptor, name = tempfile.mkstemp(dir=path.parent, prefix=".dap-")
    try:
        with open(descriptor, "wb") as incoming:
            incoming.write(base64.b64decode(file["content"]))
            os.fchown(incoming.fileno(), file["uid"], file["gid"])
            os.fchmod(incoming.fileno(), int(file["mode"], 8))
        os.replace(name, path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise


def answer(request: Mapping[str, Any]) -> dict[str, Any]:
    """Do what is asked."""
    host = Host(request)
    try:
        verb = request["verb"]
        if verb == "bring":
            host.bring(
                request["wanted"],
                complete=request["complete"],
                recreate=request.get("recreate", ()),
                start=request.get("start", ()),
            )
        elif verb == "stop":
            host.stop(request["name"])
        elif verb == "remove":
            if box := host.containers().get(request["name"]):
                host.remove(request["name"], box)
                host.tidy()
            if request.get("home"):
                host.remove_home(request["home"])
        elif verb == "remove_all":
            host.remove_all()
    except LackingError as error:
        return {"error": str(error), "lacking": True, "changes": host.changes}
    except HostError as error:
        return {"error": str(error), "changes": host.changes}
    except OSError as error:
        return {"error": f"{error.filename}: {error.strerror}", "changes": host.changes}
    if host.refused:
        return {"error": "\n".join(map(str, host.refused)), "refused": True, "changes": host.changes}
    return {"changes": host.changes, "outdated": host.outdated, "watched": sorted(host.watched)}
