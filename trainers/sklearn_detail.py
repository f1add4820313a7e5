"""What a version says about a fitted estimator, and how a failed fit is told: small, plain, readable."""

from __future__ import annotations

import math
import traceback
from pathlib import Path
from typing import Any

import numpy as np

MANY = 100
"""Names or classes; of more than these, only the number is told."""

_FRAMES = 3
_LONG = 2_000
_HERE = Path(__file__).parent


def detail_of(model: Any) -> dict[str, Any]:
    """JSON-able facts: `estimator`, `n_features`, `features`, `classes`, `n_iter`, `best_params`,
    `best_score`, where the estimator knows them.
    """
    found = {"estimator": type(model).__name__}
    for name, attribute in (
        ("n_features", "n_features_in_"),
        ("features", "feature_names_in_"),
        ("classes", "classes_"),
        ("n_iter", "n_iter_"),
        ("best_params", "best_params_"),
        ("best_score", "best_score_"),
    ):
        value = getattr(model, attribute, None)
        if value is not None and not (hasattr(value, "__len__") and len(value) > MANY):
            found[name] = plain(value)
    return found


def plain(value: Any) -> Any:
    """The value in JSON's own types: NumPy's become Python's, nan and infinity become null, objects their
    repr.
    """
    if isinstance(value, np.ndarray | np.generic):
        value = value.tolist()
    if isinstance(value, list | tuple):
        return [plain(each) for each in value]
    if isinstance(value, dict):
        return {str(key): plain(each) for key, each in value.items()}
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    return value if value is None or isinstance(value, bool | int | str) else repr(value)


def told(error: BaseException) -> str:
    """`ValueError: …` in the estimator's own words; the middle of a very long text is left out."""
    text = str(error).strip()
    if len(text) > _LONG:
        text = f"{text[: _LONG // 2]}\n…\n{text[-_LONG // 2 :]}"
    return f"{type(error).__name__}: {text}" if text else type(error).__name__


def last_lines(error: BaseException) -> str:
    """The traceback's last frames outside refitd, one a line, paths shortened to the package's."""
    frames = [
        each for each in traceback.extract_tb(error.__traceback__) if not Path(each.filename).is_relative_to(_HERE)
    ]
    return "\n".join(
        f"  {_short(each.filename)}:{each.lineno} in {each.name}: {each.line}" for each in frames[-_FRAMES:]
    )


def _short(path: str) -> str:
    _, found, inside = path.rpartition("site-packages/")
    return inside if found else "/".join(Path(path).parts[-2:])
