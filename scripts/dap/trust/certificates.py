"""The platform's private CA and the server certificates it issues: made once, checked at every deploy.

All times are UTC with a time zone. Keys are EC P-256. The files live in the inventory's folder of secrets:
``ca.crt``, ``ca.key``, ``tls/<name>.crt`` (with the CA's certificate behind it) and ``tls/<name>.key``.
"""

from __future__ import annotations

import ipaddress
import os
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.types import PrivateKeyTypes
from cryptography.hazmat.primitives.serialization import load_pem_private_key
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from dap import files
from dap.errors import RefusedError
from dap.secrets import Secret, vault
from dap.trust import pem

CA_LIFETIME = timedelta(days=3650)
CA_WARNING = timedelta(days=30)
# Hosts whose clock is a little behind must accept a certificate that was made a second ago.
BACKDATE = timedelta(hours=1)

_COMMON_NAME_BYTES = 64


@dataclass(frozen=True)
class Authority:
    """The platform's private CA, ready to issue.

    Attributes:
        certificate: its certificate.
        key: its private key.
        certificate_pem: the certificate, for trust stores and `dap ca export`.
        fingerprint: SHA-256 of the certificate, in hexadecimal.
        not_after: end of its validity.
        created: this call made it.
        warnings: what the operator should know, one line each.
    """

    certificate: x509.Certificate = field(repr=False)
    key: ec.EllipticCurvePrivateKey = field(repr=False)
    certificate_pem: bytes = field(repr=False)
    fingerprint: str
    not_after: datetime
    created: bool
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True)
class Leaf:
    """A server's certificate and key.

    Attributes:
        certificate_pem: the certificate and its chain, the server's own first.
        key_pem: the private key, PKCS #8, not encrypted.
        not_after: end of its validity.
        renewed: this call issued it.
        reason: why it was issued; empty when it was not.
        warnings: what the operator should know, one line each.
    """

    certificate_pem: bytes = field(repr=False)
    key_pem: Secret
    not_after: datetime
    renewed: bool
    reason: str
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True)
class Description:
    """What `dap status` shows of a certificate.

    Attributes:
        names: DNS names and addresses it is good for.
        issuer: common name of who signed it.
        fingerprint: SHA-256 in hexadecimal.
        not_after: end of its validity.
        days_left: whole days until then, negative when it has expired.
    """

    names: tuple[str, ...]
    issuer: str
    fingerprint: str
    not_after: datetime
    days_left: int


def describe(leaf: Leaf, now: datetime | None = None) -> Description:
    """Names, issuer and remaining days of a certificate."""
    certificate = x509.load_pem_x509_certificates(leaf.certificate_pem)[0]
    return Description(
        tuple(sorted(pem.names_of(certificate))),
        pem.common_name(certificate.issuer),
        pem.fingerprint(certificate),
        leaf.not_after,
        (leaf.not_after - pem.moment(now)).days,
    )


def ensure_ca(
    directory: Path, name: str, expected_fingerprint: str, now: datetime | None = None
) -> Authority:
    """Load the private CA; make it where there is none and none is on record.

    A CA without a recorded fingerprint is taken over: a deploy that was killed between the two leaves it so.

    Args:
        directory: the inventory's own folder, ``secrets/<inventory>``.
        name: the platform's name, for the certificate.
        expected_fingerprint: as recorded in the secrets file; empty before there is a CA.
        now: the time, for tests.

    Raises:
        RefusedError: a part is missing, damaged, expired or another than recorded. Nothing was written.
    """
    time = pem.moment(now)
    certificate_file, key_file = directory / "ca.crt", directory / "ca.key"
    if directory.is_dir():
        files.remove_leftovers(directory)
    if not os.path.lexists(certificate_file):
        if expected_fingerprint:
            raise _ca_refused(f"{certificate_file} is missing, but this platform has a CA", directory)
        # A key alone is what a killed creation leaves: no certificate was ever made with it.
        return _create_ca(certificate_file, key_file, name, time)
    if not os.path.lexists(key_file):
        raise _ca_refused(f"{key_file} is missing, but {certificate_file} is there", directory)
    certificate, key = _read_ca(certificate_file, key_file)
    found = pem.fingerprint(certificate)
    if expected_fingerprint and found != expected_fingerprint:
        raise _ca_refused(
            f"{certificate_file} is another CA than this platform's (fingerprint {found[:16]}..., "
            f"expected {expected_fingerprint[:16]}...)",
            directory,
        )
    return _authority(certificate, key, certificate_file, time)


