"""Runs the Ansible modules of the project in this process, the way Ansible starts them on a host."""

from __future__ import annotations

import contextlib
import importlib
import io
import json
from pathlib import Path
from types import ModuleType
from typing import Any
from unittest.mock import patch

import ansible.module_utils
from ansible.module_utils import _internal
from ansible.module_utils.common import warnings
from ansible.module_utils.testing import patch_module_args

PLUGINS = Path(__file__).resolve().parents[2] / "ansible" / "plugins"
ansible.module_utils.__path__.append(str(PLUGINS / "module_utils"))


def load(name: str) -> ModuleType:
    """A module (``modules.dap_tree``) or what modules share (``ansible.module_utils.dap_files``)."""
    return importlib.import_module(name)


def run_module(name: str, /, *, check: bool = False, diff: bool = False, **parameters: Any) -> dict[str, Any]:
    """Run a module; returns its result, with ``failed`` if it failed."""
    settings = {"_ansible_check_mode": check, "_ansible_diff": diff, "_ansible_remote_tmp": "/tmp"}  # noqa: S108
    module = load(f"modules.{name}")
    output = io.StringIO()
    with (
        # On a host each module has a process of its own, and with it its own warnings.
        patch.dict(warnings._global_warnings, clear=True),
        # Other tests load Ansible's controller into this process, and warnings would go to its display then.
        patch.object(_internal, "is_controller", False),
        patch_module_args({**parameters, **settings}),
        contextlib.redirect_stdout(output),
        contextlib.suppress(SystemExit),
    ):
        module.main()
    result: dict[str, Any] = json.loads(output.getvalue().strip().splitlines()[-1])
    return result


class FakeDocker:
    """A ``docker`` on the search path that answers with recorded output and notes how it was called."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir()
        self.rules: list[str] = []
        self._write()

    def answer(
        self, pattern: str, output: str = "", *, error: str = "", status: int = 0, then: str = ""
    ) -> None:
        """Answer calls whose arguments match a shell pattern; the newest matching rule counts.

        Args:
            pattern: what the arguments, joined by blanks, look like.
            output: written to the standard output.
            error: written to the standard error.
            status: exit status.
            then: shell commands to run before ending.
        """
        number = len(self.rules)
        (self.folder / f"{number}.out").write_text(output, encoding="utf-8")
        (self.folder / f"{number}.err").write_text(error, encoding="utf-8")
        say = f"cat {self.folder}/{number}.out; cat {self.folder}/{number}.err >&2"
        escaped = pattern.replace(" ", "\\ ")
        self.rules.insert(0, f"{escaped}) {then or ':'}; {say}; exit {status};;")
        self._write()

    def _write(self) -> None:
        script = [
            "#!/bin/sh",
            f'echo "$*" >> {self.folder}/calls',
            f"env > {self.folder}/environment",
            'case "$*" in',
            *self.rules,
            '*) echo "unexpected: $*" >&2; exit 99;;',
            "esac",
        ]
        new = self.folder / "docker.new"
        new.write_text("\n".join(script) + "\n", encoding="utf-8")
        new.chmod(0o755)
        new.replace(self.folder / "docker")

    @property
    def calls(self) -> list[str]:
        """The arguments of each call so far."""
        calls = self.folder / "calls"
        return calls.read_text(encoding="utf-8").splitlines() if calls.exists() else []

    def calls_of(self, *words: str) -> list[str]:
        """The calls that contain all the words."""
        return [call for call in self.calls if set(words) <= set(call.split())]
