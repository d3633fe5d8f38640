"""Certificates in place of keys that are written down, with the client of OpenSSH."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from typing import Any

import pytest
import yaml

from dap.secrets import Secret
from dap.trust.ssh import SshKey, UserCertificate
from tests.integration.desks import Desks, make_key
from tests.integration.platform import docker
from tests.integration.small import change_settings

BOX = "certified"


@pytest.fixture
def box(desks: Desks) -> Iterator[str]:
    """A container of carol's, who comes with a key that nobody has written down."""
    desks.must(
        "dev", "create", "carol", "--environment=python", f"--name={BOX}", "--memory=128m", "--no-jupyter"
    )
    before = desks.settings_file.read_text(encoding="utf-8")
    known = dict(desks.keys)
    desks.configure_client()
    try:
        yield BOX
    finally:
        desks.keys |= known
        desks.settings_file.write_text(before, encoding="utf-8")
        desks.must("dev", "remove", BOX, "--with-home", "--yes")


def test_certificate_opens_its_users_containers_as_long_as_it_counts(desks: Desks, box: str) -> None:
    key = desks.keys["carol"] = make_key(desks.folder / "keys", "laptop")
    public = key.with_suffix(".pub")
    file = key.with_name("laptop-cert.pub")

    def signed(authority: str, name: str, **changes: Any) -> str:
        """A certificate as the platform makes none, or one of its own; how the client is told of it."""
        now = int(time.time())
        wanted: dict[str, Any] = {
            "serial": 99,
            "identity": name,
            "names": ("carol",),
            "after": now - 600,
            "before": now + 600,
        }
        text = SshKey.of(Secret(authority)).sign_user(
            public.read_text().strip(), UserCertificate(**(wanted | changes)), bytes(32)
        )
        made = key.with_name(f"{name}-cert.pub")
        made.write_text(f"{text}\n")
        return f"-oCertificateFile={made}"

    def refused(container: str, *options: str) -> bool:
        done = desks.try_ssh("carol", container, "true", "-oUser=carol", *options)
        assert done.returncode == 0 or "Permission denied (publickey)." in done.stderr, done.stderr
        return done.returncode != 0

    def logs() -> str:
        # What the server says goes to standard error.
        return desks.dap("dev", "logs", box).stderr

    # As long as the platform has none, no certificate counts, whoever has signed it.
    assert refused(box, signed("another authority", "another"))
    change_settings(desks, ssh_user_certificates="12h")
    desks.must("dev", "recreate", box, "--yes")
    secrets = yaml.safe_load((desks.secrets / "secrets.yml").read_text(encoding="utf-8"))["values"]
    authority = secrets["ssh.user_authority"]

    # Of somebody else, over, of others who sign: all in one attempt, as servers let few fail. It also offers
    # the key itself.
    over = int(time.time()) - 5
    wrong = [
        signed(authority, "bobs", names=("bob",)),
        signed(authority, "over", before=over),
        signed("another authority", "another"),
        signed(secrets["ssh.authority"], "hosts"),
    ]
    assert refused(box, *wrong)
    for reason in ("name is not a listed principal", "expired"):
        assert f"Certificate invalid: {reason}" in logs()
    assert not refused(box, signed(authority, "right"))

    said = desks.must("user", "certify", "carol", "--key", str(public), "--valid", "30m")
    assert said.startswith(f"Wrote {file}: certificate 1 of carol, valid until ")
    assert not refused(box)
    assert re.search(
        r"Accepted publickey for carol .* ED25519-CERT .*ID carol/1 \(serial 1\) CA ED25519", logs()
    )

    started = docker("inspect", "--format", "{{.State.StartedAt}}", f"{desks.name}-dev-{box}")
    said = desks.must("user", "revoke", "carol", "--serial", "1")
    assert said == "Certificates of carol that no longer count: 1.\n"
    assert refused(box)
    assert re.search(r"ED25519-CERT .* revoked by file /run/dap/revoked_certificates", logs())
    # Another one for the same key counts, and nobody's work has ended for all this.
    desks.must("user", "certify", "carol", "--key", str(public))
    assert not refused(box)
    assert docker("inspect", "--format", "{{.State.StartedAt}}", f"{desks.name}-dev-{box}") == started
