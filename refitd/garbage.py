"""Removing what nothing needs any more: versions of removed models, old versions, artifacts without a version."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from registry.code import code_forms
from registry.errors import NotFound
from registry.store import Store
from trainers.checkpoints import kept_by

#: Among so many of the newest fits, lost ones may be gone on with.
_RECENT = 500


@dataclass(frozen=True, slots=True)
class Garbage:
    """What goes, or would. `held` says why artifacts stay for now."""

    versions: Mapping[str, tuple[int, ...]]
    artifacts: Mapping[str, int]
    held: str | None = None

    @property
    def size(self) -> int:
        """Bytes of artifacts."""
        return sum(self.artifacts.values())


def find_garbage(store: Store, keep: int | None) -> Garbage:
    """What nothing needs.

    Args:
        keep: beside what is live, so many of the newest versions of each model stay; None: all of them.
    """
    versions = {model: old for model in store.versions.models() if (old := _old_versions(store, model, keep))}
    going = {(model, number) for model, numbers in versions.items() for number in numbers}
    sizes = store.artifacts.all()
    # In this order: an artifact that was listed and whose fit is over by now has its version by now, or never will.
    busy = store.fits.active()
    needed = _needed(store, going)
    unneeded = {digest: size for digest, size in sizes.items() if digest not in needed}
    if busy and unneeded:
        return Garbage(versions, {}, f"{len(busy)} fits are under way and may need artifacts; run it again later")
    return Garbage(versions, unneeded)


def remove_garbage(store: Store, garbage: Garbage) -> Garbage:
    """Remove it; what went."""
    for model, numbers in garbage.versions.items():
        store.versions.remove(model, numbers)
    removed = {digest: size for digest, size in garbage.artifacts.items() if _remove_artifact(store, digest)}
    return Garbage(garbage.versions, removed, garbage.held)


def _remove_artifact(store: Store, digest: str) -> bool:
    """Remove one, and put it back if a fit that began meanwhile counts on it (equal bytes are stored once)."""
    try:
        data = store.artifacts.get(digest)
    except NotFound:
        return False
    store.artifacts.remove(digest)
    if store.fits.active() or digest in _needed(store, set()):
        store.artifacts.put(data)
        return False
    return True


def _old_versions(store: Store, model: str, keep: int | None) -> tuple[int, ...]:
    numbers = [one.number for one in store.versions.of(model)]
    if store.documents.get(model) is None:
        return tuple(numbers)
    if keep is None:
        return ()
    try:
        live: int | None = store.versions.live(model).number
    except NotFound:
        live = None
    return tuple(number for number in numbers[keep:] if number != live)


def _needed(store: Store, going: set[tuple[str, int]]) -> set[str]:
    """Digests of what stays: artifacts of versions, the code that those and the documents name, and the checkpoints of
    fits that were lost lately."""
    needed = {str(form["code"]) for raw in store.documents.all() for form in code_forms(raw)}
    needed |= {str(kept["digest"]) for fit in store.fits.recent(limit=_RECENT) if (kept := kept_by(fit))}
    for model in store.versions.models():
        for version in store.versions.of(model):
            if (model, version.number) not in going:
                needed.add(version.draft.digest)
                needed |= {str(form["code"]) for form in code_forms(version.document)}
    return needed
