"""Decides what a host's Docker needs: use what is there, install it, or refuse.

Pure: everything known about the host comes in as :class:`HostState`, and a :class:`Plan` comes out that the
role carries out. It runs on the hosts, whose Python may be as old as 3.10.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field, replace

from .dap_apt import AptFile, AptSource, base_source, docker_repository_file, next_release_files
from .dap_proxy import NONE as NO_PROXY
from .dap_proxy import Proxy, ProxyFile, without_login

# The oldest of each that the platform's Compose files and image builds work with.
REQUIRED = {"engine": (20, 10), "compose": (2, 20), "buildx": (0, 10)}

# Which package of Docker's own repository brings what.
_DOCKER_CE = {
    "engine": ("docker-ce", "containerd.io"),
    "client": ("docker-ce-cli",),
    "compose": ("docker-compose-plugin",),
    "buildx": ("docker-buildx-plugin",),
}
_UBUNTU = {
    "engine": ("docker.io", "iptables"),
    "client": ("docker.io",),
    "compose": ("docker-compose-v2",),
    "buildx": ("docker-buildx",),
}
# The same for the distributions' own packages.
_DISTRIBUTION = {
    ("debian", "12"): {
        "engine": ("docker.io", "iptables"),
        "client": ("docker.io",),
        "compose": ("docker-compose",),
        "buildx": ("docker-buildx",),
    },
    ("debian", "13"): {
        "engine": ("docker.io", "iptables"),
        "client": ("docker-cli",),
        "compose": ("docker-compose",),
        "buildx": ("docker-buildx",),
    },
    ("ubuntu", "22.04"): _UBUNTU,
    ("ubuntu", "24.04"): _UBUNTU,
}
# Debian 12 itself has Compose 1.29 and no buildx; those of the next release are static programs that run
# on it.
_FROM_NEXT_RELEASE = {("debian", "12"): ("trixie", ("docker-compose", "docker-buildx"))}

_SUPPORTING = ("iptables", "apparmor")

PARTS = ("engine", "client", "compose", "buildx")


@dataclass(frozen=True)
class EngineState:
    """What a host has of Docker.

    Attributes:
        command: where the command ``docker`` lies, links resolved; empty when there is none.
        running: version of the engine that answers; empty when none does.
        installed: version of the engine's program; empty when there is none.
        compose: version of the Compose plugin; empty when there is none.
        buildx: version of the buildx plugin; empty when there is none.
        podman: the command ``docker`` is Podman.
        packages: those of Docker's packages that are installed, with their versions.
        proxy: what the running engine reaches registries through.
    """

    command: str = ""
    running: str = ""
    installed: str = ""
    compose: str = ""
    buildx: str = ""
    podman: bool = False
    packages: dict[str, str] = field(default_factory=dict)
    proxy: Proxy = NO_PROXY

    @property
    def snap(self) -> bool:
        """The command comes from a snap."""
        return self.command.startswith(("/snap/", "/usr/bin/snap"))

    @property
    def family(self) -> str:
        """Where the engine came from: ``docker-ce``, ``distribution``, ``other``, or empty."""
        if "docker-ce" in self.packages:
            return "docker-ce"
        if "docker.io" in self.packages:
            return "distribution"
        return "other" if self.running or self.installed else ""


@dataclass(frozen=True)
class HostState:
    """Everything that the decision depends on.

    Attributes:
        os_id: ``debian``, ``ubuntu``, …
        os_version: ``12``, ``22.04``, …
        codename: of the release.
        init: ``systemd``, ``sysv`` or ``none``.
        engine: what is there.
        enabled: whether the engine starts at boot; None where there is no service to ask about.
        repository_reachable: whether Docker's own repository answers; None when nobody asked.
        sources: the host's apt sources.
        apparmor_unready: the kernel confines with AppArmor, but its parser is missing.
        proxy: what the engine has to reach registries through; empty to leave that to the operator.
        proxy_files: those of the platform's files about it that are not as they have to be.
        bundled: packages come from a bundle, which has the distribution's, and from nowhere else.
    """

    os_id: str
    os_version: str
    codename: str
    init: str
    engine: EngineState
    enabled: bool | None = None
    repository_reachable: bool | None = None
    sources: tuple[AptSource, ...] = ()
    apparmor_unready: bool = False
    proxy: Proxy = NO_PROXY
    proxy_files: tuple[ProxyFile, ...] = ()
    bundled: bool = False


@dataclass(frozen=True)
class Plan:
    """What the role has to do.

    Attributes:
        outcome: ``use``, ``docker-repository``, ``distribution`` or ``refuse``.
        reasons: why something has to be installed, for people; empty when nothing has.
        packages: to install.
        upgrade: installed, but too old.
        files: to write before apt reads its sources.
        key: where the key of Docker's repository is to lie; empty when it is not used or has one.
        key_url: where that key comes from.
        start: how the engine is to be started: ``systemd``, ``sysv``, ``detached``, or empty when it runs.
        notes: what the operator should know.
        suggestion: what to do about a refusal.
        proxy_files: files about the proxy that are to be written or removed.
        restart: why the running engine is to be restarted; empty when it is not.
    """

    outcome: str
    reasons: tuple[str, ...] = ()
    packages: tuple[str, ...] = ()
    upgrade: tuple[str, ...] = ()
    files: tuple[AptFile, ...] = ()
    key: str = ""
    key_url: str = ""
    start: str = ""
    notes: tuple[str, ...] = ()
    suggestion: str = ""
    proxy_files: tuple[ProxyFile, ...] = ()
    restart: str = ""

    @property
    def installs(self) -> bool:
        """Whether packages are to be installed or upgraded."""
        return bool(self.packages or self.upgrade)

    @property
    def needed(self) -> bool:
        """Whether there is anything to do."""
        return self.installs or bool(self.start or self.proxy_files or self.restart)


def distribution_packages(os_id: str, os_version: str) -> tuple[str, ...]:
    """The packages of a distribution that make up Docker; none where no recipe is known."""
    parts = _DISTRIBUTION.get((os_id, os_version), {})
    return tuple(dict.fromkeys(name for names in parts.values() for name in names))


def from_next_release(os_id: str, os_version: str) -> tuple[str, tuple[str, ...]]:
    """Which of them come from the next release, and its codename; none where that is empty."""
    return _FROM_NEXT_RELEASE.get((os_id, os_version), ("", ()))


def version_of(text: str) -> tuple[int, ...]:
    """The numbers that a version starts with: ``20.10.24+dfsg1`` → (20, 10, 24); () when there are none."""
    match = re.match(r"v?(\d+(?:\.\d+)*)", text)
    return tuple(int(number) for number in match[1].split(".")) if match else ()


def lacking(engine: EngineState) -> dict[str, str]:
    """Which parts are missing or too old, with the reason for people.

    A part of which no version can be read (a development build) is taken as good enough.
    """
    found = {"engine": engine.running or engine.installed, "compose": engine.compose, "buildx": engine.buildx}
    reasons = {}
    for part, version in found.items():
        wanted = ".".join(map(str, REQUIRED[part]))
        if not version:
            reasons[part] = f"{part} is missing"
        elif version_of(version) and version_of(version) < REQUIRED[part]:
            reasons[part] = f"{part} {version} is older than {wanted}"
    if not engine.command:
        reasons["client"] = "the command docker is missing"
    return {part: reasons[part] for part in PARTS if part in reasons}


def refusal(host: HostState) -> Plan | None:
    """The plan for a host whose Docker the platform neither uses nor touches; None when there is a way."""
    engine = host.engine
    missing = lacking(engine)

    def refuse(reason: str, suggestion: str) -> Plan:
        return Plan("refuse", reasons=(reason,), suggestion=suggestion)

    if engine.podman:
        return refuse(
            f"the command docker ({engine.command}) is Podman, which the platform does not run on",
            "remove the package podman-docker; Podman itself may stay",
        )
    if engine.snap and engine.family in ("", "other"):
        return refuse(
            "Docker is installed as a snap, which cannot reach the platform's folders",
            "remove it (snap remove docker); the deploy then installs the packaged engine",
        )
    if "engine" in missing and engine.family == "other":
        return refuse(
            f"{missing['engine']}, and it was not installed from a package",
            "upgrade it the way it was installed, or remove it; the deploy then installs the packaged engine",
        )
    if missing and (host.os_id, host.os_version) not in _DISTRIBUTION:
        return refuse(
            f"{', '.join(missing.values())}; no recipe installs it on {host.os_id} {host.os_version}",
            "install Docker with its Compose and buildx plugins by hand",
        )
    return None


def plan(host: HostState, platform: str, repository: str) -> Plan:
    """Decide what a host's Docker needs.

    Args:
        host: what is known about the host.
        platform: name of the platform, which files on the host are named after.
        repository: address of Docker's own repository, above the distributions.
    """
    refused = refusal(host)
    if refused:
        return refused
    decided = _packages_plan(host, platform, repository)
    if decided.outcome == "refuse":
        return decided
    restart = proxy_restart(host.engine, host.proxy, host.proxy_files)
    # Where no init system restarts it, it is stopped and then started like one that does not run.
    start = "detached" if restart and host.init == "none" else decided.start
    return replace(decided, proxy_files=host.proxy_files, restart=restart, start=start)


def proxy_restart(engine: EngineState, proxy: Proxy, differing: tuple[ProxyFile, ...]) -> str:
    """Why a running engine has to be restarted for its proxy, for people; empty when it has not."""
    if not engine.running:
        return ""
    if not proxy:
        # A proxy that the operator has set is left alone: only the platform's own files say that it was ours.
        gone = bool(differing) and bool(engine.proxy)
        return f"without the proxy {engine.proxy.name}" if gone else ""
    return "" if _as_told(engine.proxy) == _as_told(proxy) else f"with the proxy {proxy.name}"


def _as_told(proxy: Proxy) -> tuple[str, str, frozenset[str]]:
    # The engine hides logins when it is asked. A name without a dot is a service, which it never calls: for
    # a new service it is not restarted.
    around = frozenset(name for name in proxy.no_proxy if re.search(r"[.:/*]", name))
    return without_login(proxy.http), without_login(proxy.https), around


def _packages_plan(host: HostState, platform: str, repository: str) -> Plan:
    missing = lacking(host.engine)
    start = "" if host.engine.running and host.enabled is not False else _starter(host.init)
    notes = _notes(host)
    if not missing:
        return Plan("use", start=start, notes=notes)
    if host.bundled and host.engine.family == "docker-ce":
        return Plan(
            "refuse",
            reasons=(*missing.values(), "the engine came from Docker's own repository, which no bundle has"),
            suggestion="install what is missing the way the engine was installed",
        )
    if not _from_docker(host, platform):
        return _with_distribution(host, missing, platform, start, notes)
    return _with_docker_repository(host, missing, platform, repository, start, notes)


def _starter(init: str) -> str:
    return {"systemd": "systemd", "sysv": "sysv"}.get(init, "detached")


def _notes(host: HostState) -> tuple[str, ...]:
    if host.init == "none":
        return (
            "this host has no init system: after a reboot nothing starts the Docker engine; deploy again, "
            "or start dockerd yourself",
        )
    if host.engine.running and host.enabled is None:
        return ("the Docker engine runs, but no service of that name starts it at boot",)
    return ()


def _knows(host: HostState, platform: str) -> bool:
    """Whether the operator's own sources name Docker's repository, or a site's mirror of it."""
    ours = f"/etc/apt/sources.list.d/{platform}-docker.sources"
    return any(
        source.file != ours and "docker" in source.uri and source.uri.rstrip("/").endswith(f"/{host.os_id}")
        for source in host.sources
    )


