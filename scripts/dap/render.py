"""Renders what a host gets: Compose files, configuration, secret files, certificates, data directories.

The result is data (`HostTree`); nothing is written here. The rules that every container keeps are in
`dap.services.container`.
"""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import yaml
from jinja2 import Environment, FileSystemLoader, StrictUndefined, TemplateError

from dap.credentials import Credentials, stable_bcrypt
from dap.errors import DapError
from dap.facts import HostFacts
from dap.portal import portal_context
from dap.provisioning import desired_state
from dap.services import container
from dap.services.manifest import Service
from dap.site import Site
from dap.trust.tls import Tls


@dataclass(frozen=True)
class File:
    """A file below the platform's root.

    Attributes:
        path: relative to the root.
        content: the bytes.
        mode: octal, ``0444`` for configuration, ``0400`` for secrets.
        owner: uid and gid, 0 for what every container may read.
    """

    path: str
    content: bytes
    mode: str = "0444"
    owner: int = 0

    def as_variables(self) -> dict[str, Any]:
        """As the role `stack` takes it; base64 keeps Ansible from templating the content."""
        content = base64.b64encode(self.content).decode()
        return {
            "path": self.path,
            "mode": self.mode,
            "uid": self.owner,
            "gid": self.owner,
            "content": content,
        }


@dataclass(frozen=True)
class Directory:
    """A data directory: created, owner and mode kept right, never removed."""

    path: str
    mode: str
    owner: int

    def as_variables(self) -> dict[str, Any]:
        """As the role `stack` takes it."""
        return {"path": self.path, "mode": self.mode, "uid": self.owner, "gid": self.owner}


