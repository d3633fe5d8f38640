"""Passwords and tokens: how they are made, kept and compared."""

from __future__ import annotations

import hashlib
import hmac
import secrets
import string

MINIMUM = 8
"""GitLab's smallest allowed ``minimum_password_length`` and its default."""
ALPHABET = string.ascii_letters + string.digits + "-_"


def digest(password: str) -> str:
    salt = secrets.token_hex(8)
    return f"{salt}${_derived(password, salt)}"


def matches(password: str, kept: str) -> bool:
    salt, _, wanted = kept.partition("$")
    return bool(kept) and hmac.compare_digest(_derived(password, salt), wanted)


def _derived(password: str, salt: str) -> str:
    # Cheap on purpose: every Git request asks.
    return hashlib.pbkdf2_hmac("sha256", password.encode(), salt.encode(), 100).hex()


def token_digest(token: str) -> str:
    """Of a token, which is random: needs no salt and can be looked up."""
    return hashlib.sha256(token.encode()).hexdigest()


def token(prefix: str, length: int = 20) -> str:
    return prefix + "".join(secrets.choice(ALPHABET) for _ in range(length))
