"""The README's Python, run as printed against a real server with a daemon beside it."""

from __future__ import annotations

import random
import re
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from pymongo.database import Database

from listener.daemon import Daemon, DaemonOptions
from registry.mongo_selects import MongoSelects
from registry.trust import Trust
from trainers.check import check_document

README = Path(__file__).parents[2] / "README.md"
ADDRESS = "mongodb://localhost:27017/shop?replicaSet=rs0"


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", README.read_text(), re.DOTALL | re.MULTILINE)


@pytest.fixture
def daemon(mongo_uri: str) -> Iterator[Daemon]:
    """What `refitd up` would run beside the reader's own Python."""
    daemon = Daemon(DaemonOptions(datastore=mongo_uri, compute="local"))
    thread = threading.Thread(target=daemon.run)
    thread.start()
    yield daemon
    daemon.stop()
    thread.join(15)
    assert not thread.is_alive()


def customers(count: int) -> list[dict[str, Any]]:
    dice = random.Random(7)
    rows = []
    for number in range(count):
        age, income = dice.randint(18, 90), dice.randint(8_000, 120_000)
        churned = (age < 40) == (income < 50_000)
        rows.append({"age": age, "income": income, "churned": churned, "weight": dice.random() + 0.1,
                     "country": "DE" if number % 2 else "AT"})  # fmt: skip
    return rows


def test_the_python_runs_as_printed(
    mongo_uri: str, mongo: Database[dict[str, Any]], daemon: Daemon, capsys: pytest.CaptureFixture[str]
) -> None:
    mongo.customers.insert_many(customers(200))
    python = blocks("python")
    assert len(python) >= 2
    names: dict[str, Any] = {}
    for number, block in enumerate(python):
        source = block.replace(ADDRESS, mongo_uri)
        assert "localhost" not in source  # every address is the one that this test replaces
        exec(compile(source, f"README.md, block {number + 1}", "exec"), names)
    printed = capsys.readouterr().out
    assert "1 [" in printed  # the version that `fit` published, and its prediction
    assert "'inserts': 0" in printed  # the reason of a version
    assert mongo["refitd.models"].find_one({"_id": "churn"}, {"status.state": 1}) is not None
    assert {row["model"] for row in names["db"].models()} == {"churn", "churn-at", "churn-all"}


def test_the_document_is_valid() -> None:
    (document,) = (yaml.safe_load(block) for block in blocks("yaml"))
    checked = check_document(document, Trust(), MongoSelects())
    assert checked.id == "churn"
    assert checked.retrain.max_wait == 60
