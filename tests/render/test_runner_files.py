"""What a runner host is given: the runner's configuration, and what its jobs may do."""

from __future__ import annotations

import json
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from dap.configuration.inventory import Host
from dap.credentials import Credentials
from dap.gitlab.runners import all_runners
from dap.hosts.facts import HostFacts
from dap.images import builds as images
from dap.images.builds import tags_of
from dap.images.environments import find_environments, load_environments
from dap.layout import environments_dir
from dap.rendering.render import Renderer
from dap.secrets import Secret, SecretStore
from dap.site import Site, load_site
from dap.trust import tls

FACTS = HostFacts(memory_mib=16384, cpus=8)
SETTINGS: dict[str, Any] = {
    "domain": "dap.example.com",
    "ports": {"https": 8443},
    "extra_hosts": {"git.example.com": "192.0.2.20"},
    "proxy": {"https": "http://proxy.example.com:3128"},
    "runners": {
        "allowed_images": ["debian:*"],
        "hosts": {"beta": {"jobs": 2, "memory": "3g", "cpus": 1.5, "free_disk": "20g"}},
        "image_builds": {"jobs": 1},
        "extra": [
            {"name": "gpu", "tags": ["gpu"], "hosts": ["beta"], "jobs": 1, "gpus": ["nvidia.com/gpu=0"]}
        ],
    },
}
HOSTS = {
    "service_host": {"hosts": {"main": {"ansible_host": "192.0.2.10"}}},
    "runner_hosts": {
        "hosts": {
            "main": {},
            "alpha": {"ansible_host": "192.0.2.11"},
            "beta": {"ansible_host": "192.0.2.12"},
        }
    },
}


@pytest.fixture
def rendered_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., dict[str, dict[str, Any]]]:
    """Gives the runner's configuration on each host, by settings; that of alpha has no tokens yet."""
    monkeypatch.setenv("DAP_INVENTORIES", str(tmp_path))
    monkeypatch.setenv("DAP_SECRETS", str(tmp_path / "secrets"))
    folder = tmp_path / "site" / "group_vars" / "all"
    folder.mkdir(parents=True)
    (tmp_path / "site" / "hosts.yml").write_text(yaml.safe_dump(HOSTS))

    def rendered(**settings: Any) -> dict[str, dict[str, Any]]:
        (folder / "platform.yml").write_text(yaml.safe_dump(SETTINGS | settings))
        return configurations_of(load_site("site", reconsider=True), tmp_path / "secrets" / "site")

    return rendered


@pytest.fixture
def configurations(rendered_for: Callable[..., dict[str, dict[str, Any]]]) -> dict[str, dict[str, Any]]:
    """The runner's configuration on each host."""
    return rendered_for()


def configurations_of(site: Site, secrets: Path) -> dict[str, dict[str, Any]]:
    """The runner's configuration on each host; the runners' tokens are known but for that of alpha."""
    secrets.mkdir(parents=True, exist_ok=True)
    store = SecretStore.load(secrets, "site")
    for runner in all_runners(site):
        if runner.host != "alpha":
            store.replace(runner.key, Secret(f"glrt-{runner.host}-{runner.name}"))
    references, _ = images.resolve(site.services)
    renderer = Renderer(site, Credentials(site, store), references, tls.ensure(site, secrets, store))

    def rendered(host: Host) -> dict[str, Any]:
        tree = renderer.tree(site.services_on(host).values(), FACTS, "192.0.2.10", host)
        files = {file.path: file for file in tree.secret_files}
        assert files["gitlab-runner/live/config.toml"].mode == "0400"
        system = files["gitlab-runner/live/.runner_system_id"].content.decode().strip()
        assert len(system) == len("r_") + 12
        parsed = tomllib.loads(files["gitlab-runner/live/config.toml"].content.decode())
        room = files["gitlab-runner/live/free_mib"].content.decode()
        return {**parsed, "system_id": system, "room": room}

    return {host.name: rendered(host) for host in site.inventory.hosts}


