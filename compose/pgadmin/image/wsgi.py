"""pgAdmin as gunicorn serves it: with its administrator and the platform's servers in place."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from server import UNFINISHED, administrator

if UNFINISHED.exists():
    # pgAdmin creates a missing database while it is imported, and takes the first account from here.
    os.environ["PGADMIN_SETUP_EMAIL"], os.environ["PGADMIN_SETUP_PASSWORD"] = administrator()

from accounts import app, ensure_administrator
from pgadmin.model import Server, ServerGroup, User, db
from pgadmin.utils.paths import get_storage_directory

SERVERS_FILE = Path("/etc/dap/servers.json")
PASSWORDS_FILE = Path("/run/live/pgpass")
# How the entries of the platform are told from those that people make. They see it as the entry's comment.
MARK = "Set up by the platform: changes are undone at the next start."


def link_passwords(user: User) -> str | None:
    """Make the password file reachable for ``user`` alone; the path as a server entry has to name it.

    pgAdmin looks for a password file only in the user's own storage folder. A link, so that the secret has
    one place and a changed one is read at the next connection.
    """
    if not PASSWORDS_FILE.exists():
        return None
    link = Path(get_storage_directory(user=user)) / ".pgpass"
    if not (link.is_symlink() and link.readlink() == PASSWORDS_FILE):
        link.unlink(missing_ok=True)
        link.symlink_to(PASSWORDS_FILE)
    return f"/{link.name}"


def ensure_servers(user: User, entries: list[dict[str, Any]], passfile: str | None) -> None:
    """Give ``user`` these servers; take away what an earlier start had given and is no longer listed.

    Args:
        user: whose list it is.
        entries: as in pgAdmin's own export: Name, Group, Host, Port, MaintenanceDB, Username and
            ConnectionParameters.
        passfile: password file for all of them, see ``link_passwords``.
    """
    kept = []
    for entry in entries:
        group = ServerGroup.query.filter_by(user_id=user.id, name=entry["Group"]).first()
        if group is None:
            group = ServerGroup(user_id=user.id, name=entry["Group"])
            db.session.add(group)
            db.session.flush()
        server = Server.query.filter_by(user_id=user.id, name=entry["Name"], comment=MARK).first()
        if server is None:
            server = Server(user_id=user.id, name=entry["Name"], comment=MARK)
            server.save_password = server.use_ssh_tunnel = 0
            server.tunnel_authentication = server.tunnel_prompt_password = 0
            server.shared = False
            db.session.add(server)
        server.servergroup_id = group.id
        server.host, server.port = entry["Host"], entry["Port"]
        server.maintenance_db, server.username = entry["MaintenanceDB"], entry["Username"]
        server.connection_params = entry.get("ConnectionParameters", {}) | (
            {"passfile": passfile} if passfile else {}
        )
        db.session.flush()
        kept.append(server.id)
    Server.query.filter(Server.user_id == user.id, Server.comment == MARK, Server.id.not_in(kept)).delete()
    db.session.commit()


def prepare() -> None:
    """Bring pgAdmin's own database in line with what the platform says."""
    entries = []
    if SERVERS_FILE.exists():
        entries = list(json.loads(SERVERS_FILE.read_text())["Servers"].values())
    with app.test_request_context():
        user = ensure_administrator(*administrator())
        ensure_servers(user, entries, link_passwords(user))
    for name in ("PGADMIN_SETUP_EMAIL", "PGADMIN_SETUP_PASSWORD"):
        os.environ.pop(name, None)
    UNFINISHED.unlink(missing_ok=True)


prepare()
