"""Renders development containers: for each a Compose file, configuration, logins and keys.

The result is data for `dap.dev.on_host`, which brings it into state on the host.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from dap import client_variables, http_proxy
from dap.configuration.schema import User
from dap.configuration.values import mebibytes, minutes
from dap.credentials import Credentials
from dap.dev import certificates
from dap.dev.boxes import LABEL
from dap.dev.containers import AUTHORITY, DevContainer, host_key_of
from dap.dev.numbers import Numbers, address_on
from dap.dev.on_host import PROGRAMS
from dap.dev.pages import PORT as PAGE_PORT
from dap.dev.pages import page_key_of
from dap.files import required
from dap.gpus import promises
from dap.gpus.claims import of_container
from dap.hosts.playbook_variables import address_of
from dap.images import builds
from dap.images.environments import CODE_SERVER
from dap.layout import compose_dir
from dap.rendering.portal import connect
from dap.rendering.templates import as_yaml, fragment_of, render_template
from dap.rendering.tree import Directory, File
from dap.servers import servers
from dap.services import container
from dap.site import GITLAB, Site
from dap.trust.ssh import SshKey

SSH_PORT = 2222
_LIVE = "/run/dap"
# In the image, and where containers have it.
_CODE_PATH = "/opt/code-server"
_NO_ADDRESS = ("127.0.0.1", "")


@dataclass(frozen=True)
class Home:
    """A user's home on a host; a limit of 0 is none."""

    path: str
    uid: int
    limit: int


@dataclass(frozen=True)
class Rendered:
    """A development container as its host gets it.

    Attributes:
        network: what it is in, where that is made with the services.
        page: the port of its page on the host; 0 where the proxy needs none.
        configuration: changes with anything that takes a new container to come into effect.
        files: below the container's own folder, secrets among them.
        folders: homes and the like, which stay.
        home: the user's folder, the number that it belongs to, and the most bytes that it may hold.
        gpus: the devices that it has, by their CDI names.
        programs: what it shares with others, as `dap.dev.on_host` unpacks it.
    """

    box: DevContainer
    image: str
    network: str
    port: int
    page: int
    address: str
    configuration: str
    files: tuple[File, ...]
    folders: tuple[Directory, ...]
    home: Home
    gpus: tuple[str, ...] = ()
    programs: tuple[Mapping[str, str], ...] = ()

    def as_json(self) -> dict[str, Any]:
        """As `dap.dev.on_host` takes it. Holds secrets."""
        return {
            "name": self.box.name,
            "image": self.image,
            "network": self.network,
            "address": self.address,
            "port": self.port,
            "page": self.page,
            "memory_mib": mebibytes(self.box.settings.memory),
            "cpus": self.box.settings.cpus or 0,
            "programs": [dict(one) for one in self.programs],
            "gpus": [] if self.box.settings.gpus_shared else [*self.gpus],
            "configuration": self.configuration,
            "files": [file.as_variables() for file in self.files],
            "folders": [folder.as_variables() for folder in self.folders],
            "home": {"path": self.home.path, "uid": self.home.uid, "limit": self.home.limit},
        }


def project_of(site: Site) -> str:
    """The Compose project of development containers: not that of the services, which a deploy replaces."""
    return f"{site.platform.platform_name}-dev"


def folder_of(site: Site) -> Path:
    """Where the files of development containers lie on their hosts."""
    return site.platform.paths.root / "dev"


def _files(folder: Path) -> list[Path]:
    """What is to go to the host; Python's byte code of it, where there is such, is not."""
    return sorted(path for path in folder.iterdir() if path.is_file())


def home_of(site: Site, user: User) -> Path:
    """Where a user's home is on every host."""
    return site.platform.paths.data / "homes" / user.name


def limit_of(site: Site, user: User) -> int:
    """The most bytes that a user's home may hold on a host; 0 for no limit."""
    return mebibytes(user.home_size or site.platform.homes.size) * 1024**2


def authority_of(credentials: Credentials) -> SshKey:
    """What signs the host keys of development containers."""
    return SshKey.of(credentials.stored(AUTHORITY))


def names_of(site: Site, box: DevContainer) -> list[str]:
    """The names under which SSH clients may know a container."""
    return [box.name, f"{box.name}.{site.platform.domain}"]


