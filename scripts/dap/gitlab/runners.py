"""The runners of each host: which there are, what their jobs may use, and their names in GitLab."""

from __future__ import annotations

import base64
import hashlib
import json
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from dap import client_variables, http_proxy
from dap.configuration.inventory import Host
from dap.configuration.runners import DEFAULT, FREE_DISK, IMAGE_BUILDS, ExtraRunner, HostLimits, Limits
from dap.errors import DapError
from dap.gitlab import job_rights
from dap.gitlab.job_rights import CA_IN_JOBS
from dap.gpus import promises
from dap.gpus.claims import of_runner
from dap.hosts.facts import HostFacts
from dap.secrets import Secret
from dap.servers import servers
from dap.services import container
from dap.services.manifest import Service
from dap.site import Site

if TYPE_CHECKING:
    from dap.credentials import Credentials

# Below it a host is taken to be too small for more than one job at a time.
_MIB_FOR_A_JOB = 2048
_LEAST_MIB = 512
# What the host itself and its engine are left.
_MIB_FOR_THE_HOST = 512


@dataclass(frozen=True)
class Here:
    """A host that is rendered.

    Attributes:
        address: where the platform's names lead from there.
    """

    host: Host
    facts: HostFacts
    address: str


@dataclass(frozen=True)
class Runner:
    """A runner of one host, as GitLab knows it.

    Attributes:
        description: its name in GitLab, by which it is found again.
        key: of its token in the store.
        limits: what is written of them for this runner.
        gpus: the devices that its jobs see, by their CDI names.
        alone: whether its jobs run one at a time.
        builds: whether its jobs build images.
    """

    host: str
    name: str
    description: str
    key: str
    tags: tuple[str, ...]
    untagged: bool
    limits: Limits
    gpus: tuple[str, ...] = ()
    alone: bool = False
    builds: bool = False


def runs_jobs(site: Site, host: Host) -> bool:
    """Whether CI jobs run on a host."""
    return any(service.manifest.provides == "runner" for service in site.services_on(host).values())


def runners_of(site: Site, host: Host) -> list[Runner]:
    """The runners of a host: those that each has, and those that the operator wants beside them."""
    if not runs_jobs(site, host):
        return []
    settings = site.platform.runners
    extra = [one for one in settings.extra if not one.hosts or host.name in one.hosts]
    builds = settings.image_builds.enabled and host.name in (settings.image_builds.hosts or (host.name,))
    return [
        _runner(site, host, DEFAULT, settings.tags, settings.untagged, _limits(site, host)),
        *([_builder(site, host)] if builds else []),
        *(_extra(site, host, one) for one in extra),
    ]


def all_runners(site: Site) -> list[Runner]:
    """The runners of all hosts."""
    return [runner for host in site.inventory.hosts for runner in runners_of(site, host)]


def prefix(site: Site) -> str:
    """What the names in GitLab of all runners of a platform begin with."""
    return f"{site.platform.platform_name}/"


def _runner(
    site: Site,
    host: Host,
    name: str,
    tags: tuple[str, ...],
    untagged: bool,
    limits: Limits,
) -> Runner:
    description = f"{prefix(site)}{host.name}/{name}"
    return Runner(host.name, name, description, token_key(host.name, name), tags, untagged, limits)


def _extra(site: Site, host: Host, one: ExtraRunner) -> Runner:
    """A runner that the operator wants beside the usual ones."""
    gpus = promises.of_key(site, of_runner(host.name, one.name), one.gpus) if one.gpus else ()
    runner = _runner(site, host, one.name, one.tags, False, one)
    return replace(runner, gpus=gpus, alone=bool(one.gpus) and not one.gpus_shared)


def _builder(site: Site, host: Host) -> Runner:
    """The runner that takes the jobs that build images, and no others."""
    limits = _limits(site, host, site.platform.runners.image_builds)
    return replace(_runner(site, host, IMAGE_BUILDS, (IMAGE_BUILDS,), False, limits), builds=True)


def token_key(host: str, name: str) -> str:
    """The key of a runner's token in the store."""
    return f"runner.token.{host}.{name}"


def _limits(site: Site, host: Host, first: Limits | None = None) -> Limits:
    """What is written for one kind of jobs, for one host where that says nothing, and for all otherwise."""
    settings = site.platform.runners
    asked = [first or Limits(), settings.hosts.get(host.name, HostLimits()), settings]
    return Limits(
        jobs=next((one.jobs for one in asked if one.jobs), None),
        memory=next((one.memory for one in asked if one.memory), None),
        cpus=next((one.cpus for one in asked if one.cpus), None),
    )


