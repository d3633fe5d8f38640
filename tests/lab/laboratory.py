"""A lab: machines on a network of their own, and an operator's inventory of them."""

from __future__ import annotations

import random
import secrets
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from dap.images import builds as images
from dap.images.environments import Environment, chosen, find_environments, load_environments
from dap.layout import compose_dir, environments_dir
from dap.services.manifest import find_folders, load_services
from tests.integration.platform import BIN, KEPT_LOGS, ROOT, DeployedPlatform
from tests.integration.small import change_settings
from tests.lab.host_image import host_image
from tests.lab.image_store import link_images
from tests.lab.machine import ACCOUNT, LABEL, Machine, docker, remove_all

from module_utils.dap_hosts_file import PATH, block_of, text_of_list, with_block  # isort: skip
from module_utils.dap_lock import host_lock  # isort: skip

SUITES = ("trixie", "bookworm", "noble")
TRIES = 20


@dataclass
class Lab(DeployedPlatform):
    """A service host and runner hosts, and the program to work on them.

    The platform has the names and ports that it has on a site's machines: they are its own here.

    Attributes:
        name: of the inventory and of the lab.
        runners: how many runner hosts there are.
        left_out: services that do not run.
        pulled: images that a registry would have, by the service: `image`, and those that it starts itself
            by their names in its manifest.
        internal: whether nothing outside its network can be reached.
    """

    name: str = field(default_factory=lambda: f"daplab{secrets.token_hex(3)}")
    runners: int = 2
    left_out: Sequence[str] = ("gitlab",)
    pulled: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    internal: bool = False
    machines: list[Machine] = field(default_factory=list)

    @property
    def domain(self) -> str:
        return f"{self.name}.test"

    @property
    def root(self) -> Path:
        return Path("/opt/dap")

    @property
    def data(self) -> Path:
        return Path("/var/lib/dap")

    @property
    def key(self) -> Path:
        return self.folder / "id_ed25519"

    @property
    def ssh_config(self) -> Path:
        """For ``ssh -F``: the machines by their names."""
        return self.folder / "ssh_config"

    @property
    def known_hosts(self) -> Path:
        return self.folder / "known_hosts"

    @property
    def service(self) -> Machine:
        return self.machines[0]

    @property
    def runner_machines(self) -> list[Machine]:
        return self.machines[1:]

    def machine(self, name: str) -> Machine:
        return next(machine for machine in self.machines if machine.name == name)

    def start(self) -> None:
        """Make the machines and switch them on."""
        self.folder.mkdir(parents=True, exist_ok=True)
        self._make_key(self.key)
        prefix = self._make_network()
        names = ["service1", *(f"runner{number + 1}" for number in range(self.runners))]
        self.machines = [
            Machine(name, self.name, f"{prefix}.{10 + number}", SUITES[number % len(SUITES)])
            for number, name in enumerate(names)
        ]
        suites = {machine.suite for machine in self.machines}
        with ThreadPoolExecutor() as pool:
            references = dict(zip(suites, pool.map(host_image, suites), strict=True))
            list(pool.map(lambda one: self._make(one, references[one.suite]), self.machines))
            list(pool.map(Machine.power_on, self.machines))
        if self.internal:
            # Some engines give a way to nowhere.
            for machine in self.machines:
                machine.run("ip", "route", "flush", "exact", "default")
        self._name_here()

    def _make(self, machine: Machine, image: str) -> None:
        host_key = self.folder / f"{machine.name}.key"
        self._make_key(host_key)
        names = "".join(f"{one.address} {one.name}\n" for one in self.machines)
        machine.make(
            image,
            {
                "/etc/ssh/ssh_host_ed25519_key": (host_key.read_text("ascii"), 0o600),
                f"/home/{ACCOUNT}/.ssh/authorized_keys": (self.key.with_suffix(".pub").read_text(), 0o600),
                # A site's name server would know them.
                "/etc/hosts": (f"127.0.0.1 localhost\n::1 localhost\n{names}", 0o644),
                "/etc/resolv.conf": (name_servers(), 0o644),
            },
        )

    @staticmethod
    def _make_key(path: Path) -> None:
        argv = ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "lab", "-f", str(path)]
        subprocess.run(argv, check=True)

    def _make_network(self) -> str:
        """Make the lab's network; the first three parts of its addresses."""
        for _ in range(TRIES):
            prefix = f"10.{random.randint(64, 127)}.{random.randint(0, 255)}"  # noqa: S311  no secret
            done = subprocess.run(
                [
                    *("docker", "network", "create", "--label", f"{LABEL}={self.name}"),
                    *("--subnet", f"{prefix}.0/24", *["--internal"] * self.internal, self.name),
                ],
                capture_output=True,
                text=True,
                check=False,
            )
            if done.returncode == 0:
                return prefix
            assert "overlap" in done.stderr, done.stderr
        raise AssertionError(f"no free network after {TRIES} tries")

    def write_inventory(self, **more: Any) -> None:
        """Write the files that an operator would write, with more settings of the top level."""
        self.ports = {"http": 80, "https": 443, "postgres": 5432, "ssh": 2222}
        self.settings_file.parent.mkdir(parents=True)
        settings: dict[str, Any] = {
            "domain": self.domain,
            "projects": [{"name": "demo"}],
            "services": self._services(),
            # One image less to carry to every machine; one machine is enough to build on.
            "runners": {"image_builds": {"enabled": False}},
        }
        self.settings_file.write_text(yaml.safe_dump(settings | more), encoding="utf-8")
        self.write_hosts()

    def _services(self) -> dict[str, Any]:
        """The settings of services."""
        off = {name: {"enabled": False} for name in self.left_out}
        images = {
            name: {"image": given["image"], "images": {key: given[key] for key in given if key != "image"}}
            for name, given in self.pulled.items()
        }
        return off | images

    def write_hosts(self, runners: Sequence[str] | None = None) -> None:
        """Write the list of machines, with all runner hosts or some."""
        known = "".join(
            f"{machine.address} {(self.folder / f'{machine.name}.key.pub').read_text()}"
            for machine in self.machines
        )
        self.known_hosts.write_text(known, encoding="utf-8")
        entries = [
            f"Host {one.name}\n  HostName {one.address}\n  User {ACCOUNT}\n  IdentityFile {self.key}\n"
            f"  IdentitiesOnly yes\n  UserKnownHostsFile {self.known_hosts}\n"
            for one in self.machines
        ]
        self.ssh_config.write_text("\n".join(entries), encoding="utf-8")
        wanted = [machine for machine in self.runner_machines if runners is None or machine.name in runners]
        groups = {
            "service_host": {"hosts": {self.service.name: {"ansible_host": self.service.address}}},
            "runner_hosts": {"hosts": {one.name: {"ansible_host": one.address} for one in wanted}},
        }
        variables = {
            "ansible_user": ACCOUNT,
            "ansible_ssh_private_key_file": str(self.key),
            "ansible_ssh_common_args": f"-o UserKnownHostsFile={self.known_hosts}",
        }
        inventory = {"all": {"vars": variables, "children": groups}}
        (self.inventory / "hosts.yml").write_text(yaml.safe_dump(inventory), encoding="utf-8")

    @property
    def environment(self) -> dict[str, str]:
        return super().environment | {"SSH_AUTH_SOCK": ""}

    def give_images(self) -> None:
        """Let the machines have images that are built once, here, before they have an engine.

        The service host gets all that it would build or pull, and the first runner host the environments, the
        largest of all images. The rest comes to the others through the platform's registry.
        """
        builds = self._builds()
        builder = DeployedPlatform(self.folder / "builder")
        builder.write_inventory()
        hosts = {"localhost": {"ansible_connection": "local"}}
        # With a second host, which nothing is done with, the services that only several hosts need are there.
        others = {"other": {"ansible_host": "192.0.2.1"}}
        groups = {"service_host": {"hosts": hosts}, "runner_hosts": {"hosts": others}}
        change_settings(builder, listen_address="0.0.0.0", services=self._services())  # noqa: S104 - nothing is started
        (builder.inventory / "hosts.yml").write_text(yaml.safe_dump(groups), encoding="utf-8")
        try:
            builder.must("image", "build", *(build.name for build in builds if build.name != images.BASE))
        finally:
            shutil.rmtree(builder.root, ignore_errors=True)
        pulled = {reference for given in self.pulled.values() for reference in given.values()}
        environments = self._environments()
        self._give(self.service, [*(build.tag for build in builds), *sorted(pulled)])
        for machine in self.runner_machines[:1]:
            self._give(machine, [build.tag for build in builds if build.name in environments])
        # A preflight asks the engine which images it has that cannot be pulled. The product installs it.
        argv = [
            *(str(BIN / "ansible-playbook"), "ansible/images.yml", "--skip-tags", "images"),
            *("--limit", self.service.name, "--inventory", str(self.inventory / "hosts.yml")),
            *("--extra-vars", '{"dap": {"name": "dap"}}'),
        ]
        environment = self.environment | {"ANSIBLE_CONFIG": "ansible/ansible.cfg", "LC_ALL": "C.UTF-8"}
        done = subprocess.run(argv, env=environment, cwd=ROOT, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr

    def _give(self, machine: Machine, references: Sequence[str]) -> None:
        volume = docker("volume", "inspect", "--format", "{{.Mountpoint}}", machine.volume("docker"))
        link_images(references, Path(volume.strip()))

    def _builds(self) -> list[images.Build]:
        services = load_services(find_folders([compose_dir()]))
        wanted = {
            name: service
            for name, service in services.items()
            if name not in self.left_out and not service.manifest.off_by_default
        }
        runs_jobs = any(
            service.manifest.environments and wanted.keys() >= {*service.manifest.only_with}
            for service in wanted.values()
        )
        return images.resolve(wanted, environments=self._environments() if runs_jobs else {})[1]

    def _environments(self) -> dict[str, Environment]:
        every, _ = load_environments(find_environments([environments_dir()]), ())
        return chosen(every, None, with_builder=False)

    def _name_here(self) -> None:
        """Let this machine know the platform's names, as a user's would by the site's name server."""
        names = [
            "",
            *("gitlab.", "gitlab-registry.", "minio.", "mlflow.", "pgadmin.", "portainer."),
            *("postgres-data.", "registry.", "s3."),
        ]
        write_names(self.name, block_of([f"{name}{self.domain}" for name in names], self.service.address, {}))

    def remove(self) -> None:
        """Leave nothing behind but the logs."""
        kept = KEPT_LOGS / self.name
        for machine in self.machines:
            machine.keep_logs(kept)
        if (self.secrets / "logs").is_dir():
            shutil.copytree(self.secrets / "logs", kept, dirs_exist_ok=True)
        remove_lab(self.name)


def remove_lab(name: str) -> None:
    """Remove a lab's machines, network and names."""
    remove_all(name)
    write_names(name, "")


def write_names(lab: str, block: str) -> None:
    """Put a block of names into this machine's list, or take it out."""
    with host_lock("names"):
        # In a container the list is a mount of its own, so it is written where it stands.
        PATH.write_text(
            with_block(text_of_list(PATH), lab, block), encoding="utf-8", errors="surrogateescape"
        )


def name_servers() -> str:
    """A list of name servers that a machine inside can ask as well: not one of this machine's own."""
    for path in (Path("/etc/resolv.conf"), Path("/run/systemd/resolve/resolv.conf")):
        text = path.read_text(encoding="utf-8") if path.exists() else ""
        if "nameserver" in text and "nameserver 127." not in text:
            return text
    raise AssertionError("no name server but this machine itself is known")
