"""A machine in a container: systemd, sshd, an engine of its own, and files that outlive a reboot."""

from __future__ import annotations

import io
import subprocess
import tarfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

LABEL = "dap.lab"
ACCOUNT = "admin"
# All that Linux had before these three, which not every engine can hand out.
_CAPABILITIES = """
    CHOWN DAC_OVERRIDE DAC_READ_SEARCH FOWNER FSETID KILL SETGID SETUID SETPCAP LINUX_IMMUTABLE
    NET_BIND_SERVICE NET_BROADCAST NET_ADMIN NET_RAW IPC_LOCK IPC_OWNER SYS_MODULE SYS_RAWIO SYS_CHROOT
    SYS_PTRACE SYS_PACCT SYS_ADMIN SYS_BOOT SYS_NICE SYS_RESOURCE SYS_TIME SYS_TTY_CONFIG MKNOD LEASE
    AUDIT_WRITE AUDIT_CONTROL SETFCAP MAC_OVERRIDE MAC_ADMIN SYSLOG WAKE_ALARM BLOCK_SUSPEND AUDIT_READ
""".split()  # noqa: SIM905 - as a list they take forty lines
# Twice what a container gets: a machine runs many, and the lab is what a run of all tests waits for.
CPU_SHARES = 2048
START_SECONDS = 120
STOP_SECONDS = 60


def docker(*arguments: str, stdin: bytes = b"", check: bool = True) -> str:
    """What a docker command prints."""
    done = subprocess.run(["docker", *arguments], input=stdin, capture_output=True, check=False)
    assert not check or done.returncode == 0, f"docker {' '.join(arguments)}: {done.stderr.decode()}"
    return done.stdout.decode(errors="replace")


def capabilities() -> list[str]:
    """What this machine can hand out: not all of them may be there, so not ``--privileged``."""
    status = Path("/proc/self/status").read_text(encoding="ascii")
    mask = int(next(line.split()[1] for line in status.splitlines() if line.startswith("CapEff:")), 16)
    return [name for bit, name in enumerate(_CAPABILITIES) if mask >> bit & 1]


def wait_for(condition: Callable[[], bool], seconds: float, what: str) -> None:
    """Look until something holds.

    Raises:
        AssertionError: it does not after ``seconds``.
    """
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, f"not within {seconds:.0f} s: {what}"
        time.sleep(0.1)


def archive(files: dict[str, tuple[str, int]]) -> bytes:
    """A tar archive of files, by path: content and mode; those in the account's home are the account's."""
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w") as tar:
        for path, (content, mode) in files.items():
            entry = tarfile.TarInfo(path.lstrip("/"))
            entry.size, entry.mode = len(content.encode()), mode
            entry.uid = entry.gid = 1000 if path.startswith(f"/home/{ACCOUNT}/") else 0
            entry.mtime = int(time.time())
            tar.addfile(entry, io.BytesIO(content.encode()))
    return stream.getvalue()


