"""Which models a batch of changes concerns: the datastore decides, three-valued.

A predicate is evaluated by the datastore itself on the rows before and after. What can't be known (no image, a
predicate that can't be told from one row, a row the predicate fails on) counts as a match: a false "no" would
lose a change, a false "yes" only costs a fit.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from typing import Any, Protocol

from listener.feed import Change, Image, Kind
from registry.canonical import canonical_json
from registry.records import Counts, Delta, Stamp
from registry.watch import Watch, touches

#: The stamp that a cut covers when it covers each of some: `registry.store.Store.join`.
Join = Callable[[Iterable[Stamp]], Stamp]


class Evaluator(Protocol):
    """A datastore's judgement of rows."""

    def evaluate(self, relation: str, predicates: Sequence[Any], rows: Sequence[Any]) -> list[Collection[int]]:
        """For each predicate the indices of the rows that match it, or may: what it can't tell is among them.

        Raises:
            DatastoreUnavailable: it does not answer.
        """

    def forget(self, relations: Collection[str]) -> None:
        """These were dropped, renamed or made anew: nothing remembered of them holds."""

    def close(self) -> None:
        """Give a connection back, where it has one. Twice is safe."""


@dataclass(frozen=True, slots=True)
class Group:
    """Models that depend on one relation in the same way: matched once."""

    watch: Watch
    models: tuple[str, ...]


class WatchTable:
    """Every group of every relation. Immutable; made anew when documents change."""

    def __init__(self, watches: Mapping[str, Mapping[str, Watch]]) -> None:
        """`watches`: for each model, for each relation it reads, what it depends on there."""
        grouped: dict[str, dict[str, tuple[Watch, list[str]]]] = defaultdict(dict)
        for model, by_relation in watches.items():
            for relation, watch in by_relation.items():
                grouped[relation].setdefault(_key(watch), (watch, []))[1].append(model)
        self._groups = {
            relation: tuple(Group(watch, tuple(models)) for watch, models in by_key.values())
            for relation, by_key in grouped.items()
        }

    @property
    def relations(self) -> frozenset[str]:
        """What the feed has to follow."""
        return frozenset(self._groups)

    def groups(self, relation: str) -> tuple[Group, ...]:
        """The groups of one relation."""
        return self._groups.get(relation, ())


def match(table: WatchTable, changes: Iterable[Change], evaluator: Evaluator, join: Join) -> dict[str, Delta]:
    """What the changes add to each model's pending work; models they don't concern are absent."""
    by_relation: dict[str, list[Change]] = defaultdict(list)
    for change in changes:
        by_relation[change.relation].append(change)
    gone = {relation for relation, some in by_relation.items() if any(one.kind is Kind.OTHER for one in some)}
    if gone:
        evaluator.forget(gone)
    found: dict[str, Delta] = {}
    for relation, some in by_relation.items():
        for group, places in _match_relation(table.groups(relation), relation, some, evaluator):
            delta = _delta([some[place] for place in places], join)
            for model in group.models:
                found[model] = add(found[model], delta, join) if model in found else delta
    return found


def _match_relation(
    groups: Sequence[Group], relation: str, changes: Sequence[Change], evaluator: Evaluator
) -> list[tuple[Group, AbstractSet[int]]]:
    """The groups that changes concern, and the places of those changes."""
    shapes = _Shapes(changes)
    relevant = [(group, shapes.relevant(group.watch.used_fields)) for group in groups]
    decided: list[tuple[Group, AbstractSet[int]]]
    decided = [(group, places) for group, places in relevant if places and not group.watch.predicate]
    undecided = [(group, places) for group, places in relevant if places and group.watch.predicate]
    if undecided:
        images = _Images(changes, frozenset[int]().union(*{id(places): places for _, places in undecided}.values()))
        predicates = [group.watch.predicate or {} for group, _ in undecided]
        verdicts = evaluator.evaluate(relation, predicates, images.rows)
        for (group, places), hits in zip(undecided, verdicts, strict=True):
            fields = group.watch.filter_fields
            matching = images.owners(hits) | images.always | shapes.touching(images.unknown_before, fields)
            decided.append((group, places & matching))
    return [(group, places) for group, places in decided if places]


