"""Databases and the roles that own them, on one PostgreSQL server."""

from __future__ import annotations

from typing import Any

import psycopg
from psycopg import sql

from .report import Report

_CA_BUNDLE = "/etc/ssl/certs/ca-certificates.crt"


def provision(server: dict[str, Any], report: Report) -> None:
    """Bring the databases and roles of ``server`` into the desired state.

    Every role owns the one database of its name and can connect to no other.
    """
    with _connect(server, "postgres", server["user"], server["password"]) as connection:
        # The default lets every role connect to every database.
        _close_to_public(connection, "postgres", report, server["service"])
        for database in server["databases"]:
            _role(connection, server, database, report)
            _database(connection, server, database, report)
            _close_to_public(connection, database["name"], report, server["service"])


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
    statement = sql.SQL(
        "{} ROLE {} LOGIN NOSUPERUSER NOCREATEDB NOCREATEROLE NOREPLICATION NOBYPASSRLS PASSWORD {}"
    )

    def write(verb: str) -> None:
        connection.execute(
            statement.format(sql.SQL(verb), sql.Identifier(role), sql.Literal(wanted["password"]))
        )

    report.ensure(row is not None, f"{service}: role {role} created", lambda: write("CREATE"))
    if row is None:
        return
    report.ensure(
        row == (True, False, False, False), f"{service}: role {role} repaired", lambda: write("ALTER")
    )
    report.ensure(
        _password_works(server, wanted), f"{service}: password of role {role} set", lambda: write("ALTER")
    )


def _password_works(server: dict[str, Any], wanted: dict[str, Any]) -> bool:
    try:
        _connect(server, wanted["name"], wanted["role"], wanted["password"]).close()
    except psycopg.OperationalError as error:
        # Any other answer than "wrong password" (no such database yet, no right to connect) came after it.
        return "password authentication failed" not in str(error)
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
    row = connection.execute(
        "SELECT count(*) FROM pg_database d,"
        " aclexplode(coalesce(d.datacl, acldefault('d', d.datdba))) a WHERE d.datname = %s AND a.grantee = 0",
        (name,),
    ).fetchone()
    report.ensure(
        row == (0,),
        f"{service}: database {name} closed to other roles",
        lambda: connection.execute(
            sql.SQL("REVOKE ALL ON DATABASE {} FROM PUBLIC").format(sql.Identifier(name))
        ),
    )
