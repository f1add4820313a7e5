"""The schema `refitd` in the user's database: its tables, made by numbered migrations, each applied once."""

from __future__ import annotations

from registry.errors import DatastoreUnsuitable
from registry.postgres.connection import Connection
from registry.postgres.session import Session

#: All who migrate one database take turns by this lock: "refitd", as a number.
_LOCK = int.from_bytes(b"refitd")

_LOGS_KEPT = "30 days"
_FITS_KEPT = "365 days"
#: So many rows are swept away at once.
_SWEPT = 5000

# `id` compares byte by byte, whatever the database's collation.
_FIRST = """
CREATE TABLE refitd.models (
    id text PRIMARY KEY,
    spec jsonb NOT NULL CONSTRAINT spec_is_an_object CHECK (jsonb_typeof(spec) = 'object'),
    status jsonb CONSTRAINT status_is_an_object CHECK (jsonb_typeof(status) = 'object')
);
-- Whoever follows the table sees the row before an update, and so whether more than the status changed.
ALTER TABLE refitd.models REPLICA IDENTITY FULL;

CREATE TABLE refitd.feeds (
    id text COLLATE "C" PRIMARY KEY,
    kind text NOT NULL,
    epoch bigint NOT NULL DEFAULT 0,
    owner text,
    lease_until timestamptz,
    position jsonb,
    identity text,
    relations jsonb NOT NULL DEFAULT '{}',
    recorded timestamptz,
    resyncs bigint NOT NULL DEFAULT 0,
    last_resync text,
    dead_letters bigint NOT NULL DEFAULT 0
) WITH (fillfactor = 70);

CREATE TABLE refitd.pending (
    model text COLLATE "C" PRIMARY KEY,
    generation bigint NOT NULL DEFAULT 0,
    seen jsonb NOT NULL DEFAULT '{}',
    covered jsonb NOT NULL DEFAULT '{}',
    need jsonb,
    since timestamptz,
    since_claim timestamptz,
    last timestamptz,
    resync text,
    blind boolean NOT NULL DEFAULT false,
    fit text,
    watching text,
    published jsonb,
    failure jsonb,
    finished timestamptz,
    schedule text,
    due_at timestamptz,
    retrain_now jsonb,
    retrain_tried jsonb
) WITH (fillfactor = 70);

CREATE TABLE refitd.fits (
    id text COLLATE "C" PRIMARY KEY,
    model text NOT NULL,
    state text NOT NULL,
    attempt integer NOT NULL,
    token text NOT NULL,
    document jsonb NOT NULL,
    spec_hash text NOT NULL,
    reason jsonb NOT NULL,
    generation bigint NOT NULL,
    seen jsonb NOT NULL,
    need jsonb,
    owner text NOT NULL,
    bound boolean NOT NULL,
    created timestamptz NOT NULL,
    started timestamptz,
    heartbeat timestamptz,
    finished timestamptz,
    progress jsonb NOT NULL DEFAULT '{}',
    version bigint,
    error text,
    cancel text,
    next_due timestamptz,
    lines bigint NOT NULL DEFAULT 0
) WITH (fillfactor = 80);
CREATE INDEX fits_of_model ON refitd.fits (model, id DESC);
CREATE INDEX fits_under_way ON refitd.fits (id) WHERE state IN ('queued', 'running');
CREATE INDEX fits_finished ON refitd.fits (finished);

CREATE TABLE refitd.versions (
    model text NOT NULL,
    number bigint NOT NULL,
    fit text NOT NULL UNIQUE,
    created timestamptz NOT NULL,
    generation bigint NOT NULL,
    spec_hash text NOT NULL,
    reason jsonb NOT NULL,
    document jsonb NOT NULL,
    digest text NOT NULL,
    format text NOT NULL,
    rows bigint NOT NULL,
    rows_digest text NOT NULL,
    metrics jsonb NOT NULL,
    cut jsonb NOT NULL,
    select_hash text NOT NULL,
    promoted boolean NOT NULL,
    gate text NOT NULL,
    parts jsonb NOT NULL,
    detail jsonb NOT NULL,
    PRIMARY KEY (model, number)
);
CREATE INDEX versions_digest ON refitd.versions (digest);

CREATE TABLE refitd.logs (
    fit text COLLATE "C" NOT NULL,
    n bigint NOT NULL,
    at timestamptz NOT NULL,
    line text NOT NULL,
    PRIMARY KEY (fit, n)
);
CREATE INDEX logs_at ON refitd.logs (at);

CREATE TABLE refitd.artifacts (
    digest text COLLATE "C" PRIMARY KEY,
    size bigint NOT NULL,
    created timestamptz NOT NULL DEFAULT clock_timestamp()
);
CREATE TABLE refitd.artifact_chunks (
    digest text COLLATE "C" NOT NULL,
    n integer NOT NULL,
    data bytea NOT NULL,
    PRIMARY KEY (digest, n)
);
-- Fitted objects are compressed already, where that helps.
ALTER TABLE refitd.artifact_chunks ALTER COLUMN data SET STORAGE EXTERNAL;
"""

