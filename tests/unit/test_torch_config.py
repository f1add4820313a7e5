"""`fit_kwargs` of the PyTorch trainer: what they may be, what is said of others, and how Python writes them."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from registry.code import Custom
from registry.document import ModelDocument
from registry.errors import DocumentInvalid, Untrusted
from tests.fixtures.training import TRUST, Shelf
from trainers import torch_config
from trainers.torch import TorchTrainer
from trainers.torch_config import KEYWORDS, TorchConfig, parse, read
from trainers.torch_object import TorchObject, describe, describe_keywords

TRAINER = TorchTrainer()


def faults(fit_kwargs: dict[str, Any], **fields: Any) -> dict[str, str]:
    raw = {
        "_id": "m",
        "trainer": "torch",
        "object": {"class": "torch.nn.Linear", "params": [2, 1]},
        "training_select": "rows",
        "train_X": "x",
        "train_y": "y",
        "fit_kwargs": fit_kwargs,
    }
    of = ModelDocument.parse(raw | fields)
    return {fault.path.removeprefix("fit_kwargs."): fault.message for fault in TRAINER.check(of, TRUST)}


def test_every_keyword_stands_in_the_table_with_its_default() -> None:
    rows = dict(re.findall(r"^\| `(\w+)` \|([^|]*)\|", torch_config.__doc__ or "", re.M))
    assert set(rows) == set(KEYWORDS)
    for name, field in TorchConfig.model_fields.items():
        shown = rows[name].strip().strip("`")
        if isinstance(field.default, bool):
            assert shown == str(field.default).lower(), name
        elif isinstance(field.default, int | str) and field.default != "":
            assert shown == str(field.default), name


def test_all_faults_are_told_at_once() -> None:
    assert faults(
        {
            "batch_sise": 3,
            "sampler": "x",
            "lr": 0.1,
            "qqq": 1,
            "batch_size": 0,
            "device": "gpu",
            "precision": "half",
            "loader_kwargs": {"num_worker": 2, "dataset": 1},
            "seed": -1,
        }
    ) == {
        "batch_sise": "no such keyword of the torch trainer; did you mean `batch_size`?",
        "sampler": "is no keyword here: the order follows from `seed` and `shuffle`, "
        "so that a lost fit can go on where it was",
        "lr": "is no keyword here: write `optimizer_kwargs: {lr: …}`",
        "qqq": f"no such keyword of the torch trainer; known here: {', '.join(KEYWORDS)}",
        "loader_kwargs.num_worker": "no such keyword of the torch trainer; did you mean `num_workers`?",
        "loader_kwargs.dataset": "is no keyword here: the rows come from `training_select`",
        "batch_size": "should be greater than or equal to 1; given: 0",
        "device": "should be auto, cpu, cuda, cuda:N or mps; given: 'gpu'",
        "precision": "should be 'no', 'fp16' or 'bf16'; given: 'half'",
        "seed": "should be greater than or equal to 0; given: -1",
    }


@pytest.mark.parametrize(
    ("fit_kwargs", "path", "said"),
    [
        ({"optimizer": "Adan"}, "optimizer", "there is no optimizer `Adan` in torch.optim; did you mean `Adam`?"),
        ({"optimizer": "LBFGS"}, "optimizer", "LBFGS needs the loss again within a step"),
        ({"optimizer": "torch.nn.Linear"}, "optimizer", "is not a class of the kind that is expected here: Optimizer"),
        ({"optimizer": "os.system"}, "optimizer", "lies outside the modules that the operator trusts"),
        ({"optimizer_kwargs": {"lrr": 1}}, "optimizer_kwargs.lrr", "AdamW has no parameter `lrr`; did you mean `lr`?"),
        ({"optimizer_kwargs": {"lr": -1}}, "optimizer_kwargs", "AdamW refuses them: Invalid learning rate: -1"),
        ({"optimizer_kwargs": {"params": []}}, "optimizer_kwargs.params", "AdamW has no parameter `params`"),
        (
            {"scheduler": "StepLr"},
            "scheduler",
            "there is no scheduler `StepLr` in torch.optim.lr_scheduler; did you mean",
        ),
        ({"scheduler": "StepLR"}, "scheduler_kwargs", "StepLR refuses them: "),
        ({"scheduler": "SequentialLR"}, "scheduler", "is made of other schedulers"),
        (
            {"loss": "CrossEntropy"},
            "loss",
            "there is no loss `CrossEntropy` in torch.nn; did you mean `CrossEntropyLoss`",
        ),
        ({"loss": "Linear"}, "loss", "Linear is no loss of outputs and y alone"),
        ({"loss": "transformers.BertModel"}, "loss", "`transformers.BertModel` is no loss of torch.nn"),
        ({"loss": "torch.nn.DataParallel"}, "loss", "DataParallel is no loss of outputs and y alone"),
        ({"loss": "torch.hub.load"}, "loss", "lies outside the modules that the operator trusts"),
        ({"loss": "TripletMarginLoss"}, "loss", "TripletMarginLoss is no loss of outputs and y alone"),
        ({"loss": {"class": "MSELoss", "params": {"reducton": "sum"}}}, "loss.reducton", "did you mean `reduction`?"),
        (
            {"loss": {"class": "MSELoss", "parameters": {}}},
            "loss",
            "must be a name, `class` and `params`, or a function",
        ),
        ({"loss": "MSELoss", "objective": "L1Loss"}, "objective", "`loss` is given twice, under two names"),
        ({"batch_size": 2, "loader_kwargs": {"batch_size": 3}}, "loader_kwargs.batch_size", "is given twice"),
        ({"prefetch_factor": 2}, "prefetch_factor", "give `num_workers` too"),
        ({"precision": "fp16", "device": "cpu"}, "precision", "fp16 needs a GPU"),
        ({"watch": "accuracy"}, "watch", "is neither `loss` nor one of `metrics`"),
        ({"metrics": ["acuracy"]}, "metrics.0", "did you mean `accuracy`?"),
        ({"target_preprocessors": {"y": {"code": "0"}}}, "loss", "is missing: with `target_preprocessors`"),
        ({"collate_fn": "default_collate"}, "collate_fn", "should be a valid dictionary"),
        ({"collate_fn": {"name": "f"}}, "collate_fn", "must be a function of yours"),
        ({"loader_kwargs": 3}, "loader_kwargs", "must be a mapping"),
    ],
)
def test_a_fault_is_told_with_its_fix(fit_kwargs: dict[str, Any], path: str, said: str) -> None:
    assert said in faults(fit_kwargs)[path]


def test_the_metrics_of_a_document_are_checked() -> None:
    gate = {"split": 0.2, "metrics": ["f1macro"], "promote": {"metric": "loss", "min": 0.5}}
    assert faults({}, validation=gate) == {
        "validation.metrics.0": "`f1macro` is neither `loss` nor one of scikit-learn's scorers; "
        "did you mean `f1_macro`?",
        "validation.promote.metric": "of `loss` less is better, and a gate wants more: name `neg_loss`",
    }
    assert faults({}, train_y=None, validation={"split": 0.2, "metrics": ["accuracy"]}) == {
        "validation.metrics.0": "`accuracy` compares with a target, and there is no `train_y`; use `neg_loss`"
    }
    assert faults({"loss": "CrossEntropyLoss"}, train_y=None).keys() == {"train_y"}


def test_the_names_of_superduperdb_are_taken() -> None:
    config = parse(
        {
            "objective": "MSELoss",
            "loader_kwargs": {"batch_size": 100, "num_workers": 4},
            "optimizer_cls": "SGD",
            "optimizer_kwargs": {"lr": 0.1},
            "max_iterations": 10**100,
            "no_improve_then_stop": 5,
            "download": True,
            "validation_interval": 100,
            "listen": "objective",
        }
    )
    assert (config.loss, config.optimizer, config.batch_size, config.num_workers) == ("MSELoss", "SGD", 100, 4)
    assert (config.max_iterations, config.watched, config.epochs) == (None, "loss", 10)
    assert config.loader()["persistent_workers"] is True


def test_numbers_of_shells_that_know_only_doubles_are_whole() -> None:
    config = parse({"batch_size": 64.0, "max_epochs": 3.0, "seed": 5.0, "max_iterations": None, "shuffle": None})
    assert (config.batch_size, config.max_epochs, config.seed, config.shuffle) == (64, 3, 5, True)
    with pytest.raises(DocumentInvalid, match=r"fit_kwargs\.batch_size: "):
        parse({"batch_size": 64.5})
    assert read({"batch_size": True})[1][0].path == "fit_kwargs.batch_size"


def test_python_s_keywords_are_written_by_name_or_as_code() -> None:
    def mine(outputs: Any, y: Any) -> Any:
        return outputs - y

    module = nn.MSELoss(reduction="sum")
    said = describe_keywords(
        {
            "loss": nn.MSELoss,
            "optimizer": torch.optim.SGD,
            "optimizer_kwargs": {"lr": np.float64(0.1), "betas": (0.9, 0.99)},
            "scheduler": torch.optim.lr_scheduler.StepLR,
            "objective": nn.functional.mse_loss,
            "collate_fn": mine,
            "device": torch.device("cuda", 1),
            "max_iterations": float("inf"),
            "worker_init_fn": module,
            "target_preprocessors": {"y": mine},
        }
    )
    assert said == {
        "loss": "torch.nn.MSELoss",
        "optimizer": "torch.optim.SGD",
        "optimizer_kwargs": {"lr": 0.1, "betas": [0.9, 0.99]},
        "scheduler": "torch.optim.lr_scheduler.StepLR",
        "objective": "torch.nn.functional.mse_loss",
        "collate_fn": Custom(mine),
        "device": "cuda:1",
        "max_iterations": None,
        "worker_init_fn": Custom(module),
        "target_preprocessors": {"y": Custom(mine)},
    }
    assert type(said["optimizer_kwargs"]["lr"]) is float
    shelf = Shelf()
    said = shelf.signed(describe_keywords({"optimizer": torch.optim.Adam, "loss": mine, "collate_fn": mine}))
    assert faults(said) == {}


def test_an_object_is_described_by_its_parts() -> None:
    module = nn.Linear(2, 1)
    form = {"class": "torch.nn.Linear", "params": [2, 1]}
    assert describe(module) == {"module": Custom(module)}
    assert describe(TorchObject(module, len, abs)) == {
        "module": Custom(module),
        "preprocess": Custom(len),
        "postprocess": Custom(abs),
    }
    assert describe(TorchObject(form)) == {"module": form}
    with pytest.raises(Untrusted, match="preprocess: a int is no module, class or function"):
        describe(TorchObject(module, 3))