def ensure_leaf(
    authority: Authority,
    directory: Path,
    name: str,
    dns_names: Sequence[str],
    ip_addresses: Sequence[str] = (),
    lifetime_days: int = 365,
    now: datetime | None = None,
) -> Leaf:
    """Load a server certificate; issue it anew when it is missing, unfit or in the last third of its life.

    Args:
        authority: the CA that signs.
        directory: the inventory's own folder; the files are in ``tls/`` below.
        name: the files' name, usually the service's.
        dns_names: names the server is reached by; ``*.`` in front stands for one label.
        ip_addresses: addresses it is reached by.
        lifetime_days: of a new certificate, in days; it never outlives the CA.
        now: the time, for tests.

    Raises:
        RefusedError: the CA has expired, or a file cannot be read.
        DapError: a file cannot be written.
        ValueError: no name at all, a bad file name or lifetime (the configuration's schema refuses them).
    """
    if not re.fullmatch(r"[a-z0-9][a-z0-9._-]*", name) or lifetime_days < 1:
        raise ValueError(f"not a certificate to issue: {name!r}, {lifetime_days} days")
    names = _general_names(dns_names, ip_addresses)
    if not names:
        raise ValueError(f"the certificate {name!r} has no names")
    time = pem.moment(now)
    folder = directory / "tls"
    files.make_private_folder(folder)
    files.remove_leftovers(folder)
    request = _Request(
        authority, folder / f"{name}.crt", folder / f"{name}.key", names, timedelta(days=lifetime_days), time
    )
    return request.load_or_issue()