def _from_docker(host: HostState, platform: str) -> bool:
    """Docker's own repository: for what came from there, else for everything as long as it can be reached."""
    if host.engine.family == "docker-ce":
        return True
    if host.engine.family == "distribution" or host.bundled:
        # The two families' packages replace each other; changing over would stop every container of the host.
        return False
    return bool(host.repository_reachable) or _knows(host, platform)


def _split(host: HostState, names: list[str]) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Split packages into those to install and those to upgrade; what supports the engine is not upgraded."""
    unique = list(dict.fromkeys(names))
    there = host.engine.packages
    upgrade = (name for name in unique if name in there and name not in _SUPPORTING)
    return tuple(name for name in unique if name not in there), tuple(upgrade)


def _support(host: HostState) -> list[str]:
    # Recommended packages are left out; without this parser the engine then refuses to start containers.
    return ["apparmor"] if host.apparmor_unready else []


def _with_distribution(
    host: HostState, missing: dict[str, str], platform: str, start: str, notes: tuple[str, ...]
) -> Plan:
    names = _DISTRIBUTION[host.os_id, host.os_version]
    wanted = [name for part in missing for name in names[part]]
    wanted += _support(host) if "engine" in missing else []
    packages, upgrade = _split(host, wanted)
    files: tuple[AptFile, ...] = ()
    suite, foreign = from_next_release(host.os_id, host.os_version)
    if set(foreign) & set(wanted) and not host.bundled:
        base = base_source(list(host.sources), host.codename)
        if base is None:
            return Plan(
                "refuse",
                reasons=(
                    f"{', '.join(missing.values())}, and no apt source of {host.codename} main was found",
                ),
                suggestion=f"add the distribution's own source ({host.codename} main) to /etc/apt",
            )
        ours = f"/etc/apt/sources.list.d/{platform}-{suite}.sources"
        known = any(source.suite == suite and source.file != ours for source in host.sources)
        files = next_release_files(platform, base, suite, foreign, known_already=known)
    return Plan("distribution", tuple(missing.values()), packages, upgrade, files, start=start, notes=notes)


def _with_docker_repository(
    host: HostState,
    missing: dict[str, str],
    platform: str,
    repository: str,
    start: str,
    notes: tuple[str, ...],
) -> Plan:
    wanted = [name for part in missing for name in _DOCKER_CE[part]]
    wanted += _support(host) if "engine" in missing else []
    packages, upgrade = _split(host, wanted)
    reasons = tuple(missing.values())
    if _knows(host, platform):
        return Plan("docker-repository", reasons, packages, upgrade, start=start, notes=notes)
    if host.repository_reachable is False:
        return Plan(
            "refuse",
            reasons=(
                *reasons,
                f"the engine came from Docker's own repository, and {repository} cannot be reached",
            ),
            suggestion="let the host reach it, or add a mirror of it to the host's apt sources",
        )
    key = f"/etc/apt/keyrings/{platform}-docker.asc"
    source = docker_repository_file(platform, repository, host.os_id, host.codename, key)
    key_url = f"{repository}/{host.os_id}/gpg"
    return Plan("docker-repository", reasons, packages, upgrade, (source,), key, key_url, start, notes)
