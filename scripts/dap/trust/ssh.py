"""The platform's SSH authority: it signs the host keys of development containers, and users trust it once.

Keys are derived from texts in the secret store, so that they are as stable as that is. Certificates are the
same at each call: what is rendered from them does not differ from deploy to deploy.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import re
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
_USER, _HOST = 1, 2
_ALWAYS = 2**64 - 1
# What a user may do with a certificate: all that a key may, but for X11.
_RIGHTS = (b"permit-agent-forwarding", b"permit-port-forwarding", b"permit-pty", b"permit-user-rc")
# Of users' keys: those that OpenSSH makes and that its server takes.
_USERS_KINDS = re.compile(r"(sk-)?(ssh-ed25519|ecdsa-sha2-nistp(256|384|521))(@openssh\.com)?|ssh-rsa")


class NotAKeyError(Exception):
    """A text is no public key of a kind that can be certified."""


@dataclass(frozen=True)
class UserCertificate:
    """What a certificate of a user says.

    Attributes:
        serial: number that no other has.
        identity: by which logs name it.
        names: of accounts that it opens.
        after: when it begins, in seconds since 1970.
        before: when it ends.
    """

    serial: int
    identity: str
    names: Sequence[str]
    after: int
    before: int


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
        return f"{_KIND.decode()} {base64.b64encode(self.public_blob).decode()}"

    @property
    def private(self) -> Secret:
        """The key as OpenSSH reads it."""
        # The format has two random numbers in it that must be equal; else it is the same each time.
        raw = self._raw_public
        seed = self.key.private_bytes(Encoding.Raw, PrivateFormat.Raw, NoEncryption())
        check = hashlib.sha256(raw).digest()[:4]
        private = check + check + text(_KIND) + text(raw) + text(seed + raw) + text(b"")
        private += bytes(range(1, 1 + -len(private) % 8))
        blob = b"openssh-key-v1\0" + text(b"none") + text(b"none") + text(b"") + struct.pack(">I", 1)
        encoded = base64.b64encode(blob + text(self.public_blob) + text(private)).decode()
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
        body = text(_CERTIFICATE) + text(nonce) + text(host._raw_public)
        body += struct.pack(">QI", 0, _HOST) + text(identity.encode())
        body += text(b"".join(text(name.encode()) for name in names))
        # It lasts: the key goes with the container's name, and is taken back by a new authority only.
        body += struct.pack(">QQ", 0, _ALWAYS) + text(b"") + text(b"") + text(b"")
        body += text(self.public_blob)
        body += text(text(_KIND) + text(self.key.sign(body)))
        return f"{_CERTIFICATE.decode()} {base64.b64encode(body).decode()} {identity}"

    def sign_user(self, key: str, wanted: UserCertificate, nonce: bytes) -> str:
        """A certificate for a user's key, as a line of text.

        Args:
            key: the public key, as OpenSSH writes it.
            nonce: of 32 random bytes.

        Raises:
            NotAKeyError: it is no public key.
        """
        kind, blob = _parts(key)
        certificate = f"{kind.removesuffix('@openssh.com')}-cert-v01@openssh.com"
        # The key's own kind comes first in it, and stands in that of the certificate already.
        body = text(certificate.encode()) + text(nonce) + blob[4 + len(kind) :]
        body += struct.pack(">QI", wanted.serial, _USER) + text(wanted.identity.encode())
        body += text(b"".join(text(name.encode()) for name in wanted.names))
        body += struct.pack(">QQ", wanted.after, wanted.before) + text(b"")
        body += text(b"".join(text(right) + text(b"") for right in _RIGHTS)) + text(b"")
        body += text(self.public_blob)
        body += text(text(_KIND) + text(self.key.sign(body)))
        return f"{certificate} {base64.b64encode(body).decode()} {wanted.identity}"

    @property
    def _raw_public(self) -> bytes:
        return self.key.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw)

    @property
    def public_blob(self) -> bytes:
        """The public half, as other formats have it."""
        return text(_KIND) + text(self._raw_public)


def text(content: bytes) -> bytes:
    """A string as SSH writes it: its length first."""
    return struct.pack(">I", len(content)) + content


def fingerprint_of(key: str) -> str:
    """What OpenSSH calls a public key in short.

    Raises:
        NotAKeyError: it is none.
    """
    digest = hashlib.sha256(_parts(key)[1]).digest()
    return f"SHA256:{base64.b64encode(digest).decode().rstrip('=')}"


def _parts(key: str) -> tuple[str, bytes]:
    """The kind and the content of a public key."""
    kind, encoded = (*key.split(), "", "")[:2]
    try:
        blob = base64.b64decode(encoded, validate=True)
    except binascii.Error:
        blob = b""
    if (
        len(key.splitlines()) != 1
        or not _USERS_KINDS.fullmatch(kind)
        or not blob.startswith(text(kind.encode()))
    ):
        raise NotAKeyError
    return kind, blob
