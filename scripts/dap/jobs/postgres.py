"""Databases and the roles that own them, on one PostgreSQL server."""

from __future__ import annotations

from typing import Any

import psycopg
from psycopg import sql

from .report import Report

_CA_BUNDLE = "/etc/ssl/certs/ca-certificates.crt"
_WRONG_PASSWORD = "password authentication failed"  # noqa: S105  what the server says


class LoginError(Exception):
    """The server accepts neither the administrator's stored password nor one from before."""


def provision(server: dict[str, Any], report: Report) -> None:
    """Bring the databases and roles of ``server`` into the desired state.

    Every role owns the one database of its name and can connect to no other.
    """
    with _administrator(server, report) as connection:
        if not server["external"]:
            # The default lets every role connect to every database; another's server is not ours to close.
            # While anybody is in `template1`, no database can be made.
            for name in ("postgres", "template1"):
                _close_to_public(connection, name, report, server["service"])
        for database in server["databases"]:
            _role(connection, server, database, report)
            _database(connection, server, database, report)
            _close_to_public(connection, database["name"], report, server["service"])
        projects = {database["role"] for database in server["databases"]}
        for person in server.get("people", []):
            _person(connection, server, person, projects, report)
        for role in server.get("gone", []):
            _take_back(connection, server["service"], role, projects, report)


def _administrator(server: dict[str, Any], report: Report) -> psycopg.Connection[tuple[Any, ...]]:
    """Log in as administrator; where a password from before is in force, the stored one is set.

    Raises:
        LoginError: no known password is accepted.
    """
    user, password = server["user"], server["password"]
    for known in (password, *server.get("previous", [])):
        try:
            connection = _connect(server, "postgres", user, known)
        except psycopg.OperationalError as error:
            if _WRONG_PASSWORD not in str(error):
                raise
            continue
        if known != password:
            _set_own_password(connection, server, report)
        return connection
    raise LoginError(
        f"the password of {user} was changed there, and is not known; docs/how-to/rotate-secrets.md says what"
        " to do"
    )


def _set_own_password(
    connection: psycopg.Connection[tuple[Any, ...]], server: dict[str, Any], report: Report
) -> None:
    user = server["user"]
    # As a hash, because a statement that fails is in the server's log.
    scram = connection.pgconn.encrypt_password(server["password"].encode(), user.encode(), b"scram-sha-256")
    statement = sql.SQL("ALTER ROLE {} PASSWORD {}").format(sql.Identifier(user), sql.Literal(scram.decode()))
    report.ensure(
        False, f"{server['service']}: password of {user} set", lambda: connection.execute(statement)
    )


def _connect(
    server: dict[str, Any], database: str, user: str, password: str
) -> psycopg.Connection[tuple[Any, ...]]:
    return psycopg.connect(
        host=server["host"],
        port=server["port"],
        dbname=database,
        user=user,
        password=password,
        connect_timeout=10,
        autocommit=True,
        sslmode="verify-full" if server["verify"] else "disable",
        sslrootcert=_CA_BUNDLE,
    )


def _role(
    connection: psycopg.Connection[Any], server: dict[str, Any], wanted: dict[str, Any], report: Report
) -> None:
    role, service = wanted["role"], server["service"]
    row = connection.execute(
        "SELECT rolcanlogin, rolsuper, rolcreatedb, rolcreaterole FROM pg_roles WHERE rolname = %s", (role,)
    ).fetchone()
    # Only a superuser may name the other attributes; a new role has none of them anyway.
    more = "" if server["external"] else "NOSUPERUSER NOCREATEDB NOCREATEROLE NOREPLICATION NOBYPASSRLS"
    statement = sql.SQL("{} ROLE {} LOGIN {} PASSWORD {}")

    def write(verb: str) -> None:
        connection.execute(
            statement.format(
                sql.SQL(verb), sql.Identifier(role), sql.SQL(more), sql.Literal(wanted["password"])
            )
        )
        if server["external"] and verb == "CREATE":
            # Since PostgreSQL 16 who makes a role may not make it an owner without being its member.
            connection.execute(sql.SQL("GRANT {} TO CURRENT_USER").format(sql.Identifier(role)))

    report.ensure(row is not None, f"{service}: role {role} created", lambda: write("CREATE"))
    if row is None:
        return
    right = row == (True, False, False, False)
    # Repairing sets the password too.
    if report.ensure(right, f"{service}: role {role} repaired", lambda: write("ALTER")):
        works = _password_works(server, wanted)
        report.ensure(works, f"{service}: password of role {role} set", lambda: write("ALTER"))


