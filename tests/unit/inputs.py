"""Every file that `dap` reads, as an operator or an earlier run left it, and what reads it."""

from __future__ import annotations

import io
import os
import shutil
import tarfile
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import cache
from pathlib import Path
from typing import Any

from dap.bundle.archive import CONTENTS, Bundle
from dap.configuration.inventory import Inventory, load_inventory
from dap.dev import certificates as dev_certificates
from dap.dev import numbers
from dap.errors import ConfigurationError
from dap.files import required
from dap.gpus import promises
from dap.hosts.facts import HostFacts
from dap.images import builds, digests, environments
from dap.layout import inventory_dir, secrets_dir
from dap.rendering import templates
from dap.rendering.templates import fragment_of, render_template
from dap.secrets import SecretStore, store_lock, vault
from dap.secrets.format import Document
from dap.services import choices, customization, manifest
from dap.services.container import Rules, complete
from dap.site import Site
from dap.status import ca_certificate
from dap.trust import certificate_files, certificates, pem, tls
from dap.verbs.user import _public_key as public_key
from tests.unit.bundles import made
from tests.unit.damage import as_json, as_yaml
from tests.unit.platforms import service_of, site_of
from tests.unit.test_certificate_files import HOST, MIDDLE, NOW, ROOT, SERVER

INVENTORY = "inventories/team"
SECRETS = "secrets/team"
PLATFORM_FILE = f"{INVENTORY}/group_vars/all/platform.yml"
PASSWORD_FILE = "vault-password"
SECRET = "Kq3vT8zWnB5xYd2LmR7c"

HOSTS = """\
all:
  vars: {ansible_user: admin}
  children:
    service_host: {hosts: {alpha: {ansible_host: 192.0.2.10, ansible_port: 22}}}
    runner_hosts: {hosts: {beta: {ansible_host: 192.0.2.21}, alpha: {}}}
"""
PLATFORM = """\
domain: dap.example.com
listen_address: 0.0.0.0
paths: {root: /opt/dap, data: /var/lib/dap}
ports: {https: 8443, ssh: 2222}
trust: {extra_cas: [site-ca.pem]}
extra_hosts: {db.example.com: 192.0.2.9}
mirrors: {pypi: 'https://pypi.example.com/simple', registry: registry.example.com/hub}
users:
  - name: ada
    full_name: Ada Lovelace
    ssh_keys: [ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIHEJn6pLWFZ0Pxqr9gUZkyKUwiKIVNzTdgFUPUXKD7xN ada]
    uid: 20001
projects:
  - {name: demo, summary: First steps, members: {ada: maintainer, '*': developer}}
services:
  mlflow: {memory: 2g, cpus: 1.5, environment: {LEVEL: DEBUG}}
  gitlab: {enabled: auto, ports: {metrics: 9100}}
environments: [python]
dev_containers:
  - {user: ada, environment: python, host: beta, memory: 2g, gpus: [0], port: 22005}
"""
MANIFEST = """\
title: Guestbook
summary: Who was here
image: {build: '1'}
user: 10900
memory: 64m
web: [{name: guests, port: 8000, label: Guestbook, access: login}]
data: [{name: pages, target: /data}]
secrets: {key: 40}
ports: [{name: guests, container: 8001}]
"""
FRAGMENT = """\
services:
  guestbook:
    command: [serve, "--port", "8000"]
    environment: {LEVEL: info}
    tmpfs: [/run]
    volumes: [{type: bind, source: /srv, target: /srv}]
    healthcheck: {test: [CMD, healthcheck, "http://127.0.0.1:8000"]}
"""
ENVIRONMENT = "summary: With spaCy\nparent: base\nsize: small\ngpu: false\n"


