"""Must show: the snippets of the page that users come from run as they are printed there, on each kind of datastore."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.fixtures.daemon import Daemons
from tests.fixtures.datastores import ONE_OF_EACH, Datastore
from tests.fixtures.hub import tiny_hub
from tests.fixtures.servers import ROOT
from tests.fixtures.tiny_transformers import BAD, GOOD

pytestmark = pytest.mark.parametrize("kind", ONE_OF_EACH, indirect=True)

SCRIPT = Path(__file__).parent / "scripts" / "snippets.py"
NUMBERS = "id bigint PRIMARY KEY, input double precision[], label text, weight double precision"
TEXTS = "id bigint PRIMARY KEY, text text, label text"


def fill(store: Datastore) -> dict[str, object]:
    """Rows of vectors and of texts, each with a label that they tell; the selects of them."""
    numbers, texts = store.table("numbers"), store.table("texts")
    numbers.make(columns=NUMBERS)
    texts.make(columns=TEXTS)
    numbers.insert(
        *(
            {"id": n, "input": [float(n % 2)] * 64, "label": "odd" if n % 2 else "even", "weight": 1.0}
            for n in range(200)
        )
    )
    texts.insert(
        *(
            {"id": n, "text": f"the film was {(GOOD, BAD)[n % 2][n % 4]}", "label": ("POSITIVE", "NEGATIVE")[n % 2]}
            for n in range(40)
        )
    )
    return {
        "numbers": store.select("numbers", fields=["id", "input", "label", "weight"]),
        "texts": store.select("texts", fields=["id", "text", "label"]),
    }


@pytest.mark.timeout(400)
def test_the_snippets_run_word_for_word(datastore: Datastore, daemons: Daemons, tmp_path: Path) -> None:
    env = {**tiny_hub(tmp_path), "REFITD_SIGNING_KEY": "a key of the operator's"}
    daemons(env=env).start()
    selects = fill(datastore)
    done = subprocess.run(
        [sys.executable, str(SCRIPT), datastore.uri, json.dumps(selects)],
        cwd=tmp_path,
        env={**os.environ, **env, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-4000:]
    said = json.loads(done.stdout.splitlines()[-1])
    assert said["procedural"] == said["declarative"] == said["svc"] == 1
    version, sentiments = said["sentiment-analysis"]
    assert version == 1
    assert set(sentiments) <= {"POSITIVE", "NEGATIVE"}
    version, (score,) = said["my-classifier"]
    assert version == 1
    assert isinstance(score, float)
    assert said["again"] == pytest.approx([score])
    assert said["models"] == ["churn", "declarative", "my-classifier", "procedural", "sentiment-analysis", "svc"]
    assert said["versions"][-1] == 1
