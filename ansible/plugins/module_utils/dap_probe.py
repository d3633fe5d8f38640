"""Asks a host about itself: reads its files, runs its tools with a limit, changes nothing."""

from __future__ import annotations

import os
import platform
import re
import shutil
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from .dap_apt import AptSource, parse_sources
from .dap_engine import EngineState
from .dap_host import (
    FileSystem,
    HostFacts,
    Occupant,
    parse_listeners,
    parse_memory_mib,
    parse_os_release,
    parse_published,
)
from .dap_proxy import SYSV_DEFAULTS, Proxy, ProxyFile, differing, wanted_files

# A hanging engine must not hang the preflight.
_LIMIT_S = 20
_PACKAGES = (
    "docker-ce",
    "docker-ce-cli",
    "containerd.io",
    "docker-compose-plugin",
    "docker-buildx-plugin",
    "docker.io",
    "docker-cli",
    "docker-compose",
    "docker-compose-v2",
    "docker-buildx",
    "iptables",
    "apparmor",
)
# Programs that hold a published port for a container.
_DOCKER_PROGRAMS = ("docker-proxy", "dockerd")


def output_of(*argv: str) -> str:
    """What a command prints, stripped; empty when it is missing, fails or takes too long.

    The environment names no other engine: it is this host's that is asked about. The search path holds the
    folders of the system administrator's tools, which an unprivileged or a bare login lacks.
    """
    environment = {name: value for name, value in os.environ.items() if not name.startswith("DOCKER_")}
    environment["PATH"] = search_path()
    environment["LC_ALL"] = "C"
    try:
        done = subprocess.run(  # noqa: S603 - fixed commands
            argv,
            capture_output=True,
            text=True,
            timeout=_LIMIT_S,
            env=environment,
            check=False,
            errors="replace",
        )
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout.strip() if done.returncode == 0 else ""


def search_path() -> str:
    """Where commands are looked for."""
    usual = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
    return f"{os.environ.get('PATH', '')}:{usual}:/snap/bin".lstrip(":")


def text_of(path: str) -> str:
    """The text of a file; empty when it cannot be read."""
    try:
        return Path(path).read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""


def text_or_none(path: str) -> str | None:
    """The text of a file; None when it is not there."""
    return text_of(path) if Path(path).exists() else None


def os_release() -> dict[str, str]:
    """The host's ``os-release``."""
    return parse_os_release(text_of("/etc/os-release") or text_of("/usr/lib/os-release"))


def init_system() -> str:
    """What starts services on the host: ``systemd``, ``sysv`` or ``none`` (a container without an init)."""
    if Path("/run/systemd/system").is_dir():
        return "systemd"
    # Many a PID 1 is called init; only SysV's keeps its control pipe open.
    pipe = any(Path(path).is_fifo() for path in ("/run/initctl", "/dev/initctl"))
    if pipe and text_of("/proc/1/comm").strip() == "init":
        return "sysv"
    return "none"


def process_of(pid_file: str, program: str) -> int:
    """Id of the running process that a file names; 0 when there is none, or it is another program by now."""
    number = text_of(pid_file).strip()
    if not number.isdigit():
        return 0
    _, _, status = text_of(f"/proc/{number}/stat").rpartition(")")
    # One that has ended keeps its name until its parent notices, and in a container nobody may.
    ended = status.split()[:1] == ["Z"]
    return int(number) if text_of(f"/proc/{number}/comm").strip() == program and not ended else 0


def service_enabled(init: str) -> bool | None:
    """Whether the engine's service starts at boot; None where there is no such service."""
    if init == "systemd":
        state = _systemd_state("docker.service")
        return None if state in ("", "not-found") else state in ("enabled", "alias", "static")
    if init == "sysv" and Path("/etc/init.d/docker").exists():
        return any(Path("/etc").glob("rc[2-5].d/S[0-9][0-9]docker"))
    return None


def _systemd_state(unit: str) -> str:
    # It ends with 1 for a unit that is disabled, so output_of would hide the answer.
    program = shutil.which("systemctl", path=search_path())
    if not program:
        return ""
    done = subprocess.run(  # noqa: S603 - fixed command
        [program, "is-enabled", unit], capture_output=True, text=True, timeout=_LIMIT_S, check=False
    )
    return done.stdout.strip()


