"""Text compares as its column says. PostgreSQL needs ICU for that, which the embedded server is built without."""

from __future__ import annotations

import pytest

from tests.fixtures.datastores import POSTGRESQL
from tests.fixtures.postgres_datastore import COLUMNS
from tests.fixtures.subject import Subject, postgres_of, row

pytestmark = pytest.mark.parametrize("kind", POSTGRESQL[:1], indirect=True)


def test_text_compares_as_in_its_column(subject: Subject) -> None:
    store = postgres_of(subject)
    store.run(
        "CREATE COLLATION IF NOT EXISTS nocase (provider = icu, locale = 'und-u-ks-level2', deterministic = false)"
    )
    subject.rows.make(columns=COLUMNS.replace("country text", "country text COLLATE nocase"))
    subject.rows.insert(*map(row, range(6)), row(6, country="FR"))
    subject.choose(country="de")
    assert subject.add()["draft"]["rows"] == 6
    subject.rows.insert(row(7, country="fr"))
    subject.unmoved()
