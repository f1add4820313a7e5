"""transformers through the real daemon: a real small model, fine-tuned offline on labelled tweets, and again."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

import refitd
from tests.fixtures.daemon import Daemons
from tests.fixtures.datastores import ONE_OF_EACH, Datastore
from tests.fixtures.tweets import minilm, tweets
from tests.fixtures.waiting import wait_fresh

pytestmark = pytest.mark.parametrize("kind", ONE_OF_EACH, indirect=True)

#: Half of the tweets are of either mood, so who always says one of them is right this often.
MAJORITY = 0.5
MARGIN = 0.15
TWEETS = "id bigint PRIMARY KEY, text text, mood text"
KEYWORDS = {"learning_rate": 3e-4, "per_device_train_batch_size": 16, "num_train_epochs": 1}


def rows(begin: int, end: int) -> list[dict[str, Any]]:
    found = tweets(end)
    return [{"id": n, "text": found[n][0], "mood": found[n][1]} for n in range(begin, end)]


@pytest.mark.timeout(600)
def test_tweets_are_told_better_than_by_the_majority(datastore: Datastore, daemons: Daemons, tmp_path: Path) -> None:
    daemons(env={"HF_HUB_OFFLINE": "1"}).start()
    table = datastore.table("tweets")
    table.make(columns=TWEETS)
    table.insert(*rows(0, 600))
    datastore.documents.insert(
        {
            "_id": "mood",
            "trainer": "transformers",
            "object": {"task": "text-classification", "model": str(minilm()), "max_length": 32},
            "training_select": datastore.select("tweets", fields=["id", "text", "mood"]),
            "train_X": "text",
            "train_y": "mood",
            "fit_kwargs": KEYWORDS,
            "validation": {"split": 0.25, "metrics": ["accuracy", "f1_macro"]},
            "retrain": {"quiet": "0s", "start_from": "live"},
        }
    )
    wait_fresh(datastore, "mood", 1, 240)
    table.insert(*rows(600, 640))
    wait_fresh(datastore, "mood", 2, 240)
    with refitd.connect(datastore.uri) as db:
        newest, first = db.versions("mood")
        assert first["metrics"]["accuracy"] > MAJORITY + MARGIN
        assert newest["metrics"]["accuracy"] > MAJORITY + MARGIN
        assert (newest["rows"], newest["reason"]["inserts"]) == (640, 40)
        model = db.load("mood")
        said = model.predict([row["text"] for row in rows(640, 740)])
        assert set(said) <= {"negative", "positive"}
        model.export(tmp_path / "out")
    plain = _as_any_user_would(tmp_path / "out", [row["text"] for row in rows(640, 740)])
    assert plain == list(said)


def _as_any_user_would(folder: Path, texts: list[str]) -> list[str]:
    """What transformers' own pipeline says, without refitd."""
    import transformers

    assert [path.suffix for path in folder.iterdir() if path.suffix in (".bin", ".pt", ".pkl", ".pth")] == []
    pipeline: Any = transformers.pipeline("text-classification", model=str(folder))
    return [one["label"] for one in pipeline(texts, truncation=True, max_length=32)]
