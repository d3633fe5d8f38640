"""The rules that every container of the platform keeps, applied to a service's Compose fragment.

A fragment says only what is special about its service. An exception from a rule is a key of the fragment
that the manifest names under ``exceptions`` with its reason.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from dap import http_proxy
from dap.errors import DapError
from dap.hosts.facts import HostFacts
from dap.servers import server_named
from dap.services.manifest import Service
from dap.services.manifest_schema import DOCKER_SOCKET, GUARDED
from dap.site import Site

CA_BUNDLE = "/etc/ssl/certs/ca-certificates.crt"
JOBS = "jobs"
DEV = "dev"


@dataclass(frozen=True)
class Rules:
    """What the platform knows of a container besides its fragment.

    Attributes:
        config: whether the service has configuration files (mounted at /etc/dap).
        secrets: names of its secret files (mounted at /run/secrets).
        config_hash: changes with any of those files, so that Compose replaces the container then.
        trust: whether its trusted CAs lie in a folder of files.
        address: where the platform's names lead from this host.
        live: whether it has files that it reads again while it runs (mounted at /run/live).
        with_jobs: whether CI jobs run on this host.
        with_dev: whether development containers may run beside the services that have public names.
    """

    site: Site
    service: Service
    image: str
    facts: HostFacts
    config: bool
    secrets: list[str]
    config_hash: str
    trust: bool = False
    address: str = ""
    live: bool = False
    with_jobs: bool = False
    with_dev: bool = False


def network(name: str, *, with_jobs: bool = False, with_dev: bool = False) -> dict[str, Any]:
    """The network of a platform, and those of its CI jobs and development containers.

    They are declared alike in every file that is included.
    """
    jobs = {JOBS: {"name": jobs_network(name)}} if with_jobs else {}
    dev = {DEV: {"name": dev_network(name)}} if with_dev else {}
    return {"default": {"name": name}, **jobs, **dev}


def jobs_network(name: str) -> str:
    """The network that CI jobs run in: of the services only those with public names are there."""
    return f"{name}-{JOBS}"


def dev_network(name: str) -> str:
    """The network of development containers: of the services only those with public names are there."""
    return f"{name}-{DEV}"


def complete(
    fragment: dict[str, Any], rules: Rules, override: dict[str, Any] | None = None
) -> dict[str, Any]:
    """The Compose file of a service: its fragment with the rules applied.

    Args:
        override: what the operator has for it; it has the last word.
    """
    service = rules.service
    own = fragment["services"].get(service.name)
    if own is None or len(fragment["services"]) != 1:
        raise DapError(
            f"{service.fragment}: wants exactly one service, {service.name}",
            f"keep services.{service.name} only; another service gets a folder of its own",
        )
    for key in GUARDED:
        if key in own and key not in service.manifest.exceptions:
            raise DapError(
                f"{service.fragment}: {key} is set by the platform",
                f"remove it, or give the reason in {service.name}/service.yml under exceptions.{key}",
            )
    if _mounts_docker_socket(own) and DOCKER_SOCKET not in service.manifest.exceptions:
        raise DapError(
            f"{service.fragment}: mounts the Docker socket, which makes it root on its host",
            f"remove the mount, or give the reason in {service.name}/service.yml under"
            f" exceptions.{DOCKER_SOCKET}",
        )
    base = _base(rules)
    if "healthcheck" in base:
        base["healthcheck"] |= _pace(own.get("healthcheck", {}).get("test", []))
    merged = merge(base, own)
    settings = rules.site.settings(service)
    merged = merge(merged, {"environment": dict(settings.environment)} if settings.environment else {})
    if override is not None:
        merged = merge(merged, override["services"][service.name])
    secrets = {f"{service.name}_{name}": {"file": f"./secrets/{name}"} for name in rules.secrets}
    networks = network(rules.site.platform.platform_name, with_jobs=rules.with_jobs, with_dev=rules.with_dev)
    document = {"services": {service.name: merged}, "networks": networks}
    return document | ({"secrets": secrets} if secrets else {})


def _pace(test: list[str]) -> dict[str, str]:
    """How often the engine probes, and how long a probe may take.

    A probe costs the engine a sixth of a second of processor time. The base image's own command keeps on
    looking from the inside for half a minute, so it is started anew at once. For others the interval is also
    how long a start takes: ``start_interval`` can be relied upon only from engine 25 on.
    """
    if test[:2] == ["CMD", "healthcheck"]:
        return {"interval": "1s", "timeout": "60s"}
    return {"interval": "5s", "timeout": "5s"}


def _mounts_docker_socket(own: dict[str, Any]) -> bool:
    mounts = own.get("volumes", [])
    sources = [
        mount.get("source", "") if isinstance(mount, dict) else mount.partition(":")[0] for mount in mounts
    ]
    return any(source.endswith("/docker.sock") for source in sources)


def memory_bytes(memory: str, facts: HostFacts) -> int:
    """A manifest's memory limit in bytes; a share is of the host's memory, in steps of 256 MiB."""
    mib = 1024 * 1024
    if memory.endswith("%"):
        share = facts.memory_mib * int(memory[:-1]) // 100
        return max(512, share // 256 * 256) * mib
    return int(memory[:-1]) * {"m": mib, "g": 1024 * mib}[memory[-1]]


def memory_limit(site: Site, service: Service, facts: HostFacts) -> int:
    """The most memory a service may use, in bytes: as configured, or its share and at least what it needs."""
    if configured := site.settings(service).memory:
        return memory_bytes(configured, facts)
    least = service.manifest.minimum_memory
    return max(memory_bytes(service.manifest.memory, facts), memory_bytes(least, facts) if least else 0)


def _base(rules: Rules) -> dict[str, Any]:
    site, service, manifest = rules.site, rules.service, rules.service.manifest
    settings = site.settings(service)
    memory = memory_limit(site, service, rules.facts)
    base = hardened(rules.image, manifest.user, memory, settings.pids or manifest.pids) | {
        "container_name": f"{site.platform.platform_name}-{service.name}",
        "environment": _environment(site, service),
        "tmpfs": ["/tmp:mode=1777"],  # noqa: S108  the container's own
        "volumes": _volumes(rules),
        "networks": _networks(rules),
        "healthcheck": {"retries": 6, "start_period": f"{manifest.start_seconds}s"},
        "labels": {"dap.service": service.name, "dap.configuration.inventory": rules.config_hash},
    }
    if settings.cpus:
        base["cpus"] = settings.cpus
    if hosts := _extra_hosts(rules):
        base["extra_hosts"] = hosts
    if rules.secrets:
        base["secrets"] = [{"source": f"{service.name}_{name}", "target": name} for name in rules.secrets]
    if manifest.ports:
        address = site.platform.listen_address
        base["ports"] = [
            _published(f"{address}", site.published_port(service, port), port) for port in manifest.ports
        ]
    # Those of the other role may be on another host.
    needs = [
        name
        for name in manifest.needs
        if name in site.services and site.services[name].manifest.role == manifest.role
    ]
    if needs:
        base["depends_on"] = {name: {"condition": "service_healthy"} for name in needs}
    if manifest.provides == "jobs":
        # Started by hand and gone when done, so neither restarted nor part of `up`.
        base |= {"profiles": ["jobs"], "restart": "no"}
        del base["container_name"], base["healthcheck"]
    return base


def hardened(image: str, user: int, memory: int, pids: int) -> dict[str, Any]:
    """What every container has, whatever runs in it."""
    return {
        "image": image,
        "user": f"{user}:{user}",
        "read_only": True,
        "cap_drop": ["ALL"],
        "security_opt": ["no-new-privileges:true"],
        "restart": "unless-stopped",
        "mem_limit": memory,
        "memswap_limit": memory,
        "pids_limit": pids,
        "logging": {"driver": "json-file", "options": {"max-size": "10m", "max-file": "3"}},
    }


def _environment(site: Site, service: Service) -> dict[str, str]:
    """What client libraries read: the CA, and how to reach the service's own database and buckets."""
    environment = {
        "TZ": site.platform.time_zone,
        "SSL_CERT_FILE": CA_BUNDLE,
        "REQUESTS_CA_BUNDLE": CA_BUNDLE,
    }
    environment |= http_proxy.environment(site)
    if databases := service.manifest.databases:
        environment["PGPASSFILE"] = "/run/secrets/pgpass"
        first = databases[0]
        server = server_named(site, first.server)
        environment |= {"PGHOST": server.host, "PGDATABASE": first.name, "PGUSER": first.name}
        if server.external:
            environment |= {"PGPORT": str(server.port), "PGSSLMODE": server.sslmode}
    if service.manifest.buckets:
        environment["AWS_SHARED_CREDENTIALS_FILE"] = "/run/secrets/s3_credentials"
    return environment


