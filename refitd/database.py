"""A datastore with its registry, as Python sees it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from refitd import control, merging
from refitd.session import Session
from refitd.settings import load_settings
from refitd.signing import signed
from registry.store import RawDocument
from registry.trust import Trust

if TYPE_CHECKING:
    from refitd.model import Model
    from trainers.predict import LoadedModel

Row = dict[str, Any]


def connect(
    uri: str | None = None,
    *,
    compute: str | None = None,
    artifacts: str | None = None,
    trust: Trust | Iterable[str] | None = None,
) -> Database:
    """Connect to a datastore; lazily, so a server that doesn't answer shows at the first use.

    Args:
        uri: `mongodb://HOST:PORT/DATABASE?replicaSet=NAME`. Like all that is not given here, it comes from the
            settings (`REFITD_DATASTORE`, `refitd.toml`) when left out.
        compute: where `model.fit(…, db=…)` runs: `local` (this process, the default), `ray`, `ray://HOST:10001`.
        artifacts: an fsspec URL for artifacts; the same one that the daemon uses.
        trust: module prefixes that model documents may name, beside the defaults.

    Raises:
        SettingsInvalid: no datastore is set, or a setting can't be used.
    """
    modules = None if trust is None or isinstance(trust, Trust) else {"modules": tuple(trust)}
    settings = load_settings(datastore=uri, compute=compute, artifacts=artifacts, trust=modules)
    return Database(settings, trust if isinstance(trust, Trust) else None)


class Database(Session):
    """What `refitd.connect` gives. Closes with `close` or `with`.

    The rows of `models`, `versions` and `fits` are those of the command's `--json`.
    """

    def __repr__(self) -> str:
        from registry.redaction import redact

        return f"refitd.connect({redact(self.settings.datastore)!r})"

    def add(
        self,
        model: Model | Mapping[str, Any] | str | Path,
        *,
        replace: bool = False,
        enable_images: bool = False,
    ) -> list[str]:
        """Add a model, a model document, or a file of them; the names. A running daemon fits them at once.

        A document of the same name is replaced; `paused`, `live` and `retrain_now` stay as they are where the
        new one doesn't say.

        Args:
            replace: write a model over one of its name though it is another one.
            enable_images: let MongoDB keep rows as they were before a change, on the selected collections; then
                changes that don't matter are told apart.

        Raises:
            DocumentInvalid: some document has faults; nothing was written.
            NameClash: another model has this name; nothing was written.
            Untrusted: the model holds code of yours, and no signing key is set.
        """
        from refitd.adding import add_documents, read_files

        if isinstance(model, str | Path):
            documents: list[RawDocument] = read_files([Path(model)])
        elif isinstance(model, Mapping):
            documents = [model]
        else:
            documents = [signed(model.document(), self.trust, self.keep, for_daemon=True)]
            if not replace:
                name = documents[0]["_id"]
                merging.refuse_clash(documents[0], self.store.documents.get(name), given=model.named)
        self.prepare()
        added = add_documents(self.store, documents, self.trust, enable_images=enable_images)
        return [one.model for one in added]

    def load(self, name: str, version: int | None = None) -> LoadedModel:
        """A version of a model, the live one by default: `.predict(rows)`, `.model` (the fitted object), `.version`.

        Raises:
            NotFound: there is no such model or version, or none is live yet.
            Untrusted: its artifact holds types that are not allowed, or was tampered with.
        """
        from refitd.standing import document
        from trainers.predict import load_version

        if version is None:
            document(self.store, name)
            found = self.store.versions.live(name)
        else:
            found = self.store.versions.get(name, version)
        return load_version(self.store, found, self.trust)

    def models(self) -> list[Row]:
        """Every model: `model`, `state`, `fresh`, `live`, `pending`, `metric`, `error`."""
        from refitd.standing import survey
        from refitd.views import model_row

        return [model_row(one) for one in survey(self.store, self.trust)]

    def status(self, name: str) -> Row:
        """How one model stands: its row of `models`, and why. Raises `NotFound`."""
        from refitd.standing import stand
        from refitd.views import model_row

        one = stand(self.store, self.trust, name)
        return {**one.status, **model_row(one)}

    def versions(self, name: str) -> list[Row]:
        """What was published, the newest first: `version`, `live`, `rows`, `metrics`, `reason`, … Raises `NotFound`."""
        from refitd.views import version_rows

        return version_rows(self.store, name)

    def fits(self, name: str | None = None) -> list[Row]:
        """The newest fits first, of one model or of all: `fit`, `state`, `attempt`, `version`, `error`, …"""
        from refitd.views import fit_row

        return [fit_row(fit) for fit in self.store.fits.recent(name)]

    def rollback(self, name: str, to: int | Literal["latest"] | None = None) -> int | Literal["latest"]:
        """Pin the live version: `to`, or the promoted one before it; `latest` unpins. What it is now.

        Raises:
            NotFound: there is no such model or version.
        """
        return control.rollback(self.store, name, to)

    def retrain(self, name: str) -> None:
        """Ask the daemon for a fit. Raises `NotFound`."""
        control.retrain(self.store, name)

    def pause(self, name: str) -> None:
        """No fits from now on; changes stay pending. Raises `NotFound`."""
        control.pause(self.store, name)

    def resume(self, name: str) -> None:
        """Fits again. Raises `NotFound`."""
        control.resume(self.store, name)

    def cancel(self, name: str) -> str:
        """Ask a model's fit under way to stop; its id. Raises `NotFound`: there is none."""
        return control.cancel(self.store, name)

    def remove(self, name: str) -> None:
        """Remove a model; its versions stay until `refitd gc`. Raises `NotFound`."""
        control.remove(self.store, name)

    def wait(self, name: str, fresh: bool = True, timeout: float | None = None) -> Row:
        """Wait until a model is fresh: its newest version covers all that was committed before this call.

        Args:
            fresh: False: until it has a live version, however old.
            timeout: seconds; None: for as long as it takes.

        Returns:
            Its status then.

        Raises:
            DocumentInvalid: its document has faults.
            FitError: its fits fail; with the error of the newest.
            TimeLimit: the time is over; says how the model stands.
            NotFound: there is no such model.
        """
        from refitd.views import model_row
        from refitd.waiting import wait_fresh, wait_published

        one = (wait_fresh if fresh else wait_published)(self.store, self.trust, name, timeout)
        return {**one.status, **model_row(one)}
