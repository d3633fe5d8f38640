"""What a host's own files tell about it, and the judgement whether the platform can run there.

Pure functions: text and facts in, findings out. They run on the hosts, whose Python may be as old as 3.10.
"""

from __future__ import annotations

import ipaddress
import shlex
from dataclasses import asdict, dataclass, field

SUPPORTED_SYSTEMS = {"debian": ("12", "13"), "ubuntu": ("22.04", "24.04")}
SUPPORTED_MACHINES = ("x86_64", "aarch64")
# The rendered files are small, but a full file system must not end a deploy half-way.
ROOT_REQUIRED_MIB = 256
MIB = 1024**2
GIB = 1024**3
_LISTENING = "0A"


@dataclass(frozen=True)
class Finding:
    """One thing that stands in the way of the platform on a host.

    Attributes:
        severity: ``error`` or ``warning``.
        subject: what it is about: ``operating system``, ``memory``, ``port 443``, …
        value: what was found.
        reason: why that is a problem.
        suggestion: what to do about it.
        service: the service that it is about, if it is about one.
    """

    severity: str
    subject: str
    value: str
    reason: str
    suggestion: str
    service: str = ""


@dataclass(frozen=True)
class Listener:
    """A TCP socket that waits for connections; the address as IPv4 where it is one in IPv6's clothes."""

    address: str
    port: int
    inode: int


@dataclass(frozen=True)
class Occupant:
    """Who holds a port of the host.

    Attributes:
        address: that it is held on.
        port: that it is held on.
        holder: for people: ``nginx (pid 812)``, ``the container web``.
        project: the Compose project of the container that publishes it; empty for anything else.
    """

    address: str
    port: int
    holder: str
    project: str = ""


@dataclass(frozen=True)
class Wants:
    """What the platform needs of a host.

    Attributes:
        project: the platform's own Compose project, whose ports are no conflict.
        ports: (address, port, service) that will be published.
        memory_mib: memory the host must have.
        disk_gib: free space for images and data together.
    """

    project: str
    ports: tuple[tuple[str, int, str], ...] = ()
    memory_mib: int = 0
    disk_gib: float = 0


@dataclass(frozen=True)
class FileSystem:
    """The file system below one of the platform's folders.

    Attributes:
        path: the folder; it need not exist yet.
        device: number of the device, equal for folders on one file system.
        free: bytes that may be written.
    """

    path: str
    device: int
    free: int


@dataclass(frozen=True)
class HostFacts:
    """What a host is; see the module's documentation for each."""

    distribution: str
    version: str
    machine: str
    kernel: str
    hostname: str
    python: str
    cpus: int
    memory_mib: int
    init: str
    is_root: bool
    epoch: float
    root: FileSystem
    data: FileSystem
    docker: FileSystem
    overlay: bool | None = None
    engine: str = ""
    platform_id: str | None = None
    has_data: bool = False
    occupants: tuple[Occupant, ...] = field(default=())
    project_folder: str = ""

    def as_dict(self) -> dict[str, object]:
        """The facts as the module returns them."""
        return asdict(self)


def parse_os_release(text: str) -> dict[str, str]:
    """The variables of an ``os-release`` file, unquoted; lines that are none are left out."""
    values = {}
    for line in text.splitlines():
        name, equals, value = line.strip().partition("=")
        if not equals or name.startswith("#"):
            continue
        try:
            words = shlex.split(value)
        except ValueError:
            continue
        values[name] = words[0] if words else ""
    return values


def parse_memory_mib(meminfo: str) -> int:
    """The memory of a machine in MiB from ``/proc/meminfo``; 0 when it does not say."""
    for line in meminfo.splitlines():
        if line.startswith("MemTotal:"):
            return int(line.split()[1]) // 1024
    return 0


def _address(text: str) -> str:
    """The address as ``/proc/net/tcp`` spells it: hexadecimal, every 32 bits in little-endian order."""
    raw = bytes.fromhex(text)
    ordered = b"".join(raw[start : start + 4][::-1] for start in range(0, len(raw), 4))
    if len(ordered) == 4:
        return str(ipaddress.IPv4Address(ordered))
    address = ipaddress.IPv6Address(ordered)
    return str(address.ipv4_mapped or address)


def parse_listeners(text: str) -> list[Listener]:
    """The listening sockets in ``/proc/net/tcp`` or ``/proc/net/tcp6``."""
    listeners = []
    for line in text.splitlines()[1:]:
        columns = line.split()
        if len(columns) > 9 and columns[3] == _LISTENING:
            address, port = columns[1].split(":")
            listeners.append(Listener(_address(address), int(port, 16), int(columns[9])))
    return listeners


