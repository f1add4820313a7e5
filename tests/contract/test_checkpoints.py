"""What a fit that was lost leaves for the next attempt, in every registry."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from registry.document import ModelDocument
from registry.errors import DatastoreUnavailable, NotFound
from registry.owner import this_process
from registry.records import Fit, FitState
from registry.store import Store
from registry.stores import open_store
from tests.fixtures.stores import STORES, store_uri
from trainers.checkpoints import FitCheckpoints
from trainers.fit import new_fit
from trainers.report import FitReport


@pytest.fixture(params=STORES)
def store(request: pytest.FixtureRequest) -> Iterator[Store]:
    with store_uri(request) as uri:
        opened = open_store(uri)
        opened.prepare()
        yield opened
        opened.close()


def begun(store: Store, **fields: Any) -> Fit:
    raw = {
        "_id": "m",
        "trainer": "torch",
        "object": {"class": "torch.nn.Linear"},
        "training_select": "rows",
        "train_X": "x",
        **fields,
    }
    store.documents.put(raw)
    fit = store.fits.start(new_fit(store, ModelDocument.parse(raw), raw, {}, this_process(), bound=True))
    store.fits.run(fit.id, fit.token)
    return fit


def kept(store: Store, fit: Fit, rows: str = "rows", data: bytes = b"half way") -> FitCheckpoints:
    checkpoints = of(store, fit, rows)
    checkpoints.keep(data)
    return checkpoints


def of(store: Store, fit: Fit, rows: str = "rows", start: int | None = None) -> FitCheckpoints:
    report = FitReport(store, fit, 60)
    return FitCheckpoints(store, fit, rows, report.note, report.line, start)


def last(store: Store, fit: Fit, rows: str = "rows") -> bytes | None:
    return of(store, fit, rows).last()


def test_the_next_attempt_goes_on_where_one_was_lost(store: Store) -> None:
    first = begun(store)
    kept(store, first, data=b"old")
    kept(store, first)
    store.fits.end(first.id, FitState.LOST, None)
    assert last(store, begun(store)) == b"half way"


@pytest.mark.parametrize("state", [FitState.FAILED, FitState.CANCELLED])
def test_only_a_lost_one_is_gone_on_with(store: Store, state: FitState) -> None:
    first = begun(store)
    kept(store, first)
    store.fits.end(first.id, state, "why")
    assert last(store, begun(store)) is None


def test_other_rows_or_another_document_begin_at_the_beginning(store: Store) -> None:
    first = begun(store)
    kept(store, first)
    store.fits.end(first.id, FitState.LOST, None)
    second = begun(store)
    assert last(store, second, "other rows") is None
    store.fits.end(second.id, FitState.LOST, None)
    assert last(store, begun(store, train_X="y")) is None


def test_only_the_newest_is_kept_and_none_when_it_is_done(store: Store) -> None:
    checkpoints = kept(store, begun(store), data=b"old")
    checkpoints.keep(b"new")
    assert len(store.artifacts.all()) == 1
    checkpoints.forget()
    assert store.artifacts.all() == {}


def test_who_goes_on_clears_away_what_it_went_on_from(store: Store) -> None:
    first = begun(store)
    kept(store, first)
    store.fits.end(first.id, FitState.LOST, None)
    second = begun(store)
    checkpoints = of(store, second)
    assert checkpoints.last() == b"half way"
    checkpoints.keep(b"further")
    assert [store.artifacts.get(digest) for digest in store.artifacts.all()] == [b"further"]


def test_one_that_was_cleaned_away_is_none(store: Store) -> None:
    first = begun(store)
    kept(store, first)
    store.fits.end(first.id, FitState.LOST, None)
    for digest in store.artifacts.all():
        store.artifacts.remove(digest)
    assert last(store, begun(store)) is None
    with pytest.raises(NotFound):
        store.artifacts.get("0" * 64)


def test_one_that_began_elsewhere_is_not_gone_on_with(store: Store) -> None:
    first = begun(store)
    of(store, first, start=3).keep(b"from version 3")
    store.fits.end(first.id, FitState.LOST, None)
    second = begun(store)
    assert of(store, second, start=4).last() is None
    assert of(store, second, start=3).last() == b"from version 3"


def test_one_of_no_use_is_not_given_again(store: Store) -> None:
    first = begun(store)
    kept(store, first)
    store.fits.end(first.id, FitState.LOST, None)
    checkpoints = of(store, begun(store))
    assert checkpoints.last() == b"half way"
    assert checkpoints.refuse()
    assert checkpoints.last() is None
    assert not of(store, begun_again(store)).refuse()


def begun_again(store: Store) -> Fit:
    store.fits.end(store.fits.active()[0].id, FitState.LOST, None)
    return begun(store)


def test_what_can_not_be_kept_does_no_harm(store: Store) -> None:
    fit = begun(store)
    report = FitReport(store, fit, 60)
    lines: list[str] = []

    def away(**_: Any) -> None:
        raise DatastoreUnavailable("it is away")

    checkpoints = FitCheckpoints(store, fit, "rows", report.note, lines.append)
    checkpoints.keep(b"the first")
    failing = FitCheckpoints(store, fit, "rows", away, lines.append)
    failing.keep(b"the second")
    assert lines == ["no checkpoint could be kept: it is away"]
    assert not failing.due()
    store.fits.end(fit.id, FitState.LOST, None)
    assert last(store, begun(store)) == b"the first"
