"""The relations that models select from: there, readable, told by the log, and with their old rows."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import psycopg

from listener.postgres_catalog import Relation, look
from listener.postgres_publication import PUBLICATION
from listener.postgres_session import PgSession
from refitd.asking import asking, connection_of, is_made, quoted, shown
from refitd.checks.check import Check, bad, doubtful, good
from refitd.checks.postgres_rights import TAKES
from refitd.checks.watched import watched
from refitd.images_postgres import Table, enable_line, tables_of
from refitd.session import Session
from registry.postgres.connection import READER
from registry.store import Store

_SHOWN = 20

# Of columns that are granted one by one it can't be told here whether they are those of the select.
_MAY = """
SELECT role.rolname, has_schema_privilege(role.oid, this.relnamespace, 'USAGE'),
    has_table_privilege(role.oid, this.oid, 'SELECT') OR has_any_column_privilege(role.oid, this.oid, 'SELECT'),
    quote_ident(space.nspname), format('%%I.%%I', space.nspname, this.relname),
    this.relrowsecurity AND NOT role.rolbypassrls AND NOT role.rolsuper
        AND (this.relforcerowsecurity OR NOT pg_has_role(role.oid, this.relowner, 'USAGE'))
FROM pg_class AS this JOIN pg_namespace AS space ON space.oid = this.relnamespace
CROSS JOIN (SELECT * FROM pg_roles WHERE rolname = %s) AS role
WHERE this.oid = %s::oid
"""
_READS_AS = f"""
SELECT coalesce((SELECT rolname FROM pg_roles AS one WHERE rolname = '{READER}' AND pg_has_role(one.oid, {TAKES})),
    current_user)::text
"""
_PUBLISHES = f"""
SELECT this.oid::int8, pg_get_userbyid(this.relowner), pg_has_role(this.relowner, 'USAGE'),
    (SELECT pg_has_role(pubowner, 'USAGE') FROM pg_publication WHERE pubname = '{PUBLICATION}'), current_user::text
FROM pg_class AS this WHERE this.oid = ANY (%s::oid[])
"""
_MISPLACED = """
SELECT format('%%I.%%I', its.nspname, one.relname)
FROM pg_class AS one JOIN pg_namespace AS its ON its.oid = one.relnamespace
WHERE its.nspname = 'refitd' AND quote_ident(one.relname) = %s
"""


def relation_checks(session: Session) -> Iterator[Check]:
    """One check a relation that is wrong, one for the old rows of all."""
    models = watched(session.store) if is_made(connection_of(session.store)) else {}
    if models:
        yield from checks_of(session.store, models)


def checks_of(store: Store, models: Mapping[str, Sequence[str]]) -> Iterator[Check]:
    """Of these relations, as selects name them, each with the models that select from it."""
    with asking(connection_of(store)) as session:
        ((role,),) = session.rows(_READS_AS)
        seen: list[str] = []
        for name, users in sorted(models.items()):
            check = f"relation {shown(name)}"
            said = f"{', '.join(users)} selects from it"
            try:
                behind = look(session.rows, [name], PUBLICATION).behind.get(name, ())
            except psycopg.errors.InsufficientPrivilege as error:
                yield bad(check, f"{error.diag.message_primary}; {said}", _usage(error, role))
                continue
            if not behind:
                yield _missing(session, check, name, said)
                continue
            seen.append(name)
            yield from _readable(session, check, behind[0], role, said)
            yield from _told(session, check, behind, said)
        yield from _images(tables_of(session, seen))


def _missing(session: PgSession, check: str, name: str, said: str) -> Check:
    """A login called refitd makes its tables in the schema of its name, the registry's, unless it says another."""
    for (misplaced,) in session.rows(_MISPLACED, (shown(name),)):
        fix = f"ALTER TABLE {misplaced} SET SCHEMA public"
        return bad(check, f"lies in the schema refitd, the registry's own, where selects don't look; {said}", fix)
    fix = "make it, or correct the select; a table outside the search path needs its schema: SCHEMA.TABLE"
    return doubtful(check, f"is not there yet; {said}", fix)


def _usage(error: psycopg.Error, role: str) -> str:
    schema = (error.diag.message_primary or "").rpartition(" ")[2]
    return f"GRANT USAGE ON SCHEMA {schema} TO {quoted(role)}, and to the daemon's login; and GRANT SELECT on the table"


def _readable(session: PgSession, check: str, one: Relation, role: str, said: str) -> Iterator[Check]:
    """By the role that selects run as."""
    for name, enters, reads, schema, relation, hides in session.rows(_MAY, (role, one.oid)):
        grants = []
        if not enters:
            grants.append(f"GRANT USAGE ON SCHEMA {schema} TO {quoted(name)}")
        if not reads:
            grants.append(f"GRANT SELECT ON {relation} TO {quoted(name)}")
        if grants:
            yield bad(check, f"{name} may not read it; {said}", "; ".join(grants))
        elif hides:
            fix = f"ALTER ROLE {quoted(name)} BYPASSRLS, or a policy that shows what models should learn from"
            yield doubtful(check, f"has row level security, so {name} reads only what its policies show; {said}", fix)


def _told(session: PgSession, check: str, behind: Sequence[Relation], said: str) -> Iterator[Check]:
    """Whether the log tells the changes of all that it is made of."""
    untold = next((one.untold for one in behind if one.untold), None)
    if untold:
        yield bad(check, f"its changes can't be followed; {said}", untold)
        return
    missing = {one.oid: one.name for one in behind if one.published is None and not one.is_view and one.root is None}
    for oid, owner, owns, publishes, login in session.rows(_PUBLISHES, (list(missing),)) if missing else ():
        if not owns or publishes is False:
            add = f"ALTER PUBLICATION {PUBLICATION} ADD TABLE ONLY {missing[oid]}"
            fix = f"as a superuser: {add}; or, so that the daemon can: GRANT {quoted(owner)} TO {quoted(login)}"
            yield bad(
                check, f"{missing[oid]} ({owner}'s) is not in the publication, and {login} can't add it; {said}", fix
            )


def _images(behind: Mapping[str, Sequence[Table]]) -> Iterator[Check]:
    tables = {one.name: one for some in behind.values() for one in some}
    if not tables:
        return
    without = sorted(name for name, one in tables.items() if not one.full)
    if not without:
        yield good("images", f"REPLICA IDENTITY FULL: the log has the old rows of {_some(sorted(tables))}")
        return
    lines = "; ".join(enable_line(name) for name in without[:_SHOWN])
    ours = all(tables[name].ours for name in without)
    owners = sorted({tables[name].owner for name in without if not tables[name].ours})
    yield doubtful(
        "images",
        f"the log has no whole rows as they were before a change of {_some(without)} (no REPLICA IDENTITY FULL): what "
        "can't be known counts as a match there, so every update and delete does",
        f"{'refitd doctor --fix, or in psql' if ours else f'as {_some(owners)}, in psql'}: {lines} (it costs: each "
        "update and delete then writes the whole old row to the log)",
    )


def _some(names: Sequence[str]) -> str:
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return ", ".join(names[:_SHOWN]) + more
