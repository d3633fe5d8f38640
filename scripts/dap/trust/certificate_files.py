"""The operator's own certificate (``tls.mode: files``): everything that is wrong with it, found at once."""

from __future__ import annotations

import ipaddress
import re
import warnings
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from itertools import pairwise
from pathlib import Path

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.asymmetric.types import PrivateKeyTypes
from cryptography.hazmat.primitives.serialization import load_pem_private_key
from cryptography.x509.oid import ExtendedKeyUsageOID

from dap.errors import ConfigurationError, Finding, RefusedError
from dap.files import read
from dap.secrets import Secret, vault
from dap.trust import pem
from dap.trust.certificates import Leaf

SYSTEM_BUNDLE = Path("/etc/ssl/certs/ca-certificates.crt")
SOON = timedelta(days=14)

_CERTIFICATE = "tls.certificate"
_KEY = "tls.key"
_BLOCK = re.compile(rb"-----BEGIN CERTIFICATE-----.+?-----END CERTIFICATE-----\n?", re.DOTALL)
# What every browser takes; Ed25519 and P-521 are in the standards, but not in Chrome or Firefox.
_CURVES = ("secp256r1", "secp384r1")
_ORDER = "put the server's certificate first, then each issuer, up to the CA"


def check_files(
    certificate: Path,
    key: Path,
    names: Sequence[str],
    now: datetime | None = None,
    ca_bundle: Path | None = None,
    source: str = "platform.yml",
) -> Leaf:
    """Check the operator's certificate and key.

    Args:
        certificate: PEM file with the server's certificate and the chain of its issuers.
        key: PEM file with the private key; may be encrypted with ansible-vault, not by itself.
        names: DNS names (``*.`` in front asks for the wildcard itself) and IP addresses that must be covered.
        now: the time, for tests.
        ca_bundle: the CAs that may end the chain; default is the system's store.
        source: the operator's file that names the two, for the findings.

    Returns:
        the pair; of the certificate file only the certificates.

    Raises:
        ConfigurationError: all that is wrong, at paths ``tls.certificate`` and ``tls.key``.
    """
    check = _Check(source, certificate, key, pem.moment(now))
    chain, private = check.read_chain(), check.read_key()
    if chain:
        check.leaf(chain[0], names)
        check.chain(chain, load_bundle(ca_bundle or SYSTEM_BUNDLE))
    if chain and private:
        check.match(chain, private)
    if check.findings or not chain or not private:
        raise ConfigurationError(check.findings)
    key_pem = Secret(pem.key_pem(private).decode())
    end = min(item.not_valid_after_utc for item in chain)
    return Leaf(pem.certificate_pem(*chain), key_pem, end, False, "", tuple(check.warnings))


def covers(pattern: str, name: str) -> bool:
    """Whether a name in a certificate is good for a host name; a wildcard stands for exactly one label.

    Source: RFC 6125, section 6.4.3.
    """
    pattern, name = pattern.lower().rstrip("."), name.lower().rstrip(".")
    if pattern == name:
        return True
    label, _, rest = name.partition(".")
    # An address is no host name: the last number of 10.0.0.1 is not under "*.0.0.1"'s roof.
    return pattern == f"*.{rest}" and bool(label and rest) and label != "*" and not _is_address(name)


