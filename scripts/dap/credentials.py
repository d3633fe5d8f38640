"""Every login of the platform, derived from the configuration and the secret store."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import bcrypt

from dap.configuration.schema import User
from dap.errors import RefusedError
from dap.layout import shown
from dap.secrets import Secret, SecretStore
from dap.servers import Server, public_address, server_named, servers
from dap.services.manifest import Service
from dap.site import GITLAB, ProjectNames, Site

if TYPE_CHECKING:
    from dap.gitlab.runners import Runner

# The account of the platform's login that pipelines use.
PIPELINES = "ci"
# The account of the platform's registry that may only pull, and the secret with its password.
PULLER, PULL_PASSWORD = "pull", "pull_password"
_ADMIN_SECRETS = {"postgres": "admin_password", "s3": "root_password"}


@dataclass(frozen=True)
class DatabaseLogin:
    """A database with its role, as a service or a project uses it on the platform's network."""

    server: Server
    name: str
    user: str
    password: Secret


@dataclass(frozen=True)
class BucketKey:
    """An S3 access key and the buckets it may use."""

    access_key: str
    secret_key: Secret
    policy: str
    buckets: tuple[str, ...]


@dataclass(frozen=True)
class WebUser:
    """An account of the platform's login."""

    name: str
    password: Secret


@dataclass(frozen=True)
class Login:
    """A line of ``dap credentials``."""

    what: str
    url: str
    user: str
    secret: Secret


def _admin_secret(server: Server) -> str:
    """The name of the secret that a server's administrator logs in with."""
    return _ADMIN_SECRETS[server.service.manifest.provides or ""]


def given_keys(site: Site) -> set[str]:
    """The keys of the passwords of the operator's own servers: theirs to give, so never made up."""
    return {
        f"{server.name}.{secret}"
        for kind, secret in _ADMIN_SECRETS.items()
        for server in servers(site, kind)
        if server.external
    }


