"""Prepare pgAdmin's folder and become gunicorn."""

from __future__ import annotations

import multiprocessing
import os
import sys
from pathlib import Path

DATA = Path("/var/lib/pgadmin")
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


def _create_database(name: str, email: str, password: str) -> None:
    # pgAdmin takes the name from here and the folder from DATA_DIR. Importing it makes what is missing.
    os.environ |= {"SQLITE_PATH": name, "PGADMIN_SETUP_EMAIL": email, "PGADMIN_SETUP_PASSWORD": password}
    sys.path.insert(0, str(PACKAGE))
    import pgAdmin4  # noqa: F401


def create_database(email: str, password: str) -> None:
    """Create pgAdmin's own database aside and rename it, so that a kill half-way leaves no half database.

    Raises:
        SettingError: it could not be created.
    """
    unfinished = DATA / "pgadmin4.db.unfinished"
    unfinished.unlink(missing_ok=True)
    child = multiprocessing.get_context("fork").Process(
        target=_create_database, args=(unfinished.name, email, password)
    )
    child.start()
    child.join()
    if child.exitcode != 0 or not unfinished.exists():
        raise SettingError("its database could not be created; the lines above say why")
    unfinished.rename(DATA / "pgadmin4.db")


def main() -> int:
    """Start pgAdmin; 78 (EX_CONFIG) with one line where it cannot."""
    try:
        email, password = administrator()
        if not os.access(DATA, os.W_OK):
            raise SettingError(f"{DATA} does not belong to uid {os.getuid()}")
        if not (DATA / "pgadmin4.db").exists():
            create_database(email, password)
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
