"""The steps of a deploy: validate, preflight, generate, render, carry to the hosts, provision."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from dap import certificate_files, certificates, hosts, images
from dap.config import Host, Inventory, load_inventory
from dap.credentials import Credentials
from dap.errors import DapError, Refused
from dap.facts import HostFacts
from dap.files import make_private_folder
from dap.layout import compose_dir, inventory_dir, logs_dir, secrets_dir
from dap.manifest import find_folders, load_services
from dap.preflight import judge, wanted
from dap.progress import Progress
from dap.render import HostTree, Renderer
from dap.secrets import SecretStore, ownership_conflict, store_lock
from dap.site import Site, enabled_services

_KEEP_LOGS = 30

# Package indexes, mirrors and proxies of the site, as the package managers name them; image builds use them too.
_BUILD_ENVIRONMENT = (
    *("PIP_INDEX_URL", "UV_DEFAULT_INDEX", "GOPROXY", "GOSUMDB", "npm_config_registry"),
    *("http_proxy", "https_proxy", "no_proxy", "HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY"),
)


@dataclass
class Outcome:
    """What a deploy did.

    Attributes:
        changes: (host, what) of everything that changed.
        warnings: what the operator should know although it did not stop the deploy.
        log: the full log.
    """

    changes: list[tuple[str, str]] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    log: Path = Path()


def load_site(inventory_name: str) -> Site:
    """Read and check all that the operator wrote; no host is touched.

    Raises:
        ConfigurationError: with everything that is wrong.
    """
    folders = find_folders([compose_dir(), inventory_dir(inventory_name) / "compose"])
    inventory = load_inventory(inventory_name, folders)
    return Site(inventory, enabled_services(inventory, load_services(folders)))


def open_log(inventory: str, verb: str) -> Path:
    """A new log file; the oldest ones of the inventory are removed."""
    folder = logs_dir(inventory)
    make_private_folder(folder)
    for old in sorted(folder.glob("*.log"))[:-_KEEP_LOGS]:
        old.unlink(missing_ok=True)
    log = folder / f"{datetime.now(UTC):%Y%m%dT%H%M%S}-{verb}.log"
    log.touch(mode=0o600)
    return log


class Deployment:
    """A run of ``dap deploy`` (or ``check``) on one inventory."""

    def __init__(self, site: Site, progress: Progress, verb: str = "deploy") -> None:
        self.site = site
        self.progress = progress
        self.inventory: Inventory = site.inventory
        self.secrets_folder = secrets_dir() / self.inventory.name
        self.outcome = Outcome()
        self.verb = verb

    def check(self) -> Outcome:
        """Everything up to and including preflight; changes nothing."""
        store = SecretStore.load(self.secrets_folder, self.inventory.name)
        self.outcome.log = open_log(self.inventory.name, self.verb)
        self._preflight(store)
        return self.outcome

    def run(self, *, check: bool = False, diff: bool = False) -> Outcome:
        """Deploy.

        Args:
            check: find out what would change, change nothing on the hosts.
            diff: write the differences of files into the log.

        Raises:
            DapError: something failed; a later run finishes the work.
        """
        make_private_folder(self.secrets_folder)
        with store_lock(self.secrets_folder):
            store = SecretStore.load(self.secrets_folder, self.inventory.name)
            self.outcome.log = open_log(self.inventory.name, self.verb)
            self.outcome.warnings += store.repairs
            facts = self._preflight(store)
            with self.progress.step("Secrets and certificates"):
                renderer, builds = self._prepare(store)
                trees = self._trees(renderer, facts)
            with self._staged(builds) as staging:
                self._apply(store, trees, builds, renderer.ca_certificate, staging, check=check, diff=diff)
        return self.outcome

    def build_images(self, names: Sequence[str]) -> Outcome:
        """Build the images of the services ``names`` (all if empty) where they are missing.

        Installs and starts Docker first, as a deploy does.

        Raises:
            Refused: one of the names is no service whose image is built.
        """
        _, builds = images.resolve(self.site.services)
        known = [build.name for build in builds]
        for name in names:
            if name not in known:
                raise Refused(f"{name!r} has no image to build", f"there are: {', '.join(known)}")
        wanted_builds = [build for build in builds if not names or build.name in {*names, images.BASE}]
        self.outcome.log = open_log(self.inventory.name, self.verb)
        with self._staged(wanted_builds) as staging:
            variables = self._variables() | {
                "staging": str(staging),
                "hosts": {self.inventory.service_host.name: _image_variables(wanted_builds)},
            }
            run = self._play("Images", variables, tags=("docker", "images"), limit="service_host")
        self.outcome.changes = run.changed
        return self.outcome

    def destroy(self, *, with_data: bool) -> Outcome:
        """Remove containers and rendered files; with ``with_data`` also data and secrets."""
        with store_lock(self.secrets_folder):
            store = SecretStore.load(self.secrets_folder, self.inventory.name)
            self.outcome.log = open_log(self.inventory.name, self.verb)
            variables = self._variables() | {
                # Data of another platform, or of one whose secrets are lost, is not removed.
                "platform_id": "" if store.is_new else store.platform_id,
                "destroy_data": with_data,
                "hosts": {host.name: {"names": [], "address": ""} for host in self.inventory.hosts},
                "ca_certificates": [],
            }
            run = self._play("Remove containers and files", variables, playbook="destroy")
            self.outcome.changes = run.changed
            if with_data:
                # Last: as long as a host may still hold data, its passwords are kept.
                shutil.rmtree(self.secrets_folder)
                self.outcome.changes.append(("here", f"{self.secrets_folder} removed"))
        return self.outcome

    def _preflight(self, store: SecretStore) -> dict[str, HostFacts]:
        """Facts of every host; refuses before anything is written."""
        # Whose data a host holds is judged here, where the secrets are, and not by the host.
        variables = self._variables() | {"platform_id": "", "hosts": wanted(self.site)}
        facts, warnings = judge(self._play("Preflight", variables, playbook="preflight"))
        self.outcome.warnings += warnings
        for host, found in facts.items():
            data = str(self.site.platform.paths.data)
            if conflict := ownership_conflict(store, host, data, found.marker, found.has_data):
                raise conflict
        return facts

    def _prepare(self, store: SecretStore) -> tuple[Renderer, list[images.Build]]:
        """Fill secrets and issue certificates. The store is saved before anything uses its values."""
        credentials = Credentials(self.site, store)
        platform = self.site.platform
        leaves: dict[str, certificates.Leaf] = {}
        ca_certificate = b""
        tls = {name: service for name, service in self.site.services.items() if service.manifest.tls}
        if platform.tls.mode == "private-ca":
            authority = certificates.ensure_ca(self.secrets_folder, platform.platform_name, store.ca_fingerprint)
            store.ca_fingerprint = authority.fingerprint
            self.outcome.warnings += authority.warnings
            ca_certificate = authority.certificate_pem
            for name, service in tls.items():
                leaves[name] = certificates.ensure_leaf(
                    authority,
                    self.secrets_folder,
                    name,
                    dns_names=self.site.tls_names(service),
                    lifetime_days=platform.tls.leaf_days,
                )
        else:
            leaves = dict.fromkeys(tls, self._operator_certificate(tls))
        for leaf in {id(leaf): leaf for leaf in leaves.values()}.values():
            self.outcome.warnings += leaf.warnings
        references, builds = images.resolve(self.site.services)
        renderer = Renderer(self.site, credentials, references, leaves, ca_certificate)
        # Rendering generates what services need; logins of people, which nothing renders, are generated here.
        list(credentials.logins())
        return renderer, builds

    def _operator_certificate(self, tls: Mapping[str, Any]) -> certificates.Leaf:
        platform = self.site.platform
        names = sorted({name for service in tls.values() for name in self.site.tls_names(service)})
        assert platform.tls.certificate and platform.tls.key  # noqa: S101  the schema demands both
        return certificate_files.check_files(
            self.inventory.directory / platform.tls.certificate,
            self.inventory.directory / platform.tls.key,
            names,
            source=str(self.inventory.platform_file),
        )

    def _trees(self, renderer: Renderer, facts: Mapping[str, HostFacts]) -> dict[str, HostTree]:
        return {
            host.name: renderer.tree(self.site.services_on(host).values(), facts[host.name])
            for host in self.inventory.hosts
        }

    @contextmanager
    def _staged(self, builds: list[images.Build]) -> Iterator[Path]:
        """The build contexts as files, for the hosts that lack an image."""
        staging = Path(tempfile.mkdtemp(prefix="dap-contexts-"))
        try:
            for build in builds:
                (staging / f"{build.name}.tar").write_bytes(build.context)
            yield staging
        finally:
            shutil.rmtree(staging)

    def _apply(
        self,
        store: SecretStore,
        trees: Mapping[str, HostTree],
        builds: list[images.Build],
        ca_certificate: bytes,
        staging: Path,
        *,
        check: bool,
        diff: bool,
    ) -> None:
        if not check:
            # First the store, then the hosts: a password that is in use somewhere is never lost.
            store.save()
        variables = self._variables() | {
            "platform_id": store.platform_id,
            "ca_certificates": self._ca_certificates(ca_certificate),
            "staging": str(staging),
            "hosts": {
                host.name: self._host_variables(host, trees[host.name], builds)
                for host in self.inventory.hosts
            },
        }
        run = self._play("Hosts, images and services", variables, check=check, diff=diff)
        self.outcome.changes = run.changed

    def _play(
        self, title: str, variables: Mapping[str, Any], playbook: str = "deploy", **options: Any
    ) -> hosts.Run:
        """Run a playbook as a step, and show what it is waiting for."""
        status_file = Path(self.site.platform.paths.root) / "log" / "progress"

        def on_event(event: hosts.Event) -> None:
            if event["event"] == "task":
                self.progress.waiting_for(str(event.get("task", "")))

        def on_wait() -> None:
            if "build" in self.progress.note.lower():
                self.progress.watch(status_file)
            self.progress.tick()

        with self.progress.step(title):
            return hosts.play(
                playbook,
                self.inventory,
                variables,
                log=self.outcome.log,
                on_event=on_event,
                on_wait=on_wait,
                **options,
            )

    def _variables(self) -> dict[str, Any]:
        platform = self.site.platform
        return {
            "name": platform.platform_name,
            "domain": platform.domain,
            "root": str(platform.paths.root),
            "data": str(platform.paths.data),
            "wait_seconds": platform.deploy.wait_seconds,
            "parallel_builds": platform.deploy.parallel_builds,
            "build_environment": {name: os.environ[name] for name in _BUILD_ENVIRONMENT if name in os.environ},
        }

    def _ca_certificates(self, own: bytes) -> list[str]:
        extra = [
            (self.inventory.directory / path).read_text(encoding="utf-8")
            for path in self.site.platform.trust.extra_cas
        ]
        return [own.decode(), *extra] if own else extra

    def _host_variables(self, host: Host, tree: HostTree, builds: list[images.Build]) -> dict[str, Any]:
        services = self.site.services_on(host)
        needed = {service.manifest.image.same_as or name for name, service in services.items()}
        return {
            "names": self.site.names,
            "address": address_of(host, self.inventory),
            "files": [file.as_variables() for file in tree.files],
            "secret_files": [file.as_variables() for file in tree.secret_files],
            "directories": [directory.as_variables() for directory in tree.directories],
            "reload": tree.reload,
            "services": tree.services,
            "first": tree.first,
            "jobs": tree.jobs,
            **_image_variables(
                [build for build in builds if needed and build.name in {*needed, images.BASE}]
            ),
        }


def _image_variables(builds: Sequence[images.Build]) -> dict[str, Any]:
    """What the role `images` takes: images in the order of building, and what the first is built upon."""
    return {
        "base_images": [{"tag": images.DEBIAN_TAG, "suite": images.DEBIAN_SUITE}] if builds else [],
        "images": [
            {
                "name": build.name,
                "tag": build.tag,
                "context": f"{build.name}.tar",
                "base": build.upon,
                "depends_on": [] if build.name == images.BASE else [images.BASE],
            }
            for build in builds
        ],
    }


def address_of(host: Host, inventory: Inventory) -> str:
    """The address under which ``host`` reaches the platform's names: the service host's."""
    service_host = inventory.service_host
    if host.name == service_host.name:
        return "127.0.0.1"
    address = service_host.variables.get("ansible_host", service_host.name)
    if not isinstance(address, str):
        raise DapError(f"host {service_host.name}: ansible_host is not a text")
    return address
