"""Writing a document over one of the same name: what stays, and when it is another model's name. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from registry.canonical import fingerprint
from registry.errors import NameClash
from registry.store import RawDocument

#: What people set while a model runs: a file or a script that doesn't mention them leaves them alone.
CONTROLS = ("paused", "live", "retrain_now")


def with_controls(new: RawDocument, old: RawDocument | None) -> dict[str, Any]:
    """The new document, with the old one's controls where it doesn't say."""
    kept = {name: old[name] for name in CONTROLS if old and name in old and name not in new}
    return {**new, **kept}


def over(new: RawDocument, old: RawDocument | None) -> dict[str, Any]:
    """The new fields over all those of the old document but its `status`."""
    kept = {key: value for key, value in (old or {}).items() if key != "status"}
    return {**kept, **new}


def same(one: RawDocument, other: RawDocument | None) -> bool:
    """Whether two documents say the same, their `status` aside."""
    return other is not None and fingerprint(_said(one)) == fingerprint(_said(other))


def refuse_clash(new: RawDocument, old: RawDocument | None, *, given: bool) -> None:
    """Refuse to write one model over another that happens to have its name.

    Args:
        given: whether the user gave the name. One that was taken from the class (`SVC` → `svc`) is no sign
            that the same model is meant, so then it must be fitted from the same object, rows and fields.

    Raises:
        NameClash: it is another model; says what differs and what to do.
    """
    if old is None:
        return
    name = new["_id"]
    kinds = [(one.get("trainer"), _class(one.get("object"))) for one in (new, old)]
    if kinds[0] != kinds[1]:
        raise NameClash(
            f"there is another model called {name!r}: it fits {kinds[1][1]}, this one fits {kinds[0][1]}; give "
            f"this one another name, or remove that one with `refitd rm {name}`"
        )
    if given:
        return
    differing = [
        key
        for key in ("object", "training_select", "train_X", "train_y")
        if key in new and fingerprint(new[key]) != fingerprint(old.get(key))
    ]
    if differing:
        raise NameClash(
            f"there is another model called {name!r}, with another {' and '.join(differing)}; this one has no "
            f"name of its own, so give it one: Estimator('my-{name}', …), or Estimator({name!r}, …) to change that one"
        )


def _class(described: Any) -> Any:
    """What people would call the object: its class, the name of its code, or its task."""
    if not isinstance(described, Mapping):
        return described
    inner = described.get("module")
    if isinstance(inner, Mapping):
        return _class(inner)
    return described.get("class") or described.get("name") or described.get("task")


def _said(raw: RawDocument) -> dict[str, Any]:
    return {key: value for key, value in raw.items() if key != "status"}
