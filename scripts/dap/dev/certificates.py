"""SSH certificates of users: signed for a limited time, on record, and taken back by a list."""

from __future__ import annotations

import json
import secrets
import time
from collections.abc import Callable, Collection
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, TypeVar

from pydantic import Field, TypeAdapter, ValidationError

from dap.configuration import wording
from dap.configuration.schema import User
from dap.configuration.values import duration, minutes
from dap.credentials import Credentials
from dap.dev.containers import USER_AUTHORITY
from dap.errors import DapError, RefusedError
from dap.files import PRIVATE_FILE, read, write_atomic
from dap.layout import secrets_dir, shown
from dap.secrets import SecretStore, store_lock
from dap.site import Site
from dap.trust.revoked import revocation_list
from dap.trust.ssh import NotAKeyError, SshKey, UserCertificate, fingerprint_of

Made = TypeVar("Made")
_FILE = "ssh_certificates.json"
# Clocks differ a little.
_EARLIER = 60
# What a certificate holds such a number in; and the last moment that has a date.
_LAST_SERIAL, _LAST_MOMENT = 2**64 - 1, 253_402_300_799


@dataclass(frozen=True)
class Issued:
    """A certificate on record.

    Attributes:
        serial: number that no other certificate of this platform has.
        user: whose it is, and the only name that it opens.
        key: fingerprint of the key that it is for.
        until: when it ends, in seconds since 1970.
        revoked: whether it was taken back.
    """

    serial: Annotated[int, Field(ge=1, le=_LAST_SERIAL)]
    user: str
    key: str
    until: Annotated[int, Field(ge=0, le=_LAST_MOMENT)]
    revoked: bool = False

    @property
    def identity(self) -> str:
        """What the logs of containers call it."""
        return f"{self.user}/{self.serial}"

    @property
    def ends(self) -> str:
        """When it ends, for people."""
        return datetime.fromtimestamp(self.until, UTC).strftime("%F %R UTC")


_RECORD = TypeAdapter(list[Issued])


def authority_of(credentials: Credentials) -> SshKey:
    """What signs users' certificates."""
    return SshKey.of(credentials.stored(USER_AUTHORITY))


