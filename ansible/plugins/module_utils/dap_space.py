"""Whether a failure has a full disk behind it: what services then say names paths inside their containers."""

from __future__ import annotations

import os
from collections.abc import Iterable

from .dap_docker import Container, Run

MIB = 1024**2
LEAST_FREE_MIB = 16
_SOURCES = '{{range .Mounts}}{{if eq .Type "bind"}}{{println .Source}}{{end}}{{end}}'


def full_folders(folders: Iterable[str]) -> list[str]:
    """One line for each full file system below some folders, with the first of the folders on it."""
    found: dict[int, str] = {}
    for folder in folders:
        try:
            device, state = os.stat(folder).st_dev, os.statvfs(folder)
        except OSError:
            continue
        free = state.f_bavail * state.f_frsize // MIB
        if device not in found and not state.f_flag & os.ST_RDONLY:
            if free < LEAST_FREE_MIB:
                found[device] = f"the disk is full: {free} MiB free at {folder}; make room there"
            elif state.f_files and not state.f_favail:
                found[device] = f"the disk is full: no more files can be made at {folder}; remove some"
    return list(found.values())


def full_disks(run: Run, containers: Iterable[Container], root: str) -> list[str]:
    """One line for each full file system that these containers, the engine or the rendered files are on."""
    identifiers = [container.identifier for container in containers]
    mounted = run(["inspect", "--format", _SOURCES, *identifiers]).stdout if identifiers else ""
    engine = run(["info", "--format", "{{.DockerRootDir}}"]).stdout
    # The data first: they are the ones that grow.
    folders = sorted(filter(None, mounted.splitlines()), key=lambda path: path.startswith((root, "/etc/")))
    return full_folders([*folders, root, *engine.splitlines()])
