"""Which files make a host trust a platform's certificate authorities, and whether it does.

Pure functions over PEM text and file names. They run on the hosts, whose Python may be as old as 3.10 and has
no library for certificates; that a certificate is sound was checked before it came here.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import re

_PEM = re.compile(r"-----BEGIN CERTIFICATE-----(?P<body>[A-Za-z0-9+/=\s]+)-----END CERTIFICATE-----")


def fingerprints(text: str) -> dict[str, str]:
    """The certificates in a PEM text, by the SHA-256 of their content.

    Raises:
        ValueError: there is none in it, or one is not Base64.
    """
    found = {}
    for match in _PEM.finditer(text):
        body = "".join(match["body"].split())
        try:
            content = base64.b64decode(body, validate=True)
        except binascii.Error as error:
            raise ValueError(f"a certificate is not Base64: {error}") from error
        lines = [body[start : start + 64] for start in range(0, len(body), 64)]
        pem = "\n".join(["-----BEGIN CERTIFICATE-----", *lines, "-----END CERTIFICATE-----", ""])
        found[hashlib.sha256(content).hexdigest()] = pem
    if not found:
        raise ValueError("there is no certificate in it")
    return found


def wanted_files(name: str, certificates: list[str]) -> dict[str, str]:
    """The files for the host's folder of local authorities: content by file name.

    Each file holds one certificate, since the tool that links them by hash refuses several, and is named
    after it, so that a changed authority is a new file and its predecessor a stray.

    Raises:
        ValueError: one of the texts holds no certificate.
    """
    files = {}
    for text in certificates:
        files.update({f"{name}-{digest[:16]}.crt": pem for digest, pem in fingerprints(text).items()})
    return files


def strays(name: str, wanted: set[str], there: list[str]) -> list[str]:
    """The files in a folder that this platform put there and no longer wants, whatever their ending.

    Args:
        name: of the platform. A platform whose name merely begins with it keeps its files.
        wanted: file names without their ending.
        there: file names in the folder.
    """
    own = re.compile(rf"{re.escape(name)}-[0-9a-f]{{16}}\.(crt|pem)")
    return sorted(file for file in there if own.fullmatch(file) and file.rsplit(".", 1)[0] not in wanted)


def untrusted(bundle: str, files: dict[str, str]) -> list[str]:
    """The files whose certificate is not in a bundle."""
    return sorted(file for file, pem in files.items() if pem not in bundle)
