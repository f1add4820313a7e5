"""The registry's tables, a transaction really tried, and who would hold up the daemon's work."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator, Mapping
from typing import Any

import psycopg

from listener.postgres_session import PgSession
from refitd.asking import asking, connection_of, quoted, row
from refitd.checks.check import Check, bad, doubtful, good
from registry.durations import format_duration
from registry.postgres.connection import Connection
from registry.postgres.failures import translate
from registry.postgres.schema import SCHEMA_VERSION
from registry.store import Store

#: A commit that takes longer waits for a standby that isn't there.
COMMIT_S = 4
#: Transactions that are open for longer hold up the making of a slot as long as they last.
LONG_S = 300.0
_SHOWN = 3

_NEEDED = ("SELECT", "INSERT", "UPDATE", "DELETE")

_SCHEMA = """
SELECT current_user AS login, current_database() AS database,
    has_database_privilege(current_database(), 'CREATE') AS creates,
    EXISTS (SELECT FROM pg_class WHERE relnamespace = space.oid AND relname = 'meta') AS made,
    has_schema_privilege(space.oid, 'USAGE') AS uses, has_schema_privilege(space.oid, 'CREATE') AS fills,
    coalesce((SELECT bool_and(pg_has_role(relowner, 'USAGE')) FROM pg_class
        WHERE relnamespace = space.oid AND relkind = 'r'), true) AS owns,
    ARRAY(SELECT DISTINCT one.relname || ': ' || needed FROM pg_class AS one, unnest(%s::text[]) AS needed
        WHERE one.relnamespace = space.oid AND one.relkind = 'r' AND NOT has_table_privilege(one.oid, needed)
        ORDER BY 1) AS lacks
