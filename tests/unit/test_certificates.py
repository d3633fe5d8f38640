"""The private CA and what it issues: taken by real TLS clients, renewed in time, never replaced unasked."""

from __future__ import annotations

import os
import socket
import ssl
import subprocess
import sys
import threading
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID

from dap.errors import RefusedError
from dap.trust import pem
from dap.trust.certificates import Authority, Leaf, describe, ensure_ca, ensure_leaf

NOW = datetime(2030, 5, 1, 12, 0, 0, tzinfo=UTC)
DAY = timedelta(days=1)
SECOND = timedelta(seconds=1)
CA_END = NOW + 3650 * DAY
NAMES = ("mlflow.dap.localhost", "*.dap.localhost")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    path = tmp_path / "secrets" / "local"
    path.mkdir(parents=True, mode=0o700)
    return path


@pytest.fixture
def authority(folder: Path) -> Authority:
    return ensure_ca(folder, "Data Lab", "", NOW)


def issue(authority: Authority, folder: Path, **changes: Any) -> Leaf:
    wanted: dict[str, Any] = {
        "dns_names": NAMES,
        "ip_addresses": ("10.0.0.7",),
        "lifetime_days": 90,
        "now": NOW,
    }
    return ensure_leaf(authority, folder, "mlflow", **(wanted | changes))


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def certificate(leaf: Leaf) -> x509.Certificate:
    return x509.load_pem_x509_certificates(leaf.certificate_pem)[0]


# --- the CA ---


def test_a_ca_is_made_where_there_is_none(folder: Path) -> None:
    authority = ensure_ca(folder, "Data Lab", "", NOW)
    made = authority.certificate
    number = made.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value.digest.hex()[:8]
    assert pem.common_name(made.subject) == f"Data Lab private CA {number}"
    assert made.issuer == made.subject
    assert authority.created
    assert authority.warnings == ()
    assert authority.fingerprint == pem.fingerprint(made)
    assert authority.not_after == CA_END
    assert made.not_valid_before_utc == NOW - timedelta(hours=1)
    assert isinstance(authority.key.curve, ec.SECP256R1)
    constraints = made.extensions.get_extension_for_class(x509.BasicConstraints)
    assert (constraints.critical, constraints.value) == (True, x509.BasicConstraints(ca=True, path_length=0))
    usage = made.extensions.get_extension_for_class(x509.KeyUsage)
    assert usage.critical
    assert (usage.value.key_cert_sign, usage.value.crl_sign, usage.value.digital_signature) == (
        True,
        True,
        False,
    )
    assert (folder / "ca.crt").read_bytes() == authority.certificate_pem
    assert (folder / "ca.crt").stat().st_mode & 0o777 == 0o644
    assert (folder / "ca.key").stat().st_mode & 0o777 == 0o600


def test_the_ca_is_loaded_the_second_time(folder: Path, authority: Authority) -> None:
    before = contents(folder)
    again = ensure_ca(folder, "Another Name", authority.fingerprint, NOW + DAY)
    assert not again.created
    assert again.certificate == authority.certificate
    assert contents(folder) == before