@dataclass(frozen=True)
class Input:
    """A file that is read.

    Attributes:
        file: where it is, from the folder with everything.
        content: what is in it.
        load: reads it as the verbs do, given that folder.
        dump: writes a document of its kind; None for what is no document.
        named: what a refusal names it by, beside its own name.
        replaced: whether the program makes a new one in place of one that is damaged.
        piped: whether it may be a pipe that another program writes into.
        files: what else is different.
        document: what the file's content is made of, where it is no document itself.
    """

    file: str
    content: bytes
    load: Callable[[Path], object]
    dump: Callable[[Any], bytes] | None = None
    named: tuple[str, ...] = ()
    replaced: bool = False
    piped: bool = False
    document: bytes = b""
    files: Mapping[str, bytes] = field(default_factory=dict)

    @property
    def names(self) -> tuple[str, ...]:
        """By what a refusal may name it."""
        return (Path(self.file).name, *self.named)

    def restored(self, folder: Path) -> Path:
        """The file as it was before it was damaged; returns it."""
        path = folder / self.file
        if self.replaced:
            shutil.rmtree(folder)
            return self.written(folder)
        if path.is_dir() and not path.is_symlink():
            path.rmdir()
        else:
            path.unlink(missing_ok=True)
        path.write_bytes(self.content)
        path.chmod(0o600)
        return path

    def written(self, folder: Path) -> Path:
        """The file, with all others, in a new folder; returns it."""
        for name, content in {**everything(), **self.files, self.file: self.content}.items():
            path = folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)
            path.chmod(0o600)
        for private in (folder / SECRETS, folder / SECRETS / "tls"):
            private.chmod(0o700)
        return folder / self.file


# --- what reads them -------------------------------------------------------------------------------------


def _status(folder: Path) -> object:
    """What ``dap status`` and ``dap ca`` read."""
    site = _site(folder)
    proxy = service_of("portal", tls={"names": "all"})
    return tls.days_left(replace(site, services={"portal": proxy})), ca_certificate(site)


def _inventory(folder: Path) -> Inventory:
    found = load_inventory("team", ("mlflow", "gitlab"))
    _ = found.service_host, found.runner_hosts
    return found


def _site(folder: Path) -> Site:
    """A small platform that trusts what the inventory names."""
    return site_of(trust={"extra_cas": [str(folder / INVENTORY / "site-ca.pem")]})


def _authorities(folder: Path) -> object:
    _inventory(folder)
    return tls.public_and_extra_cas(_site(folder)), tls.known_authorities(_site(folder), folder / SECRETS)


def _store(folder: Path) -> SecretStore:
    store = SecretStore.load(secrets_dir() / "team", "team")
    store.all_values(), store.pending()
    return store


def _lock(folder: Path) -> None:
    with store_lock(secrets_dir() / "team"):
        pass


def _authority(folder: Path) -> certificates.Authority:
    return certificates.ensure_ca(secrets_dir() / "team", "team", _pki()[1], NOW)


def _leaf(folder: Path) -> certificates.Leaf:
    return certificates.ensure_leaf(
        _authority(folder), secrets_dir() / "team", "portal", [HOST], now=NOW, lifetime_days=90
    )


def _operators(folder: Path) -> object:
    place = folder / INVENTORY
    bundle = folder / "system.crt"
    leaf = certificate_files.check_files(place / "site.pem", place / "site.key", [HOST], NOW, bundle)
    return tls.is_public(leaf, HOST)


def _service(folder: Path) -> manifest.Service:
    root = inventory_dir("team") / "compose"
    folders = manifest.find_folders([root])
    wrong = list(customization.findings(root, folders))
    if wrong:
        raise ConfigurationError(wrong)
    return manifest.load_services(folders)["guestbook"]


def _rendered(folder: Path) -> object:
    # Templates are kept for as long as their files have the same time.
    templates._templates_of.cache_clear()
    service = _service(folder)
    site = site_of(service)
    rules = Rules(
        site, service, "dap/guestbook:1", HostFacts(16000, 4), config=True, secrets=[], config_hash=""
    )
    override = folder / "override" / customization.OVERRIDE
    own = fragment_of(override, {}, "guestbook")
    for path in service.templates("config"):
        render_template(path, {}) if path.suffix == ".j2" else required(path)
    builds.resolve({"guestbook": service})
    return complete(fragment_of(service.fragment, {}), rules, own)


def _environment(folder: Path) -> object:
    folders = environments.find_environments([inventory_dir("team") / "environments"])
    known, wrong = environments.load_environments({**folders, "base": _base(folder)}, ["debian"])
    if wrong:
        raise ConfigurationError(wrong)
    return builds.tags_of(known)


def _base(folder: Path) -> Path:
    return folder / "product" / "base"


def _records(folder: Path) -> object:
    site = _site(folder)
    return (
        choices.recall("team"),
        digests.recall("team"),
        numbers.recall("team"),
        promises.recall(site),
    )


def _bundle(folder: Path) -> object:
    bundle = Bundle.in_file(folder / "team.bundle")
    _ = bundle.program, bundle.created, bundle.architecture, bundle.packages
    for image in bundle.images.values():
        bundle.size(image.config), [bundle.size(layer) for layer in image.layers]
    return [b"".join(bundle.read(name)) for name in bundle.below("images") + bundle.below("packages")]


