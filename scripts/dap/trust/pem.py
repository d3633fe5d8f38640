"""Certificates and keys in PEM: what they say, and whether one belongs to the other."""

from __future__ import annotations

from datetime import UTC, datetime

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric.types import PrivateKeyTypes
from cryptography.x509.oid import NameOID


def moment(now: datetime | None) -> datetime:
    """The given time, or the current one, in UTC and whole seconds as certificates keep it.

    Raises:
        ValueError: the time has no time zone.
    """
    time = now or datetime.now(UTC)
    if time.tzinfo is None:
        raise ValueError(f"a time without a time zone: {time}")
    return time.astimezone(UTC).replace(microsecond=0)


def fingerprint(certificate: x509.Certificate) -> str:
    """SHA-256 of a certificate, 64 hexadecimal digits in lower case."""
    return certificate.fingerprint(hashes.SHA256()).hex()


def common_name(name: x509.Name) -> str:
    """The common name; the whole name where it has none."""
    found = name.get_attributes_for_oid(NameOID.COMMON_NAME)
    return str(found[0].value) if found else name.rfc4514_string()


def names_of(certificate: x509.Certificate) -> set[str]:
    """The DNS names (lower case) and IP addresses among the alternative names."""
    try:
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return set()
    hosts = {name.lower() for name in names.get_values_for_type(x509.DNSName)}
    return hosts | {str(address) for address in names.get_values_for_type(x509.IPAddress)}


def is_authority(certificate: x509.Certificate) -> bool:
    """Whether the certificate may sign others."""
    try:
        return certificate.extensions.get_extension_for_class(x509.BasicConstraints).value.ca
    except x509.ExtensionNotFound:
        return False


def is_issued_by(certificate: x509.Certificate, issuer: x509.Certificate) -> bool:
    """Whether the issuer's key signed the certificate, and the names fit; dates are not looked at."""
    try:
        certificate.verify_directly_issued_by(issuer)
    except (ValueError, TypeError, InvalidSignature, UnsupportedAlgorithm):
        return False
    return True


def public_bytes(holder: x509.Certificate | PrivateKeyTypes) -> bytes:
    """The public key of a certificate or private key, in one form to compare."""
    return holder.public_key().public_bytes(
        serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
    )


def certificate_pem(*certificates: x509.Certificate) -> bytes:
    """Certificates one after the other."""
    return b"".join(certificate.public_bytes(serialization.Encoding.PEM) for certificate in certificates)


def key_pem(key: PrivateKeyTypes) -> bytes:
    """A private key as PKCS #8 without a password."""
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )


def load_certificates(content: bytes) -> list[x509.Certificate]:
    """The certificates of a PEM file, at least one.

    The library decodes most of a certificate on demand only; here is the place for what is wrong with it.

    Raises:
        ValueError: there is none, or one is damaged or of a kind that the library does not know.
    """
    try:
        certificates = x509.load_pem_x509_certificates(content)
        for certificate in certificates:
            certificate.public_key()
            for name in ("subject", "issuer", "extensions", "not_valid_before_utc", "not_valid_after_utc"):
                getattr(certificate, name)
    except ValueError:
        raise
    except Exception as error:
        # An unknown algorithm or version, an extension written twice: each has a type of its own.
        raise ValueError(str(error)) from error
    return certificates


def split_certificates(bundle: bytes) -> list[bytes]:
    """Each certificate of a PEM bundle on its own."""
    return [certificate_pem(certificate) for certificate in load_certificates(bundle)]
