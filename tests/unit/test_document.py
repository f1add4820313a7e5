"""The model document's shape: all faults at once, each with its path."""

from __future__ import annotations

from typing import Any

import pytest
from bson import Int64
from hypothesis import given
from hypothesis import strategies as st

from registry.document import ModelDocument
from registry.errors import DocumentInvalid, Fault

GOOD: dict[str, Any] = {
    "_id": "churn",
    "trainer": "sklearn",
    "object": {"class": "sklearn.svm.SVC", "params": {"C": 0.05}},
    "training_select": {"collection": "customers", "filter": {"country": "DE"}},
    "train_X": ["age", "income"],
    "train_y": "churned",
}


def faults(**fields: Any) -> dict[str, str]:
    with pytest.raises(DocumentInvalid) as caught:
        ModelDocument.parse({**GOOD, **fields})
    return {fault.path: fault.message for fault in caught.value.faults}


def faults_of(raw: dict[str, Any]) -> tuple[Fault, ...]:
    try:
        ModelDocument.parse(raw)
    except DocumentInvalid as error:
        return error.faults
    return ()


def test_the_smallest_document_and_its_defaults() -> None:
    document = ModelDocument.parse(GOOD)
    assert (document.fields_X, document.fields_y) == (("age", "income"), ("churned",))
    assert (document.retrain.quiet, document.retrain.max_wait, document.timeout) == (1, 30, 3600)
    assert (document.live, document.paused, document.resources.num_cpus) == ("latest", False, 1)


def test_the_daemons_status_is_left_aside() -> None:
    assert ModelDocument.parse({**GOOD, "status": {"state": "fresh"}}) == ModelDocument.parse(GOOD)


def test_all_faults_come_at_once_with_their_paths() -> None:
    found = faults(
        _id=5,
        trainer="",
        train_X=[],
        live="now",
        paused="yes",
        timeout=-1,
        objekt={},
        retrain={"quiet": "1 parsec", "min_change": 3, "schedule": "bad", "min_changes": 0},
        validation={"split": 2, "promote": {"metrik": "x"}},
    )
    assert set(found) == {
        "_id", "trainer", "train_X", "live", "paused", "timeout", "objekt", "retrain.quiet", "retrain.min_change",
        "retrain.schedule", "retrain.min_changes", "validation.split", "validation.promote",
        "validation.promote.metric", "validation.promote.metrik",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("fields", "path", "words"),
    [
        ({"objekt": {}}, "objekt", "did you mean `object`"),
        ({"retrain": {"min_change": 3}}, "retrain.min_change", "did you mean `min_changes`"),
        ({"validation": {"promote": {"metric": "r2", "mim": 1}, "split": 0.1}}, "validation.promote.mim", "`min`"),
        ({"retrain": {"quiet": "1 parsec"}}, "retrain.quiet", "write 500ms, 30s"),
        ({"retrain": {"schedule": "* *"}}, "retrain.schedule", "five fields"),
        ({"validation": {"metrics": ["accuracy"]}}, "validation", "either `split` or `select`"),
        ({"train_X": ["a", "a"]}, "train_X", "twice"),
        ({"_id": "a/b"}, "_id", "slash"),
        ({"live": 0}, "live", "greater than or equal to 1"),
        ({"live": True}, "live", "given: True"),
    ],
)
def test_a_fault_says_what_to_write_instead(fields: dict[str, Any], path: str, words: str) -> None:
    assert words in faults(**fields)[path]


@pytest.mark.parametrize("missing", ["_id", "trainer", "object", "training_select", "train_X"])
def test_what_every_document_needs(missing: str) -> None:
    with pytest.raises(DocumentInvalid) as caught:
        ModelDocument.parse({key: value for key, value in GOOD.items() if key != missing})
    assert [(fault.path, fault.message) for fault in caught.value.faults] == [(missing, "is missing")]


@pytest.mark.parametrize("three", [3, 3.0, Int64(3)])
def test_whole_numbers_count_however_a_client_writes_them(three: Any) -> None:
    document = ModelDocument.parse({**GOOD, "live": three, "retrain": {"min_changes": three}})
    assert (document.live, document.retrain.min_changes) == (3, 3)
    pinned = {**GOOD, "object": {"class": "x", "params": {"k": three}}}
    assert (
        ModelDocument.parse(pinned).spec_hash()
        == ModelDocument.parse({**GOOD, "object": {"class": "x", "params": {"k": 3}}}).spec_hash()
    )


def test_the_spec_hash_follows_what_a_fit_depends_on() -> None:
    base = ModelDocument.parse(GOOD).spec_hash()
    for same in ({"paused": True}, {"live": 2}, {"timeout": 5}, {"retrain": {"quiet": 0}}, {"retrain_now": 1}):
        assert ModelDocument.parse({**GOOD, **same}).spec_hash() == base
    for other in (
        {"object": {"class": "x"}},
        {"train_X": "age"},
        {"train_y": None},
        {"fit_kwargs": {"sample_weight": "w"}},
        {"training_select": {"collection": "other"}},
        {"validation": {"split": 0.1}},
    ):
        assert ModelDocument.parse({**GOOD, **other}).spec_hash() != base


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)


@given(st.dictionaries(st.sampled_from([*GOOD, "retrain", "validation", "live", "resources", "x"]), json_values))
def test_whatever_is_written_is_parsed_or_faulted(fields: dict[str, Any]) -> None:
    assert all(fault.message for fault in faults_of({**GOOD, **fields}))