def test_two_cas_of_one_platform_have_different_names(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    first, second = (ensure_ca(tmp_path / name, "Data Lab", "", NOW) for name in "ab")
    assert first.certificate.subject != second.certificate.subject


def test_a_long_name_is_cut_to_what_a_certificate_holds(folder: Path) -> None:
    made = ensure_ca(folder, "Forschungsgruppe für räumliche Ökonometrie " * 3, "", NOW).certificate
    name = pem.common_name(made.subject)
    assert name.startswith("Forschungsgruppe für räumliche Ökonometri")
    assert " private CA " in name
    assert len(name.encode()) <= 64


def test_a_ca_whose_fingerprint_was_never_recorded_is_taken_over(folder: Path, authority: Authority) -> None:
    again = ensure_ca(folder, "Data Lab", "", NOW)
    assert (again.created, again.fingerprint) == (False, authority.fingerprint)


def test_a_ca_that_was_killed_while_it_was_made_is_made_anew(folder: Path) -> None:
    program = """
import os, signal, sys
from pathlib import Path
from dap import files
from dap.trust import certificates
write = files.write_atomic
def kill_at_the_certificate(path, content, mode):
    if path.suffix == ".crt":
        os.kill(os.getpid(), signal.SIGKILL)
    write(path, content, mode)
files.write_atomic = kill_at_the_certificate
certificates.ensure_ca(Path(sys.argv[1]), "Data Lab", "")
"""
    assert subprocess.run([sys.executable, "-c", program, str(folder)], check=False).returncode == -9
    assert set(contents(folder)) == {"ca.key"}
    authority = ensure_ca(folder, "Data Lab", "", NOW)
    assert authority.created
    assert set(contents(folder)) == {"ca.crt", "ca.key"}


def restore(folder: Path) -> str:
    return (
        f"restore {folder}/ca.crt and ca.key from a backup; for a new CA, which every user has to trust "
        f"anew, remove both and write ca_fingerprint: '' in {folder}/secrets.yml"
    )


def other_ca(folder: Path) -> Authority:
    elsewhere = folder.parent / "other"
    elsewhere.mkdir()
    return ensure_ca(elsewhere, "Other", "", NOW)


def test_a_ca_that_is_gone_is_not_replaced(folder: Path, authority: Authority) -> None:
    (folder / "ca.crt").unlink()
    (folder / "ca.key").unlink()
    with pytest.raises(RefusedError) as caught:
        ensure_ca(folder, "Data Lab", authority.fingerprint, NOW)
    assert str(caught.value) == (
        f"{folder}/ca.crt is missing, but this platform has a CA\n  next: {restore(folder)}"
    )
    assert contents(folder) == {}


@pytest.mark.parametrize("recorded", [True, False])
def test_a_ca_without_its_key_is_refused(folder: Path, authority: Authority, recorded: bool) -> None:
    (folder / "ca.key").unlink()
    with pytest.raises(RefusedError) as caught:
        ensure_ca(folder, "Data Lab", authority.fingerprint if recorded else "", NOW)
    assert str(caught.value) == (
        f"{folder}/ca.key is missing, but {folder}/ca.crt is there\n  next: {restore(folder)}"
    )


def test_another_ca_than_the_recorded_one_is_refused(folder: Path, authority: Authority) -> None:
    other = other_ca(folder)
    for name in ("ca.crt", "ca.key"):
        (folder / name).write_bytes((folder.parent / "other" / name).read_bytes())
    with pytest.raises(RefusedError) as caught:
        ensure_ca(folder, "Data Lab", authority.fingerprint, NOW)
    assert str(caught.value) == (
        f"{folder}/ca.crt is another CA than this platform's (fingerprint {other.fingerprint[:16]}..., "
        f"expected {authority.fingerprint[:16]}...)\n  next: {restore(folder)}"
    )


def test_a_key_of_another_ca_is_refused(folder: Path, authority: Authority) -> None:
    (folder / "ca.key").write_bytes(pem.key_pem(other_ca(folder).key))
    with pytest.raises(RefusedError) as caught:
        ensure_ca(folder, "Data Lab", authority.fingerprint, NOW)
    assert (
        str(caught.value) == f"{folder}/ca.key is not the key of {folder}/ca.crt\n  next: {restore(folder)}"
    )


@pytest.mark.parametrize("name", ["ca.crt", "ca.key"])
@pytest.mark.parametrize("content", ["", "garbage", "half"])
def test_a_damaged_ca_is_refused_and_left_as_it_is(
    folder: Path, authority: Authority, name: str, content: str
) -> None:
    whole = (folder / name).read_bytes()
    (folder / name).write_bytes(whole[: len(whole) // 2] if content == "half" else content.encode())
    before = contents(folder)
    with pytest.raises(RefusedError) as caught:
        ensure_ca(folder, "Data Lab", authority.fingerprint, NOW)
    assert str(caught.value) == f"{folder}/{name} is damaged\n  next: {restore(folder)}"
    assert contents(folder) == before


def test_a_server_certificate_is_no_ca(folder: Path, authority: Authority) -> None:
    leaf = issue(authority, folder)
    (folder / "ca.crt").write_bytes(leaf.certificate_pem)
    with pytest.raises(RefusedError) as caught:
        ensure_ca(folder, "Data Lab", "", NOW)
    assert caught.value.message == f"{folder}/ca.crt is no certificate of a CA"


def test_a_ca_that_cannot_be_read_is_refused(folder: Path) -> None:
    (folder / "ca.crt").mkdir()
    (folder / "ca.key").touch()
    with pytest.raises(RefusedError) as caught:
        ensure_ca(folder, "Data Lab", "", NOW)
    assert str(caught.value) == (
        f"{folder}/ca.crt cannot be read: Is a directory\n"
        "  next: run dap as the user who owns it, or correct its permissions"
    )


@pytest.mark.parametrize(
    ("now", "warnings"),
    [
        (CA_END - 30 * DAY, ()),
        (
            CA_END - 30 * DAY + SECOND,
            ("the platform's CA expires on 2040-04-28, and all its certificates with it",),
        ),
        (
            CA_END - SECOND,
            ("the platform's CA expires on 2040-04-28, and all its certificates with it",),
        ),
    ],
)
def test_the_end_of_the_ca_is_announced(
    folder: Path, authority: Authority, now: datetime, warnings: tuple[str, ...]
) -> None:
    again = ensure_ca(folder, "Data Lab", authority.fingerprint, now)
    assert again.warnings == warnings
    assert issue(again, folder, now=now).warnings == warnings


def test_an_expired_ca_is_refused(folder: Path, authority: Authority) -> None:
    with pytest.raises(RefusedError) as caught:
        ensure_ca(folder, "Data Lab", authority.fingerprint, CA_END)
    told = "expired on 2040-04-28, and with it all certificates of the platform"
    anew = (
        f"make a new CA, which every user has to trust anew: remove ca.crt and ca.key in {folder}, write "
        f"ca_fingerprint: '' in {folder}/secrets.yml, and deploy"
    )
    assert str(caught.value) == f"{folder}/ca.crt {told}\n  next: {anew}"
    with pytest.raises(RefusedError) as late:
        issue(authority, folder, now=CA_END)
    assert str(late.value) == f"the platform's CA {told}\n  next: {anew}"


def test_a_clock_before_the_ca_is_told(folder: Path, authority: Authority) -> None:
    with pytest.raises(RefusedError) as caught:
        ensure_ca(folder, "Data Lab", authority.fingerprint, NOW - DAY)
    assert (
        str(caught.value)
        == f"{folder}/ca.crt is valid from 2030-05-01 only\n  next: set this machine's clock"
    )


def test_an_encrypted_key_of_the_ca_is_read(
    folder: Path, authority: Authority, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    password = tmp_path / "password"
    password.write_text("correct horse")
    monkeypatch.setenv("ANSIBLE_VAULT_PASSWORD_FILE", str(password))
    first = issue(authority, folder)
    tool = Path(sys.executable).with_name("ansible-vault")
    keys = [folder / "ca.key", folder / "tls" / "mlflow.key"]
    subprocess.run([tool, "encrypt", *keys], check=True, capture_output=True)
    again = ensure_ca(folder, "Data Lab", authority.fingerprint, NOW)
    kept = issue(again, folder)
    assert (kept.renewed, kept.key_pem) == (False, first.key_pem)
    renewed = issue(again, folder, dns_names=("new.dap.localhost",))
    assert renewed.renewed
    assert keys[1].read_bytes().startswith(b"$ANSIBLE_VAULT;")
    assert issue(again, folder, dns_names=("new.dap.localhost",)).key_pem == renewed.key_pem


# --- server certificates ---


def test_a_certificate_holds_what_clients_look_at(folder: Path, authority: Authority) -> None:
    leaf = issue(
        authority, folder, dns_names=("MLflow.dap.localhost", "*.dap.localhost", "mlflow.dap.localhost")
    )
    made = certificate(leaf)
    extensions = made.extensions
    names = extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert names.get_values_for_type(x509.DNSName) == ["mlflow.dap.localhost", "*.dap.localhost"]
    assert [str(address) for address in names.get_values_for_type(x509.IPAddress)] == ["10.0.0.7"]
    purpose = extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    assert list(purpose) == [ExtendedKeyUsageOID.SERVER_AUTH]
    assert not extensions.get_extension_for_class(x509.BasicConstraints).value.ca
    signer = extensions.get_extension_for_class(x509.AuthorityKeyIdentifier).value.key_identifier
    own = authority.certificate.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value.digest
    assert signer == own
    assert pem.common_name(made.subject) == "mlflow.dap.localhost"
    assert (made.not_valid_before_utc, made.not_valid_after_utc) == (NOW - timedelta(hours=1), NOW + 90 * DAY)
    assert leaf.certificate_pem == pem.certificate_pem(made, authority.certificate)
    assert (leaf.renewed, leaf.reason, leaf.not_after) == (True, "there was none", NOW + 90 * DAY)
    assert (folder / "tls" / "mlflow.key").stat().st_mode & 0o777 == 0o600
    assert (folder / "tls").stat().st_mode & 0o777 == 0o700
    assert "PRIVATE" not in repr(leaf)
    assert "PRIVATE" in leaf.key_pem.reveal()


def test_a_good_certificate_stays(folder: Path, authority: Authority) -> None:
    first = issue(authority, folder)
    before = contents(folder)
    again = issue(authority, folder, dns_names=NAMES[::-1], now=NOW + 30 * DAY)
    assert (again.renewed, again.reason) == (False, "")
    assert (again.certificate_pem, again.key_pem) == (first.certificate_pem, first.key_pem)
    assert contents(folder) == before


def test_names_longer_than_a_common_name_are_possible(folder: Path, authority: Authority) -> None:
    long = f"{'a' * 60}.dap.localhost"
    made = certificate(issue(authority, folder, dns_names=(long,), ip_addresses=()))
    assert pem.common_name(made.subject) == "mlflow"
    assert pem.names_of(made) == {long}


def test_a_certificate_never_outlives_the_ca_nor_is_renewed_in_vain(
    folder: Path, authority: Authority
) -> None:
    now = CA_END - 60 * DAY
    leaf = issue(authority, folder, now=now)
    assert leaf.not_after == CA_END
    for days in (1, 40, 59):
        assert not issue(authority, folder, now=now + days * DAY).renewed


@pytest.mark.parametrize(
    ("when", "reason"),
    [
        (NOW - timedelta(hours=1), ""),
        (NOW - timedelta(hours=1) - SECOND, "it is valid from 2030-05-01 only; the clock was wrong, or is"),
        (NOW + 60 * DAY, ""),
        (NOW + 60 * DAY + SECOND, "it expires on 2030-07-30"),
        (NOW + 90 * DAY - SECOND, "it expires on 2030-07-30"),
        (NOW + 90 * DAY, "it expired on 2030-07-30"),
    ],
)
def test_a_certificate_is_renewed_in_the_last_third_of_its_life(
    folder: Path, when: datetime, reason: str
) -> None:
    authority = ensure_ca(folder, "Data Lab", "", NOW - DAY)
    issue(authority, folder)
    leaf = issue(authority, folder, now=when)
    assert (leaf.renewed, leaf.reason) == (bool(reason), reason)
    assert not issue(authority, folder, now=when).renewed


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"dns_names": ("mlflow.dap.localhost",)}, "its names changed: -*.dap.localhost"),
        ({"dns_names": (*NAMES, "dap.localhost")}, "its names changed: +dap.localhost"),
        ({"ip_addresses": ("10.0.0.8", "fd00::1")}, "its names changed: +10.0.0.8 +fd00::1 -10.0.0.7"),
        ({"lifetime_days": 30}, "its lifetime is now 30 days"),
        ({"lifetime_days": 365}, "it expires on 2030-07-30"),
    ],
)
def test_a_certificate_follows_the_configuration(
    folder: Path, authority: Authority, changes: dict[str, Any], reason: str
) -> None:
    first = issue(authority, folder)
    leaf = issue(authority, folder, **changes)
    assert (leaf.renewed, leaf.reason) == (True, reason)
    assert certificate(leaf).serial_number != certificate(first).serial_number
    assert leaf.key_pem != first.key_pem
    assert not issue(authority, folder, **changes).renewed