def installed_packages() -> dict[str, str]:
    """Those of Docker's packages that are installed, with their versions."""
    lines = subprocess.run(  # noqa: S603 - fixed command; it ends with 1 when one of the packages is unknown
        [
            shutil.which("dpkg-query", path=search_path()) or "/usr/bin/dpkg-query",
            "--show",
            "--showformat=${Package}\\t${Version}\\t${db:Status-Status}\\n",
            *_PACKAGES,
        ],
        capture_output=True,
        text=True,
        timeout=_LIMIT_S,
        check=False,
    ).stdout.splitlines()
    rows = [line.split("\t") for line in lines]
    return {row[0]: row[1] for row in rows if len(row) == 3 and row[2] == "installed"}


def engine_state() -> EngineState:
    """What the host has of Docker."""
    command = shutil.which("docker", path=search_path()) or ""
    asked = (
        ("docker", "version", "--format", "{{.Server.Version}}"),
        ("docker", "compose", "version", "--short"),
        ("docker", "buildx", "version"),
        ("docker", "--version"),
        ("dockerd", "--version"),
        ("docker", "info", "--format", "{{.HTTPProxy}}\t{{.HTTPSProxy}}\t{{.NoProxy}}"),
    )
    with ThreadPoolExecutor(len(asked)) as pool:
        packages = pool.submit(installed_packages)
        running, compose, buildx, client, installed, proxy = pool.map(lambda argv: output_of(*argv), asked)
    return EngineState(
        command=str(Path(command).resolve()) if command and "/snap/" not in command else command,
        running=running,
        installed=_version(installed),
        compose=compose.removeprefix("v"),
        buildx=_version(buildx),
        podman="podman" in client.lower(),
        packages=packages.result(),
        proxy=_engine_proxy(proxy) if running else Proxy(),
    )


def _engine_proxy(told: str) -> Proxy:
    """The proxy that the engine tells of; with the logins that it hides, where its process shows them."""
    http, https, no_proxy = [*told.split("\t"), "", "", ""][:3]
    names = dict(zip(("http_proxy", "https_proxy", "no_proxy"), (http, https, no_proxy), strict=True))
    proxy = Proxy.from_environment(names)
    if "xxxxx:xxxxx@" in http + https:
        process = text_of("/var/run/docker.pid").strip()
        pairs = (pair.partition("=") for pair in text_of(f"/proc/{process}/environ").split("\0"))
        own = Proxy.from_environment({name: value for name, _, value in pairs})
        return own if own.name == proxy.name else proxy
    return proxy


def differing_proxy_files(platform: str, init: str, proxy: Proxy) -> tuple[ProxyFile, ...]:
    """Those of the platform's files about the engine's proxy that are not as they have to be."""
    wanted = wanted_files(platform, init, proxy, text_of(SYSV_DEFAULTS))
    return tuple(differing(wanted, {file.path: text_or_none(file.path) for file in wanted}))


def _version(text: str) -> str:
    """The version in the likes of ``Docker version 20.10.24+dfsg1`` or ``… v0.13.1 7884339``."""
    match = re.search(r"\bv?(\d+\.\d+[^\s,]*)", text)
    return match[1] if match else ""


def apt_sources() -> tuple[AptSource, ...]:
    """The host's apt sources."""
    folder = Path("/etc/apt/sources.list.d")
    files = [Path("/etc/apt/sources.list"), *sorted(folder.glob("*.list")), *sorted(folder.glob("*.sources"))]
    return tuple(parse_sources({str(path): text_of(str(path)) for path in files if path.is_file()}))


def apparmor_unready() -> bool:
    """Whether the kernel confines with AppArmor while its parser is missing: then no container starts."""
    enabled = text_of("/sys/module/apparmor/parameters/enabled").strip() == "Y"
    return enabled and shutil.which("apparmor_parser", path=search_path()) is None


def _overlay() -> bool | None:
    """Whether the kernel has overlayfs; None where it cannot be told."""
    if "\toverlay\n" in text_of("/proc/filesystems"):
        return True
    modules = Path("/lib/modules") / platform.release()
    if not modules.is_dir():
        return None
    listed = text_of(str(modules / "modules.dep")) + text_of(str(modules / "modules.builtin"))
    return "/overlay.ko" in listed