@dataclass(frozen=True)
class _Request:
    """One server certificate as it should be."""

    authority: Authority
    certificate_file: Path
    key_file: Path
    names: list[x509.GeneralName]
    lifetime: timedelta
    now: datetime

    @property
    def not_after(self) -> datetime:
        return min(self.now + self.lifetime, self.authority.not_after)

    def load_or_issue(self) -> Leaf:
        chain, key = _content(self.certificate_file), _content(self.key_file)
        if chain is None or key is None:
            return self._issue("there was none", key)
        # Outside of the net below: a password that is missing for the moment is no reason for a new key.
        key_pem = vault.unseal(key, self.key_file).content
        try:
            certificates = pem.load_certificates(chain)
            private = load_pem_private_key(key_pem, None)
        except (ValueError, TypeError, UnsupportedAlgorithm):
            return self._issue("its files were damaged", key)
        reason = self._unfit(certificates, private)
        if reason:
            return self._issue(reason, key)
        end = certificates[0].not_valid_after_utc
        # Without what else may stand in the files.
        chain, key_pem = pem.certificate_pem(*certificates), pem.key_pem(private)
        return Leaf(chain, Secret(key_pem.decode()), end, False, "", self.authority.warnings)

    def _unfit(self, chain: list[x509.Certificate], key: PrivateKeyTypes) -> str:
        """Why the certificate cannot stay, empty when it can."""
        certificate, authority = chain[0], self.authority.certificate
        if not pem.is_issued_by(certificate, authority) or chain[1:] != [authority]:
            return "it was not issued by the platform's CA"
        if pem.public_bytes(certificate) != pem.public_bytes(key):
            return "its key did not match"
        wanted = {str(name.value) for name in self.names}
        found = pem.names_of(certificate)
        if wanted != found:
            changes = [f"+{name}" for name in sorted(wanted - found)]
            changes += [f"-{name}" for name in sorted(found - wanted)]
            return f"its names changed: {' '.join(changes)}"
        return self._outdated(certificate)

    def _outdated(self, certificate: x509.Certificate) -> str:
        start, end = certificate.not_valid_before_utc, certificate.not_valid_after_utc
        left = end - self.now
        if left <= timedelta(0):
            return f"it expired on {end:%Y-%m-%d}"
        if start > self.now:
            return f"it is valid from {start:%Y-%m-%d} only; the clock was wrong, or is"
        if left > self.lifetime + BACKDATE:
            return f"its lifetime is now {self.lifetime.days} days"
        # Near the end of the CA a new one would end at the same time: it would be renewed at every deploy.
        if left < self.lifetime / 3 and self.not_after > end:
            return f"it expires on {end:%Y-%m-%d}"
        return ""

    def _issue(self, reason: str, old_key: bytes | None) -> Leaf:
        if self.not_after <= self.now:
            folder = self.certificate_file.parent.parent
            raise _ca_expired("the platform's CA", self.authority.not_after, folder)
        key = ec.generate_private_key(ec.SECP256R1())
        certificate = self._sign(key)
        key_pem = pem.key_pem(key)
        # Key first: a run that is killed between the two leaves a pair that does not match, which is seen.
        vault_id = vault.vault_id_of(old_key or b"")
        files.write_atomic(self.key_file, vault.seal(key_pem, vault_id, self.key_file), files.PRIVATE_FILE)
        chain = pem.certificate_pem(certificate) + self.authority.certificate_pem
        files.write_atomic(self.certificate_file, chain, files.PUBLIC_FILE)
        end = certificate.not_valid_after_utc
        return Leaf(chain, Secret(key_pem.decode()), end, True, reason, self.authority.warnings)

    def _sign(self, key: ec.EllipticCurvePrivateKey) -> x509.Certificate:
        authority = self.authority.certificate
        # The first name that fits; clients look at the alternative names only.
        fitting = (str(name.value) for name in self.names if len(str(name.value)) <= _COMMON_NAME_BYTES)
        title = next(fitting, self.certificate_file.stem)
        builder = _builder(
            title, key, max(self.now - BACKDATE, authority.not_valid_before_utc), self.not_after
        )
        identifier = authority.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value
        return (
            builder.issuer_name(authority.subject)
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(_key_usage(signs_certificates=False), critical=True)
            .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
            .add_extension(x509.SubjectAlternativeName(self.names), critical=False)
            .add_extension(
                x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(identifier), critical=False
            )
            .sign(self.authority.key, hashes.SHA256())
        )


def _create_ca(certificate_file: Path, key_file: Path, name: str, now: datetime) -> Authority:
    key = ec.generate_private_key(ec.SECP256R1())
    identifier = x509.SubjectKeyIdentifier.from_public_key(key.public_key())
    # The number tells two CAs of one platform apart in a browser's list.
    suffix = f" private CA {identifier.digest.hex()[:8]}"
    title = name.encode()[: _COMMON_NAME_BYTES - len(suffix)].decode(errors="ignore") + suffix
    certificate = (
        _builder(title, key, now - BACKDATE, now + CA_LIFETIME)
        .issuer_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, title)]))
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_key_usage(signs_certificates=True), critical=True)
        .sign(key, hashes.SHA256())
    )
    files.make_private_folder(certificate_file.parent)
    files.write_atomic(key_file, pem.key_pem(key), files.PRIVATE_FILE)
    files.write_atomic(certificate_file, pem.certificate_pem(certificate), files.PUBLIC_FILE)
    return _authority(certificate, key, certificate_file, now, created=True)


