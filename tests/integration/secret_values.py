"""Every secret of a platform, and looking for them in files and streams; what is found is told by name."""

from __future__ import annotations

import base64
import json
import os
import stat
import subprocess
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import yaml

from tests.integration.platform import DeployedPlatform

_SHORTEST = 16
_GREP = ["grep", "--text", "--only-matching", "--fixed-strings"]


def encoded(value: bytes) -> set[bytes]:
    """How a value looks inside of anything that is written in base64, wherever in it the value begins."""
    found = set()
    for before in range(3):
        whole = base64.b64encode(b"\0" * before + value)
        # The first and last characters depend on what stands before and after the value.
        found.add(whole[4 if before else 0 : len(whole) - 4])
    return found


@dataclass
class SecretValues:
    """The values and, to name them, their keys.

    Attributes:
        names: value, or a form or a part of it, to the name of the secret.
    """

    names: dict[bytes, str] = field(default_factory=dict)

    def add(self, name: str, value: bytes) -> None:
        """A secret, to be found as it is and in base64."""
        for form in {value, *encoded(value)}:
            self.names[form] = name

    @classmethod
    def of(cls, platform: DeployedPlatform) -> SecretValues:
        """All values in the secrets file, and every private key."""
        found = cls()
        store = yaml.safe_load((platform.secrets / "secrets.yml").read_text(encoding="utf-8"))
        for name, value in store["values"].items():
            assert len(value) >= _SHORTEST, name
            found.add(name, value.encode())
        for file in platform.secrets.rglob("*.key"):
            lines = [line for line in file.read_bytes().splitlines() if not line.startswith(b"-----")]
            # A text in base64 already; its first line is alike in all keys of a kind, but not at its end.
            for line in lines:
                if len(line) > 2 * _SHORTEST:
                    found.names[line[-2 * _SHORTEST :]] = file.name
        return found

    def named(self, matches: bytes) -> set[str]:
        """The names for the lines that grep wrote."""
        return {self.names[line] for line in matches.splitlines()}

    @contextmanager
    def _patterns(self) -> Iterator[int]:
        """The descriptor of a file in memory with all values: on disk it would be found itself."""
        descriptor = os.memfd_create("patterns", 0)
        try:
            os.write(descriptor, b"\n".join(self.names))
            yield descriptor
        finally:
            os.close(descriptor)

    def in_bytes(self, content: bytes) -> set[str]:
        """The secrets in a text."""
        return {name for value, name in self.names.items() if value in content}

    def in_output(self, argv: list[str]) -> set[str]:
        """The secrets in what a command writes, however much that is."""
        with self._patterns() as patterns:
            command = subprocess.Popen(argv, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
            done = subprocess.run(
                [*_GREP, f"--file=/dev/fd/{patterns}"],
                stdin=command.stdout,
                capture_output=True,
                pass_fds=[patterns],
                env=os.environ | {"LC_ALL": "C"},
                check=False,
            )
            assert command.wait() == 0, argv
        assert done.returncode in (0, 1), done.stderr
        return self.named(done.stdout)

    def in_files(self, files: Iterable[Path]) -> dict[str, set[str]]:
        """Files with secrets in them, each with the secrets' names. Files that are gone by now hold none."""
        listed = b"\0".join(os.fsencode(path) for path in files)
        if not listed:
            return {}
        with self._patterns() as patterns:
            grep = [*_GREP, "--no-messages", "--with-filename", "--null", f"--file=/dev/fd/{patterns}", "--"]
            done = subprocess.run(
                ["xargs", "--null", "--no-run-if-empty", *grep],
                input=listed,
                capture_output=True,
                pass_fds=[patterns],
                env=os.environ | {"LC_ALL": "C"},
                check=False,
            )
        found: dict[str, set[str]] = {}
        for line in done.stdout.splitlines():
            file, _, match = line.partition(b"\0")
            found.setdefault(os.fsdecode(file), set()).add(self.names[match])
        return found


def files_below(
    *folders: Path, without: Iterable[Path] = (), since: float = 0.0, largest: int = 256 * 1024**2
) -> list[Path]:
    """Regular files below folders.

    Args:
        without: folders that are not looked into.
        since: only files that were written after this time (seconds since the epoch).
        largest: bytes; larger files are left out, such as images of disks, which have no lines.
    """
    left_out = {str(path) for path in without}
    found = []
    for top in folders:
        for folder, below, names in os.walk(top):
            below[:] = [name for name in below if f"{folder}/{name}" not in left_out]
            for name in names:
                path = Path(folder, name)
                try:
                    state = path.lstat()
                except OSError:
                    continue
                if stat.S_ISREG(state.st_mode) and state.st_mtime >= since and state.st_size <= largest:
                    found.append(path)
    return found


def secret_files(platform: DeployedPlatform) -> set[Path]:
    """The files on the host that are there to hold secrets, as the deploy that wrote them has recorded."""
    recorded = json.loads((platform.root / ".secret-files.json").read_text(encoding="utf-8"))
    return {platform.root / path for path in recorded}
