"""What `listener/feed.py` promises, of every feed on a real server."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from listener.feed import Batch, Feed, Kind
from tests.fixtures.source import Feeds, Source, follow, opened, read
from tests.fixtures.stores import STORES, store_uri


@pytest.fixture(params=STORES)
def source(request: pytest.FixtureRequest) -> Iterator[Source]:
    with store_uri(request) as uri, opened(uri) as one:
        yield one


@pytest.fixture
def feeds(source: Source) -> Iterator[Feeds]:
    """Feeds on the source; `c` has images, `d` has none."""
    source.make("c", images=True)
    source.make("d", images=False)
    made = Feeds(source)
    yield made
    made.close()


def until(feed: Feed, wanted: Callable[[Batch], bool]) -> Batch:
    while True:
        batch = feed.next(1)
        if batch is not None and wanted(batch):
            return batch


def test_changes_come_in_order_with_their_images(feeds: Feeds, source: Source) -> None:
    feed = feeds.open()
    feed.start(follow(feed, ["c"]))
    source.insert("c", 1, a="x")
    source.update("c", 1, "y")
    source.delete("c", 1)
    changes, _ = read(feed, 3)
    assert [one.kind for one in changes] == [Kind.INSERT, Kind.UPDATE, Kind.DELETE]
    assert [source.images(one) for one in changes] == [
        (None, (1, "x")),
        ((1, "x"), (1, "y")),
        ((1, "y"), None),
    ]
    assert [one.touched for one in changes] == [None, ("a",), None]
    assert {one.relation for one in changes} == {source.relation("c")}
    assert len({one.key for one in changes}) == 1
    assert len({one.stamp for one in changes}) == 3


def test_without_images_what_is_unknown_is_none(feeds: Feeds, source: Source) -> None:
    feed = feeds.open()
    feed.start(follow(feed, ["d"]))
    source.insert("d", 1, a="x")
    source.update("d", 1, "y")
    source.delete("d", 1)
    changes, _ = read(feed, 3)
    assert [source.images(one)[0] for one in changes] == [None, None, None]
    assert [source.key(one) for one in changes] == [1, 1, 1]


def test_a_resumed_feed_skips_nothing_and_repeats_nothing(feeds: Feeds, source: Source) -> None:
    feed = feeds.open()
    relations = follow(feed, ["c"])
    feed.start(relations)
    source.insert("c", *range(5))
    _, position = read(feed, 5)
    feed.stored(position)
    feed.close()
    source.insert("c", *range(5, 9))
    again = feeds.open()
    follow(again, ["c"])
    again.resume(position, relations, relations)
    assert [source.key(one) for one in read(again, 4)[0]] == [5, 6, 7, 8]


def test_what_was_not_stored_comes_again(feeds: Feeds, source: Source) -> None:
    feed = feeds.open()
    relations = follow(feed, ["c"])
    start = feed.start(relations)
    source.insert("c", *range(5))
    read(feed, 5)
    for again in (feeds.open(), feed):
        follow(again, ["c"])
        again.resume(start, relations, relations)
        assert [source.key(one) for one in read(again, 5)[0]] == list(range(5))
        again.close()


def test_a_large_transaction_is_whole(feeds: Feeds, source: Source) -> None:
    feed = feeds.open()
    feed.start(follow(feed, ["c"]))
    source.insert("c", *range(7000))
    changes, _ = read(feed, 7000)
    assert [source.key(one) for one in changes] == list(range(7000))


def test_a_transaction_left_in_its_middle_comes_again_in_whole(feeds: Feeds, source: Source) -> None:
    """Wherever a process dies in it: what has no position was not recorded, what has one goes on from there."""
    feed = feeds.open()
    relations = follow(feed, ["c"])
    position = feed.start(relations)
    source.insert("c", *range(7000), a="x" * 100)
    seen: list[int] = []
    while not seen:
        batch = feed.next(1)
        if batch is not None and batch.changes:
            seen = [source.key(one) for one in batch.changes] if batch.position else []
            position = batch.position or position
            break
    feed.resume(position, relations, relations)
    rest, _ = read(feed, 7000 - len(seen))
    assert seen + [source.key(one) for one in rest] == list(range(7000))


def test_the_position_moves_on_though_nothing_that_is_followed_changes(feeds: Feeds, source: Source) -> None:
    feed, _, store = feeds.pair()
    start = feed.start(follow(feed, ["c"]))
    source.elsewhere()
    passed = store.newest()
    batch = until(feed, lambda one: not store.newer(store.position_stamp(one.position), passed))
    assert batch.quiet
    assert store.newer(store.position_stamp(start), passed)


def test_a_cut_taken_since_then_and_what_is_told_miss_nothing(feeds: Feeds, source: Source) -> None:
    feed, _, store = feeds.pair()
    source.insert("c", 1)
    before = store.newest()
    feed.start(follow(feed, ["c"]))
    source.insert("c", 2)
    after = store.newest()
    ((change,), _) = read(feed, 1)
    assert source.key(change) == 2
    assert not store.newer(feed.since(), before)
    assert not store.newer(after, change.stamp)


def test_relations_can_be_added_where_it_stands(feeds: Feeds, source: Source) -> None:
    """What is added is told from then on; what came before, a cut `since` then covers, or is told as well."""
    feed, _, store = feeds.pair()
    first = follow(feed, ["c"])
    feed.start(first)
    source.insert("c", 1)
    source.insert("d", 2)
    before = store.newest()
    _, position = read(feed, 1)
    both = follow(feed, ["c", "d"])
    feed.resume(position, both, first)
    source.insert("c", 3)
    source.insert("d", 4)
    told: list[int] = []
    while {3, 4} - set(told):
        batch = feed.next(1)
        told += [source.key(one) for one in batch.changes] if batch else []
    assert 2 in told or not store.newer(feed.since(), before)
    assert [one for one in told if one != 2] == [3, 4]


@pytest.mark.parametrize("how", ["drop", "rename"])
def test_a_relation_that_goes_is_told(feeds: Feeds, source: Source, how: str) -> None:
    feed = feeds.open()
    feed.start(follow(feed, ["c"]))
    source.insert("c", 1)
    read(feed, 1)
    source.drop("c") if how == "drop" else source.rename("c", "away")
    batch = until(feed, lambda one: any(change.kind is Kind.OTHER for change in one.changes))
    assert {one.relation for one in batch.changes if one.kind is Kind.OTHER} == {source.relation("c")}


def test_documents_are_told_and_their_status_is_not(feeds: Feeds, source: Source) -> None:
    feed = feeds.open()
    feed.start(follow(feed, ["c"]))
    source.write_model("m", {"trainer": "sklearn"})
    assert until(feed, lambda one: not one.quiet).documents == frozenset({"m"})
    source.write_status("m", "fresh")
    source.write_status("m", "waiting")
    source.insert("c", 1)
    batch = until(feed, lambda one: not one.quiet)
    assert (batch.documents, len(batch.changes)) == (frozenset(), 1)
    source.write_model("m", {"trainer": "sklearn", "paused": True})
    assert until(feed, lambda one: not one.quiet).documents == frozenset({"m"})


def test_identity_is_the_datastores(feeds: Feeds) -> None:
    assert feeds.open().identity() == feeds.open().identity() != ""


def test_closing_twice_is_safe(feeds: Feeds) -> None:
    feed = feeds.open()
    feed.start(follow(feed, ["c"]))
    feed.close()
    feed.close()
