"""Keys and certificates by which the proxy knows the pages of development containers.

They are derived from texts in the secret store, as SSH host keys are: the same at each call, also where the
operator's certificate is in the place of an authority. The proxy trusts each by itself, so nobody signs it.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from datetime import UTC, datetime

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.x509.oid import NameOID

from dap.secrets import Secret
from dap.trust import pem

# It goes with the container's name, and is taken back by a new text only.
_FROM, _UNTIL = datetime(2020, 1, 1, tzinfo=UTC), datetime(9999, 12, 31, 23, 59, 59, tzinfo=UTC)


@dataclass(frozen=True)
class PageKey:
    """What a container's page shows who it is with, and what opens it.

    Attributes:
        secret: the text of the store.
        name: the host name that the page is visited by.
    """

    secret: Secret
    name: str

    @property
    def token(self) -> Secret:
        """What the proxy brings with each request."""
        return Secret(self._derived("token").hex())

    @property
    def private(self) -> Secret:
        """The key, PEM."""
        return Secret(pem.key_pem(self._key).decode())

    @property
    def certificate(self) -> bytes:
        """The certificate, signed by its own key, PEM."""
        public = self._key.public_key()
        digest = hashlib.sha256(public.public_bytes_raw()).digest()[:16]
        # Of several by one title a client tries one, and refuses the others.
        title = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, f"development container {digest.hex()}")])
        number = int.from_bytes(digest)
        return pem.certificate_pem(
            x509.CertificateBuilder(title, title, public, number | 1, _FROM, _UNTIL)
            .add_extension(x509.SubjectAlternativeName([x509.DNSName(self.name)]), critical=False)
            .sign(self._key, None)
        )

    @property
    def _key(self) -> Ed25519PrivateKey:
        return Ed25519PrivateKey.from_private_bytes(self._derived("key"))

    def _derived(self, what: str) -> bytes:
        return hashlib.sha256(f"{what}\0{self.secret.reveal()}".encode()).digest()
