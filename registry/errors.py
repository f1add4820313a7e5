"""Every error that refitd raises on purpose.

    RefitdError
    ├── DocumentInvalid          a model document has faults (all of them, each with its path)
    ├── SettingsInvalid          the operator's settings can't be used
    ├── NotFound                 no such model, version, fit or artifact
    ├── NameClash                two models want one name
    ├── Untrusted                a class, function or artifact the operator did not allow
    │   └── ArtifactCorrupt      an artifact's bytes are not those its digest promises
    ├── DatastoreUnsuitable      the server can't do what refitd needs (says what, and the fix)
    ├── DatastoreUnavailable     the server does not answer; trying again may help
    ├── PositionLost             a feed can't go on where it stood: resync
    ├── Fenced                   another owner took over; nothing was written
    ├── FitBusy                  the model has a fit under way already
    ├── NotVisible               the datastore does not show yet what a fit has to cover; trying again helps
    └── FitError                 one fit ended without a version
        ├── NoRows               the select returned nothing to train on
        ├── RowsUnusable         a row or field can't be turned into X and y
        ├── TrainingFailed       the estimator, loss or metric raised
        ├── TimeLimit            the fit ran longer than the document's `timeout`
        ├── Cancelled            somebody asked for it to stop
        └── WorkerLost           the process that ran it is gone

A message says the cause, the evidence and the fix, in one or two sentences, for the person who reads
`status.error`.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass


class RefitdError(Exception):
    """Base of every error raised on purpose."""


@dataclass(frozen=True, slots=True, order=True)
class Fault:
    """One thing wrong with a document: where (dotted path), and what, with the fix."""

    path: str
    message: str

    def __str__(self) -> str:
        return f"{self.path}: {self.message}" if self.path else self.message

    def under(self, prefix: str) -> Fault:
        """The same fault, seen from a document that holds this one at `prefix`."""
        return Fault(f"{prefix}.{self.path}" if self.path else prefix, self.message)


class DocumentInvalid(RefitdError):
    """A model document has faults; `faults` holds all of them, not just the first."""

    def __init__(self, faults: Iterable[Fault]) -> None:
        self.faults = tuple(faults)
        super().__init__("; ".join(str(fault) for fault in self.faults))


class SettingsInvalid(RefitdError):
    """The operator's settings can't be used."""


class NotFound(RefitdError):
    """No such model, version, fit or artifact."""


class NameClash(RefitdError):
    """Two models want one name."""


class Untrusted(RefitdError):
    """A class, function or artifact that the operator did not allow."""


class ArtifactCorrupt(Untrusted):
    """An artifact's bytes are not those its digest promises."""


class DatastoreUnsuitable(RefitdError):
    """The server can't do what refitd needs."""


class DatastoreUnavailable(RefitdError):
    """The server does not answer; trying again may help."""


class PositionLost(RefitdError):
    """A feed can't go on where it stood: what was missed is unknown, so every model is pending."""


class Fenced(RefitdError):
    """Another owner took over; the transaction wrote nothing."""


class FitBusy(RefitdError):
    """The model has a fit under way already."""


class NotVisible(RefitdError):
    """The datastore does not show yet what a fit has to cover: a commit that was told of, but isn't visible so far."""


class FitError(RefitdError):
    """One fit ended without a version."""


class NoRows(FitError):
    """The select returned nothing to train on."""


class RowsUnusable(FitError):
    """A row or field can't be turned into X and y."""


class TrainingFailed(FitError):
    """The estimator, loss or metric raised."""


class TimeLimit(FitError):
    """The fit ran longer than the document's `timeout`."""


class Cancelled(FitError):
    """Somebody asked for the fit to stop."""


class WorkerLost(FitError):
    """The process that ran the fit is gone."""
