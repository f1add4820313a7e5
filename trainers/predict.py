"""A published version, loaded: its artifact checked by digest, ready to predict."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from registry.code import CodeLoader
from registry.document import ModelDocument
from registry.records import Version
from registry.store import Store
from registry.trust import Trust
from trainers.catalog import trainer
from trainers.trainer import Fitted, Trainer


@dataclass(frozen=True, slots=True)
class LoadedModel:
    """A version in memory."""

    version: Version
    document: ModelDocument
    fitted: Fitted
    trainer: Trainer
    #: The artifact.
    data: bytes = field(repr=False, default=b"")

    @property
    def model(self) -> Any:
        """The fitted object itself, e.g. the scikit-learn estimator."""
        return self.fitted.model

    def export(self, folder: str | Path) -> list[str]:
        """Write the version's files: what its framework reads by itself. Their names.

        Raises:
            NotFound: the artifact is gone.
            Untrusted: it holds files that it should not.
            FileExistsError: the folder is there, and not empty.
        """
        return _unpacked(self.trainer, self.data, Path(folder))

    def predict(self, rows: Any) -> Any:
        """Predictions for rows as `trainers.trainer.Trainer.predict` takes them."""
        return self.trainer.predict(self.document, self.fitted, rows)


def load_version(store: Store, version: Version, trust: Trust) -> LoadedModel:
    """Fetch, check and load a version's artifact.

    Raises:
        NotFound: the artifact is gone.
        ArtifactCorrupt: its bytes are not those that were published.
        Untrusted: it holds types that the operator did not allow.
    """
    document = ModelDocument.parse(version.document)
    kind = trainer(document.trainer)
    data = store.artifacts.get(version.draft.digest)
    code = CodeLoader(trust.vouching, store.artifacts)
    return LoadedModel(version, document, kind.load(data, document, trust, code), kind, data)


def export_version(store: Store, version: Version, folder: Path) -> list[str]:
    """`LoadedModel.export` of a version that is not loaded: nothing of it runs."""
    kind = trainer(ModelDocument.parse(version.document).trainer)
    return _unpacked(kind, store.artifacts.get(version.draft.digest), folder)


def _unpacked(kind: Trainer, data: bytes, folder: Path) -> list[str]:
    if folder.exists() and any(folder.iterdir()):
        raise FileExistsError(f"{folder} is not empty: give a new folder")
    folder.mkdir(parents=True, exist_ok=True)
    kind.unpack(data, folder)
    return sorted(path.name for path in folder.iterdir())
