"""Every wrong setting is refused with exactly one finding, and all findings come at once."""

from __future__ import annotations

import time
import zoneinfo
from datetime import UTC, datetime, timedelta
from ipaddress import IPv4Address
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from pydantic import ValidationError

from dap.configuration.inventory import load_inventory
from dap.configuration.schema import Platform
from dap.errors import EXIT_REFUSED, ConfigurationError
from tests.unit.inventories import (
    GOOD_HOSTS,
    GOOD_PLATFORM,
    HOSTS_FILE,
    PLATFORM_FILE,
    SERVICES,
    InventoryFolder,
    Refusal,
    recorded,
    whole_message,
)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> InventoryFolder:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("DAP_INVENTORIES", str(tmp_path / "inventories"))
    return InventoryFolder(tmp_path)


@pytest.fixture(scope="module")
def certificate() -> bytes:
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "Site CA")])
    now = datetime.now(UTC)
    built = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now)
        .not_valid_after(now + timedelta(days=1))
        .sign(key, hashes.SHA256())
    )
    return built.public_bytes(serialization.Encoding.PEM)


def refused(folder: InventoryFolder, platform: str | None, hosts: str | None = GOOD_HOSTS) -> str:
    with pytest.raises(ConfigurationError) as caught:
        folder.load(platform, hosts)
    return str(caught.value)


def _named(case: Refusal) -> str:
    return case.written.strip()[:60]


@pytest.mark.parametrize("case", recorded("settings.txt"), ids=_named)
def test_wrong_setting_is_refused(folder: InventoryFolder, case: Refusal) -> None:
    folder.write()
    (folder.site / "site.pem").write_text("read at deploy, not here")
    (folder.site / "site.key").write_text("-----BEGIN PRIVATE KEY-----\n")
    message = refused(folder, GOOD_PLATFORM + case.written)
    assert message == case.message(PLATFORM_FILE)
    assert "hunter2" not in message


@pytest.mark.parametrize("case", recorded("platform_files.txt"), ids=_named)
def test_wrong_platform_file_is_refused(folder: InventoryFolder, case: Refusal) -> None:
    message = refused(folder, case.written)
    assert message == case.message(PLATFORM_FILE)
    assert "hunter2" not in message


@pytest.mark.parametrize(
    ("content", "reason", "suggestion"),
    [
        (b"", "is empty", "write at least domain: dap.example.com"),
        (b"\xef\xbb\xbf", "is empty", "write at least domain: dap.example.com"),
        (
            b"domain: x\n\tname: y\n",
            "is not valid YAML: line 2, column 1: a tab where spaces belong",
            "write spaces instead of the tab",
        ),
        (
            b"domain: a\0b\n",
            "is not valid YAML: line 1, column 10: a control character",
            "remove the invisible character",
        ),
        (b"domain: \xff\n", "cannot be read (not UTF-8)", "make it a text file that you can read"),
    ],
)
def test_unreadable_platform_file_is_refused(
    folder: InventoryFolder, content: bytes, reason: str, suggestion: str
) -> None:
    folder.write()
    (folder.root / PLATFORM_FILE).write_bytes(content)
    with pytest.raises(ConfigurationError) as caught:
        load_inventory("site", SERVICES)
    assert str(caught.value) == whole_message((PLATFORM_FILE, reason, suggestion))


def test_folder_in_place_of_the_platform_file_is_refused(folder: InventoryFolder) -> None:
    folder.write(platform=None)
    (folder.root / PLATFORM_FILE).mkdir()
    assert refused(folder, None) == whole_message(
        (PLATFORM_FILE, "cannot be read (Is a directory)", "make it a text file that you can read")
    )