def test_each_host_has_its_runners_as_soon_as_their_tokens_are_known(
    configurations: dict[str, dict[str, Any]],
) -> None:
    found = {
        host: [(one["name"], one["token"]) for one in known.get("runners", [])]
        for host, known in configurations.items()
    }
    assert found == {
        "main": [
            ("dap/main/docker", "glrt-main-docker"),
            ("dap/main/image-builds", "glrt-main-image-builds"),
        ],
        "alpha": [],
        "beta": [
            ("dap/beta/docker", "glrt-beta-docker"),
            ("dap/beta/image-builds", "glrt-beta-image-builds"),
            ("dap/beta/gpu", "glrt-beta-gpu"),
        ],
    }
    assert len({known["system_id"] for known in configurations.values()}) == 3
    runner, _ = configurations["main"]["runners"]
    assert runner["url"] == "https://gitlab.dap.example.com:8443"
    assert runner["tls-ca-file"] == "/etc/dap/ca.crt"


def test_jobs_have_the_hosts_limits_or_a_share_of_it(configurations: dict[str, dict[str, Any]]) -> None:
    known, builds, gpu = configurations["beta"]["runners"]
    assert (configurations["beta"]["concurrent"], known["limit"], gpu["limit"]) == (2, 2, 1)
    # What is not written for builds is as for other jobs.
    assert (builds["limit"], builds["docker"]["memory"], builds["docker"]["cpus"]) == (1, "3g", "1.5")
    assert {key: known["docker"][key] for key in ("memory", "memory_swap", "cpus", "service_memory")} == {
        "memory": "3g",
        "memory_swap": "3g",
        "cpus": "1.5",
        "service_memory": "3g",
    }
    assert gpu["docker"]["gpus"] == 'driver=cdi,"device=nvidia.com/gpu=0"'
    assert "gpus" not in known["docker"]
    # Services take up to half of the host; each job has at least 2 GB of the rest.
    main = configurations["main"]
    runner, _ = main["runners"]
    assert 1 <= main["concurrent"] <= 3
    assert int(runner["docker"]["memory"].removesuffix("m")) * main["concurrent"] <= 16384 // 2


def test_jobs_are_taken_with_as_much_room_as_is_written(configurations: dict[str, dict[str, Any]]) -> None:
    rooms = {host: known["room"] for host, known in configurations.items()}
    assert rooms == {"main": "2048\n", "alpha": "2048\n", "beta": "20480\n"}


def environment_tags() -> dict[str, str]:
    """The image of each environment of the product."""
    return tags_of(load_environments(find_environments([environments_dir()]), ())[0])


def test_jobs_that_name_no_image_run_in_the_platforms_own(
    rendered_for: Callable[..., dict[str, dict[str, Any]]],
) -> None:
    def image(**settings: Any) -> str:
        runner, _ = rendered_for(**settings)["main"]["runners"]
        return str(runner["docker"]["image"])

    assert image() == environment_tags()["python-r"]
    assert image(environments=[]) == "debian:trixie-slim"
    assert image(runners={"image": "python:3.13"}) == "python:3.13"


def test_jobs_have_few_rights(configurations: dict[str, dict[str, Any]]) -> None:
    few = ["CHOWN", "DAC_OVERRIDE", "FOWNER", "SETGID", "SETUID"]
    for known in configurations.values():
        for runner in known.get("runners", []):
            docker, builds = runner["docker"], runner["name"].endswith("/image-builds")
            assert docker["privileged"] is False
            assert docker["cap_drop"] == ["ALL"]
            assert sorted({*docker["cap_add"]} - {*few}) == (["SETFCAP", "SYS_CHROOT"] if builds else [])
            assert docker["security_opt"][0] == "no-new-privileges"
            assert len(docker["security_opt"]) == (3 if builds else 1)
            assert docker["services_security_opt"] == ["no-new-privileges"]
            assert docker["network_mode"] == "dap-jobs"
            assert not any("docker.sock" in volume for volume in docker["volumes"])


