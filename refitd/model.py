"""A model in Python: an unfitted object with what to train it on. Written down as a document, never pickled."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Self

from refitd.query import to_select
from registry.errors import NotFound, RefitdError

if TYPE_CHECKING:
    from refitd.session import Session
    from trainers.predict import LoadedModel

Fields = str | Sequence[str]


class Model:
    """A model: `Model("churn", SVC(C=0.05), training_select=…, train_X=…)`, or `Estimator` for scikit-learn's own.

    `Model(…)` gives the class of its object's framework. Nothing is written before `fit(db=…)` or `db.add`.
    """

    #: The trainer that its objects must belong to; None takes any.
    trainer: str | None = None

    def __new__(cls, *args: Any, **kwargs: Any) -> Self:
        """The class that goes with the object's framework."""
        if cls is not Model:
            return super().__new__(cls)
        _, given = _name_and_object(args, kwargs.get("name"), kwargs.get("object"))
        face = Estimator if _trainer_of(given) == Estimator.trainer else Model
        made: Any = object.__new__(face)
        return made  # type: ignore[no-any-return]

    def __init__(
        self,
        *args: Any,
        name: str | None = None,
        object: Any = None,  # noqa: A002 (the document's word)
        training_select: Any = None,
        train_X: Fields | None = None,
        train_y: Fields | None = None,
        fit_kwargs: Mapping[str, Any] | None = None,
        validation: Mapping[str, Any] | None = None,
        retrain: Mapping[str, Any] | None = None,
        resources: Mapping[str, Any] | None = None,
        timeout: str | float | None = None,
        paused: bool | None = None,
    ) -> None:
        """`Model(object)` or `Model(name, object)`; the keywords are the model document's fields.

        Without a name it is that of the class: `SVC` → `svc`.

        Raises:
            DocumentInvalid: a select is of no known form.
            RefitdError: no trainer here fits such an object.
            TypeError: the arguments are not a name and an object.
        """
        given, self.object = _name_and_object(args, name, object)
        self._trainer_name = _trainer_of(self.object)
        if self.trainer not in (None, self._trainer_name):
            raise RefitdError(f"{type(self).__name__} takes {self.trainer} objects, not {_kind(self.object)}")
        self.name = given or name_of(self.object)
        self.named = given is not None
        self._loaded: LoadedModel | None = None
        said: dict[str, Any] = {
            "training_select": None if training_select is None else to_select(training_select),
            "train_X": _fields(train_X),
            "train_y": _fields(train_y),
            "fit_kwargs": None if fit_kwargs is None else dict(fit_kwargs),
            "validation": _validation(validation),
            "retrain": None if retrain is None else dict(retrain),
            "resources": None if resources is None else dict(resources),
            "timeout": timeout,
            "paused": paused,
        }
        self._said: dict[str, Any] = {field: value for field, value in said.items() if value is not None}

    def __repr__(self) -> str:
        version = f", version={self._loaded.version.number}" if self._loaded else ""
        return f"{type(self).__name__}({self.name!r}, {self.object!r}{version})"

    def document(self) -> dict[str, Any]:
        """The model document: the object in its declarative form, and what the keywords said.

        Raises:
            Untrusted: some part of the object can't be written down; names it and the fix.
        """
        from trainers.catalog import trainer

        described = trainer(self._trainer_name).describe(self.object)
        return {"_id": self.name, "trainer": self._trainer_name, "object": described, **self._said}

    def fit(
        self,
        X: Any = None,
        y: Any = None,
        *,
        select: Any = None,
        db: Session | str | None = None,
        **fit_kwargs: Any,
    ) -> Self:
        """Fit now, and wait for it.

        With `db`: `X` and `y` name fields, `select` the rows; the document is written and the fit published, the
        same way as the daemon does, and fitted again by it whenever those rows change. It runs where the database's
        `compute` says. Without `db`: `X` and `y` are arrays, as in scikit-learn.

        Args:
            fit_kwargs: keywords of the framework's own fit, over those that the constructor was given.

        Raises:
            DocumentInvalid: the document would have faults; nothing was written.
            NameClash: another model has this name; nothing was written.
            FitError: the fit failed; the model's status says so too.
        """
        if db is None:
            if select is not None:
                raise TypeError("fit(select=…) reads rows from a datastore: give db=refitd.connect(URI) too")
            return self._fit_here(X, y, fit_kwargs)
        from refitd.procedure import fit_now, opened

        said: dict[str, Any] = {}
        if X is not None:  # then y is said as well: without it, it is unsupervised
            said |= {"train_X": _fields(X), "train_y": _fields(y)}
        if select is not None:
            said["training_select"] = to_select(select)
        said["fit_kwargs"] = {**self._said.get("fit_kwargs", {}), **fit_kwargs}
        with opened(db) as session:
            self._loaded = fit_now(session, {**self.document(), **said}, named=self.named)
        return self

    def predict(self, X: Any) -> Any:
        """Predictions: by the version that `fit` published, or by the object that was fitted on arrays.

        After `fit(db=…)`, `X` may be rows (mappings), a DataFrame, or an array of the fields' values.

        Raises:
            RefitdError: it was not fitted.
        """
        if self._loaded is not None:
            return self._loaded.predict(X)
        if not hasattr(self.object, "predict"):
            raise RefitdError(f"{_kind(self.object)} has no predict")
        return self.object.predict(X)

    @property
    def version(self) -> int | None:
        """The version that the last `fit(db=…)` published."""
        return self._loaded.version.number if self._loaded else None

    @property
    def metrics(self) -> dict[str, float]:
        """That version's metrics."""
        return dict(self._loaded.version.draft.metrics) if self._loaded else {}

    @property
    def fitted(self) -> Any:
        """The fitted object: that version's, or the one given, when it was fitted on arrays."""
        return self._loaded.model if self._loaded else self.object

    def _fit_here(self, X: Any, y: Any, fit_kwargs: Mapping[str, Any]) -> Self:
        if X is None or isinstance(X, str):
            raise TypeError(
                "without db, X is an array; to train on a field of the datastore's rows, give db and select"
            )
        self._loaded = None
        keywords = {**self._said.get("fit_kwargs", {}), **fit_kwargs}
        self.object.fit(X, y, **keywords) if y is not None else self.object.fit(X, **keywords)
        return self


