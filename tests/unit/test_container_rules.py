"""The rules that every container keeps, whatever its fragment says."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest

from dap.errors import DapError
from dap.hosts.facts import HostFacts
from dap.services.container import Rules, complete, memory_bytes
from dap.services.manifest import Service
from dap.services.manifest_schema import GUARDED
from dap.site import Site
from tests.unit.platforms import service_of, site_of

MIB = 1024 * 1024
FACTS = HostFacts(memory_mib=16000, cpus=4)


def rules_of(service: Service, site: Site | None = None, **more: Any) -> Rules:
    rules = Rules(
        site=site or site_of(service),
        service=service,
        image="dap/app:1-0123456789ab",
        facts=FACTS,
        config=False,
        secrets=[],
        config_hash="cafe",
    )
    return dataclasses.replace(rules, **more)


def completed(
    fragment: dict[str, Any] | None = None, site: Site | None = None, **keys: Any
) -> dict[str, Any]:
    """The service of the Compose file that comes of a fragment and a manifest with these keys."""
    service = site.services["app"] if site else service_of("app", **keys)
    document = complete({"services": {"app": fragment or {}}}, rules_of(service, site))
    found: dict[str, Any] = document["services"]["app"]
    return found


def refused(fragment: dict[str, Any], **keys: Any) -> str:
    with pytest.raises(DapError) as caught:
        completed(fragment, **keys)
    return str(caught.value)


@pytest.mark.parametrize("key", GUARDED)
def test_what_the_platform_sets_is_refused_without_a_reason(key: str) -> None:
    assert refused({key: "anything"}) == (
        f"services/app/compose.yaml.j2: {key} is set by the platform\n"
        f"  next: remove it, or give the reason in app/service.yml under exceptions.{key}"
    )


@pytest.mark.parametrize(
    ("key", "value", "result"),
    [
        ("read_only", False, False),
        ("user", "0:0", "0:0"),
        ("pids_limit", 5, 5),
        ("cap_add", ["NET_BIND_SERVICE"], ["NET_BIND_SERVICE"]),
        # What is a list joins the platform's own.
        ("security_opt", ["seccomp=unconfined"], ["no-new-privileges:true", "seccomp=unconfined"]),
    ],
)
def test_a_reason_lets_the_fragment_set_it(key: str, value: object, result: object) -> None:
    found = completed({key: value}, exceptions={key: "a good reason"})
    assert found[key] == result


def test_a_reason_for_one_key_is_none_for_another() -> None:
    message = refused({"privileged": True, "ipc": "host"}, exceptions={"ipc": "shared memory"})
    assert message.startswith("services/app/compose.yaml.j2: privileged is set by the platform\n")


@pytest.mark.parametrize("names", [[], ["other"], ["app", "other"]])
def test_fragment_holds_one_service_of_the_folders_name(names: list[str]) -> None:
    service = service_of("app")
    fragment: dict[str, Any] = {"services": {name: {} for name in names}}
    with pytest.raises(DapError) as caught:
        complete(fragment, rules_of(service))
    assert str(caught.value) == (
        "services/app/compose.yaml.j2: wants exactly one service, app\n"
        "  next: keep services.app only; another service gets a folder of its own"
    )


def test_container_has_no_rights_that_it_does_not_need() -> None:
    found = completed()
    assert found["user"] == "10900:10900"
    assert found["read_only"] is True
    assert found["cap_drop"] == ["ALL"]
    assert found["security_opt"] == ["no-new-privileges:true"]
    assert found["mem_limit"] == found["memswap_limit"] == 64 * MIB
    assert found["pids_limit"] == 256
    assert "ports" not in found
    assert "privileged" not in found


@pytest.mark.parametrize(
    ("memory", "host_mib", "mib"),
    [
        ("64m", 16000, 64),
        ("2g", 16000, 2048),
        ("1g", 512, 1024),
        ("25%", 16384, 4096),
        # In steps of 256 MiB, so that a host's kernel update changes nothing.
        ("25%", 16000, 3840),
        ("25%", 15999, 3840),
        ("50%", 3900, 1792),
        ("100%", 4096, 4096),
        # Never less than a database needs to start.
        ("25%", 1000, 512),
        ("1%", 16000, 512),
    ],
)
def test_memory_in_bytes(memory: str, host_mib: int, mib: int) -> None:
    assert memory_bytes(memory, HostFacts(memory_mib=host_mib, cpus=1)) == mib * MIB


def test_configured_limits_replace_the_manifests() -> None:
    site = site_of(service_of("app"), services={"app": {"memory": "2g", "cpus": 1.5}})
    found = completed(site=site)
    assert (found["mem_limit"], found["memswap_limit"], found["cpus"]) == (2048 * MIB, 2048 * MIB, 1.5)


def test_mappings_merge_lists_join_and_values_replace() -> None:
    found = completed(
        {
            "environment": {"MODE": "fast", "TZ": "Europe/Berlin"},
            "tmpfs": ["/run/app"],
            "healthcheck": {"test": ["CMD", "true"], "retries": 60},
            "stop_grace_period": "60s",
        }
    )
    assert found["environment"]["MODE"] == "fast"
    assert found["environment"]["TZ"] == "Europe/Berlin"
    assert found["environment"]["SSL_CERT_FILE"] == "/etc/ssl/certs/ca-certificates.crt"
    assert found["tmpfs"] == ["/tmp:mode=1777", "/run/app"]  # noqa: S108  the container's own
    assert found["healthcheck"]["test"] == ["CMD", "true"]
    assert (found["healthcheck"]["interval"], found["healthcheck"]["retries"]) == ("5s", 60)
    probed = completed({"healthcheck": {"test": ["CMD", "healthcheck", "http://127.0.0.1:80/"]}})
    assert (probed["healthcheck"]["interval"], probed["healthcheck"]["timeout"]) == ("1s", "60s")
    assert found["stop_grace_period"] == "60s"


def test_database_and_buckets_are_told_by_the_variables_that_libraries_read() -> None:
    database = service_of("db", provides="postgres")
    app = service_of(
        "app",
        databases=[{"server": "db", "name": "first"}, {"server": "db", "name": "second"}],
        buckets=[{"name": "files"}],
    )
    environment = completed(site=site_of(database, app))["environment"]
    assert (environment["PGHOST"], environment["PGDATABASE"], environment["PGUSER"]) == (
        "db",
        "first",
        "first",
    )
    assert environment["PGPASSFILE"] == "/run/secrets/pgpass"
    assert environment["AWS_SHARED_CREDENTIALS_FILE"] == "/run/secrets/s3_credentials"


def test_service_without_them_is_told_of_none() -> None:
    assert set(completed()["environment"]) == {"TZ", "SSL_CERT_FILE", "REQUESTS_CA_BUNDLE"}


def mounts(found: dict[str, Any]) -> dict[str, tuple[str, bool]]:
    """Source and whether it is read-only, by target."""
    return {entry["target"]: (entry["source"], entry.get("read_only", False)) for entry in found["volumes"]}


def test_mounts_are_the_ca_configuration_certificate_and_data() -> None:
    service = service_of(
        "app", tls={"names": "own"}, data=[{"target": "/data"}, {"target": "/cache", "name": "cache"}]
    )
    document = complete({"services": {"app": {}}}, rules_of(service, config=True))
    assert mounts(document["services"]["app"]) == {
        "/etc/ssl/certs/ca-certificates.crt": ("/etc/ssl/certs/ca-certificates.crt", True),
        "/etc/dap": ("./config", True),
        "/run/tls": ("./tls", True),
        "/data": ("/var/lib/dap/app/data", False),
        "/cache": ("/var/lib/dap/app/cache", False),
    }


def test_missing_source_of_a_mount_is_never_made_up() -> None:
    found = completed(data=[{"target": "/data"}])
    assert all(entry["bind"] == {"create_host_path": False} for entry in found["volumes"])


def test_secrets_are_files_of_the_service() -> None:
    document = complete({"services": {"app": {}}}, rules_of(service_of("app"), secrets=["key", "pgpass"]))
    assert document["services"]["app"]["secrets"] == [
        {"source": "app_key", "target": "key"},
        {"source": "app_pgpass", "target": "pgpass"},
    ]
    assert document["secrets"] == {
        "app_key": {"file": "./secrets/key"},
        "app_pgpass": {"file": "./secrets/pgpass"},
    }


def test_ports_are_published_where_the_configuration_says() -> None:
    service = service_of(
        "app",
        ports=[{"name": "https"}, {"name": "postgres", "container": 5432}, {"name": "web", "container": 22}],
    )
    site = site_of(service, listen_address="192.0.2.10", ports={"https": 8443, "postgres": 5433})
    found = completed(site=site)["ports"]
    assert [(entry["host_ip"], entry["published"], entry["target"]) for entry in found] == [
        ("192.0.2.10", "8443", 8443),
        ("192.0.2.10", "5433", 5432),
        ("192.0.2.10", "22", 22),
    ]


def test_ports_of_the_service_itself_count_most() -> None:
    service = service_of("app", ports=[{"name": "postgres", "container": 5432}])
    site = site_of(service, ports={"postgres": 5433}, services={"app": {"ports": {"postgres": 5434}}})
    assert [entry["published"] for entry in completed(site=site)["ports"]] == ["5434"]


def test_operator_sets_limits_and_environment() -> None:
    settings = {
        "app": {"memory": "1g", "pids": 99, "cpus": 1.5, "environment": {"LEVEL": "debug", "TZ": "CET"}}
    }
    found = completed(
        {"environment": {"LEVEL": "info", "OWN": "1"}}, site_of(service_of("app"), services=settings)
    )
    assert (found["mem_limit"], found["pids_limit"], found["cpus"]) == (1024 * MIB, 99, 1.5)
    environment = found["environment"]
    assert (environment["LEVEL"], environment["OWN"], environment["TZ"]) == ("debug", "1", "CET")


def test_override_has_the_last_word() -> None:
    override = {"services": {"app": {"environment": {"LEVEL": "debug"}, "mem_limit": "2g", "ports": ["1:1"]}}}
    document = complete({"services": {"app": {}}}, rules_of(service_of("app")), override)
    found = document["services"]["app"]
    assert (found["environment"]["LEVEL"], found["environment"]["TZ"]) == ("debug", "UTC")
    assert (found["mem_limit"], found["ports"], found["read_only"]) == ("2g", ["1:1"], True)


def test_proxy_is_told_with_all_that_is_reached_without_it() -> None:
    site = site_of(
        service_of("app"),
        service_of("db"),
        proxy={"http": "http://proxy:3128", "no_proxy": [".corp"]},
        extra_hosts={"ldap.corp": "192.0.2.7"},
    )
    environment = completed(site=site)["environment"]
    assert environment["http_proxy"] == environment["HTTPS_PROXY"] == "http://proxy:3128"
    assert environment["NO_PROXY"] == environment["no_proxy"]
    assert environment["no_proxy"].split(",") == [
        *("localhost", "127.0.0.1", "::1", "dap.example.com", ".dap.example.com"),
        *("alpha", "app", "db", "ldap.corp", ".corp"),
    ]


def test_names_without_a_name_server_are_told_to_containers() -> None:
    site = site_of(service_of("app"), extra_hosts={"ldap.example.com": "192.0.2.7"})
    assert completed(site=site)["extra_hosts"] == {"ldap.example.com": "192.0.2.7"}
    assert "extra_hosts" not in completed()


def test_containers_on_other_hosts_are_told_where_the_platform_is() -> None:
    page = service_of("page", web=[{"name": "page", "port": 8000, "access": "open"}])
    site = site_of(service_of("app", role="runner"), page)
    document = complete({"services": {"app": {}}}, rules_of(site.services["app"], site, address="192.0.2.1"))
    assert document["services"]["app"]["extra_hosts"] == {
        "dap.example.com": "192.0.2.1",
        "page.dap.example.com": "192.0.2.1",
    }


def test_first_start_has_the_time_that_the_manifest_says() -> None:
    assert completed(start_seconds=1200)["healthcheck"]["start_period"] == "1200s"


def test_trusted_authorities_are_files_of_their_own_where_no_bundle_is_read() -> None:
    service = service_of("app", trust_folder="/etc/app/trusted")
    document = complete({"services": {"app": {}}}, rules_of(service, trust=True))
    assert mounts(document["services"]["app"])["/etc/app/trusted"] == ("./trust", True)


def test_service_waits_for_what_it_needs_and_is_there() -> None:
    site = site_of(service_of("db"), service_of("app", needs=["db", "left-out"]))
    assert completed(site=site)["depends_on"] == {"db": {"condition": "service_healthy"}}


def test_proxy_answers_to_every_web_name_inside_too() -> None:
    page = service_of("page", web=[{"name": "page", "port": 8000, "access": "open"}])
    start = service_of("start", web=[{"name": "@", "port": 8000, "access": "open"}])
    site = site_of(page, start, service_of("app", provides="proxy"))
    assert completed(site=site)["networks"]["default"]["aliases"] == [
        "app",
        "dap.example.com",
        "page.dap.example.com",
    ]


def test_service_with_its_own_certificate_answers_to_its_name_inside_too() -> None:
    aliases = completed(tls={"names": "own"})["networks"]["default"]["aliases"]
    assert aliases == ["app", "app.dap.example.com"]


def test_jobs_run_once_and_only_when_called() -> None:
    found = completed(provides="jobs")
    assert (found["profiles"], found["restart"]) == (["jobs"], "no")
    assert "container_name" not in found
    assert "healthcheck" not in found


def test_changed_files_replace_the_container() -> None:
    before, after = (
        complete({"services": {"app": {}}}, rules_of(service_of("app"), config_hash=digest))
        for digest in ("cafe", "babe")
    )
    assert before != after
    assert after["services"]["app"]["labels"] == {"dap.service": "app", "dap.configuration.inventory": "babe"}


def test_platforms_on_one_host_share_no_name() -> None:
    site = site_of(service_of("app"), platform_name="lab")
    document = complete({"services": {"app": {}}}, rules_of(site.services["app"], site))
    assert document["services"]["app"]["container_name"] == "lab-app"
    assert document["networks"] == {"default": {"name": "lab"}}


def test_fragment_is_left_as_it_was() -> None:
    fragment = {"services": {"app": {"environment": {"MODE": "fast"}, "tmpfs": ["/run"]}}}
    complete(fragment, rules_of(service_of("app", Path("services"))))
    assert fragment == {"services": {"app": {"environment": {"MODE": "fast"}, "tmpfs": ["/run"]}}}
