"""Must show 5, where PostgreSQL has ways of its own: whatever SQL is written, it only reads, and only what it may."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest

from tests.fixtures.bad_documents import Bad, crowd_of, is_told_and_fitted_when_mended, judged
from tests.fixtures.daemon import sklearn
from tests.fixtures.datastores import POSTGRESQL
from tests.fixtures.places import Place
from tests.fixtures.postgres_datastore import PostgresDatastore
from tests.fixtures.subject import Subject, postgres_of, row, run_sql
from tests.fixtures.waiting import wait_for, wait_fresh, wait_state

pytestmark = pytest.mark.parametrize("kind", POSTGRESQL, indirect=True)


def select(text: Any, words: str) -> Bad:
    return Bad({"training_select": text}, {"training_select": words})


DOCUMENTS: dict[str, Bad] = {
    "a syntax error": select("SELECT id v FROM healthy WHERE", "SQL"),
    "a misspelt word": select("SELEC id, v FROM healthy", "SELECT"),
    "nothing": select("", "at least 1 character"),
    "no table": select("SELECT 1 AS id, 2 AS v", "no table"),
    "no end": select("SELECT id, v FROM healthy WHERE country = 'DE", "quote"),
    "nested deep": select(f"SELECT id, v FROM healthy WHERE {'(' * 2000}true{')' * 2000}", "nested"),
    "very long": select("SELECT id, v FROM healthy WHERE true" + " AND true" * 200_000, "longer"),
    "two statements": select("SELECT id, v FROM healthy; SELECT 1", "more than one statement"),
    "out of the transaction": select(
        "SELECT id, v FROM healthy; COMMIT; DELETE FROM healthy", "more than one statement"
    ),
    "an insert": select("INSERT INTO healthy VALUES (99, 1, 'DE', '-') RETURNING id, v", "only reads"),
    "an update": select("UPDATE healthy SET v = 0 RETURNING id, v", "only reads"),
    "a deletion": select("DELETE FROM healthy RETURNING id, v", "only reads"),
    "a merge": select("MERGE INTO healthy USING healthy AS o ON false WHEN MATCHED THEN DELETE", "only reads"),
    "a copy to a program": select("COPY healthy TO PROGRAM 'touch /tmp/refitd-canary'", "only reads"),
    "a block": select("DO $$ BEGIN DELETE FROM healthy; END $$", "only reads"),
    "a plan that is run": select("EXPLAIN ANALYZE DELETE FROM healthy", "SELECT"),
    "a CTE that writes": select("WITH gone AS (DELETE FROM healthy RETURNING id, v) SELECT * FROM gone", "only reads"),
    "a lock": select("SELECT id, v FROM healthy FOR UPDATE", "lock"),
    "a new table": select("SELECT id, v INTO stolen FROM healthy", "INTO"),
    "a file": select("SELECT id, length(pg_read_file('/etc/passwd')) AS v FROM healthy", "pg_read_file()"),
    "a sleep": select("SELECT id, v FROM healthy WHERE pg_sleep(9999) IS NULL", "pg_sleep()"),
    "a setting": select("SELECT id, set_config('statement_timeout', '0', false) AS v FROM healthy", "set_config()"),
    "another server": select("SELECT * FROM dblink('host=x', 'SELECT 1') AS t (id int, v int)", "dblink()"),
    "a large object": select("SELECT id, lo_import('/etc/passwd') AS v FROM healthy", "lo_import()"),
    "SQL in a text": select(
        "SELECT id, query_to_xml('TABLE healthy', true, true, '') AS v FROM healthy", "query_to_xml()"
    ),
    "a session that is ended": select("SELECT id, pg_terminate_backend(1) AS v FROM healthy", "pg_terminate_backend()"),
    "a slot that is dropped": select(
        "SELECT id, pg_drop_replication_slot('x') AS v FROM healthy", "pg_drop_replication_slot()"
    ),
    "an advisory lock": select("SELECT id, pg_advisory_lock(1) AS v FROM healthy", "pg_advisory_lock()"),
    "a sequence": select("SELECT id, nextval('s') AS v FROM healthy", "nextval()"),
    "a function of somebody's": select("SELECT id, public.evil(v) AS v FROM healthy", "evil"),
    "our own registry": select("SELECT number AS id, rows AS v FROM refitd.versions", "refitd"),
    "our own registry, joined": select(
        "SELECT h.id, h.v FROM healthy AS h JOIN refitd.models AS m ON m.id = 'x'", "refitd"
    ),
    "our own registry, quoted": select('SELECT id, v FROM "refitd"."models"', "refitd"),
    "the catalog": select("SELECT oid AS id, relpages AS v FROM pg_catalog.pg_class", "server"),
    "the catalog, plainly": select("SELECT oid AS id, relpages AS v FROM pg_class", "server"),
    "passwords": select("SELECT usesysid AS id, passwd AS v FROM pg_shadow", "server"),
    "another database": select("SELECT id, v FROM other.public.healthy", "database"),
    "the time": select("SELECT id, v FROM healthy WHERE now() > '2020-01-01'", "retrain.schedule"),
    "chance": select("SELECT id, v FROM healthy WHERE random() < 0.5", "retrain.schedule"),
    "a sample": select("SELECT id, v FROM healthy TABLESAMPLE BERNOULLI (50)", "retrain.schedule"),
    "a parameter": select("SELECT id, v FROM healthy WHERE id = $1", "parameter"),
    "a select of MongoDB's": select({"collection": "healthy", "filter": {}}, "PostgreSQL"),
    "a number": select(5, "string"),
    "a list": select(["SELECT id, v FROM healthy"], "string"),
    "rows to judge on twice": Bad(
        judged(select="SELECT id, country FROM healthy"), {"validation": "either `split` or `select`"}
    ),
    "rows to judge on that are deleted": Bad(
        {**judged(), "validation": {"select": "DELETE FROM healthy RETURNING id, country"}},
        {"validation.select": "only reads"},
    ),
    "a number beyond any float": Bad({"timeout": 10**400}, {"timeout": ""}),
    "faults everywhere": Bad(
        {
            "object": sklearn("svm.SVC", C=-1, karnel="rbf"),
            "train_X": [],
            "train_y": "country",
            "training_select": "DELETE FROM healthy",
            "validation": {"split": 0.5, "metrics": ["acuracy"]},
            "retrain": {"schedule": "x", "quiet": "y"},
            "tiemout": 1,
        },
        {
            "object.params.C": "",
            "object.params.karnel": "`kernel`",
            "train_X": "at least 1",
            "tiemout": "`timeout`",
            "training_select": "only reads",
            "validation.metrics.0": "`accuracy`",
            "retrain.schedule": "",
            "retrain.quiet": "",
        },
    ),
}  # fmt: skip


@pytest.fixture(scope="module")
def crowd(place: Place) -> Iterator[Place]:
    assert isinstance(place.store, PostgresDatastore)
    place.store.run("CREATE SEQUENCE s")
    body = "BEGIN DELETE FROM healthy; RETURN n; END"
    place.store.run(f"CREATE FUNCTION evil(n float8) RETURNS float8 LANGUAGE plpgsql AS '{body}'")
    with crowd_of(place, DOCUMENTS):
        yield place
    assert place.store.rows("SELECT to_regclass('stolen'), is_called FROM s") == [(None, False)]


@pytest.mark.parametrize("bad", DOCUMENTS)
def test_a_bad_document_says_what_is_wrong_and_is_fitted_when_mended(crowd: Place, bad: str) -> None:
    is_told_and_fitted_when_mended(crowd, bad, DOCUMENTS[bad])


@dataclass(frozen=True, slots=True)
class Untold:
    """A relation whose changes PostgreSQL can't tell: how it is made, words of what is said, and what mends it."""

    made: tuple[str, ...]
    words: tuple[str, ...]
    mend: tuple[str, ...] = ()


