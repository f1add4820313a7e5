"""What the transformers trainer says of a document, and what Python may hand it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import accelerate
import pytest
import transformers
from accelerate.state import AcceleratorState
from transformers.trainer_utils import IntervalStrategy

from registry.errors import Untrusted
from registry.trust import Trust
from tests.fixtures.tiny_transformers import bert, document
from trainers.transformers import TransformersTrainer
from trainers.transformers_arguments import make
from trainers.transformers_object import Lora, PipelineObject, parse
from trainers.transformers_tasks import ALIASES, TASKS, default_model, task_named

TRAINER = TransformersTrainer()
HELD = {"validation": {"split": 0.2}}


def told(**fields: Any) -> dict[str, str]:
    task = fields.pop("task", "text-classification")
    return {fault.path: fault.message for fault in TRAINER.check(document("./model", task, **fields), Trust())}


def test_a_good_document_has_no_faults() -> None:
    assert told() == {}
    lora = {"r": 4.0, "target_modules": ["query"]}
    assert told(object={"lora": lora, "max_length": 64.0, "labels": ["a", "b"], "revision": "main"}) == {}
    assert told(task="text-generation", train_y=None) == {}
    keywords = {"learning_rate": "1e-4", "max_steps": 10.0, "no_improve_then_stop": 2, "bf16": True, "tf32": True}
    assert told(fit_kwargs=keywords, **HELD) == {}
    assert told(fit_kwargs={"dataloader_num_workers": 4, "report_to": "none", "optim": "sgd"}) == {}


@pytest.mark.parametrize(
    ("said", "path", "message"),
    [
        ({"task": "text-clasification"}, "object.task", "did you mean `text-classification`?"),
        ({"task": "summarization"}, "object.task", "is no task that this trainer fits; known here: ner, "),
        ({"modell": "x"}, "object.modell", "did you mean `model`?"),
        ({"model": 3}, "object.model", "must be text"),
        ({"max_length": 1}, "object.max_length", "at least 2; given: 1"),
        ({"labels": ["a", 1]}, "object.labels", "of one kind"),
        ({"labels": ["a", "a"]}, "object.labels", "at least two labels, each once"),
        ({"lora": "yes"}, "object.lora", "must be true or {r, alpha, dropout, target_modules}"),
        ({"lora": {"rank": 8}}, "object.lora.rank", "known here: r, alpha"),
        ({"lora": {"r": 0}}, "object.lora.r", "at least 1"),
        ({"lora": {"dropout": 1}}, "object.lora.dropout", "from 0 to below 1"),
        ({"lora": {"target_modules": "query"}}, "object.lora.target_modules", "a list of layers' names"),
    ],
)
def test_faults_of_the_object(said: dict[str, Any], path: str, message: str) -> None:
    found = told(object=said)
    assert found.keys() == {path}
    assert message in found[path]


@pytest.mark.parametrize(
    ("keywords", "path", "message"),
    [
        ({"num_train_epoch": 3}, "num_train_epoch", "did you mean `num_train_epochs`?"),
        ({"trust_remote_code": True}, "trust_remote_code", "code of a model's repository is never run here"),
        ({"output_dir": "/tmp/x"}, "output_dir", "a folder of its own"),
        ({"hub_token": "x"}, "hub_token", "publishes versions itself"),
        ({"report_to": ["wandb"]}, "report_to", "keeps the log itself"),
        ({"do_train": True}, "do_train", "a fit trains"),
        ({"deepspeed": "x.json"}, "deepspeed", "a fit is one process"),
        ({"accelerator_config": "/etc/passwd"}, "accelerator_config", "must be a mapping"),
        ({"learning_rate": "fast"}, "learning_rate", "should be a valid number"),
        ({"learning_rate": -1}, "learning_rate", "must be at least 0; given: -1"),
        ({"per_device_train_batch_size": 0}, "per_device_train_batch_size", "must be at least 1"),
        ({"num_train_epochs": 0}, "num_train_epochs", "must be above 0"),
        ({"max_steps": 0}, "max_steps", "leave it out"),
        ({"lr_scheduler_type": "lineer"}, "lr_scheduler_type", "did you mean `linear`?"),
        ({"train_sampling_strategy": "odd"}, "train_sampling_strategy", "it may be random, sequential"),
        ({"fp16": True, "bf16": True}, "fp16", "At most one of fp16 and bf16 can be True"),
        ({"warmup_steps": -1}, "warmup_steps", "Expected value warmup_steps >= 0"),
        ({"eval_strategy": "epoch"}, "eval_strategy", "say `validation: {split: 0.2}`"),
        ({"no_improve_then_stop": 2}, "no_improve_then_stop", "say `validation: {split: 0.2}`"),
        ({"no_improve_then_stop": 0}, "no_improve_then_stop", "must be at least 1"),
        ({"load_best_model_at_end": True}, "load_best_model_at_end", "say how often with `eval_strategy: epoch`"),
    ],
)
def test_faults_of_the_keywords(keywords: dict[str, Any], path: str, message: str) -> None:
    found = told(fit_kwargs=keywords)
    assert found.keys() == {f"fit_kwargs.{path}"}
    assert message in found[f"fit_kwargs.{path}"]


def test_all_faults_come_at_once() -> None:
    found = told(object={"revison": "x"}, fit_kwargs={"output_dir": "x", "seeds": 1}, train_X="_base", train_y=None)
    assert found.keys() == {"object.revison", "fit_kwargs.output_dir", "fit_kwargs.seeds", "train_X", "train_y"}


@pytest.mark.parametrize(
    ("task", "fields", "path", "message"),
    [
        ("text-classification", {"train_X": ["a", "b", "c"]}, "train_X", "one field, or two (a pair of texts)"),
        ("ner", {"train_X": ["a", "b"]}, "train_X", "token-classification reads one field"),
        ("text-classification", {"train_X": "_base"}, "train_X", "name the field that holds the text"),
        ("text-classification", {"train_y": None}, "train_y", "is missing"),
        ("text-classification", {"train_y": ["a", "b"]}, "train_y", "names several"),
        ("text-generation", {"train_y": "a"}, "train_y", "leave it out"),
    ],
)
def test_faults_of_the_fields(task: str, fields: dict[str, Any], path: str, message: str) -> None:
    found = told(task=task, **fields)
    assert found.keys() == {path}
    assert message in found[path]


def test_faults_of_the_metrics() -> None:
    promote = {"metric": "r3", "min": 0.5}
    found = told(validation={"split": 0.2, "metrics": ["accuraccy", "r2", "f1_macro"], "promote": promote})
    assert found.keys() == {"validation.metrics.0", "validation.promote.metric"}
    assert "did you mean `accuracy`?" in found["validation.metrics.0"]
    found = told(task="text-generation", train_y=None, validation={"split": 0.2, "metrics": ["accuracy"]})
    assert found["validation.metrics.0"].endswith("known: neg_loss, neg_perplexity")


def test_judging_a_document_touches_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("torch.cuda.is_available", lambda: pytest.fail("a check starts no CUDA"))
    accelerate.Accelerator(cpu=True)
    assert told(fit_kwargs={"num_train_epochs": 1}) == {}
    assert list(tmp_path.iterdir()) == []
    assert AcceleratorState._shared_state, "a fit that runs in this process keeps its device"
    AcceleratorState._reset_state(reset_partial_state=True)


def test_what_is_not_said(tmp_path: Path) -> None:
    arguments: Any
    arguments, patience = make({}, str(tmp_path))
    assert (arguments.seed, arguments.report_to, arguments.save_strategy.value) == (0, [], "no")
    assert (arguments.num_train_epochs, arguments.disable_tqdm, patience) == (3, True, None)
    arguments, patience = make({"no_improve_then_stop": 3, "learning_rate": "1e-3", "use_cpu": True}, str(tmp_path))
    assert (patience, arguments.learning_rate, arguments.save_strategy.value) == (3, 0.001, "best")
    assert (arguments.eval_strategy.value, arguments.load_best_model_at_end) == ("epoch", True)
    assert (arguments.metric_for_best_model, arguments.greater_is_better) == ("loss", False)
    arguments, _ = make({"logging_steps": 5}, str(tmp_path))
    assert arguments.logging_strategy.value == "steps"


@pytest.mark.parametrize("task", ["text-classification", "token-classification", "text-generation"])
def test_the_default_model_is_transformers_own(task: str) -> None:
    found = default_model(TASKS[task])
    assert found is not None
    name, revision = found
    assert "/" in name
    assert len(revision) >= 7
    assert parse({"task": task}).source == (name, revision)


def test_a_task_of_ours_needs_a_model() -> None:
    faults = TRAINER.check(document(None, "text-regression"), Trust())
    assert [fault.path for fault in faults] == ["object.model"]


def test_the_names_of_tasks_are_transformers_own() -> None:
    from transformers.pipelines import TASK_ALIASES

    assert all(TASK_ALIASES[alias] == name for alias, name in ALIASES.items())
    assert all(task_named(alias) is TASKS[name] for alias, name in ALIASES.items())
    assert all(hasattr(transformers, task.auto) for task in TASKS.values())


def test_python_says_the_same() -> None:
    said = PipelineObject("ner", "./my-bert", max_length=64, lora=Lora(r=4), labels=("O", "PER"))
    form = TRAINER.describe(said)
    assert form == {
        "task": "ner",
        "model": "./my-bert",
        "max_length": 64,
        "lora": {"r": 4, "alpha": 16, "dropout": 0.05},
        "labels": ["O", "PER"],
    }
    assert parse(form).adapter == Lora(r=4)
    assert TRAINER.describe(PipelineObject("ner", lora=True)) == {"task": "ner", "lora": True}
    assert TRAINER.describe(PipelineObject("ner", lora={"r": 2})) == {"task": "ner", "lora": {"r": 2}}
    assert TRAINER.describe_keywords({"eval_strategy": IntervalStrategy.EPOCH, "seed": 1}) == {
        "eval_strategy": "epoch",
        "seed": 1,
    }


def test_a_model_in_memory_is_refused(tmp_path: Path) -> None:
    model = transformers.AutoModelForSequenceClassification.from_pretrained(
        bert(tmp_path, auto="AutoModelForSequenceClassification", labels=["a", "b"])
    )
    pipe = transformers.pipeline("text-classification", model=str(tmp_path))
    for live in (model, pipe, PipelineObject("ner", model)):
        with pytest.raises(Untrusted, match="save it with save_pretrained"):
            TRAINER.describe(live)
