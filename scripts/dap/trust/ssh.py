"""The platform's SSH authority: it signs the host keys of development containers, and users trust it once.

Keys are derived from texts in the secret store, so that they are as stable as that is. Certificates are the
same at each call: what is rendered from them does not differ from deploy to deploy.
"""

from __future__ import annotations

import base64
import hashlib
import struct
from collections.abc import Sequence
from dataclasses import dataclass

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
)

from dap.secrets import Secret

_KIND, _CERTIFICATE = b"ssh-ed25519", b"ssh-ed25519-cert-v01@openssh.com"
_HOST = 2
_ALWAYS = 2**64 - 1


@dataclass(frozen=True)
class SshKey:
    """An Ed25519 key."""

    key: Ed25519PrivateKey

    @classmethod
    def of(cls, secret: Secret) -> SshKey:
        """The key that belongs to a text of the store."""
        return cls(Ed25519PrivateKey.from_private_bytes(hashlib.sha256(secret.reveal().encode()).digest()))

    @property
    def public(self) -> str:
        """The public half, as it stands in ``known_hosts``."""
        return f"{_KIND.decode()} {base64.b64encode(self._public_blob).decode()}"

    @property
    def private(self) -> Secret:
        """The key as OpenSSH reads it."""
        # The format has two random numbers in it that must be equal; else it is the same each time.
        raw = self._raw_public
        seed = self.key.private_bytes(Encoding.Raw, PrivateFormat.Raw, NoEncryption())
        check = hashlib.sha256(raw).digest()[:4]
        private = check + check + _text(_KIND) + _text(raw) + _text(seed + raw) + _text(b"")
        private += bytes(range(1, 1 + -len(private) % 8))
        blob = b"openssh-key-v1\0" + _text(b"none") + _text(b"none") + _text(b"") + struct.pack(">I", 1)
        encoded = base64.b64encode(blob + _text(self._public_blob) + _text(private)).decode()
        lines = [encoded[start : start + 70] for start in range(0, len(encoded), 70)]
        head, tail = "-----BEGIN OPENSSH PRIVATE KEY-----", "-----END OPENSSH PRIVATE KEY-----"
        return Secret("\n".join([head, *lines, tail, ""]))

    def sign_host(self, host: SshKey, identity: str, names: Sequence[str]) -> str:
        """A certificate for the key of a host.

        Args:
            identity: by which logs name it.
            names: under which clients may know it.
        """
        nonce = hashlib.sha256(host._raw_public + identity.encode()).digest()
        body = _text(_CERTIFICATE) + _text(nonce) + _text(host._raw_public)
        body += struct.pack(">QI", 0, _HOST) + _text(identity.encode())
        body += _text(b"".join(_text(name.encode()) for name in names))
        # It lasts: the key goes with the container's name, and is taken back by a new authority only.
        body += struct.pack(">QQ", 0, _ALWAYS) + _text(b"") + _text(b"") + _text(b"")
        body += _text(self._public_blob)
        body += _text(_text(_KIND) + _text(self.key.sign(body)))
        return f"{_CERTIFICATE.decode()} {base64.b64encode(body).decode()} {identity}"

    @property
    def _raw_public(self) -> bytes:
        return self.key.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw)

    @property
    def _public_blob(self) -> bytes:
        return _text(_KIND) + _text(self._raw_public)


def _text(content: bytes) -> bytes:
    """A string as SSH writes it: its length first."""
    return struct.pack(">I", len(content)) + content
