"""The transformers trainer: fit, evaluate, save, load and predict, for each task that it has."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import accelerate
import numpy as np
import pandas as pd
import pytest
import torch
import transformers

from registry.errors import RowsUnusable, TimeLimit, TrainingFailed
from registry.trust import Trust
from tests.fixtures.tiny_transformers import (
    BAD,
    GOOD,
    NO_CODE,
    Recorder,
    bert,
    document,
    gpt,
    rows,
    sayings,
    tokenizer,
    training,
)
from trainers.transformers import TransformersTrainer
from trainers.transformers_artifacts import unpack

TRAINER = TransformersTrainer()


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return bert(tmp_path_factory.mktemp("bert"))


def fitted_and_loaded(of: Any, columns: dict[str, Any], **more: Any) -> tuple[Any, Any]:
    fitted = TRAINER.fit(training(of, rows(columns), **more))
    return fitted, TRAINER.load(TRAINER.save(fitted), of, Trust(), NO_CODE)


def test_labels_are_learned_and_given_back(base: Path) -> None:
    columns = sayings()
    of = document(base)
    fitted, loaded = fitted_and_loaded(of, columns)
    assert TRAINER.evaluate(of, loaded, rows(columns), []) == {"accuracy": 1.0}
    assert TRAINER.predict(of, loaded, ["the film was awful", "great play"]) == ["negative", "positive"]
    assert TRAINER.predict(of, loaded, "love") == ["positive"]
    assert TRAINER.predict(of, loaded, pd.DataFrame({"text": ["hate"], "other": [1]})) == ["negative"]
    assert TRAINER.predict(of, loaded, [{"text": "hate"}, {"text": ""}])[0] == "negative"
    assert fitted.detail["labels"] == ["negative", "positive"]
    assert fitted.detail["model"] == str(base)
    assert len(fitted.detail["weights"]) == 64


@pytest.mark.parametrize("labels", [[0, 1], [False, True], [0.0, 1.0], [-3, 7]])
def test_labels_have_the_types_of_the_rows(base: Path, labels: list[Any]) -> None:
    columns = sayings()
    columns["mood"] = [labels[each == "positive"] for each in columns["mood"]]
    of = document(base)
    _, loaded = fitted_and_loaded(of, columns)
    found = TRAINER.predict(of, loaded, ["the film was awful", "the film was great"])
    assert found == labels
    assert [type(each) for each in found] == [type(each) for each in labels]


def test_numbers_that_are_not_whole_are_learned_as_numbers(base: Path) -> None:
    columns = sayings()
    columns["mood"] = [1.5 if each == "positive" else -0.5 for each in columns["mood"]]
    of = document(base, fit_kwargs={"num_train_epochs": 10})
    _, loaded = fitted_and_loaded(of, columns)
    bad, good = TRAINER.predict(of, loaded, ["the film was awful", "the film was great"])
    assert good - bad > 1
    assert TRAINER.evaluate(of, loaded, rows(columns), ["neg_mean_absolute_error", "r2"])["r2"] > 0.5


def test_whole_numbers_are_numbers_in_a_regression(base: Path) -> None:
    columns = sayings()
    columns["mood"] = [4 if each == "positive" else 0 for each in columns["mood"]]
    of = document(base, "text-regression", fit_kwargs={"num_train_epochs": 1})
    fitted, loaded = fitted_and_loaded(of, columns)
    assert isinstance(TRAINER.predict(of, loaded, ["great"])[0], float)
    assert fitted.model.config.problem_type == "regression"


def test_several_labels_a_row(base: Path) -> None:
    columns = sayings()
    columns["mood"] = [["glad", "kind"] if mood == "positive" else ["sad"] for mood in columns["mood"]]
    of = document(base, fit_kwargs={"num_train_epochs": 10})
    _, loaded = fitted_and_loaded(of, columns)
    assert TRAINER.evaluate(of, loaded, rows(columns), ["f1_micro", "accuracy"]) == {"f1_micro": 1.0, "accuracy": 1.0}
    assert TRAINER.predict(of, loaded, ["the film was great", "a bad play"]) == [["glad", "kind"], ["sad"]]
    held = {"text": ["the film was great"], "mood": [["glad", "kind", "new"]]}
    assert TRAINER.evaluate(of, loaded, rows(held), ["accuracy"]) == {"accuracy": 0.0}


def test_pairs_of_texts(base: Path) -> None:
    columns = sayings()
    columns["other"] = columns["text"][1:] + columns["text"][:1]
    of = document(base, train_X=["text", "other"], fit_kwargs={"max_steps": 2})
    _, loaded = fitted_and_loaded(of, columns)
    assert len(TRAINER.predict(of, loaded, [{"text": "good", "other": "bad"}, {"text": "a", "other": "film"}])) == 2
    assert len(TRAINER.predict(of, loaded, [["good", "bad"]])) == 1


def test_tags(base: Path) -> None:
    words = [["john", "lives", "in", "paris"], ["the", "film", "was", "in", "paris"], ["john", "is", "bad"]] * 12
    tags = [["PER", "O", "O", "LOC"], ["O", "O", "O", "O", "LOC"], ["PER", "O", "O"]] * 12
    of = document(base, "ner", fit_kwargs={"num_train_epochs": 6})
    _, loaded = fitted_and_loaded(of, {"text": words, "mood": tags})
    assert TRAINER.evaluate(of, loaded, rows({"text": words, "mood": tags}), ["accuracy", "f1_macro"]) == {
        "accuracy": 1.0,
        "f1_macro": 1.0,
    }
    assert TRAINER.predict(of, loaded, [["paris", "lives"], ["john"]]) == [["LOC", "O"], ["PER"]]
    assert TRAINER.predict(of, loaded, "john is in paris") == [["PER", "O", "O", "LOC"]]
    long = ["paris"] * 40
    found = TRAINER.predict(of, loaded, [long])[0]
    assert len(found) == 40, "a text that was cut has a tag for each word"
    assert found[-1] == "O"


def test_text(tmp_path: Path) -> None:
    base = gpt(tmp_path)
    columns = {"text": ["john lives in paris", "the film was great"] * 16}
    of = document(base, "text-generation", train_y=None, fit_kwargs={"num_train_epochs": 15})
    fitted, loaded = fitted_and_loaded(of, columns)
    assert TRAINER.evaluate(of, loaded, rows(columns), ["neg_loss", "neg_perplexity"])["neg_loss"] > -0.5
    assert TRAINER.predict(of, loaded, ["john lives", "the film"]) == ["in paris", "was great"]
    assert fitted.model.config.use_cache is True, "what training switched off is on again"


def test_what_was_published_is_a_directory_of_transformers(base: Path, tmp_path: Path) -> None:
    of = document(base)
    fitted = TRAINER.fit(training(of, rows(sayings())))
    unpack(TRAINER.save(fitted), tmp_path / "model")
    pipe = transformers.pipeline("text-classification", model=str(tmp_path / "model"))
    assert [each["label"] for each in pipe(["the film was awful", "the film was great"])] == ["negative", "positive"]
    assert not list((tmp_path / "model").glob("*.bin"))


def test_the_same_seed_gives_the_same_bytes_and_disturbs_nobody(base: Path) -> None:
    torch.manual_seed(5)
    np.random.seed(5)
    before = torch.get_rng_state(), np.random.get_state()[1].copy()  # type: ignore[index]
    of = document(base, fit_kwargs={"max_steps": 6})
    first, again = (TRAINER.save(TRAINER.fit(training(of, rows(sayings())))) for _ in range(2))
    assert first == again
    other = document(base, fit_kwargs={"max_steps": 6, "seed": 1})
    assert TRAINER.save(TRAINER.fit(training(other, rows(sayings())))) != first
    assert torch.equal(before[0], torch.get_rng_state())
    assert np.array_equal(before[1], np.random.get_state()[1])  # type: ignore[index]


def test_rows_in_a_file_are_learned_like_rows_in_memory(base: Path) -> None:
    columns = sayings(2000)
    columns["text"] = [text + " " * 200 for text in columns["text"]]
    large = rows(columns, memory=1)
    assert not large.in_memory
    of = document(base, fit_kwargs={"max_steps": 40})
    third = np.arange(2000) // 6 % 3 == 0
    fitted = TRAINER.fit(training(of, large.choose(np.flatnonzero(~third))))
    assert TRAINER.evaluate(of, fitted, large.choose(np.flatnonzero(third)), []) == {"accuracy": 1.0}


def test_processes_that_load_batches(base: Path) -> None:
    plain = document(base, fit_kwargs={"max_steps": 4})
    shared = document(base, fit_kwargs={"max_steps": 4, "dataloader_num_workers": 2})
    expected = TRAINER.fit(training(plain, rows(sayings())))
    found = TRAINER.fit(training(shared, rows(sayings())))
    assert TRAINER.save(found).count(b"") > 0
    for name, weight in expected.model.state_dict().items():
        assert torch.equal(weight, found.model.state_dict()[name]), name


def test_mixed_precision_leaves_no_trace(base: Path) -> None:
    of = document(base, fit_kwargs={"bf16": True})
    fitted, loaded = fitted_and_loaded(of, sayings())
    assert "forward" not in vars(fitted.model)
    assert TRAINER.evaluate(of, loaded, rows(sayings()), []) == {"accuracy": 1.0}
    again = TRAINER.fit(training(document(base, fit_kwargs={"max_steps": 1}), rows(sayings()), start=fitted))
    assert {weight.dtype for weight in again.model.parameters()} == {torch.float32}
    accelerator = accelerate.Accelerator(mixed_precision="no", cpu=False)
    assert accelerator.mixed_precision == "no"


def test_progress_has_figures(base: Path) -> None:
    report = Recorder()
    of = document(base, fit_kwargs={"num_train_epochs": 2, "eval_strategy": "epoch"}, validation={"split": 0.5})
    TRAINER.fit(training(of, rows(sayings()), rows(sayings(8)), report=report))
    fraction, message, figures = report.told[-1]
    assert fraction == 1.0
    assert message.startswith("epoch 2.0/2, loss ")
    assert figures["step"] == figures["steps"] == 16
    assert {"epoch", "epochs", "loss", "samples_per_s", "eta_s", "val_loss", "val_accuracy"} <= figures.keys()
    assert report.lines[0] == f"a new head with 2 outputs on {base}"
    assert all(line.startswith("epoch ") for line in report.lines[1:])
    assert len(report.lines) == 5, report.lines


@pytest.mark.parametrize(
    ("columns", "said"),
    [
        ({"text": ["a", None, "b"], "mood": ["x", "y", "x"]}, "`text` is missing in 1 of 3 rows"),
        ({"text": ["a", "b", "c"], "mood": ["x", None, None]}, "`mood` is missing in 2 of 3 rows"),
        ({"text": ["a", "b"], "mood": [1.0, float("nan")]}, "`mood` is missing in 1 of 2 rows"),
        ({"text": [1, 2], "mood": ["x", "y"]}, "`text` holds int64, and a text is needed"),
        ({"text": ["a", "b"], "mood": ["x", "x"]}, "takes at least two labels"),
        ({"texts": ["a", "b"], "mood": ["x", "y"]}, "no row has a field `text`: did you mean `texts`?"),
        ({"text": ["a", "b"], "mood": [{"a": 1}, {"a": 2}]}, "labels are texts, whole numbers or true/false"),
    ],
)
def test_rows_that_cannot_be_used_are_told(base: Path, columns: dict[str, Any], said: str) -> None:
    with pytest.raises(RowsUnusable) as raised:
        TRAINER.fit(training(document(base), rows(columns)))
    assert said in str(raised.value)


def test_words_and_tags_of_different_length_are_told(base: Path) -> None:
    columns = {"text": [["a", "film"], ["john"]], "mood": [["O"], ["PER"]]}
    with pytest.raises(RowsUnusable, match="`text` and `mood` differ in length in 1 of 2 rows"):
        TRAINER.fit(training(document(base, "ner"), rows(columns)))


@pytest.mark.parametrize("asked", [["a", None], [{"text": None}], [{"other": "a"}], [3]])
def test_rows_to_predict_that_cannot_be_used_are_told(base: Path, asked: list[Any]) -> None:
    of = document(base, fit_kwargs={"max_steps": 1})
    fitted = TRAINER.fit(training(of, rows(sayings(8))))
    with pytest.raises(RowsUnusable, match="text"):
        TRAINER.predict(of, fitted, asked)


def test_a_label_that_was_not_learned_is_missed(base: Path) -> None:
    of = document(base)
    fitted = TRAINER.fit(training(of, rows(sayings())))
    texts = ["the film was great", "the film was awful", "the film", "a play"]
    held = {"text": texts, "mood": ["positive", "negative", "neutral", "neutral"]}
    assert TRAINER.evaluate(of, fitted, rows(held), []) == {"accuracy": 0.5}


def test_a_loss_that_is_no_number_ends_the_fit(base: Path) -> None:
    columns = sayings()
    columns["mood"] = [1e38 * (at % 7) + 0.5 for at in range(len(columns["mood"]))]
    of = document(base, "text-regression", fit_kwargs={"learning_rate": 1e30, "max_grad_norm": 0})
    with pytest.raises(TrainingFailed, match="try a lower `learning_rate`"):
        TRAINER.fit(training(of, rows(columns)))


def test_a_time_limit_passes_through(base: Path) -> None:
    report = Recorder(cancel_at=2, error=TimeLimit("stopped"))
    with pytest.raises(TimeLimit):
        TRAINER.fit(training(document(base), rows(sayings()), report=report))


def test_a_text_may_not_be_longer_than_the_model_takes(base: Path) -> None:
    with pytest.raises(TrainingFailed, match=r"`object\.max_length` is 99, and the model takes at most 16 tokens"):
        TRAINER.fit(training(document(base, object={"max_length": 99}), rows(sayings())))


def test_the_tokenizer_may_lie_elsewhere(base: Path, tmp_path: Path) -> None:
    alone, other = tmp_path / "model", tmp_path / "tokenizer"
    transformers.AutoModel.from_pretrained(base).save_pretrained(alone)
    with pytest.raises(TrainingFailed, match=r"name one as `object\.tokenizer`"):
        TRAINER.fit(training(document(alone), rows(sayings())))
    tokenizer().save_pretrained(other)
    (other / "config.json").write_text((base / "config.json").read_text())
    fitted = TRAINER.fit(training(document(alone, object={"tokenizer": str(other)}), rows(sayings())))
    assert {*GOOD, *BAD} < fitted.tokenizer.get_vocab().keys()  # type: ignore[attr-defined]
