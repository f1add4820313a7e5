"""A model in Python: an unfitted object with what to train it on, as a document says it."""

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
_FACES: dict[str, type[Model]] = {}


class Model:
    """A model: `Model("churn", SVC(C=0.05), training_select=…, train_X=…)`.

    `Model(…)` gives the class of its object's framework (see `refitd.faces`). Nothing is written before `fit(db=…)`
    or `db.add`.
    """

    #: The trainer that its objects must belong to; None takes any.
    trainer: str | None = None

    def __init_subclass__(cls) -> None:
        """A class of a framework's own stands for `Model` of that framework's objects."""
        if cls.trainer is not None:
            _FACES[cls.trainer] = cls

    def __new__(cls, *args: Any, **kwargs: Any) -> Self:
        """The class that goes with the object's framework."""
        if cls is not Model:
            return super().__new__(cls)
        _, given = name_and_object(args, kwargs.get("name"), kwargs.get("object"))
        made: Any = object.__new__(_FACES.get(_trainer_of(given), Model))
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
        given, self.object = name_and_object(args, name, object)
        self._trainer_name = self._judged_trainer()
        self.name = given or self._own_name()
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
            Untrusted: some part of the object can't be written down; names it and the fix. Code of the user's own,
                where its framework takes it, stands in the document as `registry.code.Custom`.
        """
        from trainers.catalog import trainer

        judge = trainer(self._trainer_name)
        written = {"_id": self.name, "trainer": self._trainer_name, "object": judge.describe(self._described())}
        said = dict(self._said)
        if "fit_kwargs" in said:
            said["fit_kwargs"] = judge.describe_keywords(said["fit_kwargs"])
        return {**written, **said}

    def _judged_trainer(self) -> str:
        """The trainer of its object."""
        found = _trainer_of(self.object)
        if self.trainer not in (None, found):
            raise RefitdError(f"{type(self).__name__} takes {self.trainer} objects, not {_kind(self.object)}")
        return found

    def _own_name(self) -> str:
        """What it is called when nobody says."""
        return name_of(self.object)

    def _described(self) -> Any:
        """What its trainer describes."""
        return self.object

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
        from trainers.catalog import trainer

        said: dict[str, Any] = {}
        if X is not None:  # then y is said as well: without it, it is unsupervised
            said |= {"train_X": _fields(X), "train_y": _fields(y)}
        if select is not None:
            said["training_select"] = to_select(select)
        described = trainer(self._trainer_name).describe_keywords
        said["fit_kwargs"] = described({**self._said.get("fit_kwargs", {}), **fit_kwargs})
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
        return self._predict_arrays(X)

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
        self._fit_arrays(X, y, {**self._said.get("fit_kwargs", {}), **fit_kwargs})
        return self

    def _fit_arrays(self, X: Any, y: Any, keywords: Mapping[str, Any]) -> None:
        """As its framework does it: scikit-learn's objects fit themselves."""
        self.object.fit(X, y, **keywords) if y is not None else self.object.fit(X, **keywords)

    def _predict_arrays(self, X: Any) -> Any:
        if not hasattr(self.object, "predict"):
            raise RefitdError(f"{_kind(self.object)} has no predict")
        return self.object.predict(X)


def name_of(model: Any) -> str:
    """The name of a model that is given none: `SVC` → `svc`, `KMeans` → `k-means`."""
    parts = re.findall(r"[A-Z]+(?=[A-Z][a-z])|[A-Z]?[a-z]+|[A-Z]+|\d+", type(model).__name__)
    return "-".join(parts).lower() or "model"


def name_and_object(args: tuple[Any, ...], name: str | None, given: Any) -> tuple[str | None, Any]:
    """What was given by place, or by name. Raises TypeError: it is neither an object, nor a name and an object."""
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
        raise RefitdError(str(error)) from None


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
