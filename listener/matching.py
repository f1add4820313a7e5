"""Which models a batch of changes concerns: the datastore decides, three-valued.

A predicate is evaluated by the datastore itself on the rows before and after. What can't be known (no image, a
predicate that can't be told from one row, a row the predicate fails on) counts as a match: a false "no" would
lose a change, a false "yes" only costs a fit.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from listener.feed import Change, Kind
from registry.canonical import canonical_json
from registry.mongo_watch import Watch, touches
from registry.records import Counts, Delta, Stamp


class Evaluator(Protocol):
    """A datastore's judgement of rows."""

    def evaluate(
        self, relation: str, predicates: Sequence[Mapping[str, Any]], rows: Sequence[bytes]
    ) -> list[Collection[int]]:
        """For each predicate the indices of the rows that match it, or may: what it can't tell is among them.

        Raises:
            DatastoreUnavailable: it does not answer.
        """

    def forget(self, relations: Collection[str]) -> None:
        """These were dropped, renamed or made anew: nothing remembered of them holds."""


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


def match(table: WatchTable, changes: Iterable[Change], evaluator: Evaluator) -> dict[str, Delta]:
    """What the changes add to each model's pending work; models they don't concern are absent."""
    by_relation: dict[str, list[Change]] = defaultdict(list)
    for change in changes:
        by_relation[change.relation].append(change)
    gone = {relation for relation, some in by_relation.items() if any(one.kind is Kind.OTHER for one in some)}
    if gone:
        evaluator.forget(gone)
    found: dict[str, list[Change]] = defaultdict(list)
    for relation, some in by_relation.items():
        for group, matching in _match_relation(table.groups(relation), relation, some, evaluator):
            for model in group.models:
                found[model] += matching
    return {model: _delta(matching) for model, matching in found.items()}


def _match_relation(
    groups: Sequence[Group], relation: str, changes: Sequence[Change], evaluator: Evaluator
) -> list[tuple[Group, list[Change]]]:
    relevant = [(group, _relevant(group.watch, changes)) for group in groups]
    undecided = [(group, some) for group, some in relevant if some and group.watch.predicate]
    decided = [(group, some) for group, some in relevant if some and not group.watch.predicate]
    if undecided:
        rows = _Rows({id(change): change for _, some in undecided for change in some}.values())
        predicates = [group.watch.predicate or {} for group, _ in undecided]
        verdicts = evaluator.evaluate(relation, predicates, rows.rows)
        decided += [
            (group, [change for change in some if rows.may_match(change, set_of(hits), group.watch)])
            for (group, some), hits in zip(undecided, verdicts, strict=True)
        ]
    return [(group, some) for group, some in decided if some]


def set_of(hits: Collection[int]) -> Collection[int]:
    """Something with a quick `in`."""
    return hits if isinstance(hits, set | frozenset | range) else frozenset(hits)


def _relevant(watch: Watch, changes: Sequence[Change]) -> list[Change]:
    """Without updates that touch only fields nobody uses. Updates of one shape are judged once."""
    if watch.used_fields is None:
        return list(changes)
    judged: dict[tuple[str, ...], bool] = {}
    some = []
    for change in changes:
        if change.kind is Kind.UPDATE and change.touched is not None:
            if change.touched not in judged:
                judged[change.touched] = touches(change.touched, watch.used_fields)
            if not judged[change.touched]:
                continue
        some.append(change)
    return some


class _Rows:
    """The images of some changes, each once, and where they went."""

    def __init__(self, changes: Iterable[Change]) -> None:
        self.rows: list[bytes] = []
        self._places: dict[int, tuple[int | None, int | None]] = {}
        for change in changes:
            self._places[id(change)] = (self._add(change.before), self._add(change.after))

    def may_match(self, change: Change, hits: Collection[int], watch: Watch) -> bool:
        """Three-valued: False only when surely neither the row before nor the row after matches."""
        if change.kind is Kind.OTHER:
            return True
        before, after = self._places[id(change)]
        if change.kind is Kind.INSERT:
            return after is None or after in hits
        if change.kind is Kind.DELETE:
            return before is None or before in hits
        if after is None:
            return True
        if after in hits:
            return True
        if before is not None:
            return before in hits
        # Not matching now, and unknown before: it was the same before if nothing the predicate reads was touched.
        return change.touched is None or touches(change.touched, watch.filter_fields)

    def _add(self, row: bytes | None) -> int | None:
        if row is None:
            return None
        self.rows.append(row)
        return len(self.rows) - 1


def _delta(changes: Sequence[Change]) -> Delta:
    kinds = [change.kind for change in changes]
    counts = Counts(
        inserts=kinds.count(Kind.INSERT),
        updates=kinds.count(Kind.UPDATE),
        deletes=kinds.count(Kind.DELETE),
        other=kinds.count(Kind.OTHER),
    )
    gone = next((change.relation for change in changes if change.kind is Kind.OTHER), None)
    need: Stamp = max(change.stamp for change in changes)
    return Delta(counts, need, f"{gone} was dropped, renamed or replaced" if gone else None)


def _key(watch: Watch) -> str:
    fields = [sorted(some) if some is not None else None for some in (watch.filter_fields, watch.used_fields)]
    return canonical_json([watch.predicate, *fields])
