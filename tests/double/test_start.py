"""How the double comes up, and what it shows tests."""

from __future__ import annotations

import json
import socket
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from tests.gitlab_double.local import LocalDouble
from tests.gitlab_double.server.site import Site


@pytest.mark.parametrize(
    ("stage", "readiness", "api"), [("booting", 503, 502), ("loading", 200, 502), ("ready", 200, 401)]
)
def test_double_is_ready_by_its_own_account_before_it_is(
    double: LocalDouble, stage: str, readiness: int, api: int
) -> None:
    double.ask("GET", f"/-/stand-in/{stage}")
    assert double.ask("GET", "/-/readiness?all=1").status_code == readiness
    assert double.ask("GET", "/api/v4/version").status_code == api


def test_signing_up_is_counted(double: LocalDouble) -> None:
    assert double.ask("POST", "/users").text == "signed up"
    assert double.ask("GET", "/-/stand-in/seen").json()["sign_ups"] == 1


def test_upload_is_counted(double: LocalDouble) -> None:
    answer = double.ask("POST", "/-/stand-in/upload", content=iter([b"x" * 100_000] * 3))
    assert answer.json()["received"] == 300_000


def test_websocket_answers_with_the_headers_of_the_request(double: LocalDouble) -> None:
    address = urlsplit(double.url)
    lines = [
        "GET /-/cable HTTP/1.1",
        f"Host: {address.netloc}",
        "Upgrade: websocket",
        "Connection: Upgrade",
        "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==",
        "Sec-WebSocket-Version: 13",
    ]
    with socket.create_connection((address.hostname, address.port), timeout=10) as connection:
        connection.sendall(("\r\n".join(lines) + "\r\n\r\n").encode())
        received = connection.makefile("rb").read()
    head, _, frame = received.partition(b"\r\n\r\n")
    # The answer to this key in RFC 6455, section 1.3.
    assert b"s3pPLMBiTxaQ9kYGzzhZRbK+xOo=" in head
    assert json.loads(frame[4:])["host"] == address.netloc


def test_state_outlives_a_restart(tmp_path: Path) -> None:
    first = LocalDouble(tmp_path)
    first.ask("POST", "/api/v4/groups", first.token(), json={"name": "Team", "path": "team"})
    first.stop()
    second = LocalDouble(tmp_path)
    assert [one["path"] for one in second.ask("GET", "/api/v4/groups", second.token()).json()] == ["team"]
    second.stop()


def test_site_is_what_was_configured(tmp_path: Path) -> None:
    configured = {
        "external_url": "https://gitlab.test:8443",
        "registry_external_url": "https://registry.test:8443",
        "gitlab_rails": {"gitlab_shell_ssh_port": 2222, "nginx": {"listen_port": 80}},
    }
    (tmp_path / "configuration.json").write_text(json.dumps(configured))
    site = Site.configured(tmp_path)
    site.write()
    assert Site.read(tmp_path) == site
    assert (site.host, site.registry_address) == ("gitlab.test", "registry.test:8443")