def test_a_certificate_of_another_ca_is_replaced(folder: Path, authority: Authority) -> None:
    issue(other_ca(folder), folder)
    assert issue(authority, folder).reason == "it was not issued by the platform's CA"


def test_a_chain_that_was_changed_is_replaced(folder: Path, authority: Authority) -> None:
    leaf = issue(authority, folder)
    (folder / "tls" / "mlflow.crt").write_bytes(pem.certificate_pem(certificate(leaf)))
    again = issue(authority, folder)
    assert (again.reason, again.certificate_pem.count(b"BEGIN")) == (
        "it was not issued by the platform's CA",
        2,
    )


@pytest.mark.parametrize(
    ("name", "content", "reason"),
    [
        ("mlflow.crt", None, "there was none"),
        ("mlflow.key", None, "there was none"),
        ("mlflow.crt", b"", "its files were damaged"),
        ("mlflow.key", b"", "its files were damaged"),
        ("mlflow.key", b"-----BEGIN PRIVATE KEY-----\nMIGHAgEAMB", "its files were damaged"),
        ("mlflow.key", pem.key_pem(ec.generate_private_key(ec.SECP256R1())), "its key did not match"),
    ],
)
def test_unfit_files_are_replaced(
    folder: Path, authority: Authority, name: str, content: bytes | None, reason: str
) -> None:
    issue(authority, folder)
    if content is None:
        (folder / "tls" / name).unlink()
    else:
        (folder / "tls" / name).write_bytes(content)
    assert issue(authority, folder).reason == reason
    assert not issue(authority, folder).renewed


