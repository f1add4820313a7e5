"""The face: what `import refitd` gives, the `refitd` command, settings, embedded servers, dashboard.

Names load when they are first used, so that `import refitd` stays quick and pulls in no framework, no Ray
and no database driver.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

from refitd._siblings import check_siblings

if TYPE_CHECKING:  # for type checkers and editors, which can't follow the table below
    from refitd.database import (
        Database as Database,
        connect as connect,
    )
    from refitd.model import (
        Estimator as Estimator,
        Model as Model,
    )
    from refitd.query import Collection as Collection
    from registry.errors import (
        ArtifactCorrupt as ArtifactCorrupt,
        Cancelled as Cancelled,
        DatastoreUnavailable as DatastoreUnavailable,
        DatastoreUnsuitable as DatastoreUnsuitable,
        DocumentInvalid as DocumentInvalid,
        Fault as Fault,
        Fenced as Fenced,
        FitBusy as FitBusy,
        FitError as FitError,
        NameClash as NameClash,
        NoRows as NoRows,
        NotFound as NotFound,
        PositionLost as PositionLost,
        RefitdError as RefitdError,
        RowsUnusable as RowsUnusable,
        SettingsInvalid as SettingsInvalid,
        TimeLimit as TimeLimit,
        TrainingFailed as TrainingFailed,
        Untrusted as Untrusted,
        WorkerLost as WorkerLost,
    )
    from registry.trust import Trust as Trust

__version__ = "0.1.0"

check_siblings()

# The public names, and the module that each is loaded from.
_HOME = {
    "ArtifactCorrupt": "registry.errors",
    "Cancelled": "registry.errors",
    "Collection": "refitd.query",
    "Database": "refitd.database",
    "DatastoreUnavailable": "registry.errors",
    "DatastoreUnsuitable": "registry.errors",
    "DocumentInvalid": "registry.errors",
    "Estimator": "refitd.model",
    "Fault": "registry.errors",
    "Fenced": "registry.errors",
    "FitBusy": "registry.errors",
    "FitError": "registry.errors",
    "Model": "refitd.model",
    "NameClash": "registry.errors",
    "NoRows": "registry.errors",
    "NotFound": "registry.errors",
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
