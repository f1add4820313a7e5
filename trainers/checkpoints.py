"""What a long fit leaves in the artifact store, for another attempt to go on from."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Any, Protocol

from registry.errors import ArtifactCorrupt, Fenced, FitError, NotFound, RefitdError
from registry.records import Fit, FitState
from registry.store import Store

#: A fit that is shorter than this does not keep any: it is done again sooner than they are written.
_FIRST_S = 2.0
#: Keeping checkpoints takes at most this share of a fit's time.
_SHARE = 0.1
#: One that could not be kept is tried again after this.
_AGAIN_S = 30.0
#: An attempt looks this many fits back for one that was lost.
_LOOK_BACK = 20


class Note(Protocol):
    """`trainers.report.FitReport.note`."""

    def __call__(self, **what: Any) -> None: ...


class FitCheckpoints:
    """Implements `trainers.trainer.Checkpoints` over the registry."""

    def __init__(
        self,
        store: Store,
        fit: Fit,
        rows_digest: str,
        note: Note,
        line: Callable[[str], None],
        start: int | None = None,
    ) -> None:
        """Of a fit on these rows.

        Args:
            note: has something stand in the fit's row, beside its progress, before it returns.
            line: logs one.
            start: the version that training begins from.
        """
        self._store, self._fit, self._note, self._line = store, fit, note, line
        self._of = {"spec": fit.spec_hash, "rows": rows_digest, "start": start}
        self._kept: str | None = None
        self._earlier: str | None = None
        self._refused = False
        self._next = time.monotonic() + _FIRST_S

    def last(self) -> bytes | None:
        """See `Checkpoints.last`."""
        digest = None if self._refused else self._lost()
        if digest is None:
            return None
        try:
            data = self._store.artifacts.get(digest)
        except (NotFound, ArtifactCorrupt):  # cleaned away meanwhile: then it begins at the beginning
            return None
        self._earlier = digest
        return data

    def due(self) -> bool:
        """See `Checkpoints.due`."""
        return time.monotonic() >= self._next

    def keep(self, data: bytes) -> None:
        """See `Checkpoints.keep`. What can't be kept does the fit no harm: it goes on without."""
        began = time.monotonic()
        try:
            self._put(data)
        except (Fenced, FitError):
            raise
        except (RefitdError, OSError) as error:
            self._line(f"no checkpoint could be kept: {error}")
            began -= _AGAIN_S * _SHARE
        now = time.monotonic()
        self._next = now + (now - began) / _SHARE

    def _put(self, data: bytes) -> None:
        digest = self._store.artifacts.put(data)
        self._note(checkpoint={"digest": digest, **self._of})
        before, self._kept = self._kept or self._earlier, digest
        if before not in (None, digest):
            self._store.artifacts.remove(str(before))

    def refuse(self) -> bool:
        """What `last` gave is of no use: from now on it gives nothing. False where it gave nothing anyway."""
        useful, self._refused = self._earlier is not None and self._kept is None, True
        return useful

    def forget(self) -> None:
        """The fit has ended by itself: nobody goes on from here. What can't be removed now, `gc` removes."""
        try:
            for digest in {self._kept, self._earlier} - {None}:
                self._store.artifacts.remove(str(digest))
        except (RefitdError, OSError) as error:
            self._line(f"a checkpoint could not be removed: {error}")

    def _lost(self) -> str | None:
        """The digest that the newest lost attempt at the same kept, if nothing was published since."""
        for fit in self._store.fits.recent(self._fit.model, _LOOK_BACK):
            if fit.id == self._fit.id:
                continue
            if fit.state is FitState.PUBLISHED:
                return None
            kept = kept_by(fit)
            if kept is not None and self._of.items() <= kept.items():
                return str(kept["digest"])
        return None


def kept_by(fit: Fit) -> Mapping[str, Any] | None:
    """What a lost fit has left for the next attempt."""
    kept = fit.progress.get("checkpoint")
    return kept if fit.state is FitState.LOST and isinstance(kept, Mapping) and "digest" in kept else None
