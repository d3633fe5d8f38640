"""What the preflight asks others than the host itself: registries, servers of the operator's, the engine."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from tests.unit.plugins import FakeDocker, load, run_module
from tests.unit.registries import Registry, serving

dap_preflight = load("modules.dap_preflight")
probing = load("ansible.module_utils.dap_probe")
PROXY = {"http": "http://proxy.example.com:3128"}


@pytest.fixture
def docker(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> FakeDocker:
    """An engine that runs, uses no proxy and has one image."""
    fake = FakeDocker(tmp_path / "bin")
    monkeypatch.setenv("PATH", f"{fake.folder}:{os.environ['PATH']}")
    for name in ("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY"):
        monkeypatch.delenv(name, raising=False)
    fake.answer("*")
    fake.answer("version *", "27.1.1\n")
    fake.answer("compose version *", "2.29.1\n")
    fake.answer("buildx version", "github.com/docker/buildx v0.16.1 45c3045\n")
    fake.answer("image ls --digests *", "here:1\tsha256:0\t<none>\n")
    monkeypatch.setattr(dap_preflight, "init_system", lambda: "none")
    return fake


@pytest.fixture
def registry() -> Iterator[Registry]:
    with serving(Registry()) as running:
        yield running


def look(tmp_path: Path, **parameters: Any) -> dict[str, Any]:
    folders: dict[str, Any] = {
        "root": str(tmp_path / "root"),
        "data": str(tmp_path / "data"),
        "project": "dapt-preflight",
    }
    result: dict[str, Any] = run_module("dap_preflight", **folders, **parameters)["dap"]
    return result


def test_images_are_there_to_be_had_or_missing(
    docker: FakeDocker, registry: Registry, tmp_path: Path
) -> None:
    mirror = f"{registry.address}/team"
    wanted = [
        {"name": "gitlab", "reference": "here:1", "source": f"{mirror}/here:1"},
        {"name": "app", "reference": "app:1", "source": f"{mirror}/app:1"},
        {"name": "other", "reference": "other:1", "source": f"{mirror}/other:1"},
    ]

    found = look(tmp_path, images=wanted)["facts"]["images"]

    assert found == {
        "gitlab": {"present": True, "known": True, "available": True, "reason": ""},
        "app": {"present": False, "known": False, "available": True, "reason": ""},
        "other": {
            "present": False,
            "known": False,
            "available": False,
            "reason": f"team/other has no tag 1 at {registry.address}",
        },
    }
    # What is on the host is not asked for.
    assert sorted(path for _, path, _ in registry.requests) == [
        "/v2/team/app/manifests/1",
        *["/v2/team/other/manifests/1"] * (len(registry.requests) - 1),
    ]


def test_without_an_engine_no_image_is_there(docker: FakeDocker, registry: Registry, tmp_path: Path) -> None:
    docker.answer("version *", error="Cannot connect to the Docker daemon\n", status=1)
    wanted = [{"name": "app", "reference": "here:1", "source": f"{registry.address}/team/app:1"}]

    assert look(tmp_path, images=wanted)["facts"]["images"]["app"] == {
        "present": False,
        "known": False,
        "available": True,
        "reason": "",
    }


def test_servers_that_cannot_be_reached_are_named_with_their_setting(
    docker: FakeDocker, tmp_path: Path
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as open_port, socket.create_server(("127.0.0.1", 0)) as held:
        closed = held.getsockname()[1]
        held.close()
        endpoints = [
            {"name": "minio", "host": "127.0.0.1", "port": open_port.getsockname()[1]},
            {"name": "postgres-data", "host": "127.0.0.1", "port": closed},
            {"name": "postgres-service", "host": "db.invalid", "port": 5432},
        ]
        findings = look(tmp_path, endpoints=endpoints)["findings"]

    told = [finding for finding in findings if "external" in finding["subject"]]
    advice = "start that server, let its firewall pass this host, or correct the address"
    assert told == [
        {
            "severity": "error",
            "subject": "services.postgres-data.external.url",
            "value": f"127.0.0.1:{closed}",
            "reason": "cannot be reached from this host: connection refused",
            "suggestion": advice,
            "service": "postgres-data",
        },
        {
            "severity": "error",
            "subject": "services.postgres-service.external.url",
            "value": "db.invalid:5432",
            "reason": "cannot be reached from this host: no such name",
            "suggestion": advice,
            "service": "postgres-service",
        },
    ]


def test_an_engine_with_another_proxy_is_not_ready(
    docker: FakeDocker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    differing: list[Any] = []
    monkeypatch.setattr(dap_preflight, "differing_proxy_files", lambda *arguments: tuple(differing))
    assert look(tmp_path)["facts"]["ready"] == ["docker"]
    assert look(tmp_path, proxy=PROXY)["facts"]["ready"] == []

    docker.answer("info --format {{.HTTPProxy}}*", f"{PROXY['http']}\t{PROXY['http']}\t\n")
    assert look(tmp_path, proxy=PROXY)["facts"]["ready"] == ["docker"]

    differing.append("/etc/docker/dapt-preflight-proxy.env")
    assert look(tmp_path, proxy=PROXY)["facts"]["ready"] == []


def test_registries_are_asked_through_the_proxy_that_the_engine_will_use(docker: FakeDocker) -> None:
    params = {"proxy": PROXY, "ca_certificates": ["PEM"]}
    own = probing.Proxy.of({"http": "http://engine.example.com:1"})
    engine = probing.EngineState(proxy=own)

    assert dap_preflight.access_of(params, engine).proxy == probing.Proxy.of(PROXY)
    assert dap_preflight.access_of({**params, "proxy": {}}, engine).proxy == own
    assert dap_preflight.access_of(params, engine).ca_certificates == ("PEM",)


# --- what the roles would find nothing to do about -------------------------------------------------------


def test_images_are_as_they_were_recorded_or_not(docker: FakeDocker, tmp_path: Path) -> None:
    digest = f"sha256:{'1' * 64}"
    docker.answer("image ls --digests *", f"here:1\tsha256:0\t{digest}\ndap/own:1-ab\tsha256:2\t<none>\n")

    def known(recorded: str) -> bool:
        image = {"name": "app", "reference": "here:1", "source": "here:1", "digest": recorded}
        return bool(look(tmp_path, images=[image])["facts"]["images"]["app"]["known"])

    assert [known(digest), known(f"sha256:{'2' * 64}"), known("")] == [True, False, False]
    tags = ["dap/own:1-ab", "dap/own:1-cd"]
    assert look(tmp_path, tags=tags)["facts"]["missing_tags"] == ["dap/own:1-cd"]
    assert look(tmp_path)["facts"]["building"] is False
    (tmp_path / "root" / ".build").mkdir(parents=True)
    assert look(tmp_path)["facts"]["building"] is True


def test_host_that_knows_the_names_is_ready(
    docker: FakeDocker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hosts_file = tmp_path / "hosts"
    monkeypatch.setattr(dap_preflight, "PATH", hosts_file)
    names = {"platform": "dap", "names": ["dap.test"], "address": "192.0.2.1", "extra": {"db": "192.0.2.2"}}
    assert "names" not in look(tmp_path, names=names)["facts"]["ready"]
    title = "dap: names of the data analysis platform"
    block = f"# BEGIN {title}\n192.0.2.1 dap.test\n192.0.2.2 db\n# END {title}\n"
    hosts_file.write_text(f"127.0.0.1 localhost\n{block}", encoding="utf-8")
    assert "names" in look(tmp_path, names=names)["facts"]["ready"]
    assert "names" not in look(tmp_path, names={**names, "extra": {}})["facts"]["ready"]


def test_host_that_trusts_all_authorities_is_ready(
    docker: FakeDocker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[Any] = []
    answers = iter([False, True])

    def lack_of(*given: Any) -> Any:
        seen.append(given)
        return SimpleNamespace(nothing=next(answers))

    monkeypatch.setattr(dap_preflight, "lack_of", lack_of)
    trust = {"name": "dap", "certificates": ["PEM"], "registries": ["registry.test:5000"]}
    assert "trust" not in look(tmp_path, trust=trust)["facts"]["ready"]
    assert "trust" in look(tmp_path, trust=trust)["facts"]["ready"]
    assert seen == [("dap", ["PEM"], ["registry.test:5000"])] * 2