@dataclass
class HostTree:
    """All that one host gets.

    Attributes:
        reload: services that read renewed certificates at a signal.
        first: services that the provisioning jobs work on, so they start before the others.
        jobs: the service that runs the jobs, if it is on this host.
    """

    files: list[File] = field(default_factory=list)
    secret_files: list[File] = field(default_factory=list)
    directories: list[Directory] = field(default_factory=list)
    reload: list[dict[str, Any]] = field(default_factory=list)
    services: list[str] = field(default_factory=list)
    first: list[str] = field(default_factory=list)
    jobs: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Renderer:
    """Renders the trees of a site's hosts.

    Attributes:
        images: image reference of every service.
    """

    site: Site
    credentials: Credentials
    images: Mapping[str, str]
    tls: Tls

    def tree(self, services: Iterable[Service], facts: HostFacts) -> HostTree:
        """What a host with these ``services`` and this size gets."""
        tree = HostTree()
        for service in services:
            self._add_service(tree, service, facts)
        name = self.site.platform.platform_name
        include = [f"{service}/compose.yaml" for service in tree.services]
        project = {"name": name, "include": include, "networks": container.network(name)}
        if include:
            tree.files.append(File("compose.yaml", _yaml(project)))
        return tree

    def _add_service(self, tree: HostTree, service: Service, facts: HostFacts) -> None:
        manifest = service.manifest
        context = self._context(service, facts)
        config = self._rendered(service, "config", context, "0444", 0)
        private = context | self._secret_context(service)
        secret = self._rendered(service, "secrets", private, "0400", manifest.user)
        secret += [
            File(
                f"{service.name}/secrets/{name}",
                self.credentials.secret(service, name).reveal().encode(),
                "0400",
                manifest.user,
            )
            for name in manifest.secrets
        ]
        fragment = self._fragment(service, context)
        secret += self._login_files(service)
        rules = container.Rules(
            site=self.site,
            service=service,
            image=self.images[service.name],
            facts=facts,
            config=bool(config),
            secrets=sorted(Path(file.path).name for file in secret),
            config_hash=_digest([*config, *secret, File("ca", b"".join(self.tls.trusted))]),
        )
        compose = container.complete(fragment, rules)
        tree.files += [File(f"{service.name}/compose.yaml", _yaml(compose)), *config]
        tree.secret_files += [*secret, *self._tls(tree, service)]
        tree.directories += [
            Directory(f"{self.site.platform.paths.data}/{service.name}/{data.name}", data.mode, manifest.user)
            for data in manifest.data
        ]
        tree.services.append(service.name)
        if manifest.provides in ("postgres", "s3"):
            tree.first.append(service.name)
        if manifest.provides == "jobs":
            tree.jobs.append(service.name)

    def _login_files(self, service: Service) -> list[File]:
        """Logins to the service's own databases and buckets, in the formats that client libraries read."""
        files = []
        if databases := self.credentials.databases(service).values():
            lines = [
                f"{login.server}:{login.port}:{login.name}:{login.user}:{login.password.reveal()}\n"
                for login in databases
            ]
            files.append(("pgpass", "".join(lines)))
        if key := self.credentials.bucket_key(service):
            text = (
                f"aws_access_key_id = {key.access_key}\naws_secret_access_key = {key.secret_key.reveal()}\n"
            )
            files.append(("s3_credentials", f"[default]\n{text}"))
        user = service.manifest.user
        return [File(f"{service.name}/secrets/{name}", text.encode(), "0400", user) for name, text in files]

    def _tls(self, tree: HostTree, service: Service) -> list[File]:
        """Certificate and key. They don't count for the configuration's hash: a renewal is a reload."""
        tls = service.manifest.tls
        if tls is None:
            return []
        # A renewal alone does not replace the container: it reads the new files at a signal.
        leaf = self.tls.leaves[service.name]
        folder = f"{service.name}/tls"
        tree.reload.append({"service": service.name, "signal": tls.reload, "paths": [f"{folder}/"]})
        return [
            File(f"{folder}/tls.crt", leaf.certificate_pem, "0400", service.manifest.user),
            File(f"{folder}/tls.key", leaf.key_pem.reveal().encode(), "0400", service.manifest.user),
        ]

    def _fragment(self, service: Service, context: Mapping[str, Any]) -> dict[str, Any]:
        text = _render(service.fragment, context)
        fragment = yaml.safe_load(text)
        if not isinstance(fragment, dict) or list(fragment) != ["services"]:
            raise DapError(f"{service.fragment}: wants one top-level key, services", "see docs/reference")
        return fragment

    def _rendered(
        self, service: Service, kind: Any, context: Mapping[str, Any], mode: str, owner: int
    ) -> list[File]:
        files = []
        for path in service.templates(kind):
            relative = path.relative_to(service.folder)
            if path.suffix == ".j2":
                content = _render(path, context).encode()
                relative = relative.with_suffix("")
            else:
                content = path.read_bytes()
            files.append(File(f"{service.name}/{relative.as_posix()}", content, mode, owner))
        return files

    @cached_property
    def _public(self) -> dict[str, Any]:
        """What every template sees; nothing in it is secret."""
        site = self.site
        return {
            **portal_context(site, self.tls.ca_certificate),
            "ports": site.platform.ports,
            "time_zone": site.platform.time_zone,
            "admin_email": site.platform.admin_email,
            "vhosts": site.vhosts,
            "names": site.names,
            "port_suffix": site.port_suffix,
            "ca_certificate": self.tls.ca_certificate.decode(),
            # A browser that once saw HSTS lets nobody past a certificate of a CA that it does not know.
            "hsts": self.tls.public,
        }

    def _context(self, service: Service, facts: HostFacts) -> dict[str, Any]:
        own = {"name": service.name, "title": service.manifest.title, "user": service.manifest.user}
        own["hosts"] = [self.site.web_host(web) for web in service.manifest.web]
        context = self._public | {"service": own, "host": facts}
        if service.manifest.admin_of:
            context["administers"] = [
                {
                    "service": provider.name,
                    "host": self.site.own_host(provider) if provider.manifest.tls else provider.name,
                    "tls": provider.manifest.tls is not None,
                }
                for provider in self.site.providers(service.manifest.admin_of)
            ]
        return context

    def _secret_context(self, service: Service) -> dict[str, Any]:
        """What only the templates in ``secrets/`` see."""
        credentials = self.credentials

        def secret(name: str) -> str:
            return credentials.secret(service, name).reveal()

        def admin_secret(provider: str) -> str:
            return credentials.secret(self.site.services[provider], "admin_password").reveal()

        context: dict[str, Any] = {
            "secret": secret,
        }
        if service.manifest.provides == "proxy":
            context["web_users"] = [
                {
                    "name": user.name,
                    "hash": stable_bcrypt(user.password.reveal(), user.name),
                    "basic": base64.b64encode(f"{user.name}:{user.password.reveal()}".encode()).decode(),
                }
                for user in credentials.web_users()
            ]
        if service.manifest.admin_of:
            context["admin_secret"] = admin_secret
        if service.manifest.provides == "jobs":
            context["desired_state"] = json.dumps(desired_state(self.site, credentials), indent=1)
        return context


def _render(template: Path, context: Mapping[str, Any]) -> str:
    html = ".html" in template.name
    environment = Environment(
        loader=FileSystemLoader([template.parent, template.parents[1]]),
        undefined=StrictUndefined,
        # Compose files and configuration are no HTML: escaping would corrupt them.
        autoescape=html,  # noqa: S701
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    try:
        return environment.get_template(template.name).render(context)
    except TemplateError as error:
        raise DapError(f"{template}: {error}", "correct the template") from error


def _yaml(data: Mapping[str, Any]) -> bytes:
    return yaml.safe_dump(dict(data), sort_keys=False, width=110).encode()


def _digest(files: Iterable[File]) -> str:
    digest = hashlib.sha256()
    for file in sorted(files, key=lambda file: file.path):
        digest.update(f"{file.path}\0{file.mode}\0{file.owner}\0".encode() + file.content + b"\0")
    return digest.hexdigest()[:16]
