"""Reading and writing rows of `refitd.pending` within a transaction."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime

from registry.postgres.rows import columns, jsonb, listed, pending_of, row_of
from registry.postgres.session import Session
from registry.postgres.stamps import PgStamp, Snapshot
from registry.records import Pending

COLUMNS = listed(Pending)
#: Beside the rows: the server's clock, and what is visible.
_MOMENT = "clock_timestamp() AS now, pg_current_snapshot()::text AS snapshot"
# Each in the order of the models, so that no two transactions wait for each other.
LOCK = f"SELECT {COLUMNS} FROM refitd.pending WHERE model = ANY (%s) ORDER BY model FOR UPDATE"
_WRITE = (
    "UPDATE refitd.pending AS had SET "
    + ", ".join(f'"{name}" = now."{name}"' for name in columns(Pending) if name != "model")
    + " FROM jsonb_populate_recordset(NULL::refitd.pending, %s) AS now WHERE had.model = now.model"
)


@dataclass(frozen=True, slots=True)
class Moment:
    """When a transaction looked, by the server's clock, and what was visible."""

    now: datetime
    visible: PgStamp


def lock(session: Session, models: Iterable[str]) -> tuple[dict[str, Pending], Moment]:
    """The models' rows, nobody else's until the transaction ends; a missing one is made. One round trip."""
    wanted = sorted(set(models))
    locked = session.send(LOCK, (wanted,))
    moment = moment_of(session)
    found = {row["model"]: pending_of(row) for row in locked.fetchall()}
    missing = [model for model in wanted if model not in found]
    if missing:
        make(session, missing)
        found |= {row["model"]: pending_of(row) for row in session.rows(LOCK, (missing,))}
    return found, moment


def moment_of(session: Session) -> Moment:
    """Now."""
    row = session.row(f"SELECT {_MOMENT}")
    assert row is not None
    return Moment(row["now"], PgStamp(session.history, Snapshot.parse(row["snapshot"])))


def make(session: Session, models: Iterable[str]) -> None:
    """An empty row for every model that has none."""
    session.send(
        "INSERT INTO refitd.pending (model) SELECT unnest(%s::text[]) ORDER BY 1 ON CONFLICT DO NOTHING",
        (sorted(set(models)),),
    )


def write(session: Session, rows: Iterable[Pending]) -> None:
    """Write locked rows back."""
    changed = [row_of(row) for row in rows]
    if changed:
        session.send(_WRITE, (jsonb(changed),))