class _Shapes:
    """Some changes by what they touched: updates that touched the same are judged once.

    A change is told by its place among them.
    """

    def __init__(self, changes: Sequence[Change]) -> None:
        self._all = frozenset(range(len(changes)))
        self._updates: dict[tuple[str, ...], set[int]] = {}
        for place, change in enumerate(changes):
            if change.kind is Kind.UPDATE and change.touched is not None:
                self._updates.setdefault(change.touched, set()).add(place)
        self._relevant: dict[frozenset[str] | None, frozenset[int]] = {None: self._all}

    def relevant(self, used_fields: frozenset[str] | None) -> frozenset[int]:
        """Without updates that touch only fields nobody uses. The same set for the same fields."""
        if used_fields not in self._relevant:
            idle = [some for touched, some in self._updates.items() if not touches(touched, used_fields)]
            self._relevant[used_fields] = self._all.difference(*idle)
        return self._relevant[used_fields]

    def touching(self, places: AbstractSet[int], fields: frozenset[str] | None) -> set[int]:
        """Those of some updates that touch one of the fields (None: any)."""
        if not places:
            return set()
        some = (these & places for touched, these in self._updates.items() if touches(touched, fields))
        return set().union(*some)


class _Images:
    """The rows that decide about changes, each once, and what three-valued judgement makes of a row that is unknown.

    A change matches unless surely neither the row before nor the row after does.
    """

    def __init__(self, changes: Sequence[Change], places: Iterable[int]) -> None:
        self.always: set[int] = set()
        """Changes that may match, whatever their rows."""
        self.unknown_before: set[int] = set()
        """Updates that tell what they touched and the row after alone: if that doesn't match, the row before was the
        same to a predicate none of whose fields was touched."""
        self._owners: dict[Image, list[int]] = {}
        for place in sorted(places):
            self._add(place, changes[place])
        self.rows = list(self._owners)
        self._by_index = list(self._owners.values())

    def owners(self, hits: Iterable[int]) -> set[int]:
        """The changes to which these rows belong."""
        return {place for hit in hits for place in self._by_index[hit]}

    def _add(self, place: int, change: Change) -> None:
        kind, before, after = change.kind, change.before, change.after
        rows: tuple[Image | None, ...]
        if kind is Kind.INSERT:
            rows = (after,)
        elif kind is Kind.DELETE:
            rows = (before,)
        elif kind is Kind.OTHER or after is None or (before is None and change.touched is None):
            rows = (None,)
        elif before is None:
            self.unknown_before.add(place)
            rows = (after,)
        else:
            rows = (before, after)
        for row in rows:
            if row is None:
                self.always.add(place)
            else:
                self._owners.setdefault(row, []).append(place)


def _delta(changes: Sequence[Change], join: Join) -> Delta:
    kinds = [change.kind for change in changes]
    counts = Counts(
        inserts=kinds.count(Kind.INSERT),
        updates=kinds.count(Kind.UPDATE),
        deletes=kinds.count(Kind.DELETE),
        other=kinds.count(Kind.OTHER),
    )
    gone = changes[0].relation if counts.other else None
    reason = f"{gone} was dropped, emptied, altered or replaced" if gone else None
    return Delta(counts, join({change.stamp for change in changes}), reason)


def add(one: Delta, other: Delta, join: Join) -> Delta:
    """What two relations' changes, or two batches', add to one model."""
    return Delta(one.counts + other.counts, join([one.need, other.need]), one.reason or other.reason)


def _key(watch: Watch) -> str:
    fields = [sorted(some) if some is not None else None for some in (watch.filter_fields, watch.used_fields)]
    told = watch.predicate is None or isinstance(watch.predicate, Mapping)
    return canonical_json([watch.predicate if told else repr(watch.predicate), *fields])
