"""Every login of the platform, derived from the configuration and the secret store."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass

import bcrypt

from dap.errors import RefusedError
from dap.secrets import Secret, SecretStore
from dap.services.manifest import Service
from dap.site import ProjectNames, Site


@dataclass(frozen=True)
class DatabaseLogin:
    """A database with its role, as a service or a project uses it (port 5432 on the platform's network)."""

    server: str
    name: str
    user: str
    password: Secret
    port: int = 5432


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


class Credentials:
    """Reads what the parts of the platform log in with.

    Args:
        generate: make what is missing. Only a deploy may: what it makes is saved and reaches the services.
    """

    def __init__(self, site: Site, store: SecretStore, *, generate: bool = True) -> None:
        self.site = site
        self.store = store
        self.generate = generate

    def _value(self, key: str, length: int = 40) -> Secret:
        if self.generate:
            return self.store.get(key, length)
        value = self.store.peek(key)
        if value is None:
            raise RefusedError(
                f"{key} has no value yet: the configuration was changed since the last deploy",
                f"dap -e {self.site.inventory.name} deploy",
            )
        return value

    def secret(self, service: Service, name: str) -> Secret:
        """A secret that the service's manifest declares."""
        return self._value(f"{service.name}.{name}", service.manifest.secrets[name])

    def databases(self, service: Service) -> dict[str, DatabaseLogin]:
        """The databases of a service, by name."""
        return {
            entry.name: DatabaseLogin(
                entry.server, entry.name, entry.name, self._value(f"{service.name}.database.{entry.name}")
            )
            for entry in service.manifest.databases
        }

    def project_database(self, project: ProjectNames, server: str) -> DatabaseLogin:
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

    def _key(self, prefix: str, policy: str, buckets: tuple[str, ...]) -> BucketKey:
        key = f"{prefix}.s3_access_key"
        access_key = self.store.access_key(key) if self.generate else self._value(key)
        return BucketKey(access_key.reveal(), self._value(f"{prefix}.s3_secret_key"), policy, buckets)

    def web_users(self) -> list[WebUser]:
        """The accounts of the platform's login: ``admin`` and the configured users."""
        names = ["admin", *(user.name for user in self.site.platform.users)]
        return [WebUser(name, self._value(f"user.{name}.password", 24)) for name in names]

    def logins(self) -> Iterator[Login]:
        """Every login that a person may need, in the order to show them."""
        site = self.site
        walled = ", ".join(site.url(vhost.web) for vhost in site.vhosts if vhost.web.access == "login")
        for user in self.web_users():
            yield Login("Platform login", walled, user.name, user.password)
        for service in site.services.values():
            urls = [site.url(web) for web in service.manifest.web]
            urls += [
                f"{site.own_host(service)}:{site.published_port(port)}" for port in service.manifest.ports
            ]
            url = urls[0] if urls else ""
            for entry in service.manifest.credentials:
                name = site.platform.admin_email if entry.user == "$admin_email" else entry.user
                yield Login(entry.what, url, name, self.secret(service, entry.secret))
        for project in site.projects:
            yield from self._project_logins(project)

    def _project_logins(self, project: ProjectNames) -> Iterator[Login]:
        site = self.site
        for server in site.providers("postgres"):
            if server.manifest.projects:
                login = self.project_database(project, server.name)
                port = site.published_port(server.manifest.ports[0])
                url = f"postgresql://{site.own_host(server)}:{port}/{login.name}"
                yield Login(f"Project {project.name}: database", url, login.user, login.password)
        for store in site.providers("s3"):
            if store.manifest.projects:
                key = self.project_key(project)
                url = f"{site.url(store.manifest.web[0])}/{project.bucket}"
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