_KEYLESS = "CREATE TABLE {t} (id bigint NOT NULL, v double precision, country text, note text)"
_FILL = "INSERT INTO {o} SELECT n, n, 'DE', '-' FROM generate_series(0, 3) AS n"

UNTOLD: dict[str, Untold] = {
    "no primary key": Untold((_KEYLESS,), ("ALTER TABLE", "PRIMARY KEY"), ("ALTER TABLE {t} ADD PRIMARY KEY (id)",)),
    "no primary key, but an identity": Untold(
        (_KEYLESS,), ("REPLICA IDENTITY FULL",), ("ALTER TABLE {t} REPLICA IDENTITY FULL",)
    ),
    "no identity": Untold(
        (_KEYLESS.replace("NOT NULL", "PRIMARY KEY"), "ALTER TABLE {t} REPLICA IDENTITY NOTHING"),
        ("ALTER TABLE", "REPLICA IDENTITY"),
        ("ALTER TABLE {t} REPLICA IDENTITY DEFAULT",),
    ),
    "unlogged": Untold(
        (_KEYLESS.replace("NOT NULL", "PRIMARY KEY").replace("TABLE", "UNLOGGED TABLE"),),
        ("unlogged", "SET LOGGED"),
        ("ALTER TABLE {t} SET LOGGED",),
    ),
    "a materialized view": Untold(
        (_KEYLESS.replace("{t}", "{o}").replace("NOT NULL", "PRIMARY KEY"), _FILL,
         "CREATE MATERIALIZED VIEW {t} AS SELECT * FROM {o}"),
        ("materialized view", "retrain.schedule"),
        ("DROP MATERIALIZED VIEW {t}", "CREATE VIEW {t} AS SELECT * FROM {o}"),
    ),
    "a view of what has no key": Untold(
        (_KEYLESS.replace("{t}", "{o}"), _FILL, "CREATE VIEW {t} AS SELECT * FROM {o}"),
        ("ALTER TABLE", "_o", "PRIMARY KEY"),
        ("ALTER TABLE {o} ADD PRIMARY KEY (id)",),
    ),
    "a view of our own registry": Untold(
        ("CREATE VIEW {t} AS SELECT 1 AS id, 2 AS v, 'DE' AS country, status FROM refitd.models",),
        ("refitd.models",),
        ("DROP VIEW {t}", _KEYLESS.replace("NOT NULL", "PRIMARY KEY"), _FILL.replace("{o}", "{t}")),
    ),
}  # fmt: skip