def test_builds_have_their_own_list_of_system_calls_and_no_other_image(
    configurations: dict[str, dict[str, Any]],
) -> None:
    docker = configurations["main"]["runners"][1]["docker"]
    builder = environment_tags()["image-builder"]
    assert (docker["image"], docker["allowed_images"], docker["pull_policy"]) == (
        builder,
        [builder],
        ["if-not-present"],
    )
    kind, _, text = docker["security_opt"][1].partition("=")
    profile = json.loads(text)
    assert (kind, profile["defaultAction"]) == ("seccomp", "SCMP_ACT_ERRNO")
    allowed = {
        name: rule.get("args")
        for rule in profile["syscalls"]
        for name in rule["names"]
        if rule["action"] == "SCMP_ACT_ALLOW"
    }
    assert allowed.keys() >= {"mount", "umount2", "chroot", "execve"}
    # A namespace of networks would open the kernel's firewall to a build.
    no_network = [{"index": 0, "value": 0x40000000, "valueTwo": 0, "op": "SCMP_CMP_MASKED_EQ"}]
    assert allowed["unshare"] == allowed["clone"] == no_network
    refused = (
        "clone3",
        "setns",
        "bpf",
        "ptrace",
        "keyctl",
        "perf_event_open",
        "io_uring_setup",
        "kexec_load",
    )
    assert not allowed.keys() & {*refused, "init_module", "open_by_handle_at", "userfaultfd", "pivot_root"}
    mounted = "/opt/dap/gitlab-runner/config/registries.conf:/etc/containers/registries.conf:ro"
    assert mounted in docker["volumes"]


def test_images_of_the_platform_and_of_its_registry_are_always_allowed(
    rendered_for: Callable[..., dict[str, dict[str, Any]]],
) -> None:
    def allowed(**runners: Any) -> list[str]:
        settings = {"allowed_images": ["debian:*"], **runners}
        return list(rendered_for(runners=settings)["main"]["runners"][0]["docker"]["allowed_images"])

    tags = environment_tags()
    usual = [tag for name, tag in tags.items() if name in ("base", "python", "python-r")]
    registry = "gitlab-registry.dap.example.com:8443/**"
    assert sorted(allowed()) == sorted(["debian:*", *usual, tags["image-builder"], registry])
    assert allowed(image_builds={"enabled": False}) == ["debian:*", *usual]
    assert allowed(allowed_images=[]) == []


@pytest.mark.parametrize("chosen", [{"enabled": False}, {"hosts": ["beta"]}])
def test_builds_can_be_switched_off_or_kept_to_some_hosts(
    rendered_for: Callable[..., dict[str, dict[str, Any]]], chosen: dict[str, Any]
) -> None:
    known = rendered_for(runners={"image_builds": chosen})
    names = {host: [one["name"] for one in known[host]["runners"]] for host in ("main", "beta")}
    there = ["dap/beta/image-builds"] if "hosts" in chosen else []
    assert names == {"main": ["dap/main/docker"], "beta": ["dap/beta/docker", *there]}


def test_names_and_authorities_are_known_in_jobs(configurations: dict[str, dict[str, Any]]) -> None:
    here, _ = configurations["main"]["runners"]
    there = configurations["beta"]["runners"][0]
    # On the service host the network itself knows them.
    assert here["docker"]["extra_hosts"] == ["git.example.com:192.0.2.20"]
    assert "gitlab.dap.example.com:192.0.2.10" in there["docker"]["extra_hosts"]
    assert "git.example.com:192.0.2.20" in there["docker"]["extra_hosts"]
    bundle = "/etc/dap/ca-certificates.crt"
    assert f"/etc/ssl/certs/ca-certificates.crt:{bundle}:ro" in there["docker"]["volumes"]
    assert f"REQUESTS_CA_BUNDLE={bundle}" in there["environment"]
    assert "https_proxy=http://proxy.example.com:3128" in there["environment"]


def test_caches_are_kept_in_the_object_storage(configurations: dict[str, dict[str, Any]]) -> None:
    runner, _ = configurations["main"]["runners"]
    cache = runner["cache"]
    assert (cache["Type"], cache["Shared"]) == ("s3", True)
    assert cache["s3"]["ServerAddress"] == "s3.dap.example.com:8443"
    assert (cache["s3"]["BucketName"], cache["s3"]["Insecure"]) == ("gitlab-runner-cache", False)
    assert runner["docker"]["disable_cache"] is True