def _extra_hosts(rules: Rules) -> dict[str, str]:
    """Names that the network's own DNS does not know: the operator's, and on runner hosts the platform's."""
    site = rules.site
    names = {name: str(address) for name, address in site.platform.extra_hosts.items()}
    if rules.service.manifest.role != "service" and rules.address not in ("127.0.0.1", ""):
        names |= dict.fromkeys(site.names, rules.address)
    return dict(sorted(names.items()))


def _published(address: str, number: int, port: Any) -> dict[str, Any]:
    target = port.container or number
    return {"host_ip": address, "published": str(number), "target": target, "protocol": "tcp"}


def _volumes(rules: Rules) -> list[dict[str, Any]]:
    service, manifest = rules.service, rules.service.manifest
    mounts = [bind(CA_BUNDLE, CA_BUNDLE, read_only=True)]
    if rules.config:
        mounts.append(bind("./config", "/etc/dap", read_only=True))
    if manifest.tls:
        # The folder, not the files: a renewed file replaces the old one, which a mounted file would not see.
        mounts.append(bind("./tls", "/run/tls", read_only=True))
    if rules.live:
        mounts.append(bind("./live", "/run/live", read_only=True))
    if manifest.trust_folder and rules.trust:
        mounts.append(bind("./trust", manifest.trust_folder, read_only=True))
    data = rules.site.platform.paths.data
    mounts += [bind(f"{data}/{service.name}/{entry.name}", entry.target) for entry in manifest.data]
    return mounts