FROM (SELECT) AS always LEFT JOIN pg_namespace AS space ON space.nspname = 'refitd'
"""

_OPEN = """
SELECT pid, extract(epoch FROM clock_timestamp() - xact_start)::float8, coalesce(usename, '-'), coalesce(datname, '-')
FROM pg_stat_activity
WHERE backend_xid IS NOT NULL AND xact_start < clock_timestamp() - make_interval(secs => %s) ORDER BY xact_start
"""
_PREPARED = """
SELECT gid, extract(epoch FROM clock_timestamp() - prepared)::float8, owner, database
FROM pg_prepared_xacts WHERE prepared < clock_timestamp() - make_interval(secs => %s) ORDER BY prepared
"""


def work_checks(store: Store) -> Iterator[Check]:
    """What everything rests on."""
    connection = connection_of(store)
    with asking(connection) as session:
        seen = row(session, _SCHEMA, (list(_NEEDED),))
        registry = _registry(session, seen)
        yield registry
        if registry.ok:
            yield _transaction(connection, writes=bool(seen["made"]))
        yield from _held_up(session)


def _registry(session: PgSession, seen: Mapping[str, Any]) -> Check:
    login, name = quoted(seen["login"]), "registry"
    if seen["uses"] is None:
        if seen["creates"]:
            return good(name, "the schema refitd is not there yet: `refitd run` makes it")
        fix = f"CREATE SCHEMA refitd AUTHORIZATION {login}"
        return bad(name, f"the schema refitd is not there, and {seen['login']} may not make it", fix)
    if not seen["uses"] or (not seen["made"] and not seen["fills"]):
        fix = f"ALTER SCHEMA refitd OWNER TO {login}; or GRANT USAGE, CREATE ON SCHEMA refitd TO {login}"
        return bad(name, f"{seen['login']} may not use the schema refitd, or make tables in it", fix)
    if not seen["made"]:
        return good(name, "the schema refitd is there, without tables yet: `refitd run` makes them")
    if seen["lacks"]:
        fix = f"GRANT {', '.join(_NEEDED)} ON ALL TABLES IN SCHEMA refitd TO {login}"
        return bad(name, f"{seen['login']} lacks rights on the registry's tables ({', '.join(seen['lacks'])})", fix)
    return _version(session, seen)


def _version(session: PgSession, seen: Mapping[str, Any]) -> Check:
    found = session.rows("SELECT value::int FROM refitd.meta WHERE key = 'schema'")
    version = int(found[0][0]) if found else 0
    said = f"the schema refitd has version {version}"
    if version > SCHEMA_VERSION:
        fix = "install that release of refitd here too"
        return bad("registry", f"{said}, this release knows {SCHEMA_VERSION}: a newer one made it", fix)
    if version < SCHEMA_VERSION and not seen["owns"]:
        fix = f"run `refitd doctor --fix` once as their owner, or ALTER TABLE … OWNER TO {quoted(seen['login'])}"
        return bad("registry", f"{said}, and {seen['login']}, which doesn't own its tables, can't bring it up", fix)
    if version < SCHEMA_VERSION:
        return good("registry", f"{said}: `refitd run` brings it to {SCHEMA_VERSION}")
    return good("registry", said)


def _transaction(connection: Connection, *, writes: bool) -> Check:
    """One commit, cut off where it waits for a synchronous standby."""
    try:
        with psycopg.connect(**connection.parameters, autocommit=True) as session:
            (standbys,) = session.execute("SELECT current_setting('synchronous_standby_names')").fetchone() or ("",)
            took = _commit(session, writes=writes)
    except psycopg.Error as error:
        raise translate(error, connection.login) from error
    if took >= COMMIT_S:
        fix = (
            "start the standbys, or ALTER SYSTEM SET synchronous_standby_names = …; SELECT pg_reload_conf(): every "
            "commit waits for them, the daemon's too, and a fit waits until what it has to cover is visible"
        )
        return doubtful("transactions", f"a commit waits for a standby (synchronous_standby_names = '{standbys}')", fix)
    waited = f" and by a standby ('{standbys}')" if standbys else ""
    return good("transactions", f"one was committed{waited}, {took * 1000:.0f} ms")


def _commit(session: psycopg.Connection[Any], *, writes: bool) -> float:
    """The seconds that a transaction took. One that is cancelled while it waits for a standby is committed here."""
    began = time.monotonic()
    session.execute("BEGIN")
    if writes:
        session.execute("INSERT INTO refitd.meta VALUES ('doctor', '1') ON CONFLICT (key) DO UPDATE SET value = '1'")
        session.execute("DELETE FROM refitd.meta WHERE key = 'doctor'")
    else:
        session.execute("SELECT pg_logical_emit_message(true, 'refitd', 'doctor')")
    timer = threading.Timer(COMMIT_S, session.cancel_safe)  # statement_timeout does not reach into a commit
    timer.start()
    try:
        session.execute("COMMIT")
    finally:
        timer.cancel()
        timer.join()
    return time.monotonic() - began


def _held_up(session: PgSession) -> Iterator[Check]:
    """Transactions that are open for long: a new slot begins when those before it have ended, in any database."""
    # Whose transactions a login may see is up to pg_read_all_stats; prepared ones are everybody's to see.
    ages = session.rows(_OPEN, (LONG_S,))
    prepared = session.rows(_PREPARED, (LONG_S,))
    if ages:
        said = "; ".join(f"process {pid} ({user} in {db}), {_age(age)}" for pid, age, user, db in ages[:_SHOWN])
        fix = f"end them: {'; '.join(f'SELECT pg_terminate_backend({pid})' for pid, *_ in ages[:_SHOWN])}"
        yield doubtful("open transactions", f"{len(ages)} hold up a new slot: {said}", fix)
    if prepared:
        said = "; ".join(f"{gid} ({user} in {db}), {_age(age)}" for gid, age, user, db in prepared[:_SHOWN])
        fix = "; ".join(
            f"in {quoted(db)}: COMMIT PREPARED {_literal(gid)} or ROLLBACK PREPARED {_literal(gid)}"
            for gid, _, _, db in prepared[:_SHOWN]
        )
        yield doubtful("prepared transactions", f"{len(prepared)} hold up a new slot: {said}", fix)


def _age(seconds: float) -> str:
    return f"open for {format_duration(max(1.0, round(seconds)))}"


def _literal(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"