@pytest.mark.parametrize("what", UNTOLD)
def test_a_relation_that_can_not_be_followed_is_told_with_its_fix(subject: Subject, what: str) -> None:
    case = UNTOLD[what]
    run_sql(subject, *case.made)
    if "VIEW" not in case.made[-1]:
        subject.rows.insert(*map(row, range(4)))
    subject.insert()
    said = wait_state(subject.store, subject.name, "invalid")
    assert all(words in said["error"] for words in case.words), said["error"]
    if "VIEW" not in case.made[-1]:
        subject.rows.set({"id": 0}, v=5)  # nothing that we did forbids it
        subject.rows.delete({"id": 1})
    run_sql(subject, *case.mend)
    wait_fresh(subject.store, subject.name, 1)
    subject.number = int(subject.newest()["number"])
    assert subject.seen() == subject.expected()
    if "VIEW" not in case.made[-1]:
        subject.unmoved()


def test_a_key_that_is_dropped_is_told_before_it_breaks_anything(fitted: Subject) -> None:
    """In a publication, a table without a key refuses its owner's updates: it has to leave it."""
    run_sql(fitted, "ALTER TABLE {t} DROP CONSTRAINT " + f'"{fitted.name}_pkey"')
    said = wait_state(fitted.store, fitted.name, "invalid")
    assert "PRIMARY KEY" in said["error"]
    fitted.rows.set({"id": 0}, v=5)
    run_sql(fitted, "ALTER TABLE {t} ADD PRIMARY KEY (id)")
    fitted.covers()


def test_a_document_nested_beyond_measure_harms_nobody(fitted: Subject) -> None:
    """PostgreSQL takes it; a JSON parser that recurses does not."""
    name, store = f"{fitted.name}_deep", postgres_of(fitted)
    depth = 3000
    spec = json.dumps(fitted.document() | {"fit_kwargs": "here"}).replace('"here"', "[" * depth + "]" * depth)
    store.run("INSERT INTO refitd.models (id, spec) VALUES (%s, %s::text::jsonb)", name, spec)

    def state() -> Any:
        return store.rows("SELECT status ->> 'state' FROM refitd.models WHERE id = %s", name)[0][0]

    assert wait_for(store, state, "it is judged") == "invalid"
    fitted.unmoved()
    store.documents.remove(name)
    fitted.unmoved()


def test_a_status_that_is_none_of_ours_harms_nobody(fitted: Subject) -> None:
    store = postgres_of(fitted)
    store.run(
        """UPDATE refitd.models SET status = '{"state": 5, "fitted_at": [], "due_at": "x"}' WHERE id = %s""",
        fitted.name,
    )
    fitted.unmoved()
    wait_state(fitted.store, fitted.name, "fresh")
