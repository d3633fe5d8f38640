"""Bare repositories, one for each project, through the real git."""

from __future__ import annotations

import os
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any

NOTHING = "0" * 40
_FIELDS = "%H%x00%P%x00%an%x00%ae%x00%aI%x00%cn%x00%ce%x00%cI%x00%B"


class GitError(Exception):
    """What git said."""


@dataclass(frozen=True)
class Commit:
    sha: str
    parents: list[str]
    author: tuple[str, str, str]
    """Name, address and time."""
    committer: tuple[str, str, str]
    message: str

    @property
    def title(self) -> str:
        return self.message.partition("\n")[0]


@dataclass(frozen=True)
class Blob:
    sha: str
    content: bytes
    mode: str


class Repositories:
    """The folder with all of them."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def path(self, project: int) -> Path:
        return self._folder / f"{project}.git"

    def create(self, project: int, branch: str) -> None:
        self._folder.mkdir(parents=True, exist_ok=True)
        self._run(
            self._folder, "init", "--quiet", "--bare", f"--initial-branch={branch}", self.path(project).name
        )
        # Pushes over HTTP are let in or not before git is asked.
        self._run(self.path(project), "config", "http.receivepack", "true")

    def remove(self, project: int) -> None:
        shutil.rmtree(self.path(project), ignore_errors=True)

    def branches(self, project: int) -> dict[str, str]:
        """Name to commit."""
        return self._refs(project, "refs/heads/")

    def refs(self, project: int) -> dict[str, str]:
        """Full names of branches and tags to commits."""
        heads = {f"refs/heads/{name}": sha for name, sha in self.branches(project).items()}
        return heads | {f"refs/tags/{name}": sha for name, sha in self.tags(project).items()}

    def tags(self, project: int) -> dict[str, str]:
        return self._refs(project, "refs/tags/")

    def _refs(self, project: int, prefix: str) -> dict[str, str]:
        form = "%(refname)%00%(objectname)%00%(*objectname)"
        lines = (
            self._run(self.path(project), "for-each-ref", f"--format={form}", prefix).decode().splitlines()
        )
        parts = [line.split("\0") for line in lines]
        return {name.removeprefix(prefix): peeled or sha for name, sha, peeled in parts}

    def resolve(self, project: int, ref: str) -> str | None:
        """The commit that a branch, a tag or a commit's own name stands for."""
        for name in (f"refs/heads/{ref}", f"refs/tags/{ref}", ref):
            try:
                found = self._run(
                    self.path(project),
                    "rev-parse",
                    "--verify",
                    "--quiet",
                    "--end-of-options",
                    f"{name}^{{commit}}",
                )
            except GitError:
                continue
            return found.decode().strip()
        return None

    def read(self, project: int, ref: str, path: str) -> Blob | None:
        """A file, or None where there is none."""
        try:
            listed = self._run(self.path(project), "ls-tree", "-z", ref, "--", path).decode().rstrip("\0")
            head = listed.partition("\t")[0].split()
            if len(head) != 3 or head[1] != "blob":
                return None
            return Blob(head[2], self._run(self.path(project), "cat-file", "blob", head[2]), head[0])
        except GitError:
            return None

    def paths(self, project: int, ref: str) -> list[str]:
        listed = self._run(self.path(project), "ls-tree", "-r", "-z", "--name-only", ref).decode()
        return [path for path in listed.split("\0") if path]

    def changed(self, project: int, before: str, after: str) -> list[str]:
        """Paths that differ; everything where there is nothing to compare with."""
        if before == NOTHING:
            return self.paths(project, after)
        listed = self._run(self.path(project), "diff", "--name-only", "-z", before, after).decode()
        return [path for path in listed.split("\0") if path]

    def commit(self, project: int, ref: str) -> Commit | None:
        found = self.log(project, ref, 1)
        return found[0] if found else None

    def log(self, project: int, ref: str, most: int = 1000, path: str = "") -> list[Commit]:
        below = ["--", path] if path else []
        try:
            text = self._run(
                self.path(project),
                "log",
                f"-{most}",
                f"--format={_FIELDS}%x01",
                "--end-of-options",
                ref,
                *below,
            ).decode(errors="replace")
        except GitError:
            return []
        commits = []
        for entry in text.split("\x01"):
            parts = entry.lstrip("\n").split("\0")
            if len(parts) == 9:
                sha, parents, *people, message = parts
                author, committer = people[:3], people[3:]
                commits.append(
                    Commit(
                        sha,
                        parents.split(),
                        (author[0], author[1], author[2]),
                        (committer[0], committer[1], committer[2]),
                        message.rstrip("\n") + "\n" if message else "",
                    )
                )
        return commits

    def set_branch(self, project: int, name: str, sha: str) -> None:
        self.set_ref(project, f"refs/heads/{name}", sha)

    def set_ref(self, project: int, name: str, sha: str) -> None:
        self._run(self.path(project), "update-ref", name, sha)

    def delete_branch(self, project: int, name: str) -> None:
        self._run(self.path(project), "update-ref", "-d", f"refs/heads/{name}")

    def write(
        self,
        project: int,
        branch: str,
        parent: str | None,
        actions: list[dict[str, Any]],
        message: str,
        author: tuple[str, str],
    ) -> str:
        """Make a commit of changes to files.

        Args:
            parent: the commit to start from; None for a first one.
            actions: ``{action, path, content (bytes), previous_path, executable}``.

        Returns:
            The commit's name.
        """
        name, address = (part.replace("<", "").replace(">", "").replace("\n", " ") for part in author)
        text = message.encode()
        stream = [f"commit refs/heads/{branch}\n".encode()]
        stream.append(f"committer {name} <{address}> now\n".encode())
        stream.append(b"data %d\n%s\n" % (len(text), text))
        if parent:
            stream.append(f"from {parent}\n".encode())
        for action in actions:
            path = _quoted(action["path"])
            if action["action"] == "delete":
                stream.append(b"D %s\n" % path)
                continue
            if action["action"] == "move":
                stream.append(b"R %s %s\n" % (_quoted(action["previous_path"]), path))
            if action["content"] is not None:
                mode = b"100755" if action["executable"] else b"100644"
                content = action["content"]
                stream.append(b"M %s inline %s\ndata %d\n%s\n" % (mode, path, len(content), content))
        self._run(
            self.path(project),
            "fast-import",
            "--quiet",
            "--date-format=now",
            "--force",
            given=b"".join(stream),
        )
        sha = self.resolve(project, branch)
        assert sha is not None
        return sha

    @staticmethod
    def _run(folder: Path, *arguments: str, given: bytes = b"") -> bytes:
        done = subprocess.run(
            ["git", *arguments],
            cwd=folder,
            input=given,
            capture_output=True,
            check=False,
            env=_environment(),
        )
        if done.returncode:
            raise GitError(done.stderr.decode(errors="replace").strip() or f"git {arguments[0]} failed")
        return done.stdout


def _environment() -> dict[str, str]:
    """Without what a hook's own git, or the caller's, has set."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}
    return kept | {"LC_ALL": "C.UTF-8"}


def _quoted(path: str) -> bytes:
    escaped = path.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
    return f'"{escaped}"'.encode()
