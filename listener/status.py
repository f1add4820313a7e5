"""What a model's `status` says: pure, from its document's faults, its pending row and its fit."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Any

from listener.policy import Decision
from registry.document import ModelDocument
from registry.errors import Fault
from registry.records import FitState, Pending

#: Every value of `status.state`.
STATES = ("invalid", "waiting", "queued", "fitting", "fresh", "failing", "paused")


#: A status names so many faults, and counts the others: it has to fit into the document.
FAULTS_TOLD = 100


def invalid_status(faults: Iterable[Fault], state: Pending | None) -> dict[str, Any]:
    """The status of a document with faults. Versions it had stay live."""
    listed = list(faults)
    told = [Fault(shortened(fault.path, 200), shortened(fault.message, 1000)) for fault in listed[:FAULTS_TOLD]]
    more = [f"and {len(listed) - len(told)} more"] if len(listed) > len(told) else []
    return {
        "state": "invalid",
        "error": "; ".join([*map(str, told), *more]),
        "faults": [{"path": fault.path, "message": fault.message} for fault in told],
        "live": None,
        "pending": state.outstanding.total if state else 0,
        "reason": None,
        "fit": None,
    }


def shortened(text: str, longest: int) -> str:
    """The text, without what is beyond so many characters: names in a document can be as long as it may be."""
    return text if len(text) <= longest else f"{text[: longest - 1]}…"


def model_status(
    document: ModelDocument, state: Pending, decision: Decision, fit_state: FitState | None, live: int | None
) -> dict[str, Any]:
    """The status of a valid document.

    Args:
        fit_state: the state of the fit under way, if there is one.
        live: the live version's number.
    """
    failure = state.failure
    error = failure.error if failure and failure.spec_hash == document.spec_hash() else None
    return {
        "state": _state(document, state, fit_state, error),
        "error": error,
        "live": live,
        "pending": state.outstanding.total,
        "reason": decision.why,
        "fit": state.fit,
        "failures": failure.count if failure and error else 0,
        "fitted_at": state.published.at if state.published else None,
        "pending_since": state.since,
        "due_at": _shown(decision.due_at),
    }


def is_fresh(document: ModelDocument, state: Pending) -> bool:
    """Whether the newest version is of this document and covers every matching change."""
    published = state.published
    return bool(published and published.spec_hash == document.spec_hash() and not state.outstanding.total)


def _state(document: ModelDocument, state: Pending, fit_state: FitState | None, error: str | None) -> str:
    if state.fit:
        return "fitting" if fit_state is FitState.RUNNING else "queued"
    if document.paused:
        return "paused"
    if error:
        return "failing"
    return "fresh" if is_fresh(document, state) else "waiting"


def _shown(at: datetime | None) -> datetime | None:
    """To the millisecond, as the datastore keeps it: so that comparing with what is stored works."""
    return at.replace(microsecond=at.microsecond // 1000 * 1000) if at else None


_SAYS = ("state", "error", "live", "fit", "faults", "fitted_at")
_COUNTS = ("pending", "reason")


def differs(old: Mapping[str, Any] | None, new: Mapping[str, Any]) -> bool:
    """Whether a status is worth writing: something but when it was written, or what comes next, changed."""
    return old is None or any(old.get(key) != new.get(key) for key in (*_SAYS, *_COUNTS))


def only_counts_differ(old: Mapping[str, Any], new: Mapping[str, Any]) -> bool:
    """Whether no more than the number of pending changes is new."""
    return differs(old, new) and all(old.get(key) == new.get(key) for key in _SAYS)
