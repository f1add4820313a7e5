"""What people do to a model from outside: each is a write to its document, which any client could make as well."""

from __future__ import annotations

from typing import Literal

from refitd.standing import document, unknown_model
from registry.errors import NotFound
from registry.store import Store


def retrain(store: Store, model: str) -> str:
    """Ask for a fit; the new value of `retrain_now`.

    Raises:
        NotFound: there is no such model.
    """
    asked = store.now().isoformat()
    _change(store, model, retrain_now=asked)
    return asked


def pause(store: Store, model: str) -> None:
    """No fits from now on; changes stay pending. Raises `NotFound`."""
    _change(store, model, paused=True)


def resume(store: Store, model: str) -> None:
    """Fits again, and now if changes are pending. Raises `NotFound`."""
    _change(store, model, paused=False)


def cancel(store: Store, model: str) -> str:
    """Ask the fit under way to stop; its id. What it has learned is kept, where its framework can.

    Raises:
        NotFound: there is no such model, or it has no fit under way.
    """
    document(store, model)
    fit = store.fits.pending([model])[model].fit
    if fit is None or not store.fits.cancel(fit, "somebody asked for it"):
        raise NotFound(f"{model} has no fit under way; `refitd fits {model}` lists those that were")
    return fit


def rollback(store: Store, model: str, to: int | Literal["latest"] | None = None) -> int | Literal["latest"]:
    """Pin the live version, or with `latest` unpin it; what `live` is now.

    Args:
        to: a version's number; None: the promoted version before the live one.

    Raises:
        NotFound: there is no such model or version.
    """
    document(store, model)
    if to is None:
        to = _before_live(store, model)
    elif to != "latest":
        store.versions.get(model, to)
    _change(store, model, live=to)
    return to


def remove(store: Store, model: str) -> None:
    """Remove the document; a fit under way is cancelled. Its versions stay until `gc`. Raises `NotFound`."""
    if not store.documents.remove(model):
        raise NotFound(unknown_model(store, model))
    store.fits.forget(model)


def _before_live(store: Store, model: str) -> int:
    live = store.versions.live(model).number
    before = [one.number for one in store.versions.of(model) if one.draft.promoted and one.number < live]
    if not before:
        raise NotFound(
            f"{model} has no promoted version before its live one, {live}; `refitd versions {model}` lists them"
        )
    return max(before)


def _change(store: Store, model: str, **fields: object) -> None:
    if not store.documents.change(model, fields):
        raise NotFound(unknown_model(store, model))
