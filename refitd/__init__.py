"""The face: what `import refitd` gives, the `refitd` command, settings, embedded servers, dashboard.

Names load when they are first used, so that `import refitd` stays quick and pulls in no framework, no Ray
and no database driver.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

from refitd._siblings import check_siblings

if TYPE_CHECKING:  # for type checkers and editors, which can't follow the table below
    from refitd.database import Database, connect
    from refitd.faces import Estimator, Model, Module, Pipeline
    from refitd.query import Collection
    from registry.errors import (
        ArtifactCorrupt,
        Cancelled,
        DatastoreUnavailable,
        DatastoreUnsuitable,
        DocumentInvalid,
        Fault,
        Fenced,
        FitBusy,
        FitError,
        NameClash,
        NoRows,
        NotFound,
        NotVisible,
        PositionLost,
        RefitdError,
        RowsUnusable,
        SettingsInvalid,
        TimeLimit,
        TrainingFailed,
        Untrusted,
        WorkerLost,
    )
    from registry.trust import Trust

__version__ = "0.1.0"

check_siblings()

__all__ = [
    "ArtifactCorrupt",
    "Cancelled",
    "Collection",
    "Database",
    "DatastoreUnavailable",
    "DatastoreUnsuitable",
    "DocumentInvalid",
    "Estimator",
    "Fault",
    "Fenced",
    "FitBusy",
    "FitError",
    "Model",
    "Module",
    "NameClash",
    "NoRows",
    "NotFound",
    "NotVisible",
    "Pipeline",
    "PositionLost",
    "RefitdError",
    "RowsUnusable",
    "SettingsInvalid",
    "TimeLimit",
    "TrainingFailed",
    "Trust",
    "Untrusted",
    "WorkerLost",
    "connect",
]

# The public names, and the module that each is loaded from.
_HOME = {
    "ArtifactCorrupt": "registry.errors",
    "Cancelled": "registry.errors",
    "Collection": "refitd.query",
    "Database": "refitd.database",
    "DatastoreUnavailable": "registry.errors",
    "DatastoreUnsuitable": "registry.errors",
    "DocumentInvalid": "registry.errors",
    "Estimator": "refitd.faces",
    "Fault": "registry.errors",
    "Fenced": "registry.errors",
    "FitBusy": "registry.errors",
    "FitError": "registry.errors",
    "Model": "refitd.faces",
    "Module": "refitd.faces",
    "NameClash": "registry.errors",
    "NoRows": "registry.errors",
    "NotFound": "registry.errors",
    "NotVisible": "registry.errors",
    "Pipeline": "refitd.faces",
    "PositionLost": "registry.errors",
    "RefitdError": "registry.errors",
    "RowsUnusable": "registry.errors",
    "SettingsInvalid": "registry.errors",
    "TimeLimit": "registry.errors",
    "TrainingFailed": "registry.errors",
    "Trust": "registry.trust",
    "Untrusted": "registry.errors",
    "WorkerLost": "registry.errors",
    "connect": "refitd.database",
}


def __getattr__(name: str) -> object:
    """Load a public name from the module it lives in; AttributeError for any other."""
    if name not in _HOME:
        raise AttributeError(f"module 'refitd' has no attribute {name!r}")
    value: object = getattr(import_module(_HOME[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *_HOME})
