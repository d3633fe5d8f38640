"""Renders what a host gets: Compose files, configuration, secret files, certificates, data directories.

The result is data (`dap.rendering.tree`); nothing is written here. The rules that every container keeps are
in `dap.services.container`.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from dap.configuration.inventory import Host
from dap.credentials import Credentials, stable_bcrypt
from dap.dev import pages, user_pages
from dap.files import required
from dap.gitlab import runners
from dap.gitlab.runners import Here, runs_jobs
from dap.hosts.facts import HostFacts
from dap.images import sharing
from dap.images.distribution import address_of
from dap.provisioning import desired_state
from dap.rendering.portal import portal_context
from dap.rendering.templates import as_yaml, digest_of, fragment_of, project_file, render_template
from dap.rendering.tree import Directory, File, HostTree
from dap.servers import server_named, servers
from dap.services import container
from dap.services.customization import OVERRIDE, SNIPPET
from dap.services.manifest import Service
from dap.services.manifest_schema import Rotation, Token
from dap.site import Site
from dap.trust.pem import split_certificates
from dap.trust.tls import Tls


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

    def tree(
        self,
        services: Iterable[Service],
        facts: HostFacts,
        address: str = "127.0.0.1",
        host: Host | None = None,
    ) -> HostTree:
        """What a host with these ``services`` and this size gets.

        Args:
            address: where the platform's names lead from there.
            host: which of them it is; the service host without it.
        """
        here = Here(host or self.site.inventory.service_host, facts, address)
        tree = HostTree(with_jobs=runs_jobs(self.site, here.host), with_dev=self.site.dev_beside(here.host))
        for service in services:
            self._add_service(tree, service, here)
        if tree.services:
            name = self.site.platform.platform_name
            tree.files.append(
                project_file(name, tree.services, with_jobs=tree.with_jobs, with_dev=tree.with_dev)
            )
        return tree

    def _add_service(self, tree: HostTree, service: Service, here: Here) -> None:
        manifest, facts = service.manifest, here.facts
        context = self._context(service, facts)
        config = self._rendered(service, "config", context, "0444", 0)
        private = context | self._secret_context(service, here)
        secret = self._rendered(service, "secrets", private, "0400", manifest.user)
        secret += [
            File(
                f"{service.name}/secrets/{name}",
                self.credentials.secret(owner, name).reveal().encode(),
                "0400",
                manifest.user,
            )
            for name, owner in self.site.secrets_of(service).items()
        ]
        fragment = fragment_of(service.fragment, context)
        override = self.site.customization(service) / OVERRIDE
        secret += self._login_files(service)
        live = self._rendered(service, "live", private, "0400", manifest.user)
        if manifest.provides == "proxy":
            live += pages.files(self.site, self.credentials, service)
            live += user_pages.files(self.site, self.credentials, service)
        trust = self._trust_files(service)
        # What is read at the first start only, or again while it runs, is no reason to replace the container.
        late = {f"{service.name}/secrets/{entry.secret}" for entry in manifest.rotation if not entry.fixed}
        counted = [file for file in secret if file.path not in late]
        rules = container.Rules(
            site=self.site,
            service=service,
            image=self.images[service.name],
            facts=facts,
            config=bool(config),
            trust=bool(trust),
            secrets=sorted(Path(file.path).name for file in secret),
            config_hash=digest_of([*config, *counted, File("ca", b"".join(self.tls.trusted))]),
            address=here.address,
            live=bool(live),
            with_jobs=tree.with_jobs,
            with_dev=tree.with_dev,
        )
        own = fragment_of(override, context, service.name) if override.is_file() else None
        compose = container.complete(fragment, rules, own)
        tree.files += [File(f"{service.name}/compose.yaml", as_yaml(compose)), *config, *trust]
        tree.secret_files += [*secret, *live, *self._tls(service)]
        tree.reload += _reloads(service, bool(live))
        tree.commands += self._commands(service, private)
        tree.token_commands += [
            {"key": f"{service.name}.{token.name}", **self._command(service, token, token.name, private)}
            for token in manifest.tokens
        ]
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
                f"{login.server.host}:{login.server.port}:{login.name}:{login.user}:{login.password.reveal()}\n"
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

    def _tls(self, service: Service) -> list[File]:
        """Certificate and key. They don't count for the configuration's hash: a renewal is a reload."""
        tls = service.manifest.tls
        if tls is None:
            return []
        leaf = self.tls.leaves[service.name]
        folder = f"{service.name}/tls"
        return [
            File(f"{folder}/tls.crt", leaf.certificate_pem, "0400", service.manifest.user),
            File(f"{folder}/tls.key", leaf.key_pem.reveal().encode(), "0400", service.manifest.user),
        ]

    def _commands(self, service: Service, context: Mapping[str, Any]) -> list[dict[str, Any]]:
        """What sets new values of its secrets in the running service; only where they are new."""
        pending = self.credentials.store.pending()
        return [
            self._command(service, entry, entry.secret, context)
            for entry in service.manifest.rotation
            if entry.command and f"{service.name}.{entry.secret}" in pending
        ]

    def _command(
        self, service: Service, entry: Rotation | Token, secret: str, context: Mapping[str, Any]
    ) -> dict[str, Any]:
        """A command that sets a secret in the running service, with what it reads."""
        return {
            "service": service.name,
            "command": entry.command,
            "input": base64.b64encode(
                render_template(service.folder / entry.input, context).encode()
            ).decode(),
            "secret": self.credentials.secret(service, secret).reveal(),
            "change": f"{service.name}: {secret} set",
        }

    def _trust_files(self, service: Service) -> list[File]:
        """Every trusted CA as a file of its own, for what reads no bundle."""
        if service.manifest.trust_folder is None:
            return []
        certificates = [one for bundle in self.tls.trusted for one in split_certificates(bundle)]
        return [
            File(f"{service.name}/trust/{index}.crt", certificate)
            for index, certificate in enumerate(certificates)
        ]

    def _rendered(
        self, service: Service, kind: Any, context: Mapping[str, Any], mode: str, owner: int
    ) -> list[File]:
        files = []
        for path in service.templates(kind):
            relative = path.relative_to(service.folder)
            if path.suffix == ".j2":
                content = render_template(path, context).encode()
                relative = relative.with_suffix("")
            else:
                content = required(path)
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
            "s3": self._s3,
            "names": site.names,
            "port_suffix": site.port_suffix,
            "ca_certificate": self.tls.ca_certificate.decode(),
            # A browser that once saw HSTS lets nobody past a certificate of a CA that it does not know.
            "hsts": self.tls.public,
        }

    @property
    def _s3(self) -> dict[str, Any]:
        """The object storage as services reach it; empty without one."""
        return next(
            (
                {"endpoint": server.endpoint, "region": server.region, "tls": server.tls}
                for server in servers(self.site, "s3")
            ),
            {},
        )

    def _databases(self, service: Service) -> dict[str, Any]:
        """How the service reaches its own databases, by their names."""
        logins = self.credentials.databases(service).values()
        return {
            login.name: {
                "host": login.server.host,
                "port": login.server.port,
                "user": login.user,
                "sslmode": login.server.sslmode,
            }
            for login in logins
        }

    def _context(self, service: Service, facts: HostFacts) -> dict[str, Any]:
        manifest, site = service.manifest, self.site
        own: dict[str, Any] = {"name": service.name, "title": manifest.title, "user": manifest.user}
        own["hosts"] = [site.web_host(web) for web in manifest.web]
        own["ports"] = {port.name: site.published_port(service, port) for port in manifest.ports}
        own["memory_mib"] = container.memory_limit(site, service, facts) // 1024**2
        own["images"] = {name: self.images[f"{service.name}.{name}"] for name in manifest.image.more}
        context = self._public | {"service": own, "host": facts, "databases": self._databases(service)}
        if service.manifest.provides in ("runner", "cleaner"):
            context["settings"] = site.platform.runners
            context["docker_hub"] = site.platform.mirrors.registry
            context["platform_images"] = sorted({*self.images.values()})
        if service.manifest.provides == "images":
            registry = address_of(site)
            kept = [image.source.removeprefix(f"{registry}/") for image in sharing.shared(site)]
            context["kept_images"] = kept
        if service.manifest.provides == "proxy":
            context["snippets"] = self._snippets(context)
        if service.manifest.admin_of:
            context["administers"] = [
                {
                    "service": server.name,
                    "host": server.host,
                    "port": server.port,
                    "user": server.user,
                    "tls": server.tls,
                }
                for server in servers(self.site, service.manifest.admin_of)
            ]
        return context

    def _snippets(self, context: Mapping[str, Any]) -> dict[str, str]:
        """What operators add to the proxy's server blocks, by service."""
        files = {
            name: self.site.customization(service) / SNIPPET for name, service in self.site.services.items()
        }
        return {name: render_template(file, context) for name, file in files.items() if file.is_file()}

    def _secret_context(self, service: Service, here: Here) -> dict[str, Any]:
        """What only the templates in ``secrets/`` and ``live/`` and those of ``rotation`` see."""
        credentials = self.credentials

        def secret(name: str) -> str:
            return credentials.secret(service, name).reveal()

        def admin_secret(provider: str) -> str:
            return credentials.secret(server_named(self.site, provider).service, "admin_password").reveal()

        def previous(name: str) -> list[str]:
            return credentials.previous(service, name)

        def password_hash(name: str, user: str) -> str:
            return stable_bcrypt(secret(name), user)

        context: dict[str, Any] = {
            "secret": secret,
            "previous": previous,
            "password_hash": password_hash,
        }
        if service.manifest.provides == "proxy":
            context |= pages.context(self.site, credentials)
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
        if service.manifest.provides == "runner":
            context |= runners.context(self.site, self.credentials, service, here)
        if service.manifest.provides == "jobs":
            context["desired_state"] = json.dumps(
                desired_state(self.site, credentials, self.tls.trusted), indent=1
            )
        return context


def _reloads(service: Service, live: bool) -> list[dict[str, Any]]:
    """The signals at which a running service reads changed files again; each once."""
    paths: dict[str, list[str]] = {}
    if service.manifest.tls:
        paths.setdefault(service.manifest.tls.reload, []).append(f"{service.name}/tls/")
    if service.manifest.reload and live:
        paths.setdefault(service.manifest.reload, []).append(f"{service.name}/live/")
    return [{"service": service.name, "signal": signal, "paths": found} for signal, found in paths.items()]
