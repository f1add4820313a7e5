"""Rows, labels and metrics of the transformers trainer, one by one."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from sklearn import metrics as sk

from registry.errors import ArtifactCorrupt, RowsUnusable, TrainingFailed
from tests.fixtures.tiny_transformers import document, rows, sayings, tokenizer
from trainers.transformers_asked import columns_of
from trainers.transformers_encoding import IGNORED, Encoder
from trainers.transformers_goal import Goal, goal_of, with_head
from trainers.transformers_metrics import _KNOWN, Answers, compute
from trainers.transformers_rows import BlockSampler, TextRows, survey
from trainers.transformers_tasks import TASKS, Kind

MOODS = Goal(Kind.LABEL, ("negative", "positive"))
OF = document("./model")


def survey_of(columns: dict[str, Any], task: str = "text-classification", **fields: Any) -> Goal:
    return survey(document("./model", task, **fields), TASKS[task], rows(columns))


def test_rows_are_encoded_as_they_are_asked_for() -> None:
    columns = sayings(200)
    for given in (rows(columns), rows(columns, memory=1).choose(np.arange(200))):
        dataset = TextRows(given, OF, Encoder(tokenizer(), MOODS, 16))
        places = [150, 3, 3, 77]
        found = dataset.__getitems__(places)
        expected = tokenizer()([columns["text"][at] for at in places])["input_ids"]
        assert [row["input_ids"] for row in found] == expected
        assert [row["labels"] for row in found] == [at % 2 for at in places]
        assert dataset[3] == found[1]
        assert len(dataset) == 200


def test_a_sampler_gives_each_row_once_in_another_order_each_epoch() -> None:
    given = rows(sayings(500))
    sampler = BlockSampler(given, 7)
    first = list(sampler)
    assert first == list(sampler)
    sampler.set_epoch(1)
    assert sorted(first) == sorted(sampler) == list(range(500))
    assert first != list(sampler)
    assert first != list(BlockSampler(given, 8))
    assert list(BlockSampler(given, 7, shuffle=False)) == list(range(500))


@pytest.mark.parametrize(
    ("values", "goal"),
    [
        (["b", "a", "b"], Goal(Kind.LABEL, ("a", "b"))),
        ([2, 1, 10], Goal(Kind.LABEL, (1, 2, 10))),
        ([True, False, True], Goal(Kind.LABEL, (False, True))),
        ([2.0, 1.0, 1.0], Goal(Kind.LABEL, (1.0, 2.0))),
        ([2.0, 1.5, 1.0], Goal(Kind.NUMBER)),
        ([["x"], [], ["y", "x"]], Goal(Kind.LABELS, ("x", "y"))),
    ],
)
def test_what_there_is_to_learn_is_seen_in_the_rows(values: Any, goal: Goal) -> None:
    assert survey_of({"text": ["a", "b", "c"], "mood": values}) == goal
    assert Goal.from_json(goal.as_json()) == goal


@pytest.mark.parametrize(
    ("task", "columns", "said"),
    [
        ("text-regression", {"mood": ["a", "b"]}, "`mood` holds string, and text-regression learns numbers"),
        ("token-classification", {"mood": ["a", "b"]}, "`text` holds string, and a list of texts is needed"),
        ("text-classification", {"mood": [["a", None], ["b"]]}, "`mood` is missing in 1 of 2 rows"),
        ("text-classification", {"mood": [[1], [2]]}, "a list of texts is needed in each row"),
        ("text-classification", {"mood": [None, None]}, "no row has a field `mood`"),
        ("text-classification", {"mood": [[], []]}, "`mood` has no label in any row"),
    ],
)
def test_rows_that_do_not_fit_the_task(task: str, columns: dict[str, Any], said: str) -> None:
    with pytest.raises(RowsUnusable, match=said):
        survey_of({"text": ["a", "b"], **columns}, task)


def test_the_documents_labels_are_all_there_are() -> None:
    assert goal_of(Kind.LABEL, {"a"}, ["b", "a"], "y") == Goal(Kind.LABEL, ("b", "a"))
    with pytest.raises(RowsUnusable, match=r"`y` has labels that `object\.labels` doesn't name: 'c'; add them"):
        goal_of(Kind.LABEL, {"a", "c"}, ["b", "a"], "y")


@pytest.mark.parametrize(
    ("labels", "names", "found"),
    [
        (("negative", "positive"), {0: "POSITIVE", 1: "NEGATIVE"}, ("positive", "negative")),
        ((0, 1, 2), {0: "LABEL_0", 1: "LABEL_1", 2: "LABEL_2"}, (0, 1, 2)),
        (("a", "b"), {0: "LABEL_0", 1: "LABEL_1"}, None),
        (("a", "b"), {0: "a", 1: "b", 2: "c"}, None),
        (("a", "A"), {0: "a", 1: "A"}, None),
        ((), {0: "a", 1: "A"}, None),
        (("a", "b"), None, None),
    ],
)
def test_a_head_that_knows_the_labels(labels: tuple[Any, ...], names: Any, found: tuple[Any, ...] | None) -> None:
    head = with_head(Goal(Kind.LABEL, labels), names, ordered=False)
    assert (head.labels if head else None) == found
    if found is not None and found != labels:
        assert with_head(Goal(Kind.LABEL, labels), names, ordered=True) is None


def test_tags_stand_at_the_first_token_of_a_word() -> None:
    encoder = Encoder(tokenizer(), Goal(Kind.TAGS, ("O", "PER")), 6)
    row = encoder.encode([[["john", "lives in", "a", "film", "play"]]], [["PER", "O", "O", "PER", "O"]], learn=True)[0]
    assert row["labels"] == [IGNORED, 1, 0, IGNORED, 0, IGNORED]
    assert encoder.first_tokens([["john", "lives in", "a", "film", "play"]]) == [[1, 2, 4, None, None]]
    batch = encoder.collate([row, encoder.encode([[["john"]]], [["new"]], learn=True)[0]])
    assert batch["labels"].tolist()[1] == [IGNORED] * 6, "a tag that was not learned counts for nothing"


def test_a_batch_is_as_wide_as_its_longest_row() -> None:
    encoder = Encoder(tokenizer(), MOODS, 8)
    batch = encoder.collate(encoder.encode([["good", "the film was bad"]], ["positive", "new"], learn=True))
    assert batch["input_ids"].shape == (2, 6)
    assert batch["attention_mask"].sum(1).tolist() == [3, 6]
    assert batch["labels"].tolist() == [1, IGNORED]
    assert encoder.collate(encoder.encode([["a " * 50]], None))["input_ids"].shape == (1, 8)


TRUTH, SAID = list("aabbbc"), list("aabbab")
SCORES = np.array(
    [[0.8, 0.1, 0.1], [0.5, 0.3, 0.2], [0.1, 0.8, 0.1], [0.2, 0.5, 0.3], [0.6, 0.3, 0.1], [0.3, 0.4, 0.3]]
)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("accuracy", 4 / 6),
        ("balanced_accuracy", sk.balanced_accuracy_score(TRUTH, SAID)),
        ("f1_macro", sk.f1_score(TRUTH, SAID, average="macro")),
        ("precision_weighted", sk.precision_score(TRUTH, SAID, average="weighted", zero_division=0)),
        ("recall_micro", 4 / 6),
        ("neg_log_loss", -sk.log_loss(TRUTH, SCORES)),
    ],
)
def test_metrics_of_labels(name: str, value: float) -> None:
    assert compute(Kind.LABEL, Answers(TRUTH, SAID, "abc", SCORES), [name]) == {name: pytest.approx(value)}


def test_metrics_of_tags_leave_out_what_is_nothing() -> None:
    answers = Answers(["O", "O", "PER", "LOC"], ["O", "PER", "PER", "O"])
    found = compute(Kind.TAGS, answers, ["accuracy", "precision_micro", "recall_micro", "f1_macro"])
    assert found == {"accuracy": 0.5, "precision_micro": 0.5, "recall_micro": 0.5, "f1_macro": pytest.approx(1 / 3)}
    assert compute(Kind.TAGS, Answers(["O"], ["O"]), ["f1_macro"]) == {"f1_macro": 1.0}


def test_every_metric_of_every_kind_has_a_value() -> None:
    numbers, matrix = np.array([1.0, 2.0, 4.0]), np.array([[0, 1], [1, 1], [0, 1]])
    answers = {
        Kind.LABEL: Answers(TRUTH, SAID, "abc", SCORES),
        Kind.LABELS: Answers(matrix, matrix),
        Kind.NUMBER: Answers(numbers, numbers + 0.5),
        Kind.TAGS: Answers(TRUTH, SAID),
        Kind.TEXT: Answers(None, math.log(2)),
    }
    for kind, names in _KNOWN.items():
        found = compute(kind, answers[kind], names)
        assert found.keys() == set(names)
        assert compute(kind, answers[kind], []).keys() == {names[0]}
    assert compute(Kind.TEXT, answers[Kind.TEXT], ["neg_perplexity"]) == {"neg_perplexity": pytest.approx(-2)}
    assert compute(Kind.NUMBER, answers[Kind.NUMBER], ["neg_root_mean_squared_error"]) == {
        "neg_root_mean_squared_error": pytest.approx(-0.5)
    }


@pytest.mark.parametrize(
    ("name", "answers", "said"),
    [
        ("r2", Answers([1.0, 2.0], [1.0, math.nan]), "the metric `r2` can't be computed: Input contains NaN"),
        ("accuracy", Answers([1.0], [1.0]), "`accuracy` is no metric of a model that learned a number"),
    ],
)
def test_metrics_that_have_no_value_are_told(name: str, answers: Answers, said: str) -> None:
    with pytest.raises(TrainingFailed, match=said):
        compute(Kind.NUMBER, answers, [name])


@pytest.mark.parametrize("raw", [None, [], {}, {"kind": "x", "labels": []}, {"kind": "label", "labels": [None]}])
def test_a_goal_that_cannot_be_read_is_told(raw: Any) -> None:
    with pytest.raises(ArtifactCorrupt):
        Goal.from_json(raw)


@pytest.mark.parametrize(
    ("asked", "words", "found"),
    [
        ("a b", False, [["a b"]]),
        ("a b", True, [[["a", "b"]]]),
        (["a", "b"], False, [["a", "b"]]),
        (np.array(["a", "b"]), False, [["a", "b"]]),
        ([["a", "b"], ["c"]], True, [[["a", "b"], ["c"]]]),
        ({"text": "a"}, False, [["a"]]),
        ([{"text": ["a", "b"]}], True, [[["a", "b"]]]),
        (pa.table({"text": ["a"], "more": [1]}), False, [["a"]]),
    ],
)
def test_what_users_hand_to_predict(asked: Any, words: bool, found: list[Any]) -> None:
    assert columns_of(asked, ["text"], words=words) == found


def test_what_users_hand_to_predict_for_pairs() -> None:
    expected = [["a", "c"], ["b", "d"]]
    assert columns_of([("a", "b"), ("c", "d")], ["x", "y"], words=False) == expected
    assert columns_of([{"y": "b", "x": "a"}, {"x": "c", "y": "d"}], ["x", "y"], words=False) == expected
    assert columns_of(np.array([["a", "b"], ["c", "d"]]), ["x", "y"], words=False) == expected
    with pytest.raises(RowsUnusable, match="2 texts a row are needed"):
        columns_of(np.array(["a", "b"]), ["x", "y"], words=False)