# --- what is in them -------------------------------------------------------------------------------------


@cache
def _pki() -> tuple[dict[str, bytes], str]:
    """The files of a platform's own authority, and its fingerprint."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        authority = certificates.ensure_ca(folder, "team", "", NOW)
        certificates.ensure_leaf(authority, folder, "portal", [HOST], now=NOW, lifetime_days=90)
        names = ("ca.crt", "ca.key", "tls/portal.crt", "tls/portal.key")
        return {f"{SECRETS}/{name}": (folder / name).read_bytes() for name in names}, authority.fingerprint


@cache
def _bundled() -> bytes:
    with tempfile.TemporaryDirectory() as name:
        return made(Path(name) / "b", images={"dap/base:1": [b"base"]}).read_bytes()


@cache
def _bundle_list() -> bytes:
    """What the last member of the bundle says."""
    with tarfile.open(fileobj=io.BytesIO(_bundled())) as tar:
        file = tar.extractfile(CONTENTS)
        assert file
        return file.read()


def _bundled_as(contents: Any) -> bytes:
    """The bundle with another list."""
    text, last = as_json(contents), io.BytesIO()
    with tarfile.open(fileobj=last, mode="w") as tar:
        entry = tarfile.TarInfo(CONTENTS)
        entry.size = len(text)
        tar.addfile(entry, io.BytesIO(text))
    with tarfile.open(fileobj=io.BytesIO(_bundled())) as tar:
        start = tar.getmember(CONTENTS).offset
    return _bundled()[:start] + last.getvalue()


@cache
def _sealed(content: bytes) -> bytes:
    """Content as ``ansible-vault encrypt`` writes it."""
    with tempfile.NamedTemporaryFile() as password:
        password.write(b"correct horse\n")
        password.flush()
        before = os.environ.get(vault.PASSWORD_VARIABLE)
        os.environ[vault.PASSWORD_VARIABLE] = password.name
        try:
            return vault.seal(content, "default", Path("secrets.yml"))
        finally:
            if before is None:
                del os.environ[vault.PASSWORD_VARIABLE]


@cache
def _secrets() -> bytes:
    values = dict.fromkeys(("mlflow.key", "project.demo.database"), SECRET) | {
        "user.ada": "",
        "text": "ö: ''",
    }
    document = Document(
        "team",
        "0a1b2c3d-0000-4000-8000-000000000001",
        _pki()[1],
        {f"{key}.x": value for key, value in values.items()},
        {"mlflow.key.x": [SECRET[::-1], "older"]},
    )
    return document.text()


@cache
def everything() -> Mapping[str, bytes]:
    """All files, by where they are."""
    chain = pem.certificate_pem(SERVER.certificate, MIDDLE.certificate)
    root = pem.certificate_pem(ROOT.certificate)
    return {
        f"{INVENTORY}/hosts.yml": HOSTS.encode(),
        PLATFORM_FILE: PLATFORM.encode(),
        f"{INVENTORY}/site-ca.pem": root,
        f"{INVENTORY}/site.pem": chain,
        f"{INVENTORY}/site.key": pem.key_pem(SERVER.key),
        "system.crt": root,
        f"{INVENTORY}/compose/guestbook/service.yml": MANIFEST.encode(),
        f"{INVENTORY}/compose/guestbook/compose.yaml.j2": FRAGMENT.encode(),
        f"{INVENTORY}/compose/guestbook/config/app.conf.j2": b"port = 8000\n",
        f"{INVENTORY}/compose/guestbook/config/plain.conf": b"level = info\n",
        f"{INVENTORY}/compose/guestbook/image/Dockerfile": b"FROM dap/debian\n",
        "override/compose.override.yaml.j2": b"services:\n  guestbook:\n    tmpfs: [/var/tmp]\n",
        f"{INVENTORY}/environments/nlp/environment.yml": ENVIRONMENT.encode(),
        f"{INVENTORY}/environments/nlp/packages.txt": b"libxml2\n",
        f"{INVENTORY}/environments/nlp/requirements.txt": b"spacy==3.8.2\n",
        "product/base/environment.yml": b"summary: Debian\n",
        "product/base/Dockerfile": b"FROM dap/debian\n",
        f"{SECRETS}/secrets.yml": _secrets(),
        **_pki()[0],
        f"{SECRETS}/.lock": b"4711\n",
        f"{SECRETS}/left_out.json": as_json({"gitlab": "its image cannot be had"}),
        f"{SECRETS}/image_digests.json": as_json({"gitlab/gitlab-ce:18": f"sha256:{'0' * 64}"}),
        f"{SECRETS}/dev_containers.json": as_json(
            {
                "uid ada": "20001",
                "gid demo": "70000",
                "port ada": "22001",
                "page ada": "23001",
                "host beta": "yes",
            }
        ),
        f"{SECRETS}/gpus.json": as_json({"dev ada": "nvidia.com/gpu=0,nvidia.com/gpu=1"}),
        f"{SECRETS}/ssh_certificates.json": as_json(
            [{"serial": 1, "user": "ada", "key": "SHA256:Kq3vT8zW", "until": 1790000000, "revoked": True}]
        ),
        "team.bundle": _bundled(),
        PASSWORD_FILE: b"correct horse\n",
        "ada.pub": b"ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJ0 ada\n",
    }


def _input(file: str, load: Callable[[Path], object], **more: Any) -> Input:
    return Input(file, everything()[file], load, **more)


@cache
def inputs() -> Mapping[str, Input]:
    """All that is read, by a name for it."""
    own, nlp = f"{INVENTORY}/compose/guestbook", f"{INVENTORY}/environments/nlp"
    sealed_key = _sealed(_pki()[0][f"{SECRETS}/ca.key"])
    return {
        "hosts": _input(f"{INVENTORY}/hosts.yml", _inventory, dump=as_yaml),
        "platform": _input(PLATFORM_FILE, _inventory, dump=as_yaml),
        "trusted CAs": _input(f"{INVENTORY}/site-ca.pem", _authorities, named=("extra_cas",)),
        "operator's certificate": _input(f"{INVENTORY}/site.pem", _operators, named=("site.key",)),
        "operator's key": _input(f"{INVENTORY}/site.key", _operators),
        "secrets": _input(f"{SECRETS}/secrets.yml", _store, dump=as_yaml),
        "encrypted secrets": Input(f"{SECRETS}/secrets.yml", _sealed(_secrets()), _store),
        "vault's password": _input(
            PASSWORD_FILE,
            _store,
            named=("secrets.yml",),
            piped=True,
            files={f"{SECRETS}/secrets.yml": _sealed(_secrets())},
        ),
        "lock of the secrets": _input(f"{SECRETS}/.lock", _lock, replaced=True),
        "CA": _input(f"{SECRETS}/ca.crt", _authority),
        "CA's key": _input(f"{SECRETS}/ca.key", _authority),
        "CA's encrypted key": Input(f"{SECRETS}/ca.key", sealed_key, _authority),
        "certificate at a look": _input(f"{SECRETS}/tls/portal.crt", _status),
        "CA at a look": _input(f"{SECRETS}/ca.crt", _status),
        "certificate": _input(f"{SECRETS}/tls/portal.crt", _leaf, replaced=True),
        "key": _input(f"{SECRETS}/tls/portal.key", _leaf, replaced=True),
        "manifest": _input(f"{own}/service.yml", _service, dump=as_yaml, named=("guestbook",)),
        "fragment": _input(f"{own}/compose.yaml.j2", _rendered, dump=as_yaml),
        "template": _input(f"{own}/config/app.conf.j2", _rendered),
        "configuration": _input(f"{own}/config/plain.conf", _rendered),
        "Dockerfile": _input(f"{own}/image/Dockerfile", _rendered),
        "override": _input("override/compose.override.yaml.j2", _rendered, dump=as_yaml),
        "environment": _input(f"{nlp}/environment.yml", _environment, dump=as_yaml, named=("nlp",)),
        "list of packages": _input(f"{nlp}/packages.txt", _environment),
        "left out": _input(f"{SECRETS}/left_out.json", _records, dump=as_json),
        "digests": _input(f"{SECRETS}/image_digests.json", _records, dump=as_json),
        "numbers": _input(f"{SECRETS}/dev_containers.json", _records, dump=as_json),
        "GPUs": _input(f"{SECRETS}/gpus.json", _records, dump=as_json),
        "bundle": _input("team.bundle", _bundle, document=_bundle_list(), dump=_bundled_as),
        "users' certificates": _input(
            f"{SECRETS}/ssh_certificates.json", lambda _: dev_certificates.recall("team"), dump=as_json
        ),
        "public key": _input("ada.pub", lambda folder: public_key(folder / "ada.pub"), piped=True),
    }
