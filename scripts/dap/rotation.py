"""Which secrets can get new values, who starts anew for it, and how a new value is stored until all have it.

The store keeps the value before beside the new one until a deploy has brought the new one everywhere, so a
rotation that is killed half-way leaves nobody locked out, and the next deploy finishes it.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from dap.configuration import wording
from dap.credentials import PIPELINES, Credentials, given_keys
from dap.dev.containers import AUTHORITY, USER_AUTHORITY, host_key_of, page_of
from dap.errors import RefusedError
from dap.files import required
from dap.gitlab.runners import all_runners
from dap.layout import secrets_dir
from dap.provisioning import desired_state
from dap.secrets import Secret, SecretStore, store_lock
from dap.servers import servers
from dap.services.manifest import Service
from dap.site import GITLAB, Site

ALL = "all"

_OWN_LENGTHS = range(12, 129)
_GIVEN_LENGTHS = range(1, 1025)
_CA_NAMES = ("ca", "ca.key", "ca.crt")


@dataclass(frozen=True)
class Rotatable:
    """A secret that can get a new value.

    Attributes:
        key: its name in the store.
        what: what it is for.
        restarts: services whose containers are replaced for it; the others take it while they run.
        length: of a generated value, in characters.
        prefix: what stands before a generated value.
    """

    key: str
    what: str
    restarts: tuple[str, ...] = ()
    length: int = 40
    prefix: str = ""


def rotatable(site: Site) -> dict[str, Rotatable]:
    """The secrets of a site that can get new values, by key."""
    return {entry.key: entry for entry in sorted(_entries(site), key=lambda entry: entry.key)}


def _entries(site: Site) -> Iterator[Rotatable]:
    own_keys = all(server.own_keys for server in servers(site, "s3"))
    for service in site.services.values():
        manifest, title = service.manifest, service.manifest.title
        kept = {entry.secret for entry in manifest.rotation if entry.fixed}
        for name, length in manifest.secrets.items():
            if name not in kept:
                key = f"{service.name}.{name}"
                yield Rotatable(key, f"{title}: {_words(name)}", _readers(site, service, name), length)
        for token in manifest.tokens:
            key = f"{service.name}.{token.name}"
            yield Rotatable(key, f"{title}: {_words(token.name)}", (), token.length, token.prefix)
        for database in manifest.databases:
            key = f"{service.name}.database.{database.name}"
            yield Rotatable(key, f"{title}: role {database.name} on {database.server}", (service.name,))
        if manifest.buckets and own_keys:
            yield Rotatable(f"{service.name}.s3_secret_key", f"{title}: S3 key", (service.name,))
    for project in site.projects:
        if any(server.service.manifest.projects for server in servers(site, "postgres")):
            yield Rotatable(f"project.{project.name}.database", f"Project {project.name}: database")
        if own_keys and any(server.service.manifest.projects for server in servers(site, "s3")):
            yield Rotatable(f"project.{project.name}.s3_secret_key", f"Project {project.name}: S3 key")
    for user in site.platform.users:
        if site.projects_of(user) and any(
            server.service.manifest.projects for server in servers(site, "postgres")
        ):
            yield Rotatable(f"user.{user.name}.database", f"Own database login: {user.name}")
        if (
            site.projects_of(user)
            and own_keys
            and any(server.service.manifest.projects for server in servers(site, "s3"))
        ):
            yield Rotatable(f"user.{user.name}.s3_secret_key", f"Own S3 key: {user.name}")
    if site.platform.ssh_user_certificates:
        yield Rotatable(USER_AUTHORITY, "SSH certificates of users: what signs them")
    names = [user.name for user in site.platform.users if not user.disabled]
    for name in ("admin", *names, *([PIPELINES] if GITLAB in site.services else [])):
        yield Rotatable(f"user.{name}.password", f"Platform login: {name}", length=24)


def _words(name: str) -> str:
    return name.replace("_", " ")


def _readers(site: Site, service: Service, name: str) -> tuple[str, ...]:
    """The services whose containers are replaced because of a new value of a service's secret."""
    taken_while_running = any(entry.secret == name for entry in service.manifest.rotation)
    readers = set() if taken_while_running else {service.name}
    for other in site.services.values():
        if other.manifest.shared_secrets.get(name) == service.name:
            readers.add(other.name)
        administers = name == "admin_password" and other.manifest.admin_of == service.manifest.provides
        if administers and other.manifest.admin_of and _uses_admin_secret(other):
            readers.add(other.name)
    return tuple(sorted(readers))


def _uses_admin_secret(service: Service) -> bool:
    templates = [path for path in service.templates("secrets") if path.suffix == ".j2"]
    return any(b"admin_secret" in required(path) for path in templates)


def fixed(site: Site) -> dict[str, str]:
    """The secrets of a site that keep their value, by key, and why."""
    reasons = {
        f"{service.name}.{entry.secret}": entry.fixed
        for service in site.services.values()
        for entry in service.manifest.rotation
        if entry.fixed
    }
    for user in site.platform.users if GITLAB in site.services else ():
        if user.gitlab_account and user.gitlab_password:
            key = f"user.{user.name}.gitlab_password"
            reasons[key] = "is for the first login only; GitLab asks for another one then"
    if site.providers("runner"):
        reasons["runner.seal"] = "protects tokens on their way here only"
        for host in site.inventory.runner_hosts:
            reasons[f"runner.system_id.{host.name}"] = "is what GitLab tells hosts apart by"
        for runner in all_runners(site):
            reasons[runner.key] = (
                "is GitLab's to give; remove the runner there and deploy, and it gets another"
            )
    if site.dev_containers:
        reasons[AUTHORITY] = "is what users' SSH clients trust"
    for box in site.dev_containers:
        reasons[host_key_of(box.name)] = "is what the host key of a development container is made of"
        reasons[page_of(box.name)] = "is what the proxy knows the page of a development container by"
    with_keys = [key for key in rotatable(site) if key.endswith(".s3_secret_key")]
    for key in with_keys:
        reasons[key.removesuffix("secret_key") + "access_key"] = f"is the name of a key; rotate {key}"
    return reasons


