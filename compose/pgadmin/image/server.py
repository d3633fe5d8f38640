"""Prepare pgAdmin's folder and become gunicorn."""

from __future__ import annotations

import os
import sys
from pathlib import Path

DATA = Path("/var/lib/pgadmin")
DATABASE = DATA / "pgadmin4.db"
# There as long as the database is not whole.
UNFINISHED = DATA / "pgadmin4.db.unfinished"
PASSWORD_FILE = Path("/run/secrets/admin_password")
# "pgadmin4" is a folder that expects to be on the path itself.
PACKAGE = Path(sys.prefix, "lib", f"python3.{sys.version_info.minor}", "site-packages", "pgadmin4")


class SettingError(Exception):
    """Something that pgAdmin cannot start with; the message is for the operator."""


def administrator() -> tuple[str, str]:
    """The administrator's e-mail address and password.

    Raises:
        SettingError: one is missing or cannot be read.
    """
    email = os.environ.get("PGADMIN_EMAIL", "").strip()
    if not email:
        raise SettingError("PGADMIN_EMAIL is not set")
    try:
        password = PASSWORD_FILE.read_text().strip()
    except OSError as error:
        raise SettingError(f"{PASSWORD_FILE} cannot be read: {error.strerror}") from error
    if not password:
        raise SettingError(f"{PASSWORD_FILE} is empty")
    return email, password


def drop_half_made() -> None:
    """Remove a database whose creation was cut off.

    wsgi.py creates it, because what that imports is what serves then, and removes the mark when it is whole.
    """
    if UNFINISHED.exists():
        for name in (DATABASE, f"{DATABASE}-journal"):
            Path(name).unlink(missing_ok=True)
    elif not DATABASE.exists():
        UNFINISHED.touch()


def main() -> int:
    """Start pgAdmin; 78 (EX_CONFIG) with one line where it cannot."""
    try:
        administrator()
        if not os.access(DATA, os.W_OK):
            raise SettingError(f"{DATA} does not belong to uid {os.getuid()}")
        drop_half_made()
    except SettingError as error:
        print(f"pgadmin: {error}", file=sys.stderr)
        return 78
    # Every user of pgAdmin could use this one, from any server entry that names the right host.
    os.environ.pop("PGPASSFILE", None)
    here = Path(__file__).parent
    os.chdir(here)
    gunicorn = str(Path(sys.prefix, "bin", "gunicorn"))
    os.execv(gunicorn, [gunicorn, "--config", "gunicorn.conf.py", "wsgi:app"])  # noqa: S606 - fixed arguments


if __name__ == "__main__":
    sys.exit(main())
