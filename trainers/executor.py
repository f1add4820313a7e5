"""The contract of an executor: where fits run."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Protocol

from registry.records import Fit
from registry.trust import Trust


@dataclass(frozen=True, slots=True)
class FitOrder:
    """All that a worker anywhere needs to run one fit. Travels by pickle between processes of one operator."""

    fit: Fit
    datastore: str
    artifacts_url: str | None
    trust: Trust

    def carrying(self, fit: Fit) -> FitOrder:
        """The order for this fit. The signing key stays here: what it signed of the fit's document is vouched for."""
        return replace(self, fit=fit, trust=self.trust.travelling(fit.document))


#: Called from any thread with the fit's id when its task has ended, and what went wrong if the worker itself could
#: not say so in the registry (it was killed, it ran out of memory, its code could not be imported).
Ended = Callable[[str, str | None], None]


class Executor(Protocol):
    """Starts fits, and tells when they end. Thread-safe.

    What a fit achieves stands in the registry; an executor only runs it. It never runs one twice: attempts are
    the reconciler's.
    """

    #: Whether fits die with the process that started them.
    bound: bool

    def start(self, order: FitOrder, ended: Ended) -> None:
        """Queue a fit; returns at once.

        Raises:
            WorkerLost: the executor can't take fits now; says why and the fix.
        """

    def cancel(self, fit: str, grace_s: float) -> None:
        """End a fit's task: it is given `grace_s` to stop by itself, then killed. Unknown fits are ignored."""

    def warm(self, trainers: frozenset[str], datastore: str) -> None:
        """Have workers ready that imported what these trainers need, and reading from this datastore (its URI).

        Returns at once.
        """

    def running(self) -> frozenset[str]:
        """The fits it was given that have not ended."""

    def close(self, wait_s: float) -> None:
        """Wait so long for what runs, then end it. Twice is safe."""
