"""Asking registries for images: real requests to stand-ins on this machine, through TLS and a proxy too."""

from __future__ import annotations

import base64
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from dap.trust.certificates import ensure_ca, ensure_leaf
from tests.unit.plugins import load
from tests.unit.registries import LOGIN, ForwardProxy, Registry, server_context, serving

asking = load("ansible.module_utils.dap_registry")
proxies = load("ansible.module_utils.dap_proxy")
Reference, Access, EngineSettings = asking.Reference, asking.Access, asking.EngineSettings


@pytest.fixture
def registry() -> Iterator[Registry]:
    with serving(Registry()) as running:
        yield running


def access(**settings: Any) -> Any:
    return Access(**{"ca_file": "/nonexistent", "ca_folder": "/nonexistent", **settings})


def reason(reference: str, how: Any = None) -> str:
    return str(asking.reason_against(Reference.of(reference), how or access()))


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("debian", ("docker.io", "library/debian", "latest")),
        ("debian:trixie-slim", ("docker.io", "library/debian", "trixie-slim")),
        ("gitlab/gitlab-ce:19.4.1-ce.0", ("docker.io", "gitlab/gitlab-ce", "19.4.1-ce.0")),
        ("docker.io/library/debian:13", ("docker.io", "library/debian", "13")),
        ("registry-1.docker.io/grafana/grafana", ("docker.io", "grafana/grafana", "latest")),
        ("localhost/app:1", ("localhost", "app", "1")),
        ("registry.example.com:5000/hub/a/b:1", ("registry.example.com:5000", "hub/a/b", "1")),
        ("ghcr.io/team/app:1@sha256:ab", ("ghcr.io", "team/app", "sha256:ab")),
    ],
)
def test_a_reference_is_taken_apart_the_way_docker_does_it(text: str, parts: tuple[str, str, str]) -> None:
    reference = Reference.of(text)

    assert (reference.registry, reference.repository, reference.version) == parts


def test_docker_hub_is_asked_under_the_name_that_it_serves_images_at() -> None:
    assert asking._bases(Reference.of("debian"), access()) == [("docker.io", "https://registry-1.docker.io")]


def test_the_engines_own_mirrors_of_docker_hub_are_asked_first(registry: Registry) -> None:
    settings = EngineSettings.parse(f'{{"registry-mirrors": ["{registry.url}/"]}}')

    assert reason("team/app:1", access(engine=settings)) == ""


@pytest.mark.parametrize("text", ["", "{", "[]", '{"registry-mirrors": 1}'])
def test_engine_settings_that_cannot_be_read_are_none(text: str) -> None:
    assert EngineSettings.parse(text) == EngineSettings()


def test_an_image_that_is_there_is_asked_for_without_pulling_it(registry: Registry) -> None:
    assert reason(f"{registry.address}/team/app:1") == ""

    ((method, path, headers),) = registry.requests
    assert (method, path) == ("HEAD", "/v2/team/app/manifests/1")
    assert "application/vnd.oci.image.index.v1+json" in headers["accept"]
    assert "application/vnd.docker.distribution.manifest.list.v2+json" in headers["accept"]


def test_a_tag_that_is_not_there_is_named(registry: Registry) -> None:
    assert reason(f"{registry.address}/team/app:2") == f"team/app has no tag 2 at {registry.address}"


@pytest.mark.parametrize(
    ("status", "said"),
    [(503, "answered 503 Service Unavailable"), (429, "allows no more pulls at the moment (429)")],
)
def test_a_registry_in_trouble_is_told_of_as_it_says(registry: Registry, status: int, said: str) -> None:
    registry.status = status

    assert reason(f"{registry.address}/team/app:1") == f"{registry.address} {said}"


def test_a_registry_that_wants_a_token_gets_one(registry: Registry) -> None:
    registry.scheme = "bearer"

    assert reason(f"{registry.address}/team/app:1") == ""
    assert [path for _, path, _ in registry.requests] == [
        "/v2/team/app/manifests/1",
        "/token?service=stand-in&scope=repository%3Ateam%2Fapp%3Apull",
        "/v2/team/app/manifests/1",
    ]


def logins(registry: Registry, pair: bytes = b"reader:geheim") -> dict[str, Any]:
    return {"auths": {registry.address: {"auth": base64.b64encode(pair).decode()}}}


@pytest.mark.parametrize("scheme", ["bearer", "basic"])
def test_a_private_registry_gets_the_login_of_this_host(registry: Registry, scheme: str) -> None:
    registry.scheme, registry.anonymous = scheme, False

    assert reason(f"{registry.address}/team/app:1", access(logins=logins(registry))) == ""
    # Only once it is asked for: other registries have no business with it.
    assert "authorization" not in registry.requests[0][2]
    assert registry.requests[1][2]["authorization"] == LOGIN


@pytest.mark.parametrize("scheme", ["bearer", "basic"])
def test_a_login_that_is_refused_is_told_with_the_way_to_give_one(registry: Registry, scheme: str) -> None:
    registry.scheme, registry.anonymous = scheme, False

    assert reason(f"{registry.address}/team/app:1", access(logins=logins(registry, b"reader:wrong"))) == (
        f"{registry.address} refused the login for team/app, or has no such image;"
        f" docker login {registry.address}, as root on this host, gives it one"
    )