def test_a_renewal_that_was_interrupted_is_done_again(
    folder: Path, authority: Authority, monkeypatch: pytest.MonkeyPatch
) -> None:
    issue(authority, folder)
    replace = os.replace

    def fail_at_the_certificate(source: Path, target: Path) -> None:
        if target.suffix == ".crt":
            raise KeyboardInterrupt
        replace(source, target)

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(os, "replace", fail_at_the_certificate)
        issue(authority, folder, dns_names=("new.dap.localhost",))
    again = issue(authority, folder)
    assert again.reason == "its key did not match"
    assert set(contents(folder)) == {"ca.crt", "ca.key", "tls/mlflow.crt", "tls/mlflow.key"}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"dns_names": (), "ip_addresses": ()}, "the certificate 'mlflow' has no names"),
        ({"lifetime_days": 0}, "not a certificate to issue: 'mlflow', 0 days"),
        ({"now": datetime(2030, 5, 1)}, "a time without a time zone: 2030-05-01 00:00:00"),
    ],
)
def test_nonsense_is_a_programming_error(
    folder: Path, authority: Authority, changes: dict[str, Any], message: str
) -> None:
    with pytest.raises(ValueError, match=f"^{message}$"):
        issue(authority, folder, **changes)


@pytest.mark.parametrize("name", ["../ca", "", ".hidden", "a/b"])
def test_a_file_name_stays_in_its_folder(folder: Path, authority: Authority, name: str) -> None:
    with pytest.raises(ValueError, match="not a certificate to issue"):
        ensure_leaf(authority, folder, name, NAMES)


