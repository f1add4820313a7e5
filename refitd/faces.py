"""A class for each framework: `Estimator` (scikit-learn), `Module` (PyTorch), `Pipeline` (transformers).

Code of the user's own (a module with its weights, a lambda) is stored and signed when the model is added.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from refitd.model import Model, name_and_object, name_of
from registry.errors import RefitdError

if TYPE_CHECKING:
    from trainers.arrays_fit import FittedHere

__all__ = ["Estimator", "Model", "Module", "Pipeline"]


class Estimator(Model):
    """A scikit-learn estimator, pipelines and searches included: `Estimator("churn", SVC(C=0.05))`."""

    trainer = "sklearn"


class _OfFramework(Model):
    """A model whose framework's objects don't fit themselves: on arrays too, its trainer does."""

    _here: FittedHere | None = None

    @property
    def fitted(self) -> Any:
        """The fitted object: the version's that `fit(db=…)` published, or what was fitted on arrays."""
        if self._loaded is None and self._here is not None:
            return self._here.model
        return super().fitted

    def _fit_arrays(self, X: Any, y: Any, keywords: Mapping[str, Any]) -> None:
        from refitd.settings import load_settings
        from trainers.arrays_fit import fit_arrays
        from trainers.catalog import trainer

        document = {**self.document(), "fit_kwargs": trainer(self._trainer_name).describe_keywords(keywords)}
        self._here = fit_arrays(document, X, y, load_settings().trusted)

    def _predict_arrays(self, X: Any) -> Any:
        if self._here is None:
            raise RefitdError(f"{self.name} was not fitted: call fit first, or db.load({self.name!r})")
        return self._here.predict(X)


class Module(_OfFramework):
    """A PyTorch module: `Module("digits", torch.nn.Linear(64, 10), postprocess=lambda x: x.argmax().item())`.

    Its `fit` takes the torch trainer's keywords: `batch_size`, `max_epochs`, `optimizer`, `loss`, …
    """

    trainer = "torch"

    def __init__(
        self,
        *args: Any,
        name: str | None = None,
        object: Any = None,  # noqa: A002 (the document's word)
        preprocess: Any = None,
        postprocess: Any = None,
        **fields: Any,
    ) -> None:
        """`Module(object)` or `Module(name, object)`; further keywords as `Model` has them.

        Args:
            object: an `nn.Module`, whose weights are where training begins; a class of them; a function that makes
                one; or its declarative form.
            preprocess: makes of one row's X what the module takes of it.
            postprocess: makes of the module's output for one row what `predict` gives.
        """
        given, module = name_and_object(args, name, object)
        self.preprocess, self.postprocess = preprocess, postprocess
        super().__init__(name=given, object=module, **fields)

    def _judged_trainer(self) -> str:
        return "torch"

    def _own_name(self) -> str:
        kind = self.object
        if isinstance(kind, Mapping):
            return str(kind.get("class", "module")).rpartition(".")[2].lower()
        return kind.__name__.strip("<>").lower() if hasattr(kind, "__name__") else name_of(kind)

    def _described(self) -> Any:
        from trainers.torch_object import TorchObject

        return TorchObject(self.object, self.preprocess, self.postprocess)


class Pipeline(_OfFramework):
    """A transformers model for a task: `Pipeline("sentiment", task="sentiment-analysis", model="./my-bert")`.

    Its `fit` takes the keywords of `transformers.TrainingArguments`.
    """

    trainer = "transformers"

    def __init__(
        self,
        *args: Any,
        task: str | None = None,
        model: Any = None,
        name: str | None = None,
        revision: str | None = None,
        tokenizer: Any = None,
        max_length: int | None = None,
        lora: Any = None,
        labels: Any = None,
        **fields: Any,
    ) -> None:
        """`Pipeline(task=…)` or `Pipeline(name, task=…)`; further keywords as `Model` has them.

        Args:
            task: `text-classification`, `sentiment-analysis`, `token-classification`, `text-generation`, …
            model: a directory that `save_pretrained` made, which workers must find under the same path, or a name on
                the hub; the task's own default without it.
            revision: of the hub's model.
            tokenizer: another one than the model's own.
            max_length: tokens of a text that count; the rest is cut off.
            lora: `True` or its settings: train a small adapter (PEFT), merged into the weights when published.
            labels: all labels, in order; without it they are taken from the rows.
        """
        from trainers.transformers_object import PipelineObject

        if len(args) > 1 or (args and not isinstance(args[0], str)):
            raise TypeError("write Pipeline(task=…) or Pipeline(name, task=…)")
        settings = {"revision": revision, "tokenizer": _placed(tokenizer), "max_length": max_length, "lora": lora}
        ordered = None if labels is None else tuple(labels)
        what = PipelineObject(task=task, model=_placed(model), labels=ordered, **settings)
        super().__init__(name=name or (args[0] if args else None), object=what, **fields)

    def _judged_trainer(self) -> str:
        return "transformers"

    def _own_name(self) -> str:
        task = getattr(self.object, "task", None)
        if not task:
            raise TypeError("a Pipeline without a name needs a task: Pipeline(task='sentiment-analysis')")
        return str(task)


def _placed(model: Any) -> Any:
    """A directory by its whole path: a worker's current folder is another one. Anything else as it is."""
    if isinstance(model, str | Path) and Path(model).expanduser().is_dir():
        return str(Path(model).expanduser().resolve())
    return str(model) if isinstance(model, Path) else model