@pytest.mark.parametrize(
    ("registry", "key"),
    [
        ("docker.io", "https://index.docker.io/v1/"),
        ("r.example.com", "r.example.com"),
        ("r.example.com", "https://r.example.com/v2/"),
    ],
)
def test_logins_are_found_under_the_names_that_docker_gives_them(registry: str, key: str) -> None:
    assert asking.login_for(registry, {"auths": {key: {"auth": "eDp5"}}}) == "Basic eDp5"
    assert asking.login_for("other.example.com", {"auths": {key: {"auth": "eDp5"}}}) == ""


def test_logins_in_a_credential_helper_are_asked_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    helper = tmp_path / "docker-credential-pass"
    helper.write_text(
        '#!/bin/sh\nread key; test "$1 $key" = "get r.example.com" || exit 1\n'
        'echo \'{"Username": "reader", "Secret": "geheim"}\'\n',
        encoding="utf-8",
    )
    helper.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")

    assert asking.login_for("r.example.com", {"credHelpers": {"r.example.com": "pass"}}) == LOGIN
    assert asking.login_for("r.example.com", {"credsStore": "pass"}) == LOGIN
    assert asking.login_for("other.example.com", {"credsStore": "pass"}) == ""
    assert asking.login_for("r.example.com", {"credsStore": "nothing"}) == ""


def test_a_closed_port_is_told_in_words() -> None:
    with socket.create_server(("127.0.0.1", 0)) as held:
        port = held.getsockname()[1]

    assert reason(f"127.0.0.1:{port}/a:1") == f"127.0.0.1:{port} cannot be reached: connection refused"


def test_an_unknown_name_is_told_in_words() -> None:
    assert reason("registry.invalid/a:1") == "registry.invalid cannot be reached: no such name"


def test_a_registry_that_never_answers_holds_nobody_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(asking, "REQUEST_SECONDS", 0.2)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        address = f"127.0.0.1:{silent.getsockname()[1]}"

        assert reason(f"{address}/a:1") == f"{address} cannot be reached: no answer within 0.2 s"


def test_a_name_server_that_never_answers_holds_nobody_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(asking, "CHECK_SECONDS", 0.2)
    hangs = asking.threading.Event()
    monkeypatch.setattr(asking, "reason_against", lambda reference, how: hangs.wait(20) and "")

    told = asking.reasons_against(["a:1", "r.example.com/b:1"], access())
    hangs.set()

    assert told == {
        "a:1": "docker.io cannot be reached: no answer within 0.2 s",
        "r.example.com/b:1": "r.example.com cannot be reached: no answer within 0.2 s",
    }


def test_many_images_are_asked_for_at_once(registry: Registry) -> None:
    wanted = [f"{registry.address}/team/app:{number}" for number in (1, 2)]

    assert asking.reasons_against([*wanted, wanted[0]], access()) == {
        wanted[0]: "",
        wanted[1]: f"team/app has no tag 2 at {registry.address}",
    }


@pytest.fixture
def site(tmp_path: Path) -> Iterator[tuple[Registry, str, ForwardProxy]]:
    """A registry with the certificate of a site's own CA, that CA, and the proxy that leads there."""
    folder = tmp_path / "secrets"
    folder.mkdir(mode=0o700)
    authority = ensure_ca(folder, "Site", "")
    ensure_leaf(authority, folder, "registry", ["registry.example.com"])
    context = server_context(folder / "tls/registry.crt", folder / "tls/registry.key")
    with (
        serving(Registry(), context) as registry,
        ForwardProxy(int(registry.address.rpartition(":")[2])).running() as proxy,
    ):
        yield registry, authority.certificate_pem.decode(), proxy


def test_a_registry_behind_the_proxy_and_with_the_sites_own_ca_is_asked(
    site: tuple[Registry, str, ForwardProxy],
) -> None:
    registry, ca, proxy = site
    through = proxies.Proxy.of({"http": f"http://user:geheim@{proxy.address}"})

    assert reason("registry.example.com/team/app:1", access(proxy=through, ca_certificates=(ca,))) == ""
    assert proxy.asked == ["registry.example.com:443"]
    assert proxy.logins == ["Basic " + base64.b64encode(b"user:geheim").decode()]
    assert registry.requests[0][0] == "HEAD"


def test_the_cas_that_docker_has_for_a_registry_are_trusted(
    site: tuple[Registry, str, ForwardProxy], tmp_path: Path
) -> None:
    _, ca, proxy = site
    (tmp_path / "certs.d/registry.example.com").mkdir(parents=True)
    (tmp_path / "certs.d/registry.example.com/ca.crt").write_text(ca, encoding="ascii")
    through = proxies.Proxy.of({"https": f"http://{proxy.address}"})

    how = access(proxy=through, ca_folder=str(tmp_path / "certs.d"))

    assert reason("registry.example.com/team/app:1", how) == ""


def test_an_unknown_ca_is_told_in_words_and_a_proxys_login_is_not(
    site: tuple[Registry, str, ForwardProxy],
) -> None:
    _, _, proxy = site
    through = proxies.Proxy.of({"http": f"http://user:geheim@{proxy.address}"})

    told = reason("registry.example.com/team/app:1", access(proxy=through))

    assert told.startswith(
        f"registry.example.com cannot be reached through the proxy http://{proxy.address}:"
        " its certificate is not trusted ("
    )


def test_a_registry_that_the_engine_need_not_trust_is_not_checked_either(
    site: tuple[Registry, str, ForwardProxy],
) -> None:
    _, _, proxy = site
    settings = EngineSettings(insecure=("registry.example.com",))
    through = proxies.Proxy.of({"http": f"http://{proxy.address}"})

    assert reason("registry.example.com/team/app:1", access(proxy=through, engine=settings)) == ""