def test_a_description_says_who_when_and_how_long(folder: Path, authority: Authority) -> None:
    leaf = issue(authority, folder)
    shown = describe(leaf, NOW + 10 * DAY + SECOND)
    assert shown.names == ("*.dap.localhost", "10.0.0.7", "mlflow.dap.localhost")
    assert shown.issuer == pem.common_name(authority.certificate.subject)
    assert shown.fingerprint == pem.fingerprint(certificate(leaf))
    assert (shown.not_after, shown.days_left) == (NOW + 90 * DAY, 79)
    assert describe(leaf, NOW + 91 * DAY).days_left == -1


# --- real clients ---


def handshake(folder: Path, leaf: Leaf, trusted: bytes, host: str) -> str:
    """Connects with the name `host`; what the client says: empty, or why it refused."""
    key, chain = folder / "served.key", folder / "served.crt"
    key.write_text(leaf.key_pem.reveal())
    chain.write_bytes(leaf.certificate_pem)
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server.load_cert_chain(chain, key)
    client = ssl.create_default_context(cadata=trusted.decode())
    # What newer Pythons do by default: extensions as the standard demands them.
    client.verify_flags |= ssl.VERIFY_X509_STRICT | ssl.VERIFY_X509_PARTIAL_CHAIN
    here, there = socket.socketpair()

    def serve() -> None:
        with there:
            try:
                server.wrap_socket(there, server_side=True).close()
            except (ssl.SSLError, OSError):
                return

    thread = threading.Thread(target=serve)
    thread.start()
    try:
        with here, client.wrap_socket(here, server_hostname=host):
            return ""
    except ssl.SSLCertVerificationError as error:
        return error.verify_message
    finally:
        here.close()
        thread.join(10)