#: The n-th makes version n. Never changed once released: a later one changes what an earlier one made.
MIGRATIONS: tuple[str, ...] = (_FIRST,)
SCHEMA_VERSION = len(MIGRATIONS)


def prepare(connection: Connection) -> None:
    """Make what is missing, and sweep away what is old. Idempotent; two daemons may do it at once.

    Raises:
        DatastoreUnsuitable: a newer release made the registry, or the login may not make it.
    """
    with connection.session() as session:
        ready = session.row("SELECT to_regclass('refitd.meta') IS NOT NULL AS made")
        version = _version(session) if ready and ready["made"] else 0
    if version < SCHEMA_VERSION:
        connection.transaction(_migrate)
    sweep(connection)


def sweep(connection: Connection) -> None:
    """Forget some of the log lines and fits that are old enough; versions stay."""
    for table, column, kept in (("logs", "at", _LOGS_KEPT), ("fits", "finished", _FITS_KEPT)):
        connection.run(
            f"DELETE FROM refitd.{table} WHERE ctid = ANY (ARRAY(SELECT ctid FROM refitd.{table}"
            f" WHERE {column} < clock_timestamp() - %s::interval LIMIT %s))",
            (kept, _SWEPT),
        )


def _version(session: Session) -> int:
    row = session.row("SELECT value::int AS version FROM refitd.meta WHERE key = 'schema'")
    version = int(row["version"]) if row else 0
    if version > SCHEMA_VERSION:
        raise DatastoreUnsuitable(
            f"the registry in this database was made by a newer release of refitd (its tables have version {version}, "
            f"this release knows {SCHEMA_VERSION}); install that release here too"
        )
    return version


def _migrate(session: Session) -> None:
    session.send("SELECT pg_advisory_xact_lock(%s)", (_LOCK,))
    found = session.row("SELECT to_regnamespace('refitd') IS NOT NULL AS made")
    if not (found and found["made"]):  # asked first: IF NOT EXISTS needs the right to make it even where it is
        session.send("CREATE SCHEMA refitd")
    session.send("CREATE TABLE IF NOT EXISTS refitd.meta (key text PRIMARY KEY, value jsonb NOT NULL)")
    version = _version(session)
    for number, migration in enumerate(MIGRATIONS[version:], version + 1):
        for statement in _statements(migration):
            session.send(statement)
        session.send(
            "INSERT INTO refitd.meta VALUES ('schema', to_jsonb(%s::int))"
            " ON CONFLICT (key) DO UPDATE SET value = excluded.value",
            (number,),
        )


def _statements(script: str) -> list[str]:
    """One by one: several can't go out together with others."""
    lines = (line for line in script.splitlines() if not line.startswith("--"))
    return [statement for one in "\n".join(lines).split(";") if (statement := one.strip())]