def test_all_errors_of_both_files_come_at_once(folder: InventoryFolder) -> None:
    message = refused(
        folder,
        "domain: https://dap.example.com\n"
        "deplyo: {wait_seconds: 600}\n"
        "ports: {http: '80', https: 5432}\n"
        "tls: {mode: files}\n"
        "projects:\n  - name: Churn_Model\n  - name: demo\n  - name: demo\n"
        "services:\n  mlfow: {memory: 2GB}\n",
        "all: {children: {service_host: {hosts: {a: {ansible_connection: lokal}, b: {}}}}}\n",
    )
    name_rule = "3 to 31 small letters, digits and hyphens, with a letter first and no hyphen at the end"
    assert message == whole_message(
        (
            f"{PLATFORM_FILE}: deplyo = {{wait_seconds: …}}",
            "is not a key of this file",
            "did you mean deploy?",
        ),
        (
            f"{PLATFORM_FILE}: domain = https://dap.example.com",
            "is a URL, not a domain",
            "write dap.example.com",
        ),
        (
            f"{PLATFORM_FILE}: ports.http = '80'",
            "is not a port number (1 to 65535)",
            "write 80 without quotes",
        ),
        (
            f"{PLATFORM_FILE}: ports.https = 5432",
            "is also the default of ports.postgres",
            "write a port that no other key has",
        ),
        (
            f"{PLATFORM_FILE}: projects[0].name = Churn_Model",
            f"is not a name of {name_rule}",
            "write churn-model",
        ),
        (
            f"{PLATFORM_FILE}: projects[2].name = demo",
            "is also the name of projects[1]",
            "write a different name",
        ),
        (
            f"{PLATFORM_FILE}: services.mlfow = {{memory: …}}",
            "is not a service of the platform",
            "did you mean mlflow?",
        ),
        (
            f"{PLATFORM_FILE}: services.mlfow.memory = 2GB",
            "is not an amount of memory (at least 16m)",
            "write 2g",
        ),
        (
            f"{PLATFORM_FILE}: tls.certificate",
            "is required when tls.mode is files",
            "write the path of a PEM file, such as certs/site.pem",
        ),
        (
            f"{PLATFORM_FILE}: tls.key",
            "is required when tls.mode is files",
            "write the path of a PEM file, such as certs/site.key",
        ),
        (
            f"{HOSTS_FILE}: all.children.service_host = [a, b]",
            "has 2 hosts, and the services run on exactly one",
            "keep one here and move the others to runner_hosts",
        ),
        (
            f"{HOSTS_FILE}: all.children.service_host.hosts.a.ansible_connection = lokal",
            "is not one of: local, ssh",
            "did you mean local?",
        ),
    )