@dataclass(frozen=True)
class DevRenderer:
    """Renders the development containers of a site."""

    site: Site
    credentials: Credentials
    numbers: Numbers

    @cached_property
    def _images(self) -> Mapping[str, str]:
        return builds.tags_of(self.site.environments)

    def render(self, box: DevContainer) -> Rendered:
        """What the host of ``box`` gets for it."""
        folder = compose_dir() / "dev-container"
        context = self._context(box)
        config = [self._file(path, context, "0444", 0) for path in _files(folder / "config")]
        uid = self.numbers.uids[box.user.name]
        live = [self._file(path, context, "0400", uid) for path in _files(folder / "live")]
        key = SshKey.of(self.credentials.stored(host_key_of(box.name)))
        certificate = authority_of(self.credentials).sign_host(key, box.name, names_of(self.site, box))
        live += [
            File("live/host_key", key.private.reveal().encode(), "0400", uid),
            File("live/host_key-cert.pub", f"{certificate}\n".encode(), "0400", uid),
        ]
        service = self._service(box, fragment_of(folder / "compose.yaml.j2", context, box.name))
        live += [File(f"live/{name}", content, "0400", uid) for name, content in self._certificates.items()]
        # The rest of `live` is read again at each login.
        told = [as_yaml(service), *(file.content for file in config), certificate.encode()]
        if self.site.has_page(box):
            page = page_key_of(self.site, self.credentials, box)
            pair = page.private.reveal().encode() + page.certificate
            live += [
                File("live/page.pem", pair, "0400", uid),
                File("live/page_token", page.token.reveal().encode(), "0400", uid),
            ]
            told.append(pair)
        digest = hashlib.sha256(b"\0".join(told)).hexdigest()[:16]
        service["labels"][f"{LABEL}.configuration"] = digest
        network = self._network(box)
        document = {"services": {box.name: service}, "networks": {"default": network}}
        data = self.site.platform.paths.data
        return Rendered(
            box,
            service["image"],
            network["name"] if network.get("external") else "",
            self.numbers.ports[box.name],
            self.numbers.pages.get(box.name, 0),
            address_on(self.site, box.host),
            digest,
            (File("compose.yaml", as_yaml(document)), *config, *live),
            (
                *(Directory(str(data / kind / box.user.name), "0700", uid) for kind in ("homes", "scratch")),
                *(Directory(str(data / "shared" / name), "2770", 0, gid) for name, gid in self._groups(box)),
            ),
            Home(str(home_of(self.site, box.user)), uid, limit_of(self.site, box.user)),
            self._gpus(box),
            self._programs(box),
        )

    @cached_property
    def _certificates(self) -> dict[str, bytes]:
        """Which certificates of users count. Also where none do: a server without its list lets nobody in."""
        if not self.site.platform.ssh_user_certificates:
            return {"user_authority": b"", "revoked_certificates": b""}
        authority = certificates.authority_of(self.credentials)
        return {
            "user_authority": f"{authority.public}\n".encode(),
            "revoked_certificates": certificates.revoked(self.site.inventory.name, authority),
        }

    def _programs(self, box: DevContainer) -> tuple[Mapping[str, str], ...]:
        """What the container shares with others on its host: images, folders of theirs, and folders there."""
        if not box.settings.code_server:
            return ()
        image = self._images[CODE_SERVER]
        # Not in the images of environments: they are those of jobs, too, and each would have it once more.
        folder = folder_of(self.site) / PROGRAMS / f"{CODE_SERVER}-{image.rpartition(':')[2]}"
        return ({"image": image, "path": _CODE_PATH, "folder": str(folder)},)

    def _gpus(self, box: DevContainer) -> tuple[str, ...]:
        """The devices of the container, by their CDI names."""
        return promises.of_key(self.site, of_container(box.name), box.settings.gpus)

    def _groups(self, box: DevContainer) -> list[tuple[str, int]]:
        """The projects whose folders the container has, each with the number of its group."""
        return [(one.name, self.numbers.gids[one.name]) for one in self.site.projects_of(box.user)]

    def _file(self, path: Path, context: Mapping[str, Any], mode: str, owner: int) -> File:
        name = f"{path.parent.name}/{path.name.removesuffix('.j2')}"
        content = render_template(path, context).encode() if path.suffix == ".j2" else required(path)
        return File(name, content, mode, owner)

    def _context(self, box: DevContainer) -> dict[str, Any]:
        site, user, settings = self.site, box.user, box.settings
        uid = self.numbers.uids[user.name]
        return {
            "box": {
                "name": box.name,
                "container": f"{project_of(site)}-{box.name}",
                "user": user.name,
                "full_name": (user.full_name or user.name).replace(":", " "),
                "uid": uid,
                "groups": self._groups(box),
                "home": f"/home/{user.name}",
                "host": box.host.name,
                "environment": box.environment,
                "job_image": self._job_image(box),
                "memory": settings.memory,
                "cpus": settings.cpus,
                "pids": settings.pids,
                "shm_bytes": mebibytes(settings.shm) * 1024**2,
                "gpus": self._gpus(box),
                "ssh_keys": user.ssh_keys,
                "idle_stop": settings.idle_stop,
                "home_limit": limit_of(site, user),
                "home_size": user.home_size or site.platform.homes.size or "",
                "links": site.page_links(box),
                "keys_url": self._keys_url(user),
                "certificates": bool(site.platform.ssh_user_certificates),
            },
            "connect": connect(site),
            "localhost": self._localhost(),
            "projects": [project.name for project in site.projects_of(user)],
            "logins": self._logins(box),
        }

    def _job_image(self, box: DevContainer) -> str:
        """What a pipeline calls the image of a container; empty where jobs do not have it."""
        return self._images[box.environment] if box.environment in self.site.job_environments else ""

    def _keys_url(self, user: User) -> str:
        """Where GitLab shows everybody the user's keys; empty where they do not count."""
        gitlab = self.site.services.get(GITLAB)
        if gitlab is None or not user.ssh_keys_from_gitlab:
            return ""
        return f"{self.site.url(gitlab.manifest.web[0])}/{user.name}.keys"

    def _localhost(self) -> dict[str, Any]:
        """The platform's names where programs take them for the machine that they run on; else nothing."""
        site = self.site
        if not site.platform.domain.endswith(".localhost"):
            return {}
        return {"domain": site.platform.domain, "port": site.platform.ports.https, "names": site.names}

    def _logins(self, box: DevContainer) -> dict[str, Any]:
        """What the user logs in with, as far as there is something to log in to."""
        site, user = self.site, box.user
        password = next(one.password for one in self.credentials.web_users() if one.name == user.name)
        found: dict[str, Any] = {
            "hosts": [vhost.host for vhost in site.vhosts if vhost.web.access == "login"],
            "password": password.reveal(),
            "database": {},
            "storage": {},
        }
        if not site.projects_of(user):
            return found
        if variables := self._database(box):
            secret = self.credentials.person_database(user)
            found["database"] = {
                "host": variables["PGHOST"],
                "port": variables["PGPORT"],
                "password": secret.reveal(),
            }
        if any(server.service.manifest.projects and server.own_keys for server in servers(site, "s3")):
            key = self.credentials.person_key(user)
            found["storage"] = {"access_key": key.access_key, "secret_key": key.secret_key.reveal()}
        return found

    def _database(self, box: DevContainer) -> dict[str, str]:
        """Where the databases of projects are, seen from the container; nothing without any."""
        for server in servers(self.site, "postgres"):
            if server.service.manifest.projects:
                found = client_variables.of_database(self.site, server)
                # Beside the services their names lead to themselves, past the ports of the host.
                own = not server.external and self.site.dev_beside(box.host)
                return found | ({"PGPORT": str(server.port)} if own else {})
        return {}

    def environment(self, box: DevContainer) -> dict[str, str]:
        """The variables of a container; none is secret, those name files that are."""
        site, user = self.site, box.user
        values = {"USER": user.name, "LOGNAME": user.name, "HOME": f"/home/{user.name}", "SHELL": "/bin/bash"}
        values |= {"TZ": site.platform.time_zone, "LANG": "C.UTF-8"}
        values |= client_variables.of_trust(container.CA_BUNDLE) | http_proxy.environment(site)
        if mirror := site.platform.mirrors.pypi:
            values |= {"PIP_INDEX_URL": mirror, "UV_DEFAULT_INDEX": mirror}
        if mirror := site.platform.mirrors.cran:
            values["R_CRAN_WEB"] = mirror
        values |= {"NETRC": f"{_LIVE}/netrc", "DAP_ENVIRONMENT": box.environment}
        if image := self._job_image(box):
            values["DAP_IMAGE"] = image
        if self._localhost():
            values |= {"GIT_CONFIG_SYSTEM": "/run/gitconfig", "CURL_HOME": "/run/curl"}
        if site.has_page(box):
            values["DAP_PAGE"] = site.page_url(box)
            if not site.has_jupyter(box):
                values["DAP_NO_JUPYTER"] = "yes"
        if gpus := self._gpus(box):
            values["DAP_GPUS"] = str(len(gpus))
        if box.settings.idle_stop:
            values["DAP_IDLE_SECONDS"] = str(60 * minutes(box.settings.idle_stop))
        values |= client_variables.of_tracking(site)
        if projects := site.projects_of(user):
            values |= client_variables.of_storage(site)
            values["AWS_SHARED_CREDENTIALS_FILE"] = f"{_LIVE}/s3_credentials"
            if database := self._database(box):
                values |= database | {"PGUSER": user.name, "PGPASSFILE": f"{_LIVE}/pgpass"}
                values["PGDATABASE"] = projects[0].database
        return values

    def _service(self, box: DevContainer, fragment: dict[str, Any]) -> dict[str, Any]:
        """The container with the rules that all keep."""
        site, settings = self.site, box.settings
        uid = self.numbers.uids[box.user.name]
        folder, data = folder_of(site) / box.name, site.platform.paths.data
        base = container.hardened(
            self._images[box.environment], uid, mebibytes(settings.memory) * 1024**2, settings.pids
        )
        base["environment"] = self.environment(box)
        base["healthcheck"] = {"interval": "1s", "timeout": "60s", "retries": 6, "start_period": "30s"}
        base["labels"] = {
            LABEL: box.name,
            f"{LABEL}.user": box.user.name,
            f"{LABEL}.environment": box.environment,
        }
        base["volumes"] = [
            container.bind(container.CA_BUNDLE, container.CA_BUNDLE, read_only=True),
            container.bind(f"{folder}/config", "/etc/dap", read_only=True),
            container.bind(f"{folder}/config/passwd", "/etc/passwd", read_only=True),
            container.bind(f"{folder}/config/group", "/etc/group", read_only=True),
            container.bind(f"{folder}/config/profile.sh", "/etc/profile.d/zz-dap.sh", read_only=True),
            container.bind(f"{folder}/config/names.sh", "/etc/ssh/sshrc", read_only=True),
            container.bind(f"{folder}/live", _LIVE, read_only=True),
            container.bind(f"{data}/homes/{box.user.name}", f"/home/{box.user.name}"),
            container.bind(f"{data}/scratch/{box.user.name}", "/scratch"),
            *(container.bind(f"{data}/shared/{name}", f"/shared/{name}") for name, _ in self._groups(box)),
            *(container.bind(one["folder"], one["path"], read_only=True) for one in self._programs(box)),
        ]
        if groups := self._groups(box):
            base["group_add"] = [str(gid) for _, gid in groups]
        published = [(self.numbers.ports[box.name], SSH_PORT)]
        if page := self.numbers.pages.get(box.name):
            published.append((page, PAGE_PORT))
        address = address_on(site, box.host)
        base["ports"] = [
            {"host_ip": address, "published": str(port), "target": target, "protocol": "tcp"}
            for port, target in published
        ]
        if settings.cpus:
            base["cpus"] = settings.cpus
        if gpus := self._gpus(box):
            # All versions of Compose take this; a list of devices takes CDI names in new ones only.
            request = {"driver": "cdi", "capabilities": ["gpu"], "device_ids": [*gpus]}
            base["deploy"] = {"resources": {"reservations": {"devices": [request]}}}
        if hosts := self._extra_hosts(box):
            base["extra_hosts"] = hosts
        return container.merge(base, fragment["services"][box.name])

    def _network(self, box: DevContainer) -> dict[str, Any]:
        name = container.dev_network(self.site.platform.platform_name)
        if self.site.dev_beside(box.host):
            # The services' project has made it.
            return {"name": name, "external": True}
        return {"name": name, "driver_opts": {"com.docker.network.bridge.enable_icc": "false"}}

    def _extra_hosts(self, box: DevContainer) -> dict[str, str]:
        """Names that no name server knows; beside the services, the network knows the platform's."""
        site = self.site
        names = {name: str(address) for name, address in site.platform.extra_hosts.items()}
        if not site.dev_beside(box.host):
            address = address_of(box.host, site.inventory)
            names |= dict.fromkeys(site.names, address) if address not in _NO_ADDRESS else {}
        return dict(sorted(names.items()))
