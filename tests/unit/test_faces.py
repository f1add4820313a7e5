"""The faces of the frameworks: what they write down, and fits on arrays."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from sklearn.svm import SVC

import refitd
from registry.code import Custom
from tests.fixtures.tiny_transformers import BAD, GOOD, bert


def test_model_is_the_class_of_its_objects_framework() -> None:
    assert type(refitd.Model(SVC())) is refitd.Estimator
    assert type(refitd.Model("net", torch.nn.Linear(1, 1))) is refitd.Module


@pytest.mark.parametrize(
    ("made", "name"),
    [
        (lambda: refitd.Module(torch.nn.Linear(1, 1)), "linear"),
        (lambda: refitd.Module("mine", torch.nn.Linear(1, 1)), "mine"),
        (lambda: refitd.Module("mine", object=torch.nn.Linear), "mine"),
        (lambda: refitd.Module({"class": "torch.nn.Bilinear", "params": [1, 1, 1]}), "bilinear"),
        (lambda: refitd.Module(lambda: torch.nn.Linear(1, 1)), "lambda"),
        (lambda: refitd.Pipeline(task="sentiment-analysis"), "sentiment-analysis"),
        (lambda: refitd.Pipeline("mood", task="text-classification", model="a/b"), "mood"),
    ],
)
def test_a_model_has_a_name(made: Any, name: str) -> None:
    assert made().name == name


def test_a_module_is_written_down_with_its_code_apart() -> None:
    module = torch.nn.Linear(64, 512)
    model = refitd.Module("m", preprocess=torch.tensor, object=module, postprocess=len, fit_kwargs={"loss": abs})
    written = model.document()
    assert written["trainer"] == "torch"
    assert written["object"] == {
        "module": Custom(module),
        "preprocess": Custom(torch.tensor),
        "postprocess": Custom(len),
    }
    assert written["fit_kwargs"] == {"loss": Custom(abs)}


def test_a_directory_is_written_down_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "my-bert").mkdir()
    monkeypatch.chdir(tmp_path)
    for given in ("./my-bert", Path("my-bert")):
        model = refitd.Pipeline("m", task="text-classification", model=given)
        assert model.document()["object"]["model"] == str(tmp_path / "my-bert")
    assert refitd.Pipeline("m", task="ner", model="a/b").document()["object"]["model"] == "a/b"


@pytest.mark.parametrize(
    "wrong",
    [
        lambda: refitd.Module(),
        lambda: refitd.Module("name alone"),
        lambda: refitd.Pipeline(),
        lambda: refitd.Pipeline(5, task="ner"),
        lambda: refitd.Estimator(torch.nn.Linear(1, 1)),
    ],
)
def test_what_makes_no_model_is_told(wrong: Any) -> None:
    with pytest.raises((TypeError, refitd.RefitdError)):
        wrong()


def test_a_module_fits_arrays() -> None:
    X = np.random.default_rng(0).normal(size=(400, 4))
    y = np.where(X[:, 0] > 0, "yes", "no")
    model = refitd.Module(torch.nn.Linear(4, 2))
    with pytest.raises(refitd.RefitdError, match="was not fitted"):
        model.predict(X)
    model.fit(X, y, max_epochs=30, optimizer_kwargs={"lr": 0.05})
    assert (model.predict(X) == y).mean() > 0.95
    assert isinstance(model.fitted, torch.nn.Module)


def test_faults_on_arrays_are_told_at_once() -> None:
    model = refitd.Module(torch.nn.Linear(4, 2))
    with pytest.raises(refitd.DocumentInvalid, match=r"max_epoch.*`max_epochs`") as caught:
        model.fit(np.zeros((3, 4)), [0, 1, 1], max_epoch=3, batch_sise=5)
    assert len(caught.value.faults) == 2
    with pytest.raises(refitd.RowsUnusable, match="differ in length"):
        model.fit(np.zeros((3, 4)), [0, 1])


def test_a_pipeline_fits_texts(tmp_path: Path) -> None:
    folder = bert(tmp_path, auto="AutoModelForSequenceClassification", labels=("bad", "good"))
    texts = [f"the film was {word}" for word in (*GOOD, *BAD)] * 8
    moods = (["good"] * len(GOOD) + ["bad"] * len(BAD)) * 8
    model = refitd.Pipeline(task="sentiment-analysis", model=folder)
    model.fit(texts, moods, num_train_epochs=20, learning_rate=0.01)
    assert list(model.predict(texts)) == moods
