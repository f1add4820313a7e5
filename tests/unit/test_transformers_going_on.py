"""Training that is interrupted, gone on with, stopped early, begun from the live version, or done by an adapter."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers

from registry.errors import Cancelled, TrainingFailed, WorkerLost
from registry.trust import Trust
from tests.fixtures.tiny_transformers import NO_CODE, Kept, Recorder, bert, document, rows, sayings, training
from trainers.trainer import Interrupted
from trainers.transformers import TransformersTrainer
from trainers.transformers_archive import pack
from trainers.transformers_artifacts import unpack

TRAINER = TransformersTrainer()
HELD: dict[str, Any] = {"validation": {"split": 0.5}}


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return bert(tmp_path_factory.mktemp("bert"))


def same(one: Any, other: Any) -> bool:
    states = one.model.state_dict(), other.model.state_dict()
    return states[0].keys() == states[1].keys() and all(
        torch.equal(states[0][name], states[1][name]) for name in states[0]
    )


@pytest.mark.parametrize(("kept_at", "lost_at"), [((3,), 7), ((8,), 12), ((2, 11), 14)])
@pytest.mark.parametrize("lora", [False, True])
def test_another_worker_goes_on_where_one_was_lost(
    base: Path, kept_at: tuple[int, ...], lost_at: int, lora: bool
) -> None:
    of = document(base, object={"lora": lora}, fit_kwargs={"num_train_epochs": 2})
    whole = TRAINER.fit(training(of, rows(sayings())))
    kept = Kept(*kept_at)
    with pytest.raises(WorkerLost):
        TRAINER.fit(training(of, rows(sayings()), report=Recorder(lost_at, WorkerLost("gone")), checkpoints=kept))
    report = Recorder()
    found = TRAINER.fit(training(of, rows(sayings()), report=report, checkpoints=Kept(data=kept.data)))
    assert f"going on from the checkpoint of step {kept_at[-1]} of 16" in report.lines
    assert min(figures["step"] or 0 for _, _, figures in report.told if "step" in figures) == kept_at[-1]
    assert same(whole, found)
    assert whole.detail["steps"] == found.detail["steps"] == 16


def test_the_best_goes_with_the_checkpoint(base: Path) -> None:
    # No epoch after the first that is without a mistake is better: the best is an evaluation before the checkpoint's.
    keywords = {"num_train_epochs": 8, "eval_strategy": "epoch", "load_best_model_at_end": True}
    keywords |= {"metric_for_best_model": "accuracy"}
    of = document(base, fit_kwargs=keywords, **HELD)
    train, held = rows(sayings()), rows(sayings(32))
    whole = TRAINER.fit(training(of, train, held))
    kept = Kept(51)
    with pytest.raises(WorkerLost):
        TRAINER.fit(training(of, train, held, report=Recorder(53, WorkerLost("gone")), checkpoints=kept))
    found = TRAINER.fit(training(of, train, held, checkpoints=Kept(data=kept.data)))
    assert found.detail["best_step"] == whole.detail["best_step"] < 51
    assert same(whole, found)


@pytest.mark.parametrize("data", [b"no archive", pack({"checkpoint-1/a.py": b"1"}), pack({"last.json": b"{}"})])
def test_a_checkpoint_that_cannot_be_read_is_left_aside(base: Path, data: bytes) -> None:
    of, report = document(base, fit_kwargs={"max_steps": 2}), Recorder()
    found = TRAINER.fit(training(of, rows(sayings()), report=report, checkpoints=Kept(data=data)))
    assert any(line.startswith("the last checkpoint can't be used, beginning anew: ") for line in report.lines)
    assert same(found, TRAINER.fit(training(of, rows(sayings()))))


def test_cancelled_gives_what_there_is(base: Path) -> None:
    of = document(base, fit_kwargs={"num_train_epochs": 4})
    with pytest.raises(Interrupted) as raised:
        TRAINER.fit(training(of, rows(sayings()), report=Recorder(cancel_at=20)))
    assert isinstance(raised.value.__cause__, Cancelled)
    fitted = raised.value.fitted
    assert fitted.detail["steps"] == 20
    assert (
        TRAINER.evaluate(of, TRAINER.load(TRAINER.save(fitted), of, Trust(), NO_CODE), rows(sayings()), [])["accuracy"]
        > 0.4
    )


def test_cancelled_gives_the_best_there_was(base: Path) -> None:
    keywords = {"num_train_epochs": 8, "eval_strategy": "epoch", "load_best_model_at_end": True}
    of = document(base, fit_kwargs=keywords | {"metric_for_best_model": "accuracy"}, **HELD)
    train, held = rows(sayings()), rows(sayings(32))
    with pytest.raises(Interrupted) as raised:
        TRAINER.fit(training(of, train, held, report=Recorder(cancel_at=60)))
    fitted = raised.value.fitted
    assert fitted.detail["best_step"] < 60
    assert TRAINER.evaluate(of, fitted, held, ["accuracy"])["accuracy"] == fitted.detail["best_metric"]
    of = document(base, fit_kwargs={"num_train_epochs": 8, "eval_strategy": "epoch"}, **HELD)
    with pytest.raises(Interrupted) as raised:
        TRAINER.fit(training(of, train, held, report=Recorder(cancel_at=60)))
    assert not same(fitted, raised.value.fitted), "the last is not the best"


def test_cancelled_before_the_first_step_gives_nothing(base: Path) -> None:
    with pytest.raises(Cancelled):
        TRAINER.fit(training(document(base), rows(sayings()), report=Recorder(cancel_at=0)))


def test_it_stops_when_nothing_improves(base: Path) -> None:
    keywords = {"num_train_epochs": 50, "no_improve_then_stop": 2, "metric_for_best_model": "accuracy"}
    of = document(base, fit_kwargs=keywords, **HELD)
    fitted = TRAINER.fit(training(of, rows(sayings()), rows(sayings(32))))
    assert fitted.detail["best_metric"] == 1.0
    assert fitted.detail["steps"] == fitted.detail["best_step"] + 16
    assert TRAINER.evaluate(of, fitted, rows(sayings(32)), []) == {"accuracy": 1.0}


def test_it_goes_on_from_the_live_version(base: Path) -> None:
    of = document(base)
    live = TRAINER.fit(training(of, rows(sayings())))
    before = {name: weight.clone() for name, weight in live.model.state_dict().items()}
    little = document(base, fit_kwargs={"max_steps": 1, "learning_rate": 1e-6})
    report = Recorder()
    found = TRAINER.fit(training(little, rows(sayings()), start=live, report=report))
    assert report.lines[0] == "going on from the live version"
    assert TRAINER.evaluate(of, found, rows(sayings()), []) == {"accuracy": 1.0}
    assert all(torch.equal(weight, before[name]) for name, weight in live.model.state_dict().items()), (
        "it stays as it is"
    )
    assert found.detail["started_from"] == "live"
    some = sayings()
    few = {
        name: [value for value, mood in zip(some[name], some["mood"], strict=True) if mood == "negative"]
        for name in some
    }
    with_names = document(base, object={"labels": ["negative", "positive"]}, fit_kwargs={"max_steps": 1})
    assert TRAINER.fit(training(with_names, rows(few), start=live)).detail["labels"] == ["negative", "positive"]


def test_labels_that_the_live_version_does_not_know_need_the_base(base: Path) -> None:
    live = TRAINER.fit(training(document(base), rows(sayings())))
    columns = sayings()
    columns["mood"][0] = "mixed"
    report = Recorder()
    found = TRAINER.fit(training(document(base), rows(columns), start=live, report=report))
    assert report.lines[0] == "the live version doesn't know the labels ['mixed']: beginning from the base model"
    assert found.detail["labels"] == ["mixed", "negative", "positive"]


def test_an_adapter_is_merged_when_it_is_trained(base: Path, tmp_path: Path) -> None:
    lora = {"r": 4, "alpha": 16, "target_modules": ["query", "value"]}
    of = document(base, object={"lora": lora}, fit_kwargs={"num_train_epochs": 8, "learning_rate": 0.03})
    fitted = TRAINER.fit(training(of, rows(sayings())))
    assert type(fitted.model) is transformers.BertForSequenceClassification
    assert fitted.detail["lora"] == lora | {"dropout": 0.05}
    unpack(TRAINER.save(fitted), tmp_path)
    plain = transformers.AutoModelForSequenceClassification.from_pretrained(tmp_path)
    bare = transformers.AutoModel.from_pretrained(base)
    changed = plain.bert.encoder.layer[0].attention.self.query.weight
    assert not torch.equal(changed, bare.encoder.layer[0].attention.self.query.weight)
    assert torch.equal(plain.bert.embeddings.word_embeddings.weight, bare.embeddings.word_embeddings.weight)
    assert TRAINER.evaluate(of, fitted, rows(sayings()), [])["accuracy"] > 0.7


def test_an_adapter_that_fits_no_layer_is_told(base: Path) -> None:
    of = document(base, object={"lora": {"target_modules": ["nowhere"]}})
    with pytest.raises(
        TrainingFailed, match=r"no adapter .* on BertForSequenceClassification \(target_modules nowhere\): NoMatching"
    ):
        TRAINER.fit(training(of, rows(sayings())))


def test_a_head_for_the_same_labels_is_kept(tmp_path: Path) -> None:
    base = bert(tmp_path / "moods", auto="AutoModelForSequenceClassification", labels=["POSITIVE", "NEGATIVE"])
    of, report = document(base, fit_kwargs={"max_steps": 1, "learning_rate": 0}), Recorder()
    fitted = TRAINER.fit(training(of, rows(sayings()), report=report))
    theirs = transformers.AutoModelForSequenceClassification.from_pretrained(base)
    assert torch.equal(fitted.model.classifier.weight, theirs.classifier.weight)
    assert fitted.detail["labels"] == ["positive", "negative"]
    assert fitted.model.config.id2label == {0: "positive", 1: "negative"}
    assert not [line for line in report.lines if "head" in line]


@pytest.mark.parametrize("labels", [["ANGRY", "CALM"], ["ANGRY", "CALM", "GLAD"]])
def test_a_head_for_other_labels_is_made_anew(tmp_path: Path, labels: list[str]) -> None:
    base = bert(tmp_path / "moods", auto="AutoModelForSequenceClassification", labels=labels)
    of, report = document(base, fit_kwargs={"max_steps": 1, "learning_rate": 0}), Recorder()
    fitted = TRAINER.fit(training(of, rows(sayings()), report=report))
    theirs = transformers.AutoModelForSequenceClassification.from_pretrained(base)
    assert not torch.equal(fitted.model.classifier.weight, theirs.classifier.weight[:2])
    assert torch.equal(fitted.model.bert.pooler.dense.weight, theirs.bert.pooler.dense.weight)
    assert report.lines[0] == f"a new head with 2 outputs on {base}"


def test_weights_of_another_architecture_are_told(base: Path, tmp_path: Path) -> None:
    unpack(TRAINER.save(TRAINER.fit(training(document(base, fit_kwargs={"max_steps": 1}), rows(sayings())))), tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps(config | {"num_hidden_layers": 2}))
    with pytest.raises(TrainingFailed, match="lack 16 of the 41 parameters of BertForSequenceClassification"):
        TRAINER.fit(training(document(tmp_path), rows(sayings())))
