"""Git over SSH: whose key it is, and what its owner may do with it."""

from __future__ import annotations

import os
import shlex
import subprocess
import sys

from . import git_access
from .ci.pushes import look
from .double import Double
from .git_access import Holder
from .records import Key, User

COMMANDS = ("git-upload-pack", "git-receive-pack", "git-upload-archive")
OPTIONS = "no-port-forwarding,no-X11-forwarding,no-agent-forwarding,no-pty"


def authorized(double: Double, kind: str, blob: str, shell: str) -> str:
    """The lines of an ``authorized_keys`` file for a key that somebody shows; none for a stranger's."""
    found = []
    for key in double.store.find(Key):
        owner = double.store.get(User, key.user_id)
        usable = owner and owner.state == "active" and key.usage_type != "signing"
        if key.key.split()[:2] == [kind, blob] and usable:
            found.append(f'command="{shell} key-{key.id}",{OPTIONS} {kind} {blob}')
    return "".join(f"{line}\n" for line in found)


def serve(double: Double, name: str, wanted: str) -> int:
    """Run what a client asked for in place of a shell.

    Args:
        name: ``key-`` and the number of the key that let the client in.
        wanted: the command as the client sent it.
    """
    key = double.store.get(Key, int(name.removeprefix("key-")))
    user = double.store.get(User, key.user_id) if key else None
    if user is None:
        return _refuse("Failed to get username: unknown key")
    parts = shlex.split(wanted)
    if not parts:
        print(f"Welcome to GitLab, @{user.username}!")
        return 0
    if len(parts) != 2 or parts[0] not in COMMANDS:
        return _refuse("Disallowed command")
    who = Holder(user)
    path = parts[1].strip("/").removesuffix(".git")
    project = git_access.find_project(double, path)
    if project is None or not git_access.reads(double, who, project):
        return _refuse(
            "The project you were looking for could not be found or you don't have permission to view it."
        )
    pushing = parts[0] == "git-receive-pack"
    if pushing and not git_access.writes(double, who, project):
        return _refuse("You are not allowed to push code to this project.")
    before = double.repositories.refs(project.id)
    environment = os.environ | git_access.hook_environment(double, who, project)
    command = ["git", parts[0].removeprefix("git-"), str(double.repositories.path(project.id))]
    status = subprocess.run(command, env=environment, check=False).returncode
    if pushing:
        look(double, project, before, user)
    return status


def _refuse(reason: str) -> int:
    print(f"\n========================================\n\nERROR: {reason}\n", file=sys.stderr)
    return 1