@dataclass(frozen=True)
class Machine:
    """A machine of a lab.

    Attributes:
        name: its host name, and its name in the inventory.
        lab: the lab's name, which container, volumes and network begin with.
        address: on the lab's network.
        suite: its release of Debian or Ubuntu.
    """

    name: str
    lab: str
    address: str
    suite: str

    @property
    def container(self) -> str:
        return f"{self.lab}-{self.name}"

    def volume(self, folder: str) -> str:
        """The volume of a folder below /var/lib: an engine cannot use the machine's own file system."""
        return f"{self.container}-{folder}"

    def make(self, image: str, files: dict[str, tuple[str, int]]) -> None:
        """Create it, switched off.

        Args:
            files: by path, with content and mode.
        """
        label = f"{LABEL}={self.lab}"
        mounts = []
        for folder in ("docker", "containerd"):
            volume = docker("volume", "create", "--label", label, self.volume(folder)).strip()
            mounts += ["--volume", f"{volume}:/var/lib/{folder}"]
        docker(
            *("create", "--name", self.container, "--hostname", self.name, "--label", label),
            *("--network", self.lab, "--ip", self.address),
            *("--cap-drop", "ALL", *(f"--cap-add={name}" for name in capabilities())),
            *("--security-opt", "seccomp=unconfined", "--security-opt", "apparmor=unconfined"),
            *("--security-opt", "systempaths=unconfined", "--cgroupns", "private"),
            *("--device-cgroup-rule", "a *:* rwm", "--stop-signal", "SIGRTMIN+3"),
            *("--cpu-shares", str(CPU_SHARES)),
            *("--tmpfs", "/run:mode=755,exec", "--tmpfs", "/run/lock"),
            *("--tmpfs", "/tmp:mode=1777,exec"),  # noqa: S108 - the machine's own
            *("--env", "container=docker", *mounts, image),
        )
        docker("cp", "--archive", "-", f"{self.container}:/", stdin=archive(files))

    def power_on(self) -> None:
        """Start it, and wait until one can log in."""
        docker("start", self.container)
        self.await_ssh()

    def await_ssh(self) -> None:
        # Once sshd answers nobody but root may log in until the machine is up.
        wait_for(lambda: self.succeeds("test", "-S", "/run/dbus/system_bus_socket"), START_SECONDS, "dbus")
        wait_for(
            lambda: (
                # Ubuntu starts sshd when somebody connects.
                self.succeeds("systemctl", "is-active", "--quiet", "ssh.service", "ssh.socket")
                and not self.succeeds("test", "-e", "/run/nologin")
            ),
            START_SECONDS,
            f"{self.name} lets people log in",
        )

    def power_off(self) -> None:
        """Cut its power."""
        docker("kill", self.container)

    def reboot(self) -> None:
        """Shut it down and start it again."""
        docker("restart", "--time", str(STOP_SECONDS), self.container)
        self.await_ssh()

    def run(self, *argv: str, stdin: bytes = b"") -> str:
        """What a command prints there; as root, and past SSH.

        Raises:
            AssertionError: it failed.
        """
        return docker("exec", "--interactive", self.container, *argv, stdin=stdin)

    def succeeds(self, *argv: str) -> bool:
        """Whether a command succeeds there."""
        done = subprocess.run(["docker", "exec", self.container, *argv], capture_output=True, check=False)
        return done.returncode == 0

    def write(self, path: str, content: str, mode: int = 0o644) -> None:
        """Write a file; its folder has to be there."""
        self.run("sh", "-c", f"cat >{path} && chmod {mode:o} {path}", stdin=content.encode())

    def keep_logs(self, folder: Path) -> None:
        """Save what it and the containers on it have said."""
        folder.mkdir(parents=True, exist_ok=True)
        boot = docker("logs", self.container, check=False)
        journal = docker("exec", self.container, "journalctl", "--no-pager", "--lines", "5000", check=False)
        (folder / f"{self.name}.journal").write_text(boot + journal, encoding="utf-8")
        for name in docker(
            "exec", self.container, "docker", "ps", "--all", "--format", "{{.Names}}", check=False
        ).split():
            done = subprocess.run(
                ["docker", "exec", self.container, "docker", "logs", "--tail", "2000", name],
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                check=False,
            )
            (folder / f"{self.name}-{name}.log").write_bytes(done.stdout)


def remove_all(lab: str) -> None:
    """Remove everything of a lab from the engine, whatever became of the rest of it."""
    chosen = ["--filter", f"label={LABEL}={lab}"]
    if containers := docker("ps", "--all", "--quiet", *chosen).split():
        docker("rm", "--force", "--volumes", *containers)
    if volumes := docker("volume", "ls", "--quiet", *chosen).split():
        docker("volume", "rm", "--force", *volumes)
    if networks := docker("network", "ls", "--quiet", *chosen).split():
        docker("network", "rm", *networks)
