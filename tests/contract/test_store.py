"""What `registry/store.py` promises, of every store on a real server."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

import pytest

from registry.document import ModelDocument
from registry.errors import Fenced, FitBusy, NotFound
from registry.mongo.store import MongoStore
from registry.owner import this_process
from registry.postgres.store import PostgresStore
from registry.records import Counts, Delta, Fit, FitState, Stamp, VersionDraft
from registry.store import Store
from registry.stores import open_store
from tests.fixtures.stores import STORES, cut, need, position, store_uri
from trainers.fit import new_fit

FEED = "feed"


@pytest.fixture(params=STORES)
def store(request: pytest.FixtureRequest) -> Iterator[Store]:
    with store_uri(request) as uri:
        opened = open_store(uri)
        opened.prepare()
        yield opened
        opened.close()


def raw(name: str = "m", **fields: Any) -> dict[str, Any]:
    return {
        "_id": name,
        "trainer": "sklearn",
        "object": {"class": "sklearn.svm.SVC"},
        "training_select": {"collection": "c", "filter": {"a": {"$gt": 1}}},
        "train_X": ["a"],
        **fields,
    }


def draft(at: Stamp, *, promoted: bool = True, digest: str = "d") -> VersionDraft:
    return VersionDraft(digest, "skops", 3, "r", {"accuracy": 0.5}, at, "s", promoted, "always", {"load": 0.1})


def claim(store: Store, name: str = "m", **fields: Any) -> Fit:
    document = raw(name, **fields)
    store.documents.put(document)
    return store.fits.start(
        new_fit(store, ModelDocument.parse(document), document, {"kind": "added"}, this_process(), bound=True)
    )


def run(store: Store, name: str = "m", **fields: Any) -> Fit:
    fit = claim(store, name, **fields)
    store.fits.run(fit.id, fit.token)
    return fit


def lease(store: Store) -> int:
    row = store.feeds.acquire(FEED, "test", this_process(), 5)
    assert row is not None
    return row.epoch


def record(store: Store, epoch: int, change: Stamp, **counts: int) -> None:
    store.feeds.record(FEED, epoch, position(store), {"m": Delta(Counts(**counts), change)})


class TestDocuments:
    def test_put_keeps_the_status_and_operators_in_selects(self, store: Store) -> None:
        store.documents.put(raw())
        store.documents.set_status("m", {"state": "fresh"})
        store.documents.put(raw(paused=True))
        found = store.documents.get("m")
        assert found == {**raw(paused=True), "status": {"state": "fresh"}}

    def test_change_and_remove_say_whether_there_was_one(self, store: Store) -> None:
        assert not store.documents.change("m", {"paused": True})
        store.documents.put(raw())
        assert store.documents.change("m", {"paused": True})
        assert store.documents.remove("m")
        assert not store.documents.remove("m")
        store.documents.set_status("m", {"state": "fresh"})
        assert store.documents.all() == []


class TestLeases:
    def test_a_held_lease_is_not_given_to_another(self, store: Store) -> None:
        lease(store)
        assert store.feeds.acquire(FEED, "test", "elsewhere/b/n/1/1", 5) is None

    def test_each_success_counts_the_epoch_up(self, store: Store) -> None:
        assert lease(store) + 1 == lease(store)

    def test_an_expired_or_released_lease_can_be_taken(self, store: Store) -> None:
        assert store.feeds.acquire(FEED, "test", "elsewhere/b/n/1/1", 0) is not None
        taken = store.feeds.acquire(FEED, "test", "other/b/n/1/1", 60)
        assert taken is not None
        store.feeds.release(FEED, taken.epoch)
        assert store.feeds.acquire(FEED, "test", "elsewhere/b/n/1/1", 5) is not None

    def test_a_dead_process_of_this_machine_holds_nothing(self, store: Store) -> None:
        host, boot, space, _, _ = this_process().split("/")
        assert store.feeds.acquire(FEED, "test", f"{host}/{boot}/{space}/4194303/1", 60) is not None
        assert store.feeds.acquire(FEED, "test", this_process(), 5) is not None

    def test_whoever_was_taken_over_writes_nothing(self, store: Store) -> None:
        old = lease(store)
        new = lease(store)
        claim(store)
        for write in (
            lambda: store.feeds.renew(FEED, old, 5),
            lambda: record(store, old, need(store, 1), inserts=1),
            lambda: store.feeds.begin(FEED, old, "id", position(store), {}),
            lambda: store.feeds.resync(FEED, old, "id", position(store), {}, cut(store, 1), ["m"], "why"),
        ):
            with pytest.raises(Fenced):
                write()
        assert store.fits.pending(["m"])["m"].seen == Counts()
        record(store, new, need(store, 1), inserts=1)
        assert store.fits.pending(["m"])["m"].seen == Counts(inserts=1)


class TestPending:
    def test_position_and_pending_are_stored_together(self, store: Store) -> None:
        epoch = lease(store)
        store.feeds.begin(FEED, epoch, "id", position(store), {"a.b": cut(store, 0)})
        deltas = {f"m{n}": Delta(Counts(inserts=n), need(store, n)) for n in range(1, 8)}
        rows = store.feeds.record(FEED, epoch, {"token": "83"}, deltas)
        assert {name: row.seen.inserts for name, row in rows.items()} == {f"m{n}": n for n in range(1, 8)}
        (feed,) = store.feeds.all()
        assert feed.position == {"token": "83"}
        assert feed.relations == {"a.b": cut(store, 0)}

    def test_counts_needs_and_times_add_up(self, store: Store) -> None:
        epoch = lease(store)
        record(store, epoch, need(store, 5), inserts=2)
        record(store, epoch, need(store, 4), deletes=1)
        row = store.fits.pending(["m"])["m"]
        assert (row.outstanding, row.generation) == (Counts(inserts=2, deletes=1), 2)
        assert row.need == store.join([need(store, 5), need(store, 4)])
        assert not store.newer(cut(store, 5), row.need)
        assert store.newer(cut(store, 4), row.need)
        assert row.since is not None
        assert row.last is not None
        assert row.since <= row.last

    def test_what_the_newest_cut_covers_is_not_pending(self, store: Store) -> None:
        epoch = lease(store)
        fit = run(store)
        store.fits.publish(fit.id, fit.token, draft(cut(store, 5)))
        record(store, epoch, need(store, 5), inserts=1)
        assert store.fits.pending(["m"])["m"].outstanding.total == 0
        record(store, epoch, need(store, 6), inserts=1)
        assert store.fits.pending(["m"])["m"].outstanding.total == 1

    def test_a_resync_counts_and_names_its_reason(self, store: Store) -> None:
        epoch = lease(store)
        store.feeds.resync(
            FEED, epoch, "id", position(store), {"c": cut(store, 3)}, cut(store, 3), ["m"], "the oplog passed"
        )
        row = store.fits.pending(["m"])["m"]
        assert (row.outstanding.resyncs, row.resync, row.need) == (1, "the oplog passed", cut(store, 3))
        (feed,) = store.feeds.all()
        assert (feed.resyncs, feed.last_resync) == (1, "the oplog passed")

    def test_a_gap_noted_during_a_fit_outlives_it(self, store: Store) -> None:
        fit = run(store)
        store.fits.watching("m", "h", "its document was another one meanwhile")
        store.fits.publish(fit.id, fit.token, draft(cut(store, 5)))
        row = store.fits.pending(["m"])["m"]
        assert row.outstanding.resyncs == 1
        again = run(store)
        store.fits.publish(again.id, again.token, draft(cut(store, 6)))
        assert store.fits.pending(["m"])["m"].outstanding.total == 0


class TestFits:
    def test_a_model_has_one_fit_at_a_time(self, store: Store) -> None:
        claim(store)
        with pytest.raises(FitBusy, match="under way"):
            claim(store)

    def test_of_many_claims_at_once_one_wins(self, store: Store) -> None:
        store.fits.pending(["m"])
        outcomes: list[str] = []

        def attempt() -> None:
            try:
                claim(store)
                outcomes.append("won")
            except FitBusy:
                outcomes.append("busy")

        threads = [threading.Thread(target=attempt) for _ in range(6)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert sorted(outcomes) == ["busy"] * 5 + ["won"]

    def test_a_claim_takes_what_was_pending(self, store: Store) -> None:
        epoch = lease(store)
        record(store, epoch, need(store, 7), updates=3)
        fit = claim(store)
        assert (fit.seen, fit.need, fit.generation, fit.attempt) == (Counts(updates=3), need(store, 7), 1, 1)
        assert store.fits.get(fit.id) == replace(fit, created=store.fits.get(fit.id).created)

    def test_changes_during_a_fit_stay_pending(self, store: Store) -> None:
        epoch = lease(store)
        record(store, epoch, need(store, 1), inserts=1)
        fit = run(store)
        record(store, epoch, need(store, 9), inserts=1)
        store.fits.publish(fit.id, fit.token, draft(cut(store, 5)))
        row = store.fits.pending(["m"])["m"]
        assert (row.outstanding, row.need) == (Counts(inserts=1), need(store, 9))
        assert row.since is not None

    def test_changes_during_a_fit_that_its_cut_covers_are_done(self, store: Store) -> None:
        epoch = lease(store)
        fit = run(store)
        record(store, epoch, need(store, 4), inserts=1)
        store.fits.publish(fit.id, fit.token, draft(cut(store, 5)))
        row = store.fits.pending(["m"])["m"]
        assert (row.outstanding.total, row.need, row.since, row.fit) == (0, None, None, None)

    def test_a_stale_token_does_nothing(self, store: Store) -> None:
        fit = run(store)
        for write in (
            lambda: store.fits.run(fit.id, "other"),
            lambda: store.fits.beat(fit.id, "other", {}, []),
            lambda: store.fits.publish(fit.id, "other", draft(cut(store, 1))),
            lambda: store.fits.end(fit.id, FitState.FAILED, "x", token="other"),
        ):
            with pytest.raises(Fenced):
                write()
        assert store.versions.of("m") == []
        assert store.fits.get(fit.id).state is FitState.RUNNING

    def test_a_zombie_cannot_publish(self, store: Store) -> None:
        fit = run(store)
        assert store.fits.end(fit.id, FitState.LOST, "not heard of")
        with pytest.raises(Fenced):
            store.fits.publish(fit.id, fit.token, draft(cut(store, 1)))
        with pytest.raises(Fenced):
            store.fits.beat(fit.id, fit.token, {}, [])
        assert not store.fits.end(fit.id, FitState.FAILED, "x")

    def test_an_older_cut_is_refused(self, store: Store) -> None:
        first = run(store)
        store.fits.publish(first.id, first.token, draft(cut(store, 5)))
        second = run(store)
        with pytest.raises(Fenced, match="older"):
            store.fits.publish(second.id, second.token, draft(cut(store, 4)))
        assert [version.number for version in store.versions.of("m")] == [1]

    def test_a_removed_model_publishes_nothing(self, store: Store) -> None:
        fit = run(store)
        store.documents.remove("m")
        with pytest.raises(Fenced, match="removed"):
            store.fits.publish(fit.id, fit.token, draft(cut(store, 5)))

    def test_failures_are_counted_until_a_version(self, store: Store) -> None:
        for attempt in (1, 2):
            fit = run(store)
            assert fit.attempt == attempt
            store.fits.end(fit.id, FitState.FAILED, "no", token=fit.token)
        failure = store.fits.pending(["m"])["m"].failure
        assert failure is not None
        assert (failure.count, failure.error) == (2, "no")
        fit = run(store)
        store.fits.publish(fit.id, fit.token, draft(cut(store, 5)))
        assert store.fits.pending(["m"])["m"].failure is None

    def test_a_fit_given_up_without_error_is_no_failure(self, store: Store) -> None:
        fit = run(store, retrain_now=1)
        store.fits.end(fit.id, FitState.LOST, None)
        row = store.fits.pending(["m"])["m"]
        assert (row.fit, row.failure, row.retrain_tried) == (None, None, None)

    def test_lines_and_cancel_travel_with_the_heartbeat(self, store: Store) -> None:
        fit = run(store)
        assert store.fits.beat(fit.id, fit.token, {"stage": "load"}, ["one", "two"]) is None
        assert store.fits.cancel(fit.id, "enough")
        assert store.fits.beat(fit.id, fit.token, {"stage": "fit"}, ["three"]) == "enough"
        assert [(n, line) for n, _, line in store.fits.lines(fit.id, after=1)] == [(2, "two"), (3, "three")]
        assert store.fits.get(fit.id).progress == {"stage": "fit"}

    def test_what_a_cancelled_fit_has_becomes_a_version_that_covers_nothing(self, store: Store) -> None:
        epoch = lease(store)
        fit = run(store)
        record(store, epoch, need(store, 1), inserts=2)
        store.fits.cancel(fit.id, "enough")
        kept = store.fits.keep(fit.id, fit.token, draft(cut(store, 5), promoted=False))
        assert store.fits.keep(fit.id, fit.token, draft(cut(store, 5), promoted=False)).number == kept.number
        assert [one.number for one in store.versions.of("m")] == [1]
        assert store.fits.get(fit.id).state is FitState.RUNNING
        assert store.fits.end(fit.id, FitState.CANCELLED, "enough", token=fit.token)
        state = store.fits.pending(["m"])["m"]
        assert (state.outstanding.inserts, state.published, state.fit) == (2, None, None)
        assert store.fits.get(fit.id).version == 1
        with pytest.raises(NotFound):
            store.versions.live("m")

    def test_nothing_is_kept_of_a_fit_that_is_over_or_somebody_elses(self, store: Store) -> None:
        fit = run(store)
        with pytest.raises(Fenced):
            store.fits.keep(fit.id, "another token", draft(cut(store, 1)))
        store.documents.remove("m")
        store.fits.forget("m")
        with pytest.raises(Fenced):
            store.fits.keep(fit.id, fit.token, draft(cut(store, 1)))
        other = run(store, "other")
        store.fits.end(other.id, FitState.LOST, None)
        with pytest.raises(Fenced):
            store.fits.keep(other.id, other.token, draft(cut(store, 1)))
        assert store.versions.models() == []

    def test_a_cancelled_fit_is_not_published(self, store: Store) -> None:
        fit = run(store)
        store.fits.cancel(fit.id, "enough")
        with pytest.raises(Fenced):
            store.fits.publish(fit.id, fit.token, draft(cut(store, 1)))

    def test_a_forgotten_model_leaves_no_pending_row(self, store: Store) -> None:
        fit = claim(store)
        store.fits.forget("m")
        assert store.fits.pending() == {}
        assert store.fits.get(fit.id).cancel == "the model was removed"

    def test_the_next_due_time_is_stored_with_the_version(self, store: Store) -> None:
        now = store.now().replace(microsecond=0)
        store.fits.pending(["m"])
        store.fits.schedule("m", "* * * * *", now)
        store.documents.put(raw())
        document = ModelDocument.parse(raw())
        fit = new_fit(store, document, raw(), {"kind": "schedule"}, this_process(), bound=True)
        begun = store.fits.start(replace(fit, next_due=now + timedelta(minutes=1)))
        store.fits.run(begun.id, begun.token)
        store.fits.publish(begun.id, begun.token, draft(cut(store, 1)))
        assert store.fits.pending(["m"])["m"].due_at == now + timedelta(minutes=1)


class TestVersions:
    def test_live_is_the_newest_promoted_or_the_pinned_one(self, store: Store) -> None:
        for n, promoted in enumerate((True, True, False), 1):
            fit = run(store)
            store.fits.publish(fit.id, fit.token, draft(cut(store, n), promoted=promoted))
        assert store.versions.live("m").number == 2
        store.documents.change("m", {"live": 1})
        assert store.versions.live("m").number == 1
        store.documents.change("m", {"live": 9})
        with pytest.raises(NotFound, match="no version 9"):
            store.versions.live("m")

    def test_none_is_live_before_one_is_promoted(self, store: Store) -> None:
        with pytest.raises(NotFound, match="no model"):
            store.versions.live("m")
        fit = run(store)
        store.fits.publish(fit.id, fit.token, draft(cut(store, 1), promoted=False))
        with pytest.raises(NotFound, match="no live version"):
            store.versions.live("m")

    def test_numbers_go_on_after_the_pending_row_is_gone(self, store: Store) -> None:
        for _ in range(2):
            fit = run(store)
            store.fits.publish(fit.id, fit.token, draft(cut(store, 1)))
            store.fits.forget("m")
        assert [version.number for version in store.versions.of("m")] == [2, 1]


def test_prepare_twice_changes_nothing(store: Store) -> None:
    store.documents.put(raw())
    store.prepare()
    assert len(store.documents.all()) == 1


def test_the_clock_is_the_servers(store: Store) -> None:
    assert abs((store.now() - server_clock(store)).total_seconds()) < 5


def server_clock(store: Store) -> datetime:
    if isinstance(store, PostgresStore):
        row = store.connection.row("SELECT clock_timestamp() AS now")
        assert row is not None
        found: datetime = row["now"]
        return found
    assert isinstance(store, MongoStore)
    database = store.connection.database
    said: datetime = database.command("hello", codec_options=database.codec_options)["localTime"]
    return said


class TestStamps:
    def test_the_newest_stamp_covers_what_was_newest_before(self, store: Store) -> None:
        before = store.newest()
        store.documents.put(raw())
        after = store.newest()
        assert not store.newer(after, before)
        assert store.newer(before, after)

    def test_a_need_is_covered_by_its_own_cut_and_none_before(self, store: Store) -> None:
        assert not store.newer(cut(store, 5), need(store, 5))
        assert store.newer(cut(store, 4), need(store, 5))
        assert store.newer(None, need(store, 5))
        assert not store.newer(None, None)
        assert not store.newer(cut(store, 5), None)

    def test_a_position_says_how_far_a_feed_is_told(self, store: Store) -> None:
        at = store.position_stamp(position(store))
        assert at is not None
        assert store.newer(at, store.newest())
        assert store.position_stamp(None) is None
        assert store.position_stamp({}) is None

    def test_stamps_are_shown(self, store: Store) -> None:
        assert store.show_stamp(None) is None
        for one in (need(store, 1), cut(store, 1), store.newest(), store.position_stamp(position(store))):
            assert store.show_stamp(one)


class TestValues:
    def test_a_version_comes_back_as_it_was(self, store: Store) -> None:
        fit = run(store)
        detail = {"curve": [{"loss": 1.5}, {"loss": 0.5}]}
        metrics = {"accuracy": 0.5, "worst": float("-inf")}
        handed = replace(draft(cut(store, 3)), detail=detail, metrics=metrics)
        published = store.fits.publish(fit.id, fit.token, handed)
        (version,) = store.versions.of("m")
        assert version.draft == published.draft == handed
        assert abs((version.created - published.created).total_seconds()) < 0.001

    def test_text_of_any_kind_does_not_break_a_fit(self, store: Store) -> None:
        fit = run(store)
        assert store.fits.beat(fit.id, fit.token, {"loss": float("nan"), "note": "a\0b"}, ["a\0b", "ü €"]) is None
        assert [line for _, _, line in store.fits.lines(fit.id)][1] == "ü €"
        assert store.fits.end(fit.id, FitState.FAILED, "a\0b", token=fit.token)

    def test_times_of_a_status_come_back_as_times(self, store: Store) -> None:
        now = store.now().replace(microsecond=123000)
        store.documents.put(raw())
        store.documents.set_status("m", {"state": "fresh", "at": now, "due_at": None, "fitted_at": now})
        found = store.documents.get("m")
        assert found is not None
        assert found["status"] == {"state": "fresh", "at": now, "due_at": None, "fitted_at": now}
