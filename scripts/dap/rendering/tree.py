"""What a host gets: files, files with secrets, data folders, and what is done with them."""

from __future__ import annotations

import base64
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class File:
    """A file below the platform's root.

    Attributes:
        path: relative to the root.
        content: the bytes.
        mode: octal, ``0444`` for configuration, ``0400`` for secrets.
        owner: uid and gid, 0 for what every container may read.
    """

    path: str
    content: bytes
    mode: str = "0444"
    owner: int = 0

    def as_variables(self) -> dict[str, Any]:
        """As the role `stack` takes it; base64 keeps Ansible from templating the content."""
        content = base64.b64encode(self.content).decode()
        return {
            "path": self.path,
            "mode": self.mode,
            "uid": self.owner,
            "gid": self.owner,
            "content": content,
        }


@dataclass(frozen=True)
class Directory:
    """A data directory: created, owner and mode kept right, never removed.

    Attributes:
        group: its group; the number of the owner if None.
    """

    path: str
    mode: str
    owner: int
    group: int | None = None

    def as_variables(self) -> dict[str, Any]:
        """As the role `stack` takes it."""
        group = self.owner if self.group is None else self.group
        return {"path": self.path, "mode": self.mode, "uid": self.owner, "gid": group}


@dataclass
class HostTree:
    """All that one host gets.

    Attributes:
        reload: services that read renewed certificates or other files at a signal.
        commands: what sets rotated secrets in running services. Holds secrets.
        token_commands: what makes the platform's tokens in running services, where a job asks for it. Holds
            secrets.
        first: services that the provisioning jobs work on, so they start before the others.
        jobs: the service that runs the jobs, if it is on this host.
        only: files and folders that are brought into state; all if empty.
        with_jobs: whether CI jobs run on the host.
        with_dev: whether development containers may run beside services with public names.
    """

    files: list[File] = field(default_factory=list)
    secret_files: list[File] = field(default_factory=list)
    directories: list[Directory] = field(default_factory=list)
    reload: list[dict[str, Any]] = field(default_factory=list)
    commands: list[dict[str, Any]] = field(default_factory=list, repr=False)
    token_commands: list[dict[str, Any]] = field(default_factory=list, repr=False)
    services: list[str] = field(default_factory=list)
    first: list[str] = field(default_factory=list)
    jobs: list[str] = field(default_factory=list)
    only: list[str] = field(default_factory=list)
    with_jobs: bool = False
    with_dev: bool = False