def _authority(
    certificate: x509.Certificate,
    key: ec.EllipticCurvePrivateKey,
    certificate_file: Path,
    now: datetime,
    created: bool = False,
) -> Authority:
    end = certificate.not_valid_after_utc
    if certificate.not_valid_before_utc > now:
        raise RefusedError(
            f"{certificate_file} is valid from {certificate.not_valid_before_utc:%Y-%m-%d} only",
            "set this machine's clock",
        )
    if end <= now:
        raise _ca_expired(str(certificate_file), end, certificate_file.parent)
    warnings: tuple[str, ...] = ()
    if end - now < CA_WARNING:
        warnings = (f"the platform's CA expires on {end:%Y-%m-%d}, and all its certificates with it",)
    return Authority(
        certificate,
        key,
        pem.certificate_pem(certificate),
        pem.fingerprint(certificate),
        end,
        created,
        warnings,
    )


def _read_ca(certificate_file: Path, key_file: Path) -> tuple[x509.Certificate, ec.EllipticCurvePrivateKey]:
    folder = certificate_file.parent
    certificate = read_ca_certificate(folder)
    raw = vault.unseal(_content(key_file) or b"", key_file).content
    try:
        key = load_pem_private_key(raw, None)
    except (ValueError, TypeError, UnsupportedAlgorithm) as error:
        raise _ca_refused(f"{key_file} is damaged", folder) from error
    if not isinstance(key, ec.EllipticCurvePrivateKey) or pem.public_bytes(key) != pem.public_bytes(
        certificate
    ):
        raise _ca_refused(f"{key_file} is not the key of {certificate_file}", folder)
    return certificate, key


def read_ca_certificate(directory: Path) -> x509.Certificate:
    """The certificate of the private CA that there is.

    Args:
        directory: the inventory's own folder, ``secrets/<inventory>``.

    Raises:
        RefusedError: it cannot be read, is damaged, or is none of a CA.
    """
    file = directory / "ca.crt"
    try:
        certificate = pem.load_certificates(_content(file) or b"")[0]
        certificate.extensions.get_extension_for_class(x509.SubjectKeyIdentifier)
    except (ValueError, x509.ExtensionNotFound) as error:
        raise _ca_refused(f"{file} is damaged", directory) from error
    if not pem.is_authority(certificate):
        raise _ca_refused(f"{file} is no certificate of a CA", directory)
    return certificate


def _ca_refused(what: str, folder: Path) -> RefusedError:
    return RefusedError(
        what,
        f"restore {folder}/ca.crt and ca.key from a backup; for a new CA, which every user has to trust "
        f"anew, remove both and write ca_fingerprint: '' in {folder}/secrets.yml",
    )


def _ca_expired(what: str, end: datetime, folder: Path) -> RefusedError:
    # No backup holds one that is still good: an expired CA is replaced, and everybody has to hear of it.
    return RefusedError(
        f"{what} expired on {end:%Y-%m-%d}, and with it all certificates of the platform",
        f"make a new CA, which every user has to trust anew: remove ca.crt and ca.key in {folder}, write "
        f"ca_fingerprint: '' in {folder}/secrets.yml, and deploy",
    )


def _content(path: Path) -> bytes | None:
    """The content of a file, None where there is none."""
    try:
        return files.read(path)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise files.unreadable(path, error) from error


def _builder(
    title: str, key: ec.EllipticCurvePrivateKey, start: datetime, end: datetime
) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, title)]))
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(start)
        .not_valid_after(end)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
    )


def _key_usage(signs_certificates: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not signs_certificates,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=signs_certificates,
        crl_sign=signs_certificates,
        encipher_only=False,
        decipher_only=False,
    )


def _general_names(dns_names: Sequence[str], ip_addresses: Sequence[str]) -> list[x509.GeneralName]:
    hosts = dict.fromkeys(name.lower() for name in dns_names)
    addresses = dict.fromkeys(ipaddress.ip_address(address) for address in ip_addresses)
    return [*map(x509.DNSName, hosts), *map(x509.IPAddress, addresses)]
