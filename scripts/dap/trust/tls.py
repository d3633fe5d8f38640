"""Certificates of a platform: its own CA's, or the operator's; and what clients have to trust."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import certifi
from cryptography import x509
from cryptography.x509.verification import PolicyBuilder, Store, VerificationError

from dap.errors import RefusedError
from dap.files import PUBLIC_FILE, make_private_folder, required, write_atomic
from dap.layout import secrets_dir, shown
from dap.secrets import SecretStore
from dap.services.manifest import Service
from dap.site import Site
from dap.trust import certificate_files, certificates, pem
from dap.trust.certificates import Leaf

_SYSTEM_CAS = Path("/etc/ssl/certs/ca-certificates.crt")


@dataclass(frozen=True)
class Tls:
    """What the services of a platform end TLS with.

    Attributes:
        leaves: certificate and key by service.
        ca_certificate: the private CA's certificate, PEM; empty where the operator has one.
        extra_cas: the site's own further CAs, PEM.
        public: whether browsers trust the certificate without being told to.
        warnings: what expires soon, and the like.
    """

    leaves: dict[str, Leaf]
    ca_certificate: bytes
    extra_cas: tuple[bytes, ...]
    public: bool
    warnings: tuple[str, ...]

    @property
    def trusted(self) -> list[bytes]:
        """The CAs that hosts and containers have to trust beside the public ones."""
        return [self.ca_certificate, *self.extra_cas] if self.ca_certificate else list(self.extra_cas)


def ensure(site: Site, folder: Path, store: SecretStore) -> Tls:
    """Make or renew the certificates of a private CA, or check the operator's.

    Args:
        folder: where CA and certificates lie, ``secrets/<inventory>``.
        store: keeps the CA's fingerprint; to be saved by the caller.

    Raises:
        RefusedError: the CA on disk is not the recorded one.
        ConfigurationError: what is wrong with the operator's files.
    """
    services = _services(site)
    extra = tuple(_extra(site))
    if site.platform.tls.mode == "files":
        leaf, public = _operators(site, services, folder)
        return Tls(dict.fromkeys(services, leaf), b"", extra, public, leaf.warnings)
    authority = certificates.ensure_ca(folder, site.platform.platform_name, store.ca_fingerprint)
    store.ca_fingerprint = authority.fingerprint
    leaves = {
        name: certificates.ensure_leaf(
            authority,
            folder,
            name,
            dns_names=site.tls_names(service),
            lifetime_days=site.platform.tls.leaf_days,
        )
        for name, service in services.items()
    }
    warnings = [*authority.warnings, *(warning for leaf in leaves.values() for warning in leaf.warnings)]
    return Tls(leaves, authority.certificate_pem, extra, public=False, warnings=tuple(warnings))


def known_authorities(site: Site, folder: Path) -> list[bytes]:
    """The CAs that hosts have to trust as far as they exist already: a first deploy makes the platform's own.

    Raises:
        RefusedError: a file cannot be read, or the platform's own is damaged.
    """
    own = trusted_file(site, folder) if site.platform.tls.mode == "private-ca" else None
    known = [pem.certificate_pem(certificates.read_ca_certificate(folder))] if own and own.exists() else []
    return [*known, *_extra(site)]


def _extra(site: Site) -> list[bytes]:
    return [required(site.inventory.resolve(path)) for path in site.platform.trust.extra_cas]


def _operators(site: Site, services: dict[str, Service], folder: Path) -> tuple[Leaf, bool]:
    """The operator's certificate, and whether a public CA issued it."""
    certificate, key = _operators_files(site)
    names = sorted({name for service in services.values() for name in site.tls_names(service)})
    source = shown(site.inventory.platform_file)
    make_private_folder(folder)
    bundle = trusted_file(site, folder)
    leaf = certificate_files.check_files(certificate, key, names, ca_bundle=bundle, source=source)
    return leaf, is_public(leaf, names[0])


def is_public(leaf: Leaf, name: str) -> bool:
    """Whether browsers trust the certificate for ``name`` as they come, by Mozilla's list of CAs."""
    chain = x509.load_pem_x509_certificates(leaf.certificate_pem)
    roots = certificate_files.load_bundle(Path(certifi.where()))
    verifier = PolicyBuilder().store(Store(roots)).build_server_verifier(x509.DNSName(name))
    try:
        verifier.verify(chain[0], chain[1:])
    except VerificationError:
        return False
    return True


def _operators_files(site: Site) -> tuple[Path, Path]:
    tls = site.platform.tls
    assert tls.certificate and tls.key  # noqa: S101  the schema demands both in this mode
    return site.inventory.resolve(tls.certificate), site.inventory.resolve(tls.key)


def trusted_file(site: Site, folder: Path) -> Path:
    """A file with the CAs that clients of the platform have to trust: the private one, or all of them."""
    if site.platform.tls.mode == "private-ca":
        return folder / "ca.crt"
    content = public_and_extra_cas(site)
    target = folder / "trusted.crt"
    if not target.is_file() or required(target) != content:
        write_atomic(target, content, PUBLIC_FILE)
    return target


def public_and_extra_cas(site: Site) -> bytes:
    """The CAs that this machine trusts, and the site's own further ones, PEM."""
    system = [required(_SYSTEM_CAS)] if _SYSTEM_CAS.is_file() else []
    return b"\n".join([*system, *_extra(site)])


def days_left(site: Site) -> dict[str, int]:
    """Days until the certificate of each service expires.

    Raises:
        RefusedError: one cannot be read, or is damaged.
    """
    now = datetime.now(UTC)
    days = {}
    for name in _services(site):
        if site.platform.tls.mode == "files":
            file = _operators_files(site)[0]
        else:
            file = secrets_dir() / site.inventory.name / "tls" / f"{name}.crt"
        if file.is_file():
            try:
                certificate = pem.load_certificates(required(file))[0]
            except ValueError as error:
                raise RefusedError(
                    f"{file} is damaged",
                    f"dap -e {site.inventory.name} deploy issues it anew, or says what is wrong with it",
                ) from error
            days[name] = (certificate.not_valid_after_utc - now).days
    return days


def _services(site: Site) -> dict[str, Service]:
    return {name: service for name, service in site.services.items() if service.manifest.tls}