@pytest.mark.parametrize(
    ("host", "refusal"),
    [
        ("mlflow.dap.localhost", ""),
        ("anything.dap.localhost", ""),
        ("10.0.0.7", ""),
        ("10.0.0.8", "IP address mismatch, certificate is not valid for '10.0.0.8'."),
        ("dap.localhost", "Hostname mismatch, certificate is not valid for 'dap.localhost'."),
        ("a.b.dap.localhost", "Hostname mismatch, certificate is not valid for 'a.b.dap.localhost'."),
    ],
)
def test_a_client_accepts_the_names_and_no_others(folder: Path, host: str, refusal: str) -> None:
    authority = ensure_ca(folder, "Data Lab", "")
    leaf = issue(authority, folder, now=None)
    assert handshake(folder, leaf, authority.certificate_pem, host) == refusal


def test_a_client_without_the_ca_refuses(folder: Path) -> None:
    leaf = issue(ensure_ca(folder, "Data Lab", ""), folder, now=None)
    stranger = ensure_ca(folder.parent / "other", "Other", "")
    refusal = handshake(folder, leaf, stranger.certificate_pem, "mlflow.dap.localhost")
    assert refusal == "self-signed certificate in certificate chain"


def test_a_client_refuses_an_expired_certificate(folder: Path) -> None:
    past = datetime.now(UTC) - 100 * DAY
    authority = ensure_ca(folder, "Data Lab", "", past)
    leaf = issue(authority, folder, now=past)
    refusal = handshake(folder, leaf, authority.certificate_pem, "mlflow.dap.localhost")
    assert refusal == "certificate has expired"


def test_a_server_certificate_cannot_sign(folder: Path, authority: Authority) -> None:
    """With path length 0 the CA forbids other CAs below it."""
    assert not pem.is_authority(certificate(issue(authority, folder)))
    limit = authority.certificate.extensions.get_extension_for_class(x509.BasicConstraints).value.path_length
    assert limit == 0