def chosen(site: Site, names: Sequence[str]) -> list[Rotatable]:
    """The secrets that are meant by ``names``: keys, or ``all``.

    Raises:
        RefusedError: one of the names is no secret that can be rotated; says why, or what was meant.
    """
    known = rotatable(site)
    for name in names:
        if name != ALL and name not in known:
            raise _refusal(site, name, known)
    return list(known.values()) if ALL in names else [known[name] for name in dict.fromkeys(names)]


def _refusal(site: Site, name: str, known: dict[str, Rotatable]) -> RefusedError:
    program = f"dap -e {site.inventory.name}"
    if name in given_keys(site):
        return RefusedError(
            f"{name} is the password of a server of your own, which dap does not change",
            f"change it there, then: {program} secret set {name}",
        )
    if reason := fixed(site).get(name):
        return RefusedError(f"{name} cannot be rotated: it {reason}", f"{program} rotate --list")
    if name in _CA_NAMES:
        return RefusedError(
            "the certificate authority is not rotated: everybody would have to trust the new one first",
            "docs/how-to/rotate-secrets.md says how to make a new one",
        )
    below = [key for key in known if key.startswith(f"{name}.")]
    guess = wording.closest(name, [*known, ALL])
    hint = f"{program} rotate --list"
    if below:
        hint = f"did you mean {wording.listed(below, 'or')}?"
    elif guess:
        hint = f"did you mean {guess}?"
    return RefusedError(f"{name!r} is not a secret that can be rotated", hint)


def begin(site: Site, store: SecretStore, entries: Sequence[Rotatable]) -> None:
    """Give the secrets new values in memory; the deploy saves them before it brings them anywhere.

    Raises:
        RefusedError: nothing was ever deployed, so nothing is to be changed.
    """
    if not entries:
        return
    if store.is_new:
        raise RefusedError(
            f"inventory {site.inventory.name} has no secrets yet: it was never deployed from here",
            f"dap -e {site.inventory.name} deploy",
        )
    for entry in entries:
        store.rotate(entry.key, entry.length, entry.prefix)


def finish(site: Site, store: SecretStore) -> list[str]:
    """Forget the values before, after a deploy has brought the new ones to all services that run here.

    Those of services that are left out at the moment stay, until a deploy has reached them.

    Returns:
        the keys of the secrets that are settled now.
    """
    done = [key for key in store.pending() if key in rotatable(site)]
    if done:
        store.settle(done)
        store.save()
    return done


def jobs_state(site: Site, credentials: Credentials, trusted: Sequence[bytes] = ()) -> str:
    """The desired state with the values before, for the jobs' standard input; empty without a rotation.

    It is no file on a host: that would change once more when the rotation is over.
    """
    if not credentials.store.pending():
        return ""
    return json.dumps(desired_state(site, credentials, trusted, with_previous=True))


def set_value(site: Site, key: str, value: str) -> None:
    """Store a value that the operator gives: of a server of their own, or in place of a generated one.

    Raises:
        RefusedError: there is no such secret, or the value cannot be one. Nothing was stored.
    """
    own, given = rotatable(site), given_keys(site)
    if key not in own and key not in given:
        raise _unknown(site, key, [*own, *given])
    _check_value(key, value, given=key in given)
    folder = secrets_dir() / site.inventory.name
    with store_lock(folder):
        store = SecretStore.load(folder, site.inventory.name)
        store.replace(key, Secret(value))
        if key in given:
            # The server has the new password already.
            store.settle([key])
        store.save()


def _unknown(site: Site, key: str, known: Sequence[str]) -> RefusedError:
    if reason := fixed(site).get(key):
        return RefusedError(f"{key} cannot be set: it {reason}")
    guess = wording.closest(key, known)
    hint = f"did you mean {guess}?" if guess else f"dap -e {site.inventory.name} rotate --list"
    return RefusedError(f"{key!r} is not a secret of inventory {site.inventory.name}", hint)


def _check_value(key: str, value: str, *, given: bool) -> None:
    """Refuse what cannot be a password; no message quotes it."""
    lengths = _GIVEN_LENGTHS if given else _OWN_LENGTHS
    if not value:
        raise RefusedError(f"no value was given for {key}", "write it to the command's standard input")
    if re.search(r"[\x00-\x1f\x7f]", value):
        raise RefusedError(
            f"the value for {key} has a line end or another control character in it", "give one line of text"
        )
    if len(value) not in lengths:
        raise RefusedError(
            f"the value for {key} has {len(value)} characters",
            f"give {lengths.start} to {lengths.stop - 1}",
        )
    if not given and not re.fullmatch(r"[A-Za-z0-9._~-]+", value):
        # It goes into files of many formats, unquoted.
        raise RefusedError(
            f"the value for {key} has characters that it may not have", "use letters, digits and . _ ~ -"
        )


def as_json(site: Site, store: SecretStore) -> list[dict[str, Any]]:
    """What ``dap rotate --list`` shows, one entry for each secret."""
    pending = store.pending()
    return [
        {
            "secret": entry.key,
            "what": entry.what,
            "restarts": list(entry.restarts),
            "pending": entry.key in pending,
        }
        for entry in rotatable(site).values()
    ]