def parse_published(text: str) -> list[Occupant]:
    """The ports that containers publish.

    Args:
        text: ``docker ps`` with a line ``name <tab> Compose project <tab> ports`` for each container.
    """
    occupants = []
    for line in text.splitlines():
        name, project, ports = [*line.split("\t"), "", ""][:3]
        for part in ports.split(", "):
            outside, arrow, inside = part.partition("->")
            if not arrow or not inside.endswith("/tcp"):
                continue
            address, _, numbers = outside.rpartition(":")
            first, _, last = numbers.partition("-")
            occupants += [
                Occupant(address.strip("[]") or "::", port, f"the container {name}", project)
                for port in range(int(first), int(last or first) + 1)
            ]
    return occupants


def overlaps(wanted: str, held: str) -> bool:
    """Whether a socket on one address keeps another from listening on the same port of the other address."""
    everywhere = ("0.0.0.0", "::", "")  # noqa: S104 - compared, not bound
    return wanted in everywhere or held in everywhere or wanted == held


def judge(facts: HostFacts, wants: Wants) -> list[Finding]:
    """Everything that stands in the way of the platform on this host, errors first."""
    findings = [
        *_judge_system(facts),
        *_judge_rights(facts),
        *_judge_size(facts, wants),
        *_judge_ports(facts, wants),
        *_judge_name(facts, wants),
    ]
    return sorted(findings, key=lambda finding: finding.severity != "error")


def _judge_system(facts: HostFacts) -> list[Finding]:
    findings = []
    if facts.version not in SUPPORTED_SYSTEMS.get(facts.distribution, ()):
        names = ", ".join(f"{name.title()} {' and '.join(v)}" for name, v in SUPPORTED_SYSTEMS.items())
        value = f"{facts.distribution} {facts.version}".strip() or "unknown"
        findings.append(
            Finding(
                "error",
                "operating system",
                value,
                f"the platform is made for {names}",
                "use a host with one of these systems",
            )
        )
    if facts.machine not in SUPPORTED_MACHINES:
        findings.append(
            Finding(
                "error",
                "architecture",
                facts.machine,
                f"the images are built for {' and '.join(SUPPORTED_MACHINES)}",
                "use a 64-bit x86 or ARM host",
            )
        )
    if facts.overlay is False:
        findings.append(
            Finding(
                "warning",
                "kernel",
                facts.kernel,
                "without overlayfs Docker copies every image whole: slow, and many times the space",
                "use a kernel with overlayfs, or load it (modprobe overlay)",
            )
        )
    return findings


def _judge_rights(facts: HostFacts) -> list[Finding]:
    if facts.is_root:
        return []
    return [
        Finding(
            "error",
            "rights",
            "not root",
            "packages, the trust store and Docker need root",
            "connect as root (ansible_user: root), or as a user who may use sudo",
        )
    ]


def _gib(size: float) -> str:
    return f"{size / GIB:.1f} GiB"


def _judge_size(facts: HostFacts, wants: Wants) -> list[Finding]:
    findings = []
    if facts.memory_mib < wants.memory_mib:
        findings.append(
            Finding(
                "error",
                "memory",
                f"{facts.memory_mib} MiB",
                f"the services of this host need {wants.memory_mib} MiB",
                "give the host more memory, or turn services off",
            )
        )
    # What is deployed already has taken its space; that a redeploy finds little left must not keep it from
    # healing.
    severity = "warning" if facts.platform_id else "error"
    shared = facts.data.device == facts.docker.device
    for role, system, needed in (
        ("data", facts.data, wants.disk_gib * GIB if shared else wants.disk_gib * GIB / 2),
        ("Docker's images", facts.docker, 0 if shared else wants.disk_gib * GIB / 2),
        ("rendered files", facts.root, ROOT_REQUIRED_MIB * MIB),
    ):
        if system.free < needed:
            findings.append(
                Finding(
                    severity,
                    f"disk space at {system.path}",
                    f"{_gib(system.free)} free",
                    f"{role}{' and images' if shared and system is facts.data else ''} need {_gib(needed)}",
                    "free some space, or put the folder on a larger file system",
                )
            )
    return findings


def _judge_ports(facts: HostFacts, wants: Wants) -> list[Finding]:
    findings = []
    for address, port, service in wants.ports:
        holders = {
            (occupant.holder, occupant.project)
            for occupant in facts.occupants
            if occupant.port == port and overlaps(address, occupant.address)
        }
        for holder, project in sorted(holders):
            if project and project in (wants.project, f"{wants.project}-dev"):
                continue
            owner = f"{holder} of the Compose project {project}" if project else holder
            findings.append(
                Finding(
                    "error",
                    f"port {port}",
                    f"in use by {owner}",
                    f"{service} is to be published there ({address}:{port})",
                    "stop that program, or choose another port or listen address in the configuration",
                    service,
                )
            )
    return findings


def _judge_name(facts: HostFacts, wants: Wants) -> list[Finding]:
    """Containers of another platform with the same name: a deploy would replace them by its own."""
    if not facts.project_folder or facts.platform_id:
        return []  # whose data these are is asked with the data
    return [
        Finding(
            "error",
            "platform_name",
            wants.project,
            f"a platform of this name runs from {facts.project_folder}, and {facts.data.path} holds nothing"
            " of it",
            "write another platform_name, or the paths that it was deployed with",
        )
    ]