@pytest.mark.parametrize(
    ("written", "only_place"),
    [
        # The required key is there, only misspelt.
        ("domian: dap.example.com\n", "domian"),
        # With the mode unknown nobody can tell whether the two files belong here.
        (GOOD_PLATFORM + "tls: {mod: files, certificate: a.pem, key: a.key}\n", "tls.mod"),
        (GOOD_PLATFORM + "tls: {mode: file, certificate: a.pem}\n", "tls.mode"),
        # What stands in the place of a port is not compared, nor is the default behind it.
        (GOOD_PLATFORM + "ports: {https: none, postgres: 443}\n", "ports.https"),
        (GOOD_PLATFORM + "ports: {htps: 8443, postgres: 443}\n", "ports.htps"),
        (GOOD_PLATFORM + "paths: {root: opt, data: /opt/dap/data}\n", "paths.root"),
        # The default of the administrator's address comes from the domain.
        ("domain: localhost\n", "domain"),
        (GOOD_PLATFORM + "projects: {demo: {name: x}, other: [1, 2]}\n", "projects"),
        (GOOD_PLATFORM + "services: [{mlflow: {memory: 5}}, 7]\n", "services"),
        (GOOD_PLATFORM + "something: {a: yes, b: [0644]}\n", "something"),
        (GOOD_PLATFORM + "trust: {extra_cas: [12:30]}\n", "trust.extra_cas[0]"),
    ],
)
def test_one_cause_has_one_finding(folder: InventoryFolder, written: str, only_place: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        folder.load(written)
    assert [finding.path for finding in caught.value.findings] == [only_place]


def test_a_duplicate_key_does_not_hide_other_errors(folder: InventoryFolder) -> None:
    with pytest.raises(ConfigurationError) as caught:
        folder.load("domain: a.example.com\ndomain: b.example.com\nplatform_name: 5\n")
    assert [finding.path for finding in caught.value.findings] == ["domain", "platform_name"]


def test_refusal_exits_with_2(folder: InventoryFolder) -> None:
    with pytest.raises(ConfigurationError) as caught:
        folder.load("")
    assert caught.value.exit_code == EXIT_REFUSED


@pytest.mark.parametrize(
    ("name", "known", "new"),
    [
        ("sites", "did you mean site?", "sites"),
        ("production", "write one of: other, site", "production"),
        ("../site", "did you mean site?", "NAME"),
    ],
)
def test_unknown_inventory_is_refused(folder: InventoryFolder, name: str, known: str, new: str) -> None:
    folder.write()
    (folder.root / "inventories" / "other").mkdir()
    with pytest.raises(ConfigurationError) as caught:
        load_inventory(name, SERVICES)
    make = f"make it with: dap init {new} --domain dap.example.com --service-host localhost"
    assert str(caught.value) == whole_message(
        (f"inventories = {name}", "is not an inventory", f"{known} or {make}")
    )


def test_missing_files_are_both_named(folder: InventoryFolder) -> None:
    assert refused(folder, None, None) == whole_message(
        (PLATFORM_FILE, "does not exist", "write it with at least domain: dap.example.com"),
        (
            HOSTS_FILE,
            "does not exist",
            "write it with at least "
            "all: {children: {service_host: {hosts: {localhost: {ansible_connection: local}}}}}",
        ),
    )


@pytest.mark.parametrize(
    ("other", "file", "suggestion"),
    [
        ("group_vars/all/platform.yaml", PLATFORM_FILE, "rename platform.yaml to platform.yml"),
        ("hosts.yaml", HOSTS_FILE, "rename hosts.yaml to hosts.yml"),
        ("hosts.ini", HOSTS_FILE, "rename hosts.ini to hosts.yml and write it in YAML"),
    ],
)
def test_file_with_another_name_is_recognised(
    folder: InventoryFolder, other: str, file: str, suggestion: str
) -> None:
    folder.write()
    (folder.root / file).rename(folder.site / other)
    with pytest.raises(ConfigurationError) as caught:
        load_inventory("site", SERVICES)
    assert str(caught.value) == whole_message((file, "does not exist", suggestion))


def test_files_outside_the_current_folder_are_named_in_full(
    folder: InventoryFolder, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path_factory.mktemp("elsewhere"))
    with pytest.raises(ConfigurationError) as caught:
        folder.load("")
    assert caught.value.findings[0].file == str(folder.root / PLATFORM_FILE)


def test_the_least_configuration_gets_the_defaults(folder: InventoryFolder) -> None:
    inventory = folder.load()
    platform = inventory.platform
    assert platform.platform_name == "dap"
    assert platform.listen_address == IPv4Address(0)
    assert platform.admin_email == "admin@dap.example.com"
    assert (platform.ports.http, platform.ports.https, platform.ports.postgres) == (80, 443, 5432)
    assert (platform.paths.root, platform.paths.data) == (Path("/opt/dap"), Path("/var/lib/dap"))
    assert platform.tls.mode == "private-ca"
    assert (platform.users, platform.projects, platform.services) == ((), (), {})
    assert inventory.platform_file == folder.root / PLATFORM_FILE
    assert inventory.service_host.is_local
    assert inventory.runner_hosts == ()


def test_every_setting_is_taken_as_written(folder: InventoryFolder, certificate: bytes) -> None:
    folder.write()
    for name in ("ca.pem", "site.pem", "site.key"):
        (folder.site / name).write_bytes(certificate)
    platform = folder.load(
        "platform_name: lab\ndomain: lab.example.com\nlisten_address: '::1'\nadmin_email: ops@example.com\n"
        "paths: {root: /srv/lab, data: /data/lab}\nports: {http: 8080, https: 8443, postgres: 5433}\n"
        "tls: {mode: files, certificate: site.pem, key: site.key, leaf_days: 7}\n"
        f"trust: {{extra_cas: [ca.pem, {folder.site / 'ca.pem'}]}}\n"
        "users: [{name: ada, full_name: Ada Lovelace}]\n"
        "projects: [{name: churn-model, summary: 'Who leaves?', members: {ada: owner}, examples: true}]\n"
        "services: {mlflow: {memory: 512m, cpus: 2}, pgadmin: {enabled: false, memory: ~}}\n"
        "time_zone: UTC\ndeploy: {wait_seconds: 600, parallel_builds: 1}\n"
    ).platform
    written = platform.model_dump(mode="json")
    assert written["listen_address"] == "::1"
    assert written["paths"] == {"root": "/srv/lab", "data": "/data/lab"}
    assert written["tls"] == {
        "mode": "files",
        "certificate": "site.pem",
        "key": "site.key",
        "leaf_days": 7,
    }
    assert written["trust"]["extra_cas"] == ["ca.pem", str(folder.site / "ca.pem")]
    assert written["projects"] == [
        {"name": "churn-model", "summary": "Who leaves?", "members": {"ada": "owner"}, "examples": True}
    ]
    unset: dict[str, Any] = {"environment": {}, "ports": {}, "external": None, "image": None, "pids": None}
    unset["images"] = {}
    assert written["services"]["mlflow"] == {**unset, "memory": "512m", "cpus": 2.0, "enabled": None}
    assert written["services"]["pgadmin"] == {**unset, "memory": None, "cpus": None, "enabled": False}


def test_anchors_and_merges_are_plain_yaml(folder: InventoryFolder) -> None:
    platform = folder.load(
        GOOD_PLATFORM
        + "services:\n  mlflow: &small {memory: 1g, cpus: 1}\n  minio: {<<: *small, memory: 2g}\n"
    ).platform
    assert (platform.services["minio"].memory, platform.services["minio"].cpus) == ("2g", 1)


def test_relative_files_start_at_the_inventory(folder: InventoryFolder) -> None:
    inventory = folder.load()
    assert inventory.resolve(Path("certs/site.pem")) == folder.site / "certs/site.pem"
    assert inventory.resolve(Path("/etc/site.pem")) == Path("/etc/site.pem")


def test_settings_cannot_be_changed(folder: InventoryFolder) -> None:
    platform = folder.load().platform
    with pytest.raises(ValidationError, match="frozen"):
        platform.ports.http = 81  # type: ignore[misc]


def test_the_rules_hold_for_settings_made_in_python_too() -> None:
    with pytest.raises(ValidationError, match=r"ports\.http is also the default of ports\.https"):
        Platform.model_validate({"domain": "dap.example.com", "ports": {"http": 443}})


def test_time_zones_are_taken_by_shape_where_there_is_no_database(
    folder: InventoryFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    def nothing(name: str) -> None:
        raise zoneinfo.ZoneInfoNotFoundError(name)

    monkeypatch.setattr(zoneinfo, "ZoneInfo", nothing)
    monkeypatch.setattr(zoneinfo, "available_timezones", set)
    assert folder.load(GOOD_PLATFORM + "time_zone: Europe/Berlin\n").platform.time_zone == "Europe/Berlin"
    assert "is not a time zone" in refused(folder, GOOD_PLATFORM + "time_zone: berlin\n")


def test_loading_takes_less_than_a_tenth_of_a_second(folder: InventoryFolder) -> None:
    projects = "".join(f"  - name: project-{number}\n    summary: One of many\n" for number in range(50))
    folder.write(f"{GOOD_PLATFORM}projects:\n{projects}")

    def seconds() -> float:
        # Of this process, whatever else the machine has to do.
        start = time.process_time()
        load_inventory("site", SERVICES)
        return time.process_time() - start

    assert min(seconds() for _ in range(3)) < 0.1