def bind(source: str, target: str, *, read_only: bool = False) -> dict[str, Any]:
    """A bind mount that fails when its source is missing, instead of making an empty folder there."""
    mount = {"type": "bind", "source": source, "target": target, "bind": {"create_host_path": False}}
    return mount | ({"read_only": True} if read_only else {})


def _networks(rules: Rules) -> dict[str, Any]:
    """The networks that a service is in, and its names there, so that the public names work inside too."""
    public = _public_names(rules.site, rules.service)
    found: dict[str, Any] = {"default": {"aliases": list(dict.fromkeys([rules.service.name, *public]))}}
    if rules.with_jobs and public:
        found[JOBS] = {"aliases": public}
    elif rules.with_jobs and rules.service.manifest.provides == "runner":
        # It has no business there: with it the network is made where none of the others is.
        found[JOBS] = {}
    if rules.with_dev and public:
        found[DEV] = {"aliases": public}
    return found


def _public_names(site: Site, service: Service) -> list[str]:
    names = []
    if service.manifest.provides == "proxy":
        names += [site.platform.domain, *(vhost.host for vhost in site.vhosts)]
    if service.manifest.tls and service.manifest.tls.names == "own":
        names.append(site.own_host(service))
    return list(dict.fromkeys(names))


def merge(base: dict[str, Any], own: dict[str, Any]) -> dict[str, Any]:
    """``own`` over ``base``: mappings merge, lists join, anything else is replaced."""
    merged = dict(base)
    for key, value in own.items():
        present = merged.get(key)
        if isinstance(present, dict) and isinstance(value, dict):
            merged[key] = merge(present, value)
        elif key == "tmpfs" and isinstance(present, list) and isinstance(value, list):
            # Of two entries for one path only the later one counts.
            merged[key] = list({entry.partition(":")[0]: entry for entry in [*present, *value]}.values())
        elif isinstance(present, list) and isinstance(value, list):
            merged[key] = [*present, *value]
        else:
            merged[key] = value
    return merged