def _password_works(server: dict[str, Any], wanted: dict[str, Any]) -> bool:
    try:
        _connect(server, wanted["name"], wanted["role"], wanted["password"]).close()
    except psycopg.OperationalError as error:
        # Any other answer than "wrong password" (no such database yet, no right to connect) came after it.
        return _WRONG_PASSWORD not in str(error)
    return True


def _database(
    connection: psycopg.Connection[Any], server: dict[str, Any], wanted: dict[str, Any], report: Report
) -> None:
    name, role, service = wanted["name"], wanted["role"], server["service"]
    row = connection.execute(
        "SELECT pg_get_userbyid(datdba) FROM pg_database WHERE datname = %s", (name,)
    ).fetchone()

    def execute(template: str) -> None:
        connection.execute(sql.SQL(template).format(sql.Identifier(name), sql.Identifier(role)))

    report.ensure(
        row is not None,
        f"{service}: database {name} created",
        lambda: execute("CREATE DATABASE {} OWNER {}"),
    )
    if row is not None:
        report.ensure(
            row == (role,),
            f"{service}: owner of database {name} set to {role}",
            lambda: execute("ALTER DATABASE {} OWNER TO {}"),
        )


def _close_to_public(connection: psycopg.Connection[Any], name: str, report: Report, service: str) -> None:
    # NULL where there is none: in check mode it may still have to be made, open to all.
    row = connection.execute(
        "SELECT bool_and(NOT EXISTS (SELECT FROM aclexplode(coalesce(datacl, acldefault('d', datdba))) a"
        " WHERE a.grantee = 0)) FROM pg_database WHERE datname = %s",
        (name,),
    ).fetchone()
    report.ensure(
        row == (True,),
        f"{service}: database {name} closed to other roles",
        lambda: connection.execute(
            sql.SQL("REVOKE ALL ON DATABASE {} FROM PUBLIC").format(sql.Identifier(name))
        ),
    )


def _person(
    connection: psycopg.Connection[Any],
    server: dict[str, Any],
    person: dict[str, Any],
    projects: set[str],
    report: Report,
) -> None:
    """A role of somebody's own, which acts as the project's in the project's database.

    So what one person makes there belongs to all of the project.
    """
    role, service = person["role"], server["service"]
    _role(connection, server, {**person, "name": person["projects"][0]}, report)
    member_of = _memberships(connection, role)
    for project in person["projects"]:
        row = connection.execute(
            "SELECT setconfig FROM pg_db_role_setting WHERE setrole = to_regrole(quote_ident(%s))::oid"
            " AND setdatabase = (SELECT oid FROM pg_database WHERE datname = %s)",
            (role, project),
        ).fetchone()
        acts = row is not None and f"role={project}" in row[0]

        def let(project: str = project) -> None:
            names = sql.Identifier(project), sql.Identifier(role)
            connection.execute(sql.SQL("GRANT {} TO {}").format(*names))
            connection.execute(
                sql.SQL("ALTER ROLE {1} IN DATABASE {0} SET role = {2}").format(*names, sql.Literal(project))
            )

        report.ensure(project in member_of and acts, f"{service}: {role} may use {project}", let)
    _leave(connection, service, role, (member_of & projects) - {*person["projects"]}, report)


def _take_back(
    connection: psycopg.Connection[Any], service: str, role: str, projects: set[str], report: Report
) -> None:
    """Let nobody log in as ``role``, and end the connections that there are."""
    row = connection.execute("SELECT rolcanlogin FROM pg_roles WHERE rolname = %s", (role,)).fetchone()

    def close() -> None:
        connection.execute(sql.SQL("ALTER ROLE {} NOLOGIN").format(sql.Identifier(role)))
        connection.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = %s", (role,)
        )

    report.ensure(row is None or row == (False,), f"{service}: role {role} closed", close)
    _leave(connection, service, role, _memberships(connection, role) & projects, report)


def _memberships(connection: psycopg.Connection[Any], role: str) -> set[str]:
    rows = connection.execute(
        "SELECT pg_get_userbyid(roleid) FROM pg_auth_members WHERE member = to_regrole(quote_ident(%s))::oid",
        (role,),
    ).fetchall()
    return {str(row[0]) for row in rows}


def _leave(
    connection: psycopg.Connection[Any], service: str, role: str, projects: set[str], report: Report
) -> None:
    for project in sorted(projects):

        def leave(project: str = project) -> None:
            names = sql.Identifier(project), sql.Identifier(role)
            connection.execute(sql.SQL("ALTER ROLE {1} IN DATABASE {0} RESET role").format(*names))
            connection.execute(sql.SQL("REVOKE {} FROM {}").format(*names))

        report.ensure(False, f"{service}: {role} may no longer use {project}", leave)