class Estimator(Model):
    """A scikit-learn estimator, pipelines and searches included: `Estimator("churn", SVC(C=0.05))`."""

    trainer = "sklearn"


def name_of(model: Any) -> str:
    """The name of a model that is given none: `SVC` → `svc`, `KMeans` → `k-means`."""
    parts = re.findall(r"[A-Z]+(?=[A-Z][a-z])|[A-Z]?[a-z]+|[A-Z]+|\d+", type(model).__name__)
    return "-".join(parts).lower() or "model"


def _name_and_object(args: tuple[Any, ...], name: str | None, given: Any) -> tuple[str | None, Any]:
    left = list(args)
    if name is None and left and isinstance(left[0], str):
        name = left.pop(0)
    if given is None and left:
        given = left.pop(0)
    if left or given is None:
        raise TypeError("write Estimator(object) or Estimator(name, object), e.g. Estimator('churn', SVC(C=0.05))")
    return name, given


def _trainer_of(model: Any) -> str:
    from trainers.catalog import trainer_for

    try:
        return trainer_for(model).name
    except NotFound as error:
        raise RefitdError(f"this release fits scikit-learn estimators only: {error}") from None


def _kind(model: Any) -> str:
    return f"{type(model).__module__}.{type(model).__qualname__}"


def _fields(fields: Any) -> Any:
    """Names of fields as the document has them; what is none, the document's own check tells."""
    if hasattr(fields, "shape"):
        raise TypeError("with db, X and y are names of the rows' fields; leave db out to fit on arrays")
    return list(fields) if isinstance(fields, tuple) else fields


def _validation(validation: Mapping[str, Any] | None) -> dict[str, Any] | None:
    if validation is None:
        return None
    said = dict(validation)
    if said.get("select") is not None:
        said["select"] = to_select(said["select"], "validation.select")
    return said
