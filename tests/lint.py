"""Runs every linter over every file it is for, side by side: ``python -m tests.lint``.

Files are found by listing what git tracks or would track, so that a new file is linted without an edit.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
BIN = Path(sys.executable).parent

# Every optional check but three, which forbid what the scripts rest on: variables that the environment of a
# container sets, and command substitution and functions in the middle of an expression. (The POSIX scripts
# among them cannot have double brackets either.)
SHELLCHECKS = (
    "add-default-case,avoid-negated-conditions,avoid-nullary-conditions,deprecate-which,"
    "quote-safe-variables,require-variable-braces,useless-use-of-cat"
)


def tracked() -> list[Path]:
    """Every file of the project, relative to its root."""
    listing = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    return [Path(name) for name in listing.stdout.splitlines() if (ROOT / name).is_file()]


def is_shell(path: Path) -> bool:
    """Whether the file is a shell script, by its ending or its first line."""
    if path.suffix in {".py", ".j2", ".md", ".lock"}:
        return False
    with (ROOT / path).open("rb") as file:
        first = file.readline(60)
    return path.suffix == ".sh" or (first.startswith(b"#!") and b"sh" in first.rpartition(b"/")[2])


def commands(files: list[Path]) -> dict[str, list[str]]:
    """The argv of each linter, by its name.

    Raises:
        ValueError: if a linter would get no file: the listing is broken then.
    """

    def chosen(rule: Callable[[Path], bool]) -> list[str]:
        names = [str(path) for path in files if rule(path)]
        if not names:
            raise ValueError("a linter has no file to read")
        return names

    return {
        "ruff check": ["ruff", "check", "."],
        "ruff format": ["ruff", "format", "--check", "."],
        "mypy": ["mypy"],
        "ansible-lint": ["ansible-lint", "--offline", "--strict", "-c", "ansible/.ansible-lint", "ansible"],
        "yamllint": ["yamllint", "--strict", *chosen(lambda path: path.suffix in {".yml", ".yaml"})],
        "shellcheck": ["shellcheck", f"--enable={SHELLCHECKS}", "--severity=style", *chosen(is_shell)],
        "hadolint": ["hadolint", *chosen(lambda path: path.name == "Dockerfile")],
        "platform.yml schema": [
            "check-jsonschema",
            "--schemafile",
            "docs/reference/platform.schema.json",
            *chosen(lambda path: path.name == "platform.yml"),
        ],
        "pipelines' schema": [
            "check-jsonschema",
            "--builtin-schema",
            "vendor.gitlab-ci",
            *chosen(lambda path: path.name == ".gitlab-ci.yml"),
        ],
        "generated files": ["python", "-m", "dap.reference", "--check"],
    }


def run(name: str, argv: list[str]) -> tuple[str, int, str, float]:
    """Run one linter: its name, exit code, output, seconds."""
    started = time.monotonic()
    environment = os.environ | {
        "PATH": f"{BIN}:{os.environ['PATH']}",
        "NO_COLOR": "1",
        "ANSIBLE_CONFIG": "ansible/ansible.cfg",
    }
    done = subprocess.run(
        [str(BIN / argv[0]), *argv[1:]],
        cwd=ROOT,
        env=environment,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
    return name, done.returncode, done.stdout + done.stderr, time.monotonic() - started


def main() -> int:
    """Run all linters; 1 if any complains."""
    with ThreadPoolExecutor(max_workers=os.cpu_count()) as pool:
        results = list(pool.map(lambda entry: run(*entry), commands(tracked()).items()))
    for name, code, output, seconds in results:
        print(f"{'ok    ' if code == 0 else 'FAILED'} {name} ({seconds:.1f} s)")
        if code != 0:
            print(output)
    return int(any(code != 0 for _, code, _, _ in results))


if __name__ == "__main__":
    sys.exit(main())
