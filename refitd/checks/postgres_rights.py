"""What the login may do: all that is needed, and not much more."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from listener.postgres_publication import PUBLICATION
from refitd.asking import asking, connection_of, quoted, row
from refitd.checks.check import Check, bad, doubtful, good
from registry.postgres.connection import READER
from registry.store import Store

_SCRIPT = "deploy/postgres/role.sql"

#: Roles that reach beyond reading: what whoever got hold of the login could do.
_POWERFUL = (
    "pg_write_all_data", "pg_execute_server_program", "pg_write_server_files", "pg_read_server_files",
    "pg_signal_backend", "pg_checkpoint", "pg_create_subscription", "pg_maintain",
)  # fmt: skip

# Taking a role with SET ROLE is a right of its own since PostgreSQL 16.
TAKES = "CASE WHEN current_setting('server_version_num')::int < 160000 THEN 'MEMBER' ELSE 'SET' END"

_LOGIN = f"""
SELECT me.rolname AS name, me.rolsuper AS super, me.rolreplication AS replication, me.rolcreaterole AS createrole,
    me.rolcreatedb AS createdb, me.rolbypassrls AS bypassrls,
    has_database_privilege(current_database(), 'CREATE') AS creates, current_database() AS database,
    EXISTS (SELECT FROM pg_namespace WHERE nspname = 'refitd') AS has_schema,
    EXISTS (SELECT FROM pg_publication WHERE pubname = '{PUBLICATION}') AS has_publication,
    ARRAY(SELECT rolname::text FROM pg_roles AS one WHERE rolname = ANY (%s)
        AND pg_has_role(one.oid, 'MEMBER')) AS powers,
    (SELECT to_jsonb(reader) FROM (
        SELECT one.rolsuper AS super, one.rolreplication AS replication, pg_has_role(one.oid, {TAKES}) AS takes
        FROM pg_roles AS one WHERE one.rolname = '{READER}') AS reader) AS reader
FROM pg_roles AS me WHERE me.rolname = current_user
"""


def rights_checks(store: Store) -> Iterator[Check]:
    """By what the catalogs say of the login, without trying anything."""
    with asking(connection_of(store)) as session:
        login = row(session, _LOGIN, (list(_POWERFUL),))
    yield _replication(login)
    yield _create(login)
    yield _not_more(login)
    yield _reader(login)


def _replication(login: Mapping[str, Any]) -> Check:
    name = login["name"]
    if not login["replication"] and not login["super"]:
        said = f"{name} has not the attribute REPLICATION, so it can't follow changes"
        return bad("login", said, f"as a superuser: ALTER ROLE {quoted(name)} REPLICATION")
    return good("login", f"{name} may follow changes")


def _create(login: Mapping[str, Any]) -> Check:
    missing = [
        what
        for what, there in (("the schema refitd", login["has_schema"]), ("a publication", login["has_publication"]))
        if not there
    ]
    if not missing:
        return good("registry's place", f"the schema refitd and the publication {PUBLICATION} are there")
    said = f"{' and '.join(missing)} must be made"
    if login["creates"]:
        return good("registry's place", f"{said} at the daemon's first start, and {login['name']} may")
    grant = f"GRANT CREATE ON DATABASE {quoted(login['database'])} TO {quoted(login['name'])}"
    return bad("registry's place", f"{said}, and {login['name']} may not", f"{grant}; or see {_SCRIPT}")


def _not_more(login: Mapping[str, Any]) -> Check:
    """What the login could do to the user's rows, or elsewhere, if somebody else got hold of it."""
    name = login["name"]
    fix = f"more than it needs: {_SCRIPT} makes a login with what is enough"
    if login["super"]:
        return doubtful("least privilege", f"{name} is a superuser: it may do anything, on the server's files too", fix)
    names = {"createrole": "CREATEROLE", "createdb": "CREATEDB", "bypassrls": "BYPASSRLS"}
    more = [f"has {shown}" for key, shown in names.items() if login[key]]
    more += [f"is a member of {role}" for role in login["powers"]]
    if more:
        return doubtful("least privilege", f"{name} {' and '.join(more)}", fix)
    return good("least privilege", f"{name} has no powers that it doesn't need")


def _reader(login: Mapping[str, Any]) -> Check:
    """Selects come from documents that others write: they should not run with the daemon's own rights."""
    name, reader = quoted(login["name"]), login["reader"]
    if reader is None:
        return doubtful(
            "reader",
            f"there is no role {READER}, so models' selects run with all rights of {login['name']}",
            f"CREATE ROLE {READER} NOLOGIN; GRANT {READER} TO {name}; and GRANT SELECT on the tables to it: {_SCRIPT}",
        )
    if not reader["takes"]:
        said = f"{login['name']} may not take the role {READER}, so models' selects run with all rights of the login"
        return doubtful("reader", said, f"GRANT {READER} TO {name}")
    if reader["super"] or reader["replication"]:
        said = f"{READER} is a superuser or has REPLICATION, and models' selects run as it"
        return doubtful("reader", said, f"ALTER ROLE {READER} NOSUPERUSER NOREPLICATION")
    return good("reader", f"models' selects run as {READER}")