class Credentials:
    """Reads what the parts of the platform log in with.

    Args:
        generate: make what is missing. Only a deploy may: what it makes is saved and reaches the services.
    """

    def __init__(self, site: Site, store: SecretStore, *, generate: bool = True) -> None:
        self.site = site
        self.store = store
        self.generate = generate
        self._given = given_keys(site)

    def _value(self, key: str, length: int = 40, prefix: str = "") -> Secret:
        if self.generate and key not in self._given:
            return self.store.get(key, length, prefix)
        value = self.store.peek(key)
        if value is None and key in self._given:
            service = key.partition(".")[0]
            raise RefusedError(
                f"{shown(self.site.inventory.platform_file)}: services.{service}.external\n"
                f"    names a server, and its password ({key}) is not known",
                f"dap -e {self.site.inventory.name} secret set {key}",
            )
        if value is None:
            raise RefusedError(
                f"{key} has no value yet: the configuration was changed since the last deploy",
                f"dap -e {self.site.inventory.name} deploy",
            )
        return value

    def secret(self, service: Service, name: str) -> Secret:
        """A secret that the service's manifest declares, one of its tokens too."""
        for token in service.manifest.tokens:
            if token.name == name:
                return self._value(f"{service.name}.{name}", token.length, token.prefix)
        return self._value(f"{service.name}.{name}", service.manifest.secrets[name])

    def previous(self, service: Service, name: str) -> list[str]:
        """What a service may still have in place of one of its secrets, the likeliest first."""
        return [old.reveal() for old in self.store.previous(f"{service.name}.{name}")]

    def databases(self, service: Service) -> dict[str, DatabaseLogin]:
        """The databases of a service, by name."""
        return {
            entry.name: DatabaseLogin(
                server_named(self.site, entry.server),
                entry.name,
                entry.name,
                self._value(f"{service.name}.database.{entry.name}"),
            )
            for entry in service.manifest.databases
        }

    def admin_password(self, server: Server) -> Secret:
        """The password of a server's administrator: its own secret, or what the operator gave."""
        return self.secret(server.service, _admin_secret(server))

    def previous_admin_passwords(self, server: Server) -> list[str]:
        """What a server may still have in place of its administrator's password, the likeliest first."""
        return self.previous(server.service, _admin_secret(server))

    def project_database(self, project: ProjectNames, server: Server) -> DatabaseLogin:
        """A project's database on the server ``server``."""
        password = self._value(f"project.{project.name}.database")
        return DatabaseLogin(server, project.database, project.database, password)

    def bucket_key(self, service: Service) -> BucketKey | None:
        """The S3 key of a service, if it has buckets."""
        buckets = tuple(bucket.name for bucket in service.manifest.buckets)
        return self._key(service.name, service.name, buckets) if buckets else None

    def project_key(self, project: ProjectNames) -> BucketKey:
        """The S3 key of a project."""
        return self._key(f"project.{project.name}", f"project-{project.name}", (project.bucket,))

    def person_database(self, user: User) -> Secret:
        """What a user logs in with to the databases of their projects."""
        return self._value(f"user.{user.name}.database")

    def person_key(self, user: User) -> BucketKey:
        """A user's own S3 key, for the buckets of their projects."""
        buckets = tuple(project.bucket for project in self.site.projects_of(user))
        return self._key(f"user.{user.name}", f"user-{user.name}", buckets)

    def taken_back(self, key: str) -> dict[str, Secret]:
        """What the store still has as ``key`` of people who work on no project any more, by name."""
        working = {user.name for user in self.site.platform.users if self.site.projects_of(user)}
        found = {
            name.removeprefix("user.").removesuffix(f".{key}"): value
            for name, value in self.store.all_values().items()
            if name.startswith("user.") and name.endswith(f".{key}")
        }
        return {name: value for name, value in found.items() if name not in working}

    def _key(self, prefix: str, policy: str, buckets: tuple[str, ...]) -> BucketKey:
        shared = next((server for server in servers(self.site, "s3") if not server.own_keys), None)
        if shared:
            return BucketKey(shared.user, self.admin_password(shared), policy, buckets)
        key = f"{prefix}.s3_access_key"
        access_key = self.store.access_key(key) if self.generate else self._value(key)
        return BucketKey(access_key.reveal(), self._value(f"{prefix}.s3_secret_key"), policy, buckets)

    def runner_tokens(self, runners: Iterable[Runner]) -> dict[str, Secret]:
        """The tokens of those of the runners that have been made, by key."""
        found = {runner.key: self.store.peek(runner.key) for runner in runners}
        return {key: token for key, token in found.items() if token is not None}

    def runner_seal(self) -> Secret:
        """What tokens of new runners are sealed with on their way here."""
        return self._value("runner.seal", 40)

    def stored(self, key: str) -> Secret:
        """A text of the store that keys are derived from."""
        return self._value(key)

    def runner_system_id(self, host: str) -> Secret:
        """What tells a runner host from others."""
        return self._value(f"runner.system_id.{host}", 12)

    def web_users(self) -> list[WebUser]:
        """The accounts of the platform's login: ``admin`` and the configured users."""
        names = ["admin", *(user.name for user in self.site.platform.users if not user.disabled)]
        names += [PIPELINES] if GITLAB in self.site.services else []
        return [WebUser(name, self._value(f"user.{name}.password", 24)) for name in names]

    def first_gitlab_password(self, user: User) -> Secret | None:
        """What a user logs in to GitLab with for the first time, if the platform makes that up."""
        if user.disabled or not (user.gitlab_account and user.gitlab_password):
            return None
        return self._value(f"user.{user.name}.gitlab_password", 24)

    def logins(self) -> Iterator[Login]:
        """Every login that a person may need, in the order to show them."""
        site = self.site
        walled = ", ".join(site.url(vhost.web) for vhost in site.vhosts if vhost.web.access == "login")
        for user in self.web_users():
            yield Login("Platform login", walled, user.name, user.password)
        for service in site.services.values():
            urls = [site.url(web) for web in service.manifest.web]
            urls += [
                f"{site.own_host(service)}:{site.published_port(service, port)}"
                for port in service.manifest.ports
            ]
            url = urls[0] if urls else ""
            for entry in service.manifest.credentials:
                name = site.platform.admin_email if entry.user == "$admin_email" else entry.user
                yield Login(entry.what, url, name, self.secret(service, entry.secret))
            if service.manifest.provides == "images" and site.shared_environments:
                yield Login("Environments' images, to pull", url, PULLER, self.secret(service, PULL_PASSWORD))
            if service.name == GITLAB:
                for person in site.platform.users:
                    if first := self.first_gitlab_password(person):
                        yield Login("GitLab, first password", url, person.name, first)
        for project in site.projects:
            yield from self._project_logins(project)
        for person in site.platform.users:
            if site.projects_of(person):
                yield from self._own_logins(person)

    def _own_logins(self, user: User) -> Iterator[Login]:
        names = ", ".join(project.name for project in self.site.projects_of(user))
        for server in servers(self.site, "postgres"):
            if server.service.manifest.projects:
                url = f"postgresql://{public_address(self.site, server)}"
                yield Login(f"Own database login: {names}", url, user.name, self.person_database(user))
        for store in servers(self.site, "s3"):
            if store.service.manifest.projects and store.own_keys:
                key = self.person_key(user)
                what = f"Own key to buckets of {user.name}: {names}"
                yield Login(what, public_address(self.site, store), key.access_key, key.secret_key)

    def _project_logins(self, project: ProjectNames) -> Iterator[Login]:
        for server in servers(self.site, "postgres"):
            if server.service.manifest.projects:
                login = self.project_database(project, server)
                url = f"postgresql://{public_address(self.site, server)}/{login.name}"
                yield Login(f"Project {project.name}: database", url, login.user, login.password)
        for store in servers(self.site, "s3"):
            if store.service.manifest.projects:
                key = self.project_key(project)
                url = f"{public_address(self.site, store)}/{project.bucket}"
                yield Login(f"Project {project.name}: bucket", url, key.access_key, key.secret_key)


def stable_bcrypt(password: str, user: str) -> str:
    """The bcrypt hash of a generated password, the same at each call, so that rendering is reproducible.

    The salt is derived from user and password. Cost 5 is enough for a random password of 24 characters, and
    the proxy pays it at every request.
    """
    alphabet = "./ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789"
    digest = hashlib.sha256(f"salt\0{user}\0{password}".encode()).digest()
    # A bcrypt salt is 22 characters of 6 bits; of the last one only the upper 2 bits count.
    salt = "".join(alphabet[byte % 64] for byte in digest[:21]) + alphabet[digest[21] // 64 * 16]
    return bcrypt.hashpw(password.encode(), f"$2b$05${salt}".encode()).decode()
