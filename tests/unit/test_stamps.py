"""Stamps of PostgreSQL against brute force: a snapshot as the set of the transactions that it shows."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from registry.postgres.stamps import NAMED, PgStamp, Snapshot, join, summed_up

#: Brute force looks at transactions below this; every snapshot's xmax lies below it too.
HORIZON = 40
XIDS = st.integers(3, HORIZON - 2)


@st.composite
def snapshots(draw: st.DrawFn) -> Snapshot:
    xmax = draw(st.integers(3, HORIZON - 1))
    running = draw(st.frozensets(st.integers(3, xmax - 1), max_size=8)) if xmax > 3 else frozenset()
    return Snapshot(xmax, running)


@st.composite
def one_servers(draw: st.DrawFn) -> list[Snapshot]:
    """Snapshots as one server gives them in turn: what one shows, all later ones show."""
    found, running, xmax = [], set[int](), 3
    for _ in range(draw(st.integers(2, 5))):
        started = draw(st.integers(0, 6))
        running |= set(range(xmax, xmax + started))
        xmax += started
        if running:
            running -= draw(st.sets(st.sampled_from(sorted(running))))
        found.append(Snapshot(xmax, frozenset(running)))
    return found


def shown(snapshot: Snapshot) -> set[int]:
    return {xid for xid in range(HORIZON) if snapshot.shows(xid)}


STAMPS = st.builds(
    PgStamp, st.sampled_from(["a/1", "a/2"]), st.none() | snapshots(), st.frozensets(XIDS, max_size=4),
    st.none() | st.integers(0, 2**64 - 1),
)  # fmt: skip
CUTS = st.builds(PgStamp, st.just("a/1"), snapshots())
NEEDS = STAMPS.filter(lambda stamp: stamp.snapshot is not None or bool(stamp.xids))


@given(snapshots())
def test_a_snapshot_is_read_as_it_is_written(one: Snapshot) -> None:
    assert Snapshot.parse(str(one)) == one
    assert int(str(one).split(":")[0]) == min(one.running, default=one.xmax)


@given(snapshots(), XIDS)
def test_a_snapshot_shows_what_had_ended_before_it(one: Snapshot, xid: int) -> None:
    assert one.shows(xid) == (xid < one.xmax and xid not in one.running)


@given(snapshots(), snapshots())
def test_a_snapshot_includes_another_when_it_shows_all_that_that_one_does(one: Snapshot, other: Snapshot) -> None:
    assert one.includes(other) == (shown(one) >= shown(other))


@given(snapshots(), XIDS)
def test_up_to_shows_the_same_but_nothing_later(one: Snapshot, xid: int) -> None:
    assert shown(one.up_to(xid)) == {each for each in shown(one) if each <= xid}


def test_a_snapshot_far_behind_is_compared_without_counting() -> None:
    assert not Snapshot(3).includes(Snapshot(2**62))
    assert Snapshot(2**62).includes(Snapshot(3))


@given(STAMPS)
def test_a_stamp_is_read_as_it_is_written(one: PgStamp) -> None:
    assert PgStamp.parse(one.as_row()) == one


@given(CUTS, NEEDS)
def test_a_cut_covers_what_it_shows_of_its_own_history(cut: PgStamp, need: PgStamp) -> None:
    assert cut.snapshot is not None
    wanted = set(need.xids) | (shown(need.snapshot) if need.snapshot else set())
    assert cut.covers(need) == (cut.history == need.history and shown(cut.snapshot) >= wanted)


@given(st.integers(0, 100), st.integers(0, 100))
def test_positions_are_compared_by_their_place(one: int, other: int) -> None:
    assert PgStamp("a/1", lsn=one).covers(PgStamp("a/1", lsn=other)) == (one >= other)
    assert not PgStamp("a/2", lsn=one).covers(PgStamp("a/1", lsn=other))
    assert not PgStamp("a/1", lsn=one).covers(PgStamp("a/1", xids=frozenset({3})))


@given(st.lists(NEEDS.filter(lambda stamp: stamp.history == "a/1"), min_size=1, max_size=4), CUTS)
def test_whoever_covers_the_join_covers_each(needs: list[PgStamp], cut: PgStamp) -> None:
    assert cut.covers(join(needs)) == all(cut.covers(one) for one in needs)


@given(one_servers(), st.frozensets(XIDS, max_size=4))
def test_of_one_servers_snapshots_the_join_is_the_last(found: list[Snapshot], xids: frozenset[int]) -> None:
    whole = join([PgStamp("a/1", one) for one in found] + [PgStamp("a/1", xids=xids)])
    assert whole.snapshot is not None
    assert shown(whole.snapshot) == shown(found[-1])
    assert whole.xids == {xid for xid in xids if not found[-1].shows(xid)}


def test_of_several_histories_the_last_one_counts() -> None:
    old, new = PgStamp("a/1", xids=frozenset({9})), PgStamp("a/2", xids=frozenset({3}))
    assert join([old, new]) == new
    assert join([new, old]) == old


@given(st.integers(0, 3 * NAMED), st.integers(0, 3 * NAMED), st.frozensets(st.integers(3, 200), max_size=9))
def test_many_needs_are_summed_up_by_what_is_visible(many: int, seen: int, running: frozenset[int]) -> None:
    need = PgStamp("a/1", xids=frozenset(range(3, 3 + many)))
    now = Snapshot(3 + seen, frozenset(xid for xid in running if xid < 3 + seen))
    short = summed_up(need, now)
    later = PgStamp("a/1", Snapshot(3 + max(many, seen)))
    # Nothing of the need is lost, what was visible then is all that was added, and it ends: a later cut covers it.
    assert join([need, short]) == short or short == need
    assert later.covers(short)
    for cut in (now, now.up_to(3 + many)):
        if PgStamp("a/1", now).covers(need):
            assert PgStamp("a/1", cut).covers(short)
    assert short.xids == need.xids if many <= NAMED else not any(now.shows(xid) for xid in short.xids)


@given(one_servers(), st.frozensets(st.integers(3, 30), min_size=1), st.integers(0, 3))
def test_a_later_cut_that_covers_the_sum_covers_the_need(found: list[Snapshot], xids: frozenset[int], at: int) -> None:
    padding = frozenset(range(1000, 1000 + NAMED + 1))  # so that there are too many to name
    need = PgStamp("a/1", xids=xids | padding)
    short = summed_up(need, found[min(at, len(found) - 1)])
    for cut in found:
        with_padding = PgStamp("a/1", Snapshot(5000, cut.running | frozenset(range(cut.xmax, 1000))))
        if with_padding.covers(short):
            assert with_padding.covers(need)
