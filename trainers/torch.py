"""The PyTorch trainer: any `nn.Module`, built of a document's classes or made by signed code of the user's."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from registry.code import CodeLoader
from registry.document import Gate, ModelDocument
from registry.errors import Fault
from registry.trust import Trust
from trainers import torch_artifacts, torch_fit, torch_object, torch_predict
from trainers.alone import alone
from trainers.arrays import BASE
from trainers.spool import Rows
from trainers.torch_config import TorchConfig, read
from trainers.torch_fit import JUDGED
from trainers.torch_forms import Forms
from trainers.torch_judge import Judge, default_metric, metric_fault
from trainers.torch_module import FittedModule, device_of, maker_of, told_failures
from trainers.torch_object import TorchObject
from trainers.torch_parts import LOSSES, PartReader, faults_of
from trainers.trainer import Fitted, Training

__all__ = ["TorchObject", "TorchTrainer"]


class TorchTrainer:
    """Implements `trainers.trainer.Trainer`."""

    name = "torch"
    format = "torch"

    def check(self, document: ModelDocument, trust: Trust) -> list[Fault]:
        """See `Trainer.check`."""
        forms = Forms(trust)
        inner, steps = torch_object.split(document.object)
        forms.module(inner, "object")
        for name, form in steps.items():
            forms.function(form, f"object.{name}")
        config, faults = read(document.fit_kwargs)
        if config is not None:
            faults = [*faults, *_keyword_faults(config, document, trust)]
        return [*forms.faults, *faults, *_metric_faults(config, document), *alone(document)]

    def describe(self, model: Any) -> dict[str, Any]:
        """See `Trainer.describe`. `model` is a `TorchObject`, or a module."""
        return torch_object.describe(model)

    def describe_keywords(self, fit_kwargs: Mapping[str, Any]) -> dict[str, Any]:
        """See `Trainer.describe_keywords`."""
        return torch_object.describe_keywords(fit_kwargs)

    def fields(self, document: ModelDocument) -> tuple[str, ...] | None:
        """See `Trainer.fields`."""
        if BASE in document.fields_X:
            return None
        return tuple(dict.fromkeys((*document.fields_X, *document.fields_y)))

    def fit(self, training: Training) -> Fitted:
        """See `Trainer.fit`."""
        return torch_fit.fit(training)

    def evaluate(self, document: ModelDocument, fitted: Fitted, rows: Rows, metrics: Sequence[str]) -> dict[str, float]:
        """See `Trainer.evaluate`. Without metrics: accuracy of labels, r2 of numbers, else `neg_loss`."""
        assert isinstance(fitted, FittedModule)
        config, maker, objective = maker_of(document, fitted)
        names = list(metrics) or [default_metric(fitted.target)]
        device = device_of(config, strict=False)
        with told_failures("evaluating", config):
            fitted.whole.module.to(device)
            objective.to(device)
            values = Judge(rows, maker, objective, config.batch_size * JUDGED).values(
                fitted.whole.module, device, names
            )
        return {name: values[name] for name in names}

    def save(self, fitted: Fitted) -> bytes:
        """See `Trainer.save`.

        Raises:
            TrainingFailed: the module holds something that can't be stored safely.
        """
        assert isinstance(fitted, FittedModule)
        return torch_artifacts.dumps(fitted)

    def load(self, data: bytes, document: ModelDocument, trust: Trust, code: CodeLoader) -> Fitted:
        """See `Trainer.load`."""
        return torch_artifacts.loads(data, trust, code)

    def unpack(self, data: bytes, folder: Path) -> None:
        """See `Trainer.unpack`: `model.safetensors` and `config.json`."""
        torch_artifacts.unpack(data, folder)

    def predict(self, document: ModelDocument, fitted: Fitted, rows: Any) -> Any:
        """See `Trainer.predict`."""
        assert isinstance(fitted, FittedModule)
        return torch_predict.predict(document, fitted, rows)


def _keyword_faults(config: TorchConfig, document: ModelDocument, trust: Trust) -> Iterator[Fault]:
    """What is wrong with the parts and functions that `fit_kwargs` name."""
    yield from faults_of(config, trust)
    forms = Forms(trust)
    functions = {name: getattr(config, name) for name in ("collate_fn", "worker_init_fn", "compute_metrics")}
    targets = config.target_preprocessors
    if targets is not None and "code" not in targets:
        functions |= {f"target_preprocessors.{name}": form for name, form in targets.items()}
    else:
        functions["target_preprocessors"] = targets
    for name, form in functions.items():
        if form is not None:
            forms.function(form, f"fit_kwargs.{name}")
    yield from forms.faults
    if document.train_y is None:
        loss = PartReader(trust).read(config).loss
        if loss is not None and loss.name is not None and LOSSES[loss.name] != "numbers":
            yield Fault("train_y", f"is missing: {loss.name} compares with classes; name their field")


def _metric_faults(config: TorchConfig | None, document: ModelDocument) -> Iterator[Fault]:
    supervised = document.train_y is not None
    named = {f"fit_kwargs.metrics.{at}": name for at, name in enumerate(config.metrics if config else ())}
    if document.validation is not None:
        named |= {f"validation.metrics.{at}": name for at, name in enumerate(document.validation.metrics)}
    for path, name in named.items():
        if said := metric_fault(name, supervised=supervised):
            yield Fault(path, said)
    if document.validation is not None and isinstance(document.validation.promote, Gate):
        gate = document.validation.promote.metric
        if said := metric_fault(gate, supervised=supervised, gate=True):
            yield Fault("validation.promote.metric", said)