def _memory_mib() -> int:
    """The machine's memory, or the limit of the container that the host is."""
    memory = parse_memory_mib(text_of("/proc/meminfo"))
    for path in ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes"):
        limit = text_of(path).strip()
        if limit.isdigit() and int(limit) > 0:
            memory = min(memory, int(limit) // 1024**2)
    return memory


def file_system(path: str) -> FileSystem:
    """The file system that a folder lies on, or will lie on once it is made."""
    existing = Path(path)
    while not existing.exists():
        existing = existing.parent
    numbers = os.statvfs(existing)
    return FileSystem(path, existing.stat().st_dev, numbers.f_bavail * numbers.f_frsize)


def _holder(inode: int) -> tuple[str, int]:
    """Name and id of the process that holds a socket; an empty name when it cannot be seen from here."""
    for process in Path("/proc").glob("[0-9]*"):
        try:
            links = [os.readlink(link) for link in (process / "fd").iterdir()]
        except OSError:
            continue
        if f"socket:[{inode}]" in links:
            return text_of(str(process / "comm")).strip(), int(process.name)
    return "", 0


def occupants(ports: set[int], engine_runs: bool) -> tuple[Occupant, ...]:
    """Who holds any of some TCP ports: programs, and containers with their Compose project."""
    published: list[Occupant] = []
    if engine_runs:
        row = '{{.Names}}\t{{.Label "com.docker.compose.project"}}\t{{.Ports}}'
        published = [
            one for one in parse_published(output_of("docker", "ps", "--format", row)) if one.port in ports
        ]
    found = list(published)
    for listener in parse_listeners(text_of("/proc/net/tcp")) + parse_listeners(text_of("/proc/net/tcp6")):
        if listener.port not in ports:
            continue
        name, process = _holder(listener.inode)
        if name in _DOCKER_PROGRAMS and any(one.port == listener.port for one in published):
            continue
        holder = f"{name} (pid {process})" if name else "a program that cannot be seen from here"
        found.append(Occupant(listener.address, listener.port, holder))
    return tuple(found)


def project_folder(project: str) -> str:
    """The folder that the containers of a Compose project were started from; empty where there are none."""
    label = "com.docker.compose.project"
    told = output_of(
        *("docker", "ps", "--all", "--filter", f"label={label}={project}"),
        *("--format", f'{{{{.Label "{label}.working_dir"}}}}'),
    )
    return (told.splitlines() or [""])[0]


def _has_folders(folder: Path) -> bool:
    try:
        # A file system of its own begins with the folder for what fsck finds; a deploy that was killed before
        # it had said whose data these are leaves its own folder.
        none = ("lost+found", ".incoming-open")
        return any(entry.is_dir() and entry.name not in none for entry in folder.iterdir())
    except OSError:
        return False


def host_facts(root: str, data: str, ports: set[int], engine: EngineState, project: str = "") -> HostFacts:
    """Everything that the preflight tells about the host.

    Args:
        root: folder of the rendered files.
        data: folder of the platform's data.
        ports: TCP ports whose holders are wanted.
        engine: what the host has of Docker.
        project: Compose project whose folder is wanted; none where it is empty.
    """
    system = os_release()
    about = (
        output_of("docker", "info", "--format", "{{.DockerRootDir}}\t{{.Driver}}") if engine.running else ""
    )
    docker_root, _, driver = about.partition("\t")
    return HostFacts(
        distribution=system.get("ID", ""),
        version=system.get("VERSION_ID", ""),
        machine=platform.machine(),
        kernel=platform.release(),
        hostname=platform.node(),
        python=".".join(map(str, sys.version_info[:3])),
        cpus=len(os.sched_getaffinity(0)),
        memory_mib=_memory_mib(),
        init=init_system(),
        is_root=os.geteuid() == 0,
        epoch=time.time(),
        root=file_system(root),
        data=file_system(data),
        docker=file_system(docker_root or "/var/lib/docker"),
        overlay=True if driver.startswith("overlay") else _overlay(),
        engine=engine.running,
        platform_id=text_of(f"{data}/.platform-id").strip() or None,
        has_data=_has_folders(Path(data)),
        occupants=occupants(ports, bool(engine.running)),
        project_folder=project_folder(project) if engine.running and project else "",
    )
