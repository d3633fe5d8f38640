"""Images of machines: a release with systemd, sshd and sudo, made of packages where missing."""

from __future__ import annotations

import fcntl
import hashlib
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.packages import installed

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
LOGS = ROOT / ".cache" / "test-logs" / "lab"
sys.path.append(str(ROOT / "ansible" / "plugins"))

from module_utils.dap_bootstrap import host_mirrors  # noqa: E402
from module_utils.dap_probe import apt_sources, os_release  # noqa: E402

UBUNTU = ("noble",)
UBUNTU_ARCHIVE = "http://archive.ubuntu.com/ubuntu"
UBUNTU_SECURITY_ARCHIVE = "http://security.ubuntu.com/ubuntu"
PACKAGES = (
    *(
        "apt",
        "systemd",
        "systemd-sysv",
        "dbus",
        "openssh-server",
        "sudo",
        "python3",
        "ca-certificates",
        "tzdata",
    ),
    *("iproute2", "procps", "kmod", "netbase", "libfaketime"),
)
# Mirrors and their peculiarities are the machine's own: whatever apt is told here, it is told there.
_APT_OPTION = re.compile(r"Acquire::(http|https|ForceIPv[46]|Check-|AllowInsecure|AllowWeak|Retries)")
# Authorities that a platform on this machine has put there.
_OF_A_PLATFORM = re.compile(r".*-[0-9a-f]{16}\.crt")


def host_image(suite: str) -> str:
    """The reference of the image of a release of Debian or Ubuntu, which is on the engine then."""
    sources, options, certificates = _sources(suite), _apt_options(), _certificates()
    files = [*sorted((HERE / "image").iterdir()), *certificates]
    parts = [suite, sources, *options, *PACKAGES, *(path.read_text(encoding="utf-8") for path in files)]
    digest = hashlib.sha256("\0".join(parts).encode()).hexdigest()[:12]
    reference = f"dapt/lab-host:{suite}-{digest}"
    with _lock(suite):
        there = subprocess.run(["docker", "image", "inspect", reference], capture_output=True, check=False)
        if there.returncode:
            _make(reference, suite, sources, options, certificates)
    return reference


def _make(reference: str, suite: str, sources: str, options: list[str], certificates: list[Path]) -> None:
    installed("mmdebstrap", "mmdebstrap")
    LOGS.mkdir(parents=True, exist_ok=True)
    log = LOGS / f"image-{suite}.log"
    with tempfile.TemporaryDirectory() as name, log.open("wb") as output:
        folder = Path(name)
        # apt checks signatures as a user of its own.
        folder.chmod(0o755)
        (folder / "sources.list").write_text(sources, encoding="utf-8")
        (folder / "certificates").mkdir()
        for path in certificates:
            (folder / "certificates" / path.name).write_bytes(path.read_bytes())
        made = subprocess.run(
            [
                *("mmdebstrap", "--variant=minbase", f"--include={','.join(PACKAGES)}", "--format=tar"),
                *(f"--aptopt={option}" for option in options),
                *(_keyring(folder) if suite in UBUNTU else ()),
                # The lists and the files of packages stay.
                "--skip=cleanup/apt",
                f"--customize-hook={HERE / 'image' / 'customize'}",
                *(suite, str(folder / "root.tar"), str(folder / "sources.list")),
            ],
            env=os.environ
            | {
                "LAB_SUITE": suite,
                "LAB_FILES": str(HERE / "image"),
                "LAB_CERTIFICATES": str(folder / "certificates"),
                "LAB_NEXT_SOURCE": _sources("trixie").splitlines()[0],
            },
            stdout=output,
            stderr=output,
            check=False,
        )
        assert made.returncode == 0, f"no image of {suite}, see {log}"
        changes = ['ENTRYPOINT ["/usr/lib/lab-init"]', "LABEL dap.lab.image=1"]
        arguments = [word for change in changes for word in ("--change", change)]
        subprocess.run(
            ["docker", "import", *arguments, str(folder / "root.tar"), reference],
            check=True,
            stdout=subprocess.DEVNULL,
        )


def _sources(suite: str) -> str:
    """The sources of a release, at the mirrors that this machine uses; Ubuntu's at its own archive."""
    if suite not in UBUNTU:
        return host_mirrors(os_release(), apt_sources()).sources(suite)
    places = ((UBUNTU_ARCHIVE, suite), (UBUNTU_ARCHIVE, f"{suite}-updates"))
    lines = [f"deb {archive} {name} main universe" for archive, name in places]
    return "\n".join([*lines, f"deb {UBUNTU_SECURITY_ARCHIVE} {suite}-security main universe"]) + "\n"


def _keyring(folder: Path) -> list[str]:
    """Options that let mmdebstrap check Ubuntu's signatures: Debian has its keys in a package."""
    root, sources = folder / "keyring", folder / "keyring.list"
    sources.write_text(_sources("trixie"), encoding="utf-8")
    options = [f"--aptopt={option}" for option in _apt_options()]
    extract = ["--variant=extract", "--include=ubuntu-keyring", "--format=directory"]
    argv = ["mmdebstrap", *extract, *options, "trixie", str(root), str(sources)]
    subprocess.run(argv, check=True, capture_output=True)
    return [f"--keyring={root}/usr/share/keyrings"]


def _apt_options() -> list[str]:
    dump = subprocess.run(["apt-config", "dump"], capture_output=True, text=True, check=True).stdout
    told = [line for line in dump.splitlines() if _APT_OPTION.match(line)]
    proxies = {f"Acquire::{kind}::Proxy": os.environ.get(f"{kind}_proxy") for kind in ("http", "https")}
    return told + [f'{option} "{address}";' for option, address in proxies.items() if address]


def _certificates() -> list[Path]:
    """Authorities that this machine trusts beside the distribution's, such as a TLS-inspecting proxy's."""
    folder = Path("/usr/local/share/ca-certificates")
    return [path for path in sorted(folder.rglob("*.crt")) if not _OF_A_PLATFORM.fullmatch(path.name)]


@contextmanager
def _lock(name: str) -> Iterator[None]:
    """One process at a time."""
    folder = ROOT / ".cache"
    folder.mkdir(exist_ok=True)
    with (folder / f"lab-{name}.lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
