"""What a fit that was lost leaves for the next attempt, in every registry."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from registry.document import ModelDocument
from registry.errors import NotFound
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
    checkpoints = FitCheckpoints(store, fit, rows, FitReport(store, fit, 60).note)
    checkpoints.keep(data)
    return checkpoints


def last(store: Store, fit: Fit, rows: str = "rows") -> bytes | None:
    return FitCheckpoints(store, fit, rows, FitReport(store, fit, 60).note).last()


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
    checkpoints = FitCheckpoints(store, second, "rows", FitReport(store, second, 60).note)
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
