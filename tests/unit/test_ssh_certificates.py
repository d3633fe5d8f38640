"""SSH certificates of users: who gets which, as OpenSSH reads them, and what takes them back."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from dap import rotation
from dap.cli import main
from dap.credentials import Credentials
from dap.dev import certificates, numbers
from dap.dev.containers import USER_AUTHORITY
from dap.dev.rendering import DevRenderer
from dap.secrets import Secret, SecretStore
from dap.trust.revoked import revocation_list
from dap.trust.ssh import NotAKeyError, SshKey, fingerprint_of
from tests.unit.dev_sites import USERS, site_with

ADA = {"user": "ada", "environment": "python"}
ON: dict[str, Any] = {"ssh_user_certificates": "12h"}


def keygen(*arguments: str) -> str:
    done = subprocess.run(["ssh-keygen", *arguments], capture_output=True, text=True, check=False)
    return done.stdout + done.stderr


def make_key(folder: Path, kind: str = "ed25519") -> Path:
    keygen("-q", "-t", kind, "-N", "", "-C", "ada@laptop", "-f", str(folder / kind))
    return folder / f"{kind}.pub"


def deployed(folder: Path) -> SecretStore:
    """The secrets of a platform that was deployed."""
    secrets = folder.parents[1] / "secrets" / "team"
    secrets.mkdir(parents=True, mode=0o700, exist_ok=True)
    store = SecretStore.load(secrets, "team")
    store.get(USER_AUTHORITY)
    store.save()
    return store


def dap(*arguments: str) -> tuple[int, str]:
    """Status and output of the program."""
    done = CliRunner().invoke(main, ["-e", "team", "user", *arguments])
    return done.exit_code, done.output


@pytest.mark.parametrize("kind", ["ed25519", "ecdsa", "rsa"])
def test_key_of_any_kind_is_signed_for_its_user_and_some_hours(
    folder: Path, tmp_path: Path, kind: str
) -> None:
    site_with(folder, ADA, **ON)
    authority, key = SshKey.of(deployed(folder).get(USER_AUTHORITY)), make_key(tmp_path, kind)
    status, told = dap("certify", "ada", "--key", str(key), "--valid", "8h")
    file = tmp_path / f"{kind}-cert.pub"
    ends = r"\d{4}-\d\d-\d\d \d\d:\d\d UTC"
    assert status == 0
    assert re.fullmatch(
        rf"Wrote {file}: certificate 1 of ada, valid until {ends}\.\n"
        r"To take it back: \S*dap -e team user revoke ada --serial 1\n",
        told,
    )
    # It prints a certificate only after it has checked the signature.
    shown = keygen("-L", "-f", str(file))
    (tmp_path / "authority.pub").write_text(authority.public)
    signer = keygen("-l", "-f", str(tmp_path / "authority.pub")).split()[1]
    print_of_key = keygen("-l", "-f", str(key)).split()[1]
    rights = "".join(
        f"                permit-{name}\n"
        for name in ("agent-forwarding", "port-forwarding", "pty", "user-rc")
    )
    for line in (
        "user certificate\n",
        f"-CERT {print_of_key}\n",
        f"Signing CA: ED25519 {signer} ",
        'Key ID: "ada/1"\n        Serial: 1\n',
        "Principals: \n                ada\n        Critical Options: (none)\n",
        f"Extensions: \n{rights}",
    ):
        assert line in shown
    assert fingerprint_of(key.read_text()) == print_of_key
    (made,) = certificates.recall("team")
    assert (made.serial, made.user, made.key, made.revoked) == (1, "ada", print_of_key, False)


def test_certificates_are_taken_back_one_by_one_or_all(folder: Path, tmp_path: Path) -> None:
    site = site_with(folder, **ON)
    authority = SshKey.of(deployed(folder).get(USER_AUTHORITY))
    key = make_key(tmp_path)
    files = [tmp_path / f"{number}-cert.pub" for number in (1, 2, 3, 4)]
    for file, name in zip(files, ("ada", "ada", "eve", "ada"), strict=True):
        assert dap("certify", name, "--key", str(key), "--output", str(file))[0] == 0

    def refused() -> list[int]:
        (tmp_path / "list").write_bytes(certificates.revoked("team", authority))
        asked = [keygen("-Q", "-f", str(tmp_path / "list"), str(file)) for file in files]
        return [number for number, told in enumerate(asked, 1) if told.endswith(": REVOKED\n")]

    assert refused() == []
    assert dap("revoke", "ada", "--serial", "2") == (0, "Certificates of ada that no longer count: 2.\n")
    assert refused() == [2]
    # Somebody who is disabled and comes back has none of them.
    for verb in ("disable", "enable"):
        assert dap(verb, "ada", "--no-deploy")[0] == 0
    assert refused() == [1, 2, 4]
    assert dap("revoke", "ada") == (0, "Certificates of ada that no longer count: none was valid.\n")
    assert dap("revoke", "eve")[0] == 0
    assert refused() == [1, 2, 3, 4]
    assert dap("certify", "eve", "--key", str(key))[1].partition(":")[2].startswith(" certificate 5 of eve")
    # A key itself is not what was taken back, and another authority's numbers are its own.
    other = revocation_list(SshKey.of(Secret("another")), [1])
    (tmp_path / "list").write_bytes(other)
    assert keygen("-Q", "-f", str(tmp_path / "list"), str(files[0])).endswith(": ok\n")
    assert rotation.rotatable(site)[USER_AUTHORITY].restarts == ()


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["bob"], "there is no user bob\n  next: did you mean bob.b?"),
        (["bob.b"], "bob.b is disabled\n  next: dap -e team user enable bob.b"),
        (["ada", "--valid=8"], "--valid 8 is not a length of time\n  next: write one such as 30m or 8h"),
        (
            ["ada", "--valid=13h"],
            "--valid 13h is longer than the 12h that ssh_user_certificates allows\n  next: give 12h or less",
        ),
        (
            ["ada", "--key=none.pub"],
            "none.pub cannot be used: No such file or directory\n  next: name a file that ends in .pub",
        ),
        (
            ["ada", "--key=ed25519"],
            "ed25519 cannot be used: it holds no public SSH key\n  next: name a file that ends in .pub",
        ),
        (
            ["ada", "--output=none/cert"],
            "cannot write none/cert: No such file or directory\n  next: name another file with --output",
        ),
    ],
)
def test_what_cannot_be_certified_is_one_error(
    folder: Path, tmp_path: Path, arguments: list[str], told: str
) -> None:
    users = [USERS[0], {**USERS[1], "disabled": True}, USERS[2]]
    site_with(folder, users=users, **ON)
    deployed(folder)
    make_key(tmp_path)
    status, said = dap("certify", "--key=ed25519.pub", *arguments)
    assert (status != 0, said.replace(".venv/bin/dap", "dap")) == (True, f"error: {told}\n")
    assert not (tmp_path / "ed25519-cert.pub").exists()


def test_platform_without_certificates_or_secrets_says_so(folder: Path, tmp_path: Path) -> None:
    make_key(tmp_path)
    certify = ("certify", "ada", "--key=ed25519.pub")

    def said(*arguments: str) -> str:
        status, told = dap(*arguments)
        assert status == 2
        return told.replace(".venv/bin/dap", "dap")

    site_with(folder)
    file = "inventories/team/group_vars/all/platform.yml"
    assert said(*certify) == (
        "error: this platform has no SSH certificates for users\n"
        f"  next: write ssh_user_certificates: 12h into {file}, then deploy\n"
    )
    site_with(folder, **ON)
    never = "error: inventory team was never deployed from here\n  next: dap -e team deploy\n"
    assert said(*certify) == never
    store = deployed(folder)
    assert said("revoke", "ada", "--serial=7") == (
        "error: ada has no valid certificate 7\n  next: there is none to take back\n"
    )
    assert dap(*certify)[0] == 0
    assert said("revoke", "ada", "--serial=7") == (
        "error: ada has no valid certificate 7\n  next: there are: 1\n"
    )
    record = store.path.parent / "ssh_certificates.json"
    record.write_text("[{}]")
    assert said("revoke", "ada") == (
        "error: secrets/team/ssh_certificates.json cannot be read: it holds no list of certificates\n"
        "  next: restore it from a backup: without it, certificates that were taken back would count again\n"
    )


def test_containers_take_certificates_only_where_the_platform_has_them(folder: Path, tmp_path: Path) -> None:
    store = SecretStore(tmp_path / "secrets.yml", "team")

    def rendered(**settings: Any) -> dict[str, bytes]:
        site = site_with(folder, ADA, **settings)
        renderer = DevRenderer(site, Credentials(site, store), numbers.numbers_of(site))
        return {file.path: file.content for file in renderer.render(site.dev_containers[0]).files}

    off, on = rendered(), rendered(**ON)
    words = (b"TrustedUserCAKeys /run/dap/user_authority\n", b"RevokedKeys /run/dap/revoked_certificates\n")
    assert [word in off["config/sshd_config"] for word in words] == [False, False]
    assert [word in on["config/sshd_config"] for word in words] == [True, True]
    # A container that was made while there were some reads on: then none counts, and keys do as before.
    assert (off["live/user_authority"], off["live/revoked_certificates"]) == (b"", b"")
    authority = SshKey.of(store.get(USER_AUTHORITY))
    assert on["live/user_authority"].decode() == f"{authority.public}\n"
    assert on["live/revoked_certificates"] == revocation_list(authority, [])
    # No key has to be written down then.
    assert site_with(folder, ADA, users=[{"name": "ada"}], **ON).dev_containers


@pytest.mark.parametrize(
    "key", ["", "ssh-ed25519", "ssh-ed25519 AAAA", "ssh-dss AAAAB3NzaC1kc3M=", "ssh-ed25519 %%%", "a b\nc d"]
)
def test_what_is_no_public_key_is_not_signed(key: str) -> None:
    with pytest.raises(NotAKeyError):
        fingerprint_of(key)
