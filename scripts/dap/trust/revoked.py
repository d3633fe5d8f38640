"""Lists of SSH certificates that were taken back, as OpenSSH reads them (``RevokedKeys``)."""

from __future__ import annotations

import struct
from collections.abc import Iterable

from dap.trust.ssh import SshKey, text

_MAGIC, _FORMAT = b"SSHKRL\n\0", 1
_CERTIFICATES, _SERIALS = 1, 0x20


def revocation_list(authority: SshKey, serials: Iterable[int]) -> bytes:
    """A list of certificates that an authority has signed; the same for the same serials.

    OpenSSH believes whatever such a file says: it is to be writable for nobody else.
    """
    taken = sorted(serials)
    # Version, date and flags are for those who hand such lists around.
    head = _MAGIC + struct.pack(">IQQQ", _FORMAT, 0, 0, 0) + text(b"") + text(b"")
    if not taken:
        return head
    listed = struct.pack("B", _SERIALS) + text(struct.pack(f">{len(taken)}Q", *taken))
    return head + struct.pack("B", _CERTIFICATES) + text(text(authority.public_blob) + text(b"") + listed)
