"""How models stand, worked out from the registry's rows: right whether or not a daemon runs.

`status` in a document is what the daemon last wrote there. Here the same pure functions decide anew, so a status
left behind by a daemon that is gone misleads nobody.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from listener.policy import Decision, decide
from listener.status import invalid_status, is_fresh, model_status
from refitd.signing import judging
from registry.document import Gate, ModelDocument
from registry.errors import DocumentInvalid, Fault, NotFound
from registry.records import FeedRow, Fit, Pending, Version
from registry.selects import Selects
from registry.store import RawDocument, Store
from registry.trust import Trust

#: States of which somebody should hear: what exit codes go by.
WRONG = frozenset({"invalid", "failing"})


@dataclass(frozen=True, slots=True)
class Standing:
    """One model: its document, what is pending, what will be done about it, and what is live.

    `document` and `decision` are None for an invalid one, `live` before anything was promoted.
    """

    model: str
    raw: RawDocument
    document: ModelDocument | None
    pending: Pending
    decision: Decision | None
    fit: Fit | None
    live: Version | None
    status: Mapping[str, Any]

    @property
    def state(self) -> str:
        """One of `listener.status.STATES`."""
        return str(self.status["state"])

    @property
    def error(self) -> str | None:
        """What is wrong, as a person can act on it."""
        said = self.status.get("error")
        return str(said) if said else None

    @property
    def fresh(self) -> bool:
        """Whether the newest version is of this document and covers every matching change that was seen."""
        return self.document is not None and is_fresh(self.document, self.pending)

    @property
    def wrong(self) -> bool:
        """Whether somebody should do something about it."""
        return self.state in WRONG

    @property
    def metric(self) -> tuple[str, float] | None:
        """The live version's value of the gate's metric, or of the first one named."""
        values = self.live.draft.metrics if self.live else {}
        validation = self.document.validation if self.document else None
        named = list(validation.metrics) if validation else []
        if validation and isinstance(validation.promote, Gate):
            named.insert(0, validation.promote.metric)
        name = next((one for one in (*named, *values) if one in values), None)
        return (name, values[name]) if name is not None else None


def survey(store: Store, trust: Trust) -> list[Standing]:
    """Every model, by name."""
    raws = sorted(store.documents.all(), key=lambda raw: str(raw["_id"]))
    return _stand(store, trust, raws)


def stand(store: Store, trust: Trust, model: str) -> Standing:
    """One model.

    Raises:
        NotFound: there is none of that name; names the nearest.
    """
    return _stand(store, trust, [document(store, model)])[0]


def document(store: Store, model: str) -> RawDocument:
    """A model's document as it stands.

    Raises:
        NotFound: there is none of that name; names the nearest.
    """
    raw = store.documents.get(model)
    if raw is None:
        raise NotFound(unknown_model(store, model))
    return raw


def unknown_model(store: Store, model: str) -> str:
    """What to say of a name that no model has."""
    names = [str(raw["_id"]) for raw in store.documents.all()]
    if not names:
        return f"there is no model {model!r}, nor any other; `refitd add FILE` adds one"
    near = difflib.get_close_matches(model, names, n=3, cutoff=0.5)
    hint = f"did you mean {' or '.join(near)}?" if near else "`refitd status` lists them"
    return f"there is no model {model!r}; {hint}"


def following(store: Store) -> FeedRow | None:
    """The feed of a daemon that is alive now: one with a lease that has not run out."""
    now = store.now()
    return next((row for row in store.feeds.all() if holds_lease(row, now)), None)


def holds_lease(row: FeedRow, now: datetime) -> bool:
    """Whether somebody follows this feed now."""
    return row.owner is not None and row.lease_until is not None and row.lease_until > now


def _stand(store: Store, trust: Trust, raws: Iterable[RawDocument]) -> list[Standing]:
    listed = list(raws)
    names = [raw["_id"] for raw in listed if isinstance(raw["_id"], str)]
    rows = store.fits.pending(names) if names else {}
    fits = {fit.id: fit for fit in store.fits.active()}
    judge = _Judge(trust, store.selects, daemon=following(store) is not None)
    now = store.now()
    return [_one(store, judge, raw, _row_of(raw, rows), fits, now) for raw in listed]


def _row_of(raw: RawDocument, rows: Mapping[str, Pending]) -> Pending:
    """A document of a foreign client may have an `_id` that is no name: it has no row, and is invalid."""
    name = raw["_id"]
    found = rows.get(name) if isinstance(name, str) else None
    return found or Pending(str(name))


def _one(
    store: Store, judge: _Judge, raw: RawDocument, pending: Pending, fits: Mapping[str, Fit], now: datetime
) -> Standing:
    live = _live(store, raw, pending)
    fit = fits.get(pending.fit or "")
    try:
        valid = judge.document(raw, pending, fit)
    except DocumentInvalid as error:
        status = {**invalid_status(error.faults, pending), "live": live.number if live else None}
        return Standing(str(raw["_id"]), raw, None, pending, None, fit, live, status)
    decision = decide(valid, pending, now)
    status = model_status(valid, pending, decision, fit.state if fit else None, live.number if live else None)
    return Standing(valid.id, raw, valid, pending, decision, fit, live, status)


def _live(store: Store, raw: RawDocument, pending: Pending) -> Version | None:
    if pending.published is None:
        return None
    try:
        return store.versions.live(raw["_id"])
    except NotFound:
        return None


class _Judge:
    """Whether a document is valid, without importing its framework where that is not needed."""

    def __init__(self, trust: Trust, selects: Selects, *, daemon: bool) -> None:
        self._trust, self._selects, self._daemon = trust, selects, daemon

    def document(self, raw: RawDocument, pending: Pending, fit: Fit | None) -> ModelDocument:
        """The validated document. Raises `DocumentInvalid`."""
        parsed = ModelDocument.parse(raw)
        said = raw.get("status")
        state = said.get("state") if isinstance(said, Mapping) else None
        if self._daemon:  # it judges every document within moments, by its own operator's trust
            if state == "invalid":
                raise DocumentInvalid(_faults(said))
            return parsed
        if not _was_accepted(parsed, pending, fit):
            from trainers.check import check_document

            return check_document(raw, judging(self._trust), self._selects)
        return parsed


def _was_accepted(document: ModelDocument, pending: Pending, fit: Fit | None) -> bool:
    """Whether this very specification was fitted, tried, or is being fitted: then it was judged and found valid."""
    seen = {one.spec_hash for one in (pending.published, pending.failure, fit) if one is not None}
    return document.spec_hash() in seen


def _faults(status: Any) -> list[Fault]:
    listed = status.get("faults") or []
    return [
        Fault(str(one.get("path", "")), str(one.get("message", ""))) for one in listed if isinstance(one, Mapping)
    ] or [Fault("", str(status.get("error") or "invalid"))]
