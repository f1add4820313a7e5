"""An open registry with the settings it was opened by: what the Python face and the command work on."""

from __future__ import annotations

from functools import cached_property
from types import TracebackType
from typing import TYPE_CHECKING, Self

from refitd.settings import Settings
from refitd.signing import trusted_here
from registry.store import Store
from registry.stores import open_store
from registry.trust import Trust

if TYPE_CHECKING:
    from trainers.executor import Executor


class Session:
    """One connection to a registry. Closes with `close` or `with`."""

    def __init__(self, settings: Settings, trust: Trust | None = None) -> None:
        """Raises `SettingsInvalid` when the settings name no datastore. Connects lazily."""
        self.settings = settings
        self.datastore = settings.need_datastore()
        self.trust = trusted_here(trust or settings.trusted)
        self.store: Store = open_store(self.datastore, artifacts_url=settings.artifacts)
        self._prepared = False

    def prepare(self) -> None:
        """Make the registry's collections and indexes where they are missing; once."""
        if not self._prepared:
            self.store.prepare()
            self._prepared = True

    def keep(self, data: bytes) -> str:
        """Store an artifact; its digest."""
        self.prepare()
        return self.store.artifacts.put(data)

    @cached_property
    def executor(self) -> Executor | None:
        """Where fits run; None: in this process.

        Raises:
            SettingsInvalid: `compute` means nothing, or Ray is not installed.
            WorkerLost: no Ray cluster answers there.
        """
        compute = self.settings.compute or "local"
        if compute == "local":
            return None
        from trainers.compute import open_executor

        return open_executor(compute)

    @property
    def bound(self) -> bool:
        """Whether its fits die with this process."""
        return self.executor is None or self.executor.bound

    def close(self) -> None:
        """Give connections back, and end a Ray that was started here. Twice is safe."""
        executor = self.__dict__.pop("executor", None)
        if executor is not None:
            executor.close(5.0)
        self.store.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
