"""Which services run: what the operator has switched, and what the platform decided itself (``auto``)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Literal

from dap.configuration import wording
from dap.configuration.schema import Platform, ServiceSettings
from dap.deployment import records
from dap.errors import ConfigurationError, Finding
from dap.services.manifest import Service

_FILE = "left_out.json"
_SCHEMES = {"postgres": ("postgresql",), "s3": ("http", "https")}

Settings = Mapping[str, ServiceSettings]


def choice(service: Service, settings: Settings) -> bool | Literal["auto"]:
    """Whether a service runs, as the operator has set it or as its manifest has it."""
    own = settings.get(service.name)
    if own is None or own.enabled is None:
        return not service.manifest.off_by_default
    return own.enabled


def is_external(service: Service, settings: Settings) -> bool:
    """Whether a server of the operator's stands in for the service."""
    own = settings.get(service.name)
    return own is not None and own.external is not None


def switched_off(services: Mapping[str, Service], settings: Settings) -> dict[str, str]:
    """The services that are off, and why."""
    reasons = {}
    for name, service in services.items():
        if choice(service, settings) is False and not is_external(service, settings):
            chosen = name in settings and settings[name].enabled is False
            off = service.manifest.off_by_default
            reasons[name] = "switched off in platform.yml" if chosen else f"off by default: {off}"
    return reasons | _without(reasons, services)


def _without(out: Mapping[str, str], services: Mapping[str, Service]) -> dict[str, str]:
    """The services that have nothing to do without some that are left out, and why."""
    found: dict[str, str] = {}
    for name, service in services.items():
        lacking = next((other for other in service.manifest.only_with if other in out), None)
        if name not in out and lacking:
            found[name] = f"has nothing to do without {lacking}, which is left out"
    return found


def without_runner_hosts(services: Mapping[str, Service]) -> dict[str, str]:
    """What runs CI jobs and cleans up after them, where there are no hosts for them."""
    return {
        name: "there are no runner hosts in hosts.yml"
        for name, service in services.items()
        if service.manifest.provides in ("runner", "cleaner")
    }


def without_other_hosts(services: Mapping[str, Service], settings: Settings) -> dict[str, str]:
    """The services that have nothing to do on a platform of one machine, unless the operator wants them."""
    return {
        name: "there is only one host"
        for name, service in services.items()
        if service.manifest.provides == "images"
        and choice(service, settings) is True
        and not _is_set(name, settings)
    }


def _is_set(name: str, settings: Settings) -> bool:
    return name in settings and settings[name].enabled is not None


def needed_by(service: Service, services: Mapping[str, Service]) -> set[str]:
    """The services without which ``service`` cannot run."""
    manifest = service.manifest
    needed = {*manifest.needs, *(database.server for database in manifest.databases)}
    needed |= {*manifest.shared_secrets.values()}
    if manifest.image.same_as:
        needed.add(manifest.image.same_as)
    if manifest.buckets:
        needed |= {name for name, other in services.items() if other.manifest.provides == "s3"}
    return needed


def findings(services: Mapping[str, Service], platform: Platform, file: str) -> Iterator[Finding]:
    """What cannot be in the settings of services, by what their manifests say."""
    settings = platform.services
    off = switched_off(services, settings)
    for name in off:
        users = [
            other
            for other, user in services.items()
            if other not in off and name in needed_by(user, services)
        ]
        if not users:
            continue
        chosen = name in settings and settings[name].enabled is False
        advice = "remove it" if chosen else f"write services.{name}.enabled: true"
        yield Finding(
            file,
            f"services.{name}.enabled",
            "false" if chosen else "",
            f"leaves out what {', '.join(users)} needs",
            f"{advice}, or switch off {', '.join(users)} too",
        )
    for name, own in settings.items():
        if name in services:
            yield from _unfitting(services[name], own, services, file)


def _unfitting(
    service: Service, own: ServiceSettings, services: Mapping[str, Service], file: str
) -> Iterator[Finding]:
    here, manifest = f"services.{service.name}", service.manifest
    if own.external:
        schemes = _SCHEMES.get(manifest.provides or "")
        able = [name for name, other in services.items() if other.manifest.provides in _SCHEMES]
        if schemes is None:
            reason = "cannot be replaced by a server of your own"
            yield Finding(file, f"{here}.external", "", reason, f"remove it; {wording.listed(able)} can")
        elif own.external.url.partition("://")[0] not in schemes:
            begins = wording.listed((f"{scheme}://" for scheme in schemes), "or")
            yield Finding(
                file,
                f"{here}.external.url",
                own.external.url,
                f"is not the address of a server for {manifest.title}",
                f"write one that begins with {begins}",
            )
    for name in own.images:
        if name not in manifest.image.more:
            reason = "is not an image that the service starts itself"
            more = [*manifest.image.more]
            advice = wording.one_of(name, more) if more else "remove it: it starts none"
            yield Finding(file, f"{here}.images.{name}", own.images[name], reason, advice)
    known = [port.name for port in manifest.ports]
    for name, number in own.ports.items():
        if name not in known:
            advice = wording.one_of(name, known) if known else "remove it: the service publishes no port"
            yield Finding(file, f"{here}.ports.{name}", str(number), "is not a port of the service", advice)


def cascade(
    reasons: Mapping[str, str], services: Mapping[str, Service], platform: Platform, file: str
) -> dict[str, str]:
    """Those to leave out, together with the ``auto`` services that cannot run without them.

    Raises:
        ConfigurationError: a service that must run needs one of them.
    """
    out = dict(reasons)
    pending = list(reasons)
    while pending:
        name = pending.pop()
        alone = _without(out, services)
        out |= alone
        pending += alone
        for other, service in services.items():
            if other in out or name not in needed_by(service, services):
                continue
            if choice(service, platform.services) != "auto":
                raise ConfigurationError(
                    [
                        Finding(
                            file,
                            f"services.{name}.enabled",
                            "auto",
                            f"leaves out what {other} needs: {reasons.get(name, out[name])}",
                            f"write services.{other}.enabled: auto, or provide the image of {name}",
                        )
                    ]
                )
            out[other] = f"needs {name}, which is left out"
            pending.append(other)
    return out


def remember(inventory: str, reasons: Mapping[str, str]) -> None:
    """Keep what a deploy decided, for the verbs that only look."""
    records.remember(inventory, _FILE, reasons)


def recall(inventory: str) -> dict[str, str]:
    """What the last deploy decided to leave out, and why; nothing where there was none."""
    return records.recall(inventory, _FILE)
