"""pgAdmin's administrator: there, and able to log in with the platform's password."""

from __future__ import annotations

import sys
import uuid
from collections.abc import Sequence

from server import PACKAGE

sys.path.insert(0, str(PACKAGE))
import pgAdmin4
from flask_security.utils import hash_password, verify_password
from pgadmin.model import Role, Server, SharedServer, User, db
from pgadmin.utils.constants import INTERNAL
from pgadmin.utils.crypto import decrypt, encrypt

app = pgAdmin4.app


def ensure_administrator(email: str, password: str, previous: Sequence[str] = ()) -> User:
    """The administrator, able to log in with ``password``.

    Args:
        email: the account's name.
        password: the one that counts. Whoever logged in with another one is logged out.
        previous: passwords that it may have had before. The passwords that the administrator has saved in
            server entries are encrypted with it, and would be lost without it.
    """
    user = User.query.filter_by(username=email, auth_source=INTERNAL).first()
    if user is None:
        user = User(
            username=email,
            email=email,
            auth_source=INTERNAL,
            fs_uniquifier=uuid.uuid4().hex,
            roles=[Role.query.filter_by(name="Administrator").one()],
        )
        db.session.add(user)
    if user.password is None or not verify_password(password, user.password):
        for old in previous:
            if user.password and verify_password(old, user.password):
                _encrypt_anew(user, old, password)
        user.password = hash_password(password)
        # Sessions carry it, so they end.
        user.fs_uniquifier = uuid.uuid4().hex
    user.active, user.locked, user.login_attempts = True, False, 0
    # All in one step: a kill leaves either password with what is encrypted with it.
    db.session.commit()
    return user


def _encrypt_anew(user: User, old: str, new: str) -> None:
    for kind in (Server, SharedServer):
        for server in kind.query.filter_by(user_id=user.id):
            for name in ("password", "tunnel_password"):
                saved = getattr(server, name, None)
                if saved:
                    setattr(server, name, encrypt(decrypt(saved, old), new))