@dataclass
class _Check:
    """Collects what is wrong with one pair of files."""

    source: str
    certificate_file: Path
    key_file: Path
    now: datetime
    findings: list[Finding] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)

    def wrong(self, path: str, reason: str, suggestion: str) -> None:
        """Note a finding."""
        value = self.certificate_file if path == _CERTIFICATE else self.key_file
        self.findings.append(Finding(self.source, path, repr(str(value)), reason, suggestion))

    def read_chain(self) -> list[x509.Certificate]:
        """The certificates of the file; empty when something is wrong with it."""
        raw = self._read(_CERTIFICATE, self.certificate_file)
        if raw is None:
            return []
        try:
            chain = pem.load_certificates(raw)
        except ValueError:
            found = "is damaged" if b"-----BEGIN CERTIFICATE-----" in raw else "holds no certificate in PEM"
            self.wrong(
                _CERTIFICATE,
                f"the file {found}",
                "write a PEM file; of a DER file: openssl x509 -inform der -in FILE -out NEW",
            )
            return []
        return chain

    def read_key(self) -> PrivateKeyTypes | None:
        """The private key; None when something is wrong with the file."""
        raw = self._read(_KEY, self.key_file)
        if raw is None:
            return None
        try:
            content = vault.unseal(raw, self.key_file).content
            key = load_pem_private_key(content, None)
        except RefusedError as error:
            self.wrong(_KEY, error.message, error.next_step)
        except TypeError:
            self.wrong(
                _KEY,
                "the key is encrypted with a password, which nobody can type when a server starts",
                "remove the password: openssl pkey -in FILE -out NEW (ansible-vault may encrypt the file)",
            )
        except (ValueError, UnsupportedAlgorithm):
            self.wrong(_KEY, "the file holds no private key in PEM", "write a PEM file with the key only")
        else:
            if self.key_file.stat().st_mode & 0o007:
                self.warnings.append(f"{self.key_file} can be read by every user of this machine")
            return key
        return None

    def match(self, chain: list[x509.Certificate], key: PrivateKeyTypes) -> None:
        """The key is the one of the first certificate."""
        wanted = pem.public_bytes(key)
        if pem.public_bytes(chain[0]) == wanted:
            return
        for number, other in enumerate(chain[1:], start=2):
            if pem.public_bytes(other) == wanted:
                self.wrong(
                    _KEY, f"the key belongs to certificate {number} of the chain, not the first", _ORDER
                )
                return
        self.wrong(
            _KEY,
            "the key does not belong to the certificate",
            "name the key that the certificate was made for",
        )

    def leaf(self, certificate: x509.Certificate, names: Sequence[str]) -> None:
        """The server's own certificate: names, purpose, key."""
        patterns = pem.names_of(certificate)
        missing = [name for name in names if not any(covers(pattern, name) for pattern in patterns)]
        if missing:
            self.wrong(
                _CERTIFICATE,
                f"the certificate does not cover {', '.join(missing)}; it is for "
                f"{', '.join(sorted(patterns)) or 'no name (clients ignore the common name)'}",
                "order one with these alternative names, or with a wildcard",
            )
        try:
            usage = certificate.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
        except x509.ExtensionNotFound:
            usage = None
        if usage and not {ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.ANY_EXTENDED_KEY_USAGE} & set(
            usage
        ):
            self.wrong(
                _CERTIFICATE, "the certificate is not for servers", "order one for server authentication"
            )

    def chain(self, chain: list[x509.Certificate], bundle: list[x509.Certificate]) -> None:
        """Every certificate: dates, strength, and that the next one issued it."""
        for number, certificate in enumerate(chain, start=1):
            title = f"certificate {number} ({pem.common_name(certificate.subject)})"
            self._dates(certificate, title)
            self._strength(certificate, title)
        for number, (certificate, issuer) in enumerate(pairwise(chain), start=1):
            if not _is_issued_by(certificate, issuer):
                self.wrong(
                    _CERTIFICATE, f"certificate {number} is not issued by certificate {number + 1}", _ORDER
                )
            elif not pem.is_authority(issuer):
                self.wrong(
                    _CERTIFICATE,
                    f"certificate {number + 1} signs certificate {number}, but is no CA",
                    "order a certificate from a CA",
                )
        self._end(chain[-1], bundle)

    def _end(self, last: x509.Certificate, bundle: list[x509.Certificate]) -> None:
        if last in bundle or any(_is_issued_by(last, authority) for authority in bundle):
            return
        issuer = pem.common_name(last.issuer)
        if _is_issued_by(last, last):
            self.warnings.append(f"{issuer}, which ends the chain, is no CA that this machine knows")
            return
        self.wrong(
            _CERTIFICATE,
            f"the chain is incomplete: {issuer} is neither in the file nor a CA that this machine knows",
            f"add the certificate of {issuer} at the end of the file",
        )

    def _dates(self, certificate: x509.Certificate, title: str) -> None:
        start, end = certificate.not_valid_before_utc, certificate.not_valid_after_utc
        if start > self.now:
            self.wrong(
                _CERTIFICATE,
                f"{title} is valid from {start:%Y-%m-%d} only",
                "wait, or set this machine's clock",
            )
        elif end <= self.now:
            self.wrong(_CERTIFICATE, f"{title} expired on {end:%Y-%m-%d}", "renew it")
        elif end - self.now < SOON:
            self.warnings.append(f"{title} expires on {end:%Y-%m-%d}; renew it")

    def _strength(self, certificate: x509.Certificate, title: str) -> None:
        weak = _weakness(certificate)
        if weak:
            self.wrong(
                _CERTIFICATE,
                f"{title} {weak}",
                "order one with RSA 2048 or more, or P-256, signed with SHA-256",
            )

    def _read(self, path: str, file: Path) -> bytes | None:
        try:
            return read(file)
        except FileNotFoundError:
            self.wrong(path, "the file does not exist", "write the path of a file on this machine")
        except OSError as error:
            self.wrong(path, f"the file cannot be read: {error.strerror}", "write a file that dap may read")
        return None


def _weakness(certificate: x509.Certificate) -> str:
    key = certificate.public_key()
    if isinstance(key, rsa.RSAPublicKey):
        if key.key_size < 2048:
            return f"has a weak key (RSA, {key.key_size} bits)"
    elif not isinstance(key, ec.EllipticCurvePublicKey):
        return f"has a key that browsers do not take ({type(key).__name__.removesuffix('PublicKey')})"
    elif key.curve.name not in _CURVES:
        return f"has a key that browsers do not take ({key.curve.name})"
    # Nobody looks at the signature of a root.
    broken = _broken_hash(certificate) if certificate.issuer != certificate.subject else ""
    return f"is signed with {broken}" if broken else ""


def _broken_hash(certificate: x509.Certificate) -> str:
    try:
        algorithm = certificate.signature_hash_algorithm
    except UnsupportedAlgorithm:
        return "an unknown algorithm"
    return algorithm.name.upper() if isinstance(algorithm, hashes.SHA1 | hashes.MD5) else ""


def _is_issued_by(certificate: x509.Certificate, issuer: x509.Certificate) -> bool:
    if certificate.issuer != issuer.subject:
        return False
    # The library does not check such a signature any more. That it is broken is a finding of its own;
    # another one would send the operator the wrong way, and old roots are none of its concern.
    return bool(_broken_hash(certificate)) or pem.is_issued_by(certificate, issuer)


def load_bundle(bundle: Path) -> list[x509.Certificate]:
    """The CAs of a bundle; one that cannot be read is left out, as other programs do."""
    try:
        blocks = _BLOCK.findall(read(bundle))
    except OSError:
        return []
    found = []
    with warnings.catch_warnings():
        # Old roots break rules (serial numbers) that are of no concern here.
        warnings.simplefilter("ignore")
        for block in blocks:
            try:
                found += pem.load_certificates(block)
            except ValueError:
                continue
    return found


def _is_address(name: str) -> bool:
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True