def jobs_at_once(site: Site, here: Here) -> int:
    """How many jobs a host runs at the same time."""
    written = _limits(site, here.host).jobs
    return written or max(1, min(here.facts.cpus, _free_mib(site, here) // _MIB_FOR_A_JOB))


def free_disk_mib(site: Site, here: Here) -> int:
    """The room that the disk of a host must have for jobs to be taken."""
    settings = site.platform.runners
    own = settings.hosts.get(here.host.name, HostLimits())
    wanted = own.free_disk or settings.free_disk or FREE_DISK
    return container.memory_bytes(wanted, here.facts) // 1024**2


def _free_mib(site: Site, here: Here) -> int:
    """The memory that is left for jobs. Services rarely use what they may, so half of that counts."""
    services = sum(
        container.memory_limit(site, service, here.facts) // 1024**2
        for service in site.services_on(here.host).values()
        if service.manifest.provides not in ("jobs", "runner")
    )
    taken = min(services // 2, here.facts.memory_mib // 2) + _MIB_FOR_THE_HOST
    return max(here.facts.memory_mib - taken, _LEAST_MIB)


def _memory(site: Site, here: Here, limits: Limits) -> str:
    """The most memory of a job."""
    share = _free_mib(site, here) // (limits.jobs or jobs_at_once(site, here))
    return limits.memory or f"{max(share, _LEAST_MIB)}m"


def desired(site: Site, credentials: Credentials) -> dict[str, Any]:
    """The runners that are to be in GitLab, as the provisioning job takes them. Holds secrets."""
    tokens = credentials.runner_tokens(all_runners(site))
    hosts = {host.name: host for host in site.inventory.hosts}
    return {
        "prefix": prefix(site),
        "seal": credentials.runner_seal().reveal() if all_runners(site) else "",
        "wanted": [
            {
                "description": runner.description,
                "key": runner.key,
                "token": tokens[runner.key].reveal() if runner.key in tokens else "",
                "system_id": system_id(credentials, hosts[runner.host]),
                "tag_list": sorted(runner.tags),
                "run_untagged": runner.untagged,
            }
            for runner in all_runners(site)
        ],
    }


def open_sealed(sealed: str, seal: Secret) -> dict[str, Secret]:
    """The tokens of runners that the provisioning job has made, by their keys in the store.

    Raises:
        DapError: it was not sealed for this platform, or was changed on its way.
    """
    raw = base64.b64decode(sealed)
    try:
        text = AESGCM(hashlib.sha256(seal.reveal().encode()).digest()).decrypt(raw[:12], raw[12:], None)
    except InvalidTag as error:
        raise DapError(
            "the tokens of new runners cannot be read: they are not sealed for this platform",
            "run the same command again",
        ) from error
    return {key: Secret(token) for key, token in json.loads(text).items()}


def system_id(credentials: Credentials, host: Host) -> str:
    """By which GitLab tells one machine from another; the same for as long as the store lasts."""
    return f"r_{credentials.runner_system_id(host.name).reveal()}"


def context(site: Site, credentials: Credentials, service: Service, here: Here) -> dict[str, Any]:
    """What the templates in ``live/`` of the service that runs the jobs see."""
    gitlab = next((one for one in site.services.values() if one.name in service.manifest.only_with), None)
    here_now = runners_of(site, here.host)
    tokens = credentials.runner_tokens(here_now)
    key = credentials.bucket_key(service)
    return {
        "gitlab_url": site.url(gitlab.manifest.web[0]) if gitlab else "",
        "gitlab_host": site.web_host(gitlab.manifest.web[0]) if gitlab else "",
        "system_id": system_id(credentials, here.host),
        "jobs_at_once": jobs_at_once(site, here),
        "free_disk_mib": free_disk_mib(site, here),
        "jobs_network": container.jobs_network(site.platform.platform_name),
        "jobs_hosts": sorted(_job_hosts(site, here)),
        "jobs_environment": sorted(_job_environment(site)),
        "runners": [
            {
                "description": runner.description,
                "token": tokens[runner.key].reveal(),
                "limit": 1 if runner.alone else runner.limits.jobs or jobs_at_once(site, here),
                "memory": _memory(site, here, runner.limits),
                "cpus": runner.limits.cpus,
                "gpus": runner.gpus,
                **job_rights.of(site, service, builds=runner.builds),
            }
            for runner in here_now
            if runner.key in tokens
        ],
        "cache": {
            **_cache_server(site),
            "bucket": key.buckets[0],
            "access_key": key.access_key,
            "secret_key": key.secret_key.reveal(),
        }
        if key
        else None,
    }


def _cache_server(site: Site) -> dict[str, Any]:
    """The object storage as jobs reach it: under its public name."""
    server = servers(site, "s3")[0]
    url = urlsplit(server.endpoint if server.external else site.url(server.service.manifest.web[0]))
    return {"address": url.netloc, "tls": url.scheme == "https", "region": server.region}


def _job_hosts(site: Site, here: Here) -> list[str]:
    """Names that no name server knows, as the runner takes them; those of the network are known there."""
    names = {name: str(address) for name, address in site.platform.extra_hosts.items()}
    if here.host.name != site.inventory.service_host.name:
        names |= dict.fromkeys(site.names, here.address)
    return [f"{name}:{address}" for name, address in names.items()]


def _job_environment(site: Site) -> list[str]:
    """What programs in jobs read: the authorities to trust, and the site's proxy."""
    values = client_variables.of_trust(CA_IN_JOBS) | http_proxy.environment(site)
    return [f"{name}={value}" for name, value in values.items()]
