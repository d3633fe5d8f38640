"""The program's own packages in a bundle: wheels for the machine that one deploys from."""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from dap.errors import DapError
from dap.files import make_private_folder, temporary_folder
from dap.layout import ROOT

FOLDER = "wheels"
# The release's Python, and the newest C library that a wheel may want; what is older has none the program
# runs on.
PYTHONS = {"bookworm": ("3.11", 36), "noble": ("3.12", 39), "trixie": ("3.13", 41)}
_MACHINES = {"amd64": "x86_64", "arm64": "aarch64"}
_SECONDS = 1800


def download(
    cache: Path, release: str, architecture: str, environment: Mapping[str, str], log: Path
) -> list[Path]:
    """Fetch the wheels that `scripts/bootstrap run` installs on a release; every file checked by its hash.

    Args:
        cache: folder that they stay in, for the next bundle.
        environment: the site's index and proxy.

    Raises:
        DapError: they cannot be had.
    """
    if release not in PYTHONS:
        return []
    version, library = PYTHONS[release]
    machine = _MACHINES[architecture]
    asked = [(ROOT / name).read_bytes() for name in ("pyproject.toml", "requirements.lock")]
    digest = hashlib.sha256(b"\0".join([*asked, version.encode(), machine.encode()])).hexdigest()[:12]
    folder = cache / f"{release}-{digest}"
    if not folder.exists():
        make_private_folder(cache)
        for old in cache.glob(f"{release}-*"):
            shutil.rmtree(old)
        with temporary_folder(cache) as unfinished:
            _download(unfinished / release, version, library, machine, environment, log)
            # It is there when it is whole.
            (unfinished / release).rename(folder)
    return sorted(folder.glob("*.whl"))


def _download(
    folder: Path, version: str, library: int, machine: str, environment: Mapping[str, str], log: Path
) -> None:
    program = Path(sys.executable).parent
    named = _run(
        [
            *(str(program / "uv"), "pip", "compile", "--quiet", "--no-header", "--no-annotate"),
            *("--constraint", "requirements.lock", "--python-version", version),
            *("--python-platform", f"{machine}-unknown-linux-gnu", "pyproject.toml"),
        ],
        environment,
        log,
    )
    requirements = folder.with_suffix(".txt")
    requirements.write_text(_locked(re.findall(r"^([\w.-]+)==", named, re.M)), encoding="utf-8")
    tags = [f"manylinux_2_{minor}_{machine}" for minor in range(library, 4, -1)]
    platforms = [word for tag in (*tags, f"manylinux2014_{machine}") for word in ("--platform", tag)]
    _run(
        [
            *(sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check"),
            *("--require-hashes", "--no-deps", "--only-binary", ":all:", "--python-version", version),
            *(*platforms, "--dest", str(folder), "--requirement", str(requirements)),
        ],
        environment,
        log,
    )


def _locked(names: Sequence[str]) -> str:
    """The lock's entries for some packages, without conditions: whoever asks has looked at them."""
    lock = (ROOT / "requirements.lock").read_text(encoding="utf-8")
    entries = {
        re.split(r"==", entry)[0]: entry for entry in re.findall(r"^[\w.-]+==(?:.*\\\n)*.*\n", lock, re.M)
    }
    return "".join(
        re.sub(r"^(\S+) ; .*?( \\)?$", r"\1\2", entries[name], count=1, flags=re.M) for name in names
    )


def _run(argv: Sequence[str], environment: Mapping[str, str], log: Path) -> str:
    """What a program prints; what it says beside that goes to the log."""
    with log.open("a", encoding="utf-8") as output:
        done = subprocess.run(  # noqa: S603  our own argv, no shell
            argv,
            cwd=ROOT,
            env={**os.environ, "UV_SYSTEM_CERTS": "1", **environment},
            capture_output=True,
            text=True,
            timeout=_SECONDS,
            check=False,
        )
        output.write(done.stderr)
    if done.returncode:
        said = done.stderr.strip().splitlines()[-1:] or ["it said nothing"]
        raise DapError(
            f"the program's own packages cannot be had: {said[0]}",
            "set mirrors.pypi or proxy in platform.yml (docs/how-to/use-mirrors-and-a-proxy.md)",
            log=log,
        )
    return done.stdout
