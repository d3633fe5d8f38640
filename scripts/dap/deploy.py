"""The steps of a deploy: validate, preflight, generate, render, carry to the hosts, provision."""

from __future__ import annotations

import os
import shutil
import socket
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from dap import hosts
from dap.configuration.inventory import Host, Inventory
from dap.credentials import Credentials
from dap.errors import RefusedError
from dap.facts import HostFacts
from dap.files import make_private_folder
from dap.layout import logs_dir, secrets_dir, shown
from dap.preflight import facts_of, judge, refuse_oversized, wanted
from dap.progress import Progress
from dap.render import HostTree, Renderer
from dap.secrets import SecretStore, ownership_conflict, store_lock
from dap.services import images
from dap.site import Site
from dap.trust import tls
from dap.verify import refuse_unknown_checks

_KEEP_LOGS = 30

# Package indexes, mirrors and proxies of the site, by the names that package managers read.
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


@dataclass(frozen=True)
class _Prepared:
    """What was made here and goes to the hosts next.

    Attributes:
        trees: files of each host, by its name.
        trusted: CAs that hosts and containers have to trust, PEM.
    """

    builds: list[images.Build]
    trees: Mapping[str, HostTree]
    facts: Mapping[str, HostFacts]
    trusted: list[bytes]


def open_log(inventory: str, verb: str) -> Path:
    """A new log file; the oldest ones of the inventory are removed."""
    folder = logs_dir(inventory)
    make_private_folder(folder.parent)
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
            with self._working_folder(check) as folder, self.progress.step("Secrets and certificates"):
                prepared = self._prepare(store, facts, folder)
            with self._staged(prepared.builds) as staging:
                self._apply(store, prepared, staging, check=check, diff=diff)
        return self.outcome

    def build_images(self, names: Sequence[str]) -> Outcome:
        """Build the images of the services ``names`` (all if empty) where they are missing.

        Installs and starts Docker first, as a deploy does.

        Raises:
            RefusedError: one of the names is no service whose image is built.
        """
        _, builds = images.resolve(self.site.services)
        known = [build.name for build in builds]
        for name in names:
            if name not in known:
                raise RefusedError(f"{name!r} has no image to build", f"there are: {', '.join(known)}")
        wanted_builds = [build for build in builds if not names or build.name in {*names, images.BASE}]
        self.outcome.log = open_log(self.inventory.name, self.verb)
        with self._staged(wanted_builds) as staging:
            variables = self._variables() | {
                "staging": str(staging),
                "hosts": {self.inventory.service_host.name: _image_variables(wanted_builds)},
            }
            run = self._play("Images", variables, playbook="images")
        self.outcome.changes = run.changed
        return self.outcome

    def destroy(self, *, with_data: bool) -> Outcome:
        """Remove containers and rendered files; with ``with_data`` also data and secrets."""
        with store_lock(self.secrets_folder):
            store = SecretStore.load(self.secrets_folder, self.inventory.name)
            self.outcome.log = open_log(self.inventory.name, self.verb)
            if with_data:
                # Data of another platform, or of one whose secrets are lost, is not removed.
                self._own_data(store, facts_of(self._facts()))
            variables = self._variables() | {
                "platform_id": store.platform_id,
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
        facts, warnings = judge(self._facts())
        self.outcome.warnings += warnings
        refuse_oversized(self.site, facts)
        self._own_data(store, facts)
        refuse_unknown_checks(self.site.services.values())
        return facts

    def _facts(self) -> hosts.Run:
        # Whose data a host holds is judged here, where the secrets are, and not by the host.
        variables = self._variables() | {"platform_id": "", "hosts": wanted(self.site)}
        return self._play("Preflight", variables, playbook="preflight")

    def _own_data(self, store: SecretStore, facts: Mapping[str, HostFacts]) -> None:
        """Refuse if a host holds data that these secrets do not belong to."""
        for host, found in facts.items():
            data = str(self.site.platform.paths.data)
            if conflict := ownership_conflict(store, host, data, found.marker, found.has_data):
                raise conflict

    def _prepare(self, store: SecretStore, facts: Mapping[str, HostFacts], folder: Path) -> _Prepared:
        """Fill secrets, issue certificates, render. The store is saved before anything uses its values."""
        credentials = Credentials(self.site, store)
        certificates = tls.ensure(self.site, folder, store)
        self.outcome.warnings += certificates.warnings
        references, builds = images.resolve(self.site.services)
        # Rendering generates what services need; logins of people, which nothing renders, are generated here.
        list(credentials.logins())
        renderer = Renderer(self.site, credentials, references, certificates)
        trees = {
            host.name: renderer.tree(self.site.services_on(host).values(), facts[host.name])
            for host in self.inventory.hosts
        }
        return _Prepared(builds, trees, facts, certificates.trusted)

    @contextmanager
    def _working_folder(self, check: bool) -> Iterator[Path]:
        """Where CA and certificates are kept; in check mode a copy, which is thrown away."""
        if not check:
            yield self.secrets_folder
            return
        with tempfile.TemporaryDirectory(prefix="dap-check-") as folder:
            copy = Path(folder) / self.inventory.name
            shutil.copytree(self.secrets_folder, copy, ignore=shutil.ignore_patterns("logs", ".lock"))
            yield copy

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
        self, store: SecretStore, prepared: _Prepared, staging: Path, *, check: bool, diff: bool
    ) -> None:
        if not check:
            # First the store, then the hosts: a password that is in use somewhere is never lost.
            store.save()
        variables = self._variables() | {
            "platform_id": store.platform_id,
            "ca_certificates": [certificate.decode() for certificate in prepared.trusted],
            "staging": str(staging),
            "hosts": {host.name: self._host_variables(host, prepared) for host in self.inventory.hosts},
        }
        run = self._play("Hosts, images and services", variables, check=check, diff=diff)
        self.outcome.changes = run.changed
        for (_, host), result in run.results.items():
            self.outcome.warnings += [f"{host}: {note}" for note in result.get("notes", [])]

    def _play(
        self, title: str, variables: Mapping[str, Any], playbook: str = "deploy", **options: Any
    ) -> hosts.Run:
        """Run a playbook as a step, and show what it is waiting for."""
        status_file = Path(self.site.platform.paths.root) / "log" / "progress"

        def on_event(event: hosts.Event) -> None:
            if event["event"] == "task":
                self.progress.waiting_for(str(event.get("task", "")))

        def on_wait() -> None:
            # Written by long tasks while they work; on another machine the name of the task has to do.
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
            "build_environment": {
                name: os.environ[name] for name in _BUILD_ENVIRONMENT if name in os.environ
            },
        }

    def _host_variables(self, host: Host, prepared: _Prepared) -> dict[str, Any]:
        tree = prepared.trees[host.name]
        services = self.site.services_on(host)
        needed = {service.manifest.image.same_as or name for name, service in services.items()}
        return {
            "docker_ready": prepared.facts[host.name].docker_ready,
            "names": self.site.names,
            "address": address_of(host, self.inventory),
            "files": [file.as_variables() for file in tree.files],
            "secret_files": [file.as_variables() for file in tree.secret_files],
            "directories": [directory.as_variables() for directory in tree.directories],
            "reload": tree.reload,
            "services": [name for name in tree.services if name not in tree.jobs],
            "first": tree.first,
            "jobs": tree.jobs,
            **_image_variables(
                [build for build in prepared.builds if needed and build.name in {*needed, images.BASE}]
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
    """The address under which ``host`` reaches the platform's names: the service host's.

    Raises:
        RefusedError: the service host's name has no address here, and none is configured.
    """
    service_host = inventory.service_host
    if host.name == service_host.name:
        listening = inventory.platform.listen_address
        return "127.0.0.1" if listening.is_unspecified else str(listening)
    address = str(service_host.variables.get("ansible_host", service_host.name))
    try:
        return str(socket.getaddrinfo(address, None, type=socket.SOCK_STREAM)[0][4][0])
    except OSError as error:
        raise RefusedError(
            f"{shown(inventory.hosts_file)}: {service_host.name}: no address is known for {address}",
            f"write ansible_host: <address> below {service_host.name}",
        ) from error