def recall(inventory: str) -> list[Issued]:
    """All certificates that were ever signed.

    Raises:
        RefusedError: the record cannot be read.
    """
    file = secrets_dir() / inventory / _FILE
    try:
        return _RECORD.validate_json(read(file), strict=True)
    except FileNotFoundError:
        return []
    except (OSError, ValidationError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it holds no list of certificates"
        raise RefusedError(
            f"{shown(file)} cannot be read: {reason}",
            "restore it from a backup: without it, certificates that were taken back would count again",
        ) from error


def revoked(inventory: str, authority: SshKey) -> bytes:
    """The list of what was taken back, as OpenSSH reads it."""
    return revocation_list(authority, [one.serial for one in recall(inventory) if one.revoked])


def certify(site: Site, name: str, file: Path, valid: str | None) -> tuple[str, Issued]:
    """Sign a user's key, and put that on record.

    Args:
        file: with the public key.
        valid: for how long; without it, as long as may be.

    Returns:
        the certificate as a line of text, and what is on record of it.

    Raises:
        RefusedError: the platform has no such certificates, or not for this user, key or time.
    """
    _refuse_without(site)
    user = _user(site, name)
    if user.disabled:
        raise RefusedError(f"{name} is disabled", f"dap -e {site.inventory.name} user enable {name}")
    lasting = _seconds(valid, site.platform.ssh_user_certificates or "")
    try:
        key = file.expanduser().read_text(encoding="utf-8").strip()
        fingerprint = fingerprint_of(key)
    except (OSError, UnicodeDecodeError, NotAKeyError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it holds no public SSH key"
        raise RefusedError(f"{file} cannot be used: {reason}", "name a file that ends in .pub") from error
    now = int(time.time())

    def sign(store: SecretStore, known: list[Issued]) -> tuple[str, list[Issued]]:
        authority = authority_of(Credentials(site, store, generate=False))
        serial = max((one.serial for one in known), default=0) + 1
        made = Issued(serial, name, fingerprint, now + lasting)
        wanted = UserCertificate(serial, made.identity, (name,), now - _EARLIER, made.until)
        return authority.sign_user(key, wanted, secrets.token_bytes(32)), [*known, made]

    text, known = _changed(site, sign)
    return text, known[-1]


def revoke(site: Site, name: str, serials: Collection[int] = ()) -> list[Issued]:
    """Take back a user's certificates that have not ended: all, or some; containers are not told yet.

    Raises:
        RefusedError: there is no such certificate of the user.
    """
    _user(site, name)

    def take_back(_: SecretStore, known: list[Issued]) -> tuple[list[Issued], list[Issued]]:
        now = time.time()
        valid = {one.serial: one for one in known if one.user == name and one.until > now and not one.revoked}
        if unknown := sorted({*serials} - {*valid}):
            numbers = [str(serial) for serial in valid]
            raise RefusedError(
                f"{name} has no valid certificate {unknown[0]}",
                f"there are: {', '.join(numbers)}" if numbers else "there is none to take back",
            )
        gone = [one for serial, one in valid.items() if not serials or serial in serials]
        serials_gone = {one.serial for one in gone}
        return gone, [replace(one, revoked=one.revoked or one.serial in serials_gone) for one in known]

    gone, _ = _changed(site, take_back)
    return gone


def _changed(
    site: Site, change: Callable[[SecretStore, list[Issued]], tuple[Made, list[Issued]]]
) -> tuple[Made, list[Issued]]:
    """Change the record, while nobody else does; what was made, and the record as it is then.

    Raises:
        RefusedError: nothing was ever deployed.
    """
    name = site.inventory.name
    folder = secrets_dir() / name
    with store_lock(folder):
        store = SecretStore.load(folder, name)
        if store.is_new:
            raise RefusedError(f"inventory {name} was never deployed from here", f"dap -e {name} deploy")
        before = recall(name)
        made, after = change(store, before)
        if after != before:
            text = json.dumps([asdict(one) for one in after], indent=1)
            write_atomic(folder / _FILE, text.encode(), PRIVATE_FILE)
    return made, after


def _refuse_without(site: Site) -> None:
    if not site.platform.ssh_user_certificates:
        raise RefusedError(
            "this platform has no SSH certificates for users",
            f"write ssh_user_certificates: 12h into {shown(site.inventory.platform_file)}, then deploy",
        )


def _user(site: Site, name: str) -> User:
    known = {user.name: user for user in site.platform.users}
    if name not in known:
        raise RefusedError(f"there is no user {name}", wording.one_of(name, known))
    return known[name]


def _seconds(valid: str | None, longest: str) -> int:
    """How long a certificate lasts."""
    if valid is None:
        return 60 * minutes(longest)
    try:
        duration(valid)
    except ValueError as error:
        raise RefusedError(
            f"--valid {valid} is not a length of time", "write one such as 30m or 8h"
        ) from error
    if minutes(valid) > minutes(longest):
        raise RefusedError(
            f"--valid {valid} is longer than the {longest} that ssh_user_certificates allows",
            f"give {longest} or less",
        )
    return 60 * minutes(valid)


def write(text: str, file: Path) -> None:
    """Write a certificate where SSH clients look for it.

    Raises:
        DapError: it cannot be written.
    """
    try:
        file.write_text(f"{text}\n", encoding="utf-8")
    except OSError as error:
        raise DapError(f"cannot write {file}: {error.strerror}", "name another file with --output") from error


def file_beside(key: Path) -> Path:
    """Where SSH clients look for the certificate of a key."""
    key = key.expanduser()
    return key.with_name(f"{key.name.removesuffix('.pub')}-cert.pub")
