"""The PyTorch trainer: fit, evaluate, save, load and predict, for each kind of target."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
import torch
from sklearn.datasets import load_digits
from torch import nn

from registry.document import ModelDocument
from registry.errors import RowsUnusable, TrainingFailed
from tests.fixtures.training import TRUST, KeptCheckpoints, Recorder, Shelf, loader, rows_of, said, training
from trainers.evaluation import split
from trainers.rows import KEY
from trainers.torch import TorchTrainer
from trainers.torch_module import FittedModule
from trainers.torch_object import TorchObject

TRAINER = TorchTrainer()
ROWS = 200
QUICK = {"max_epochs": 20, "optimizer_kwargs": {"lr": 0.05}}


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    """So small fits only lose by threads, most of all where other tests run beside them."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def linear(inputs: int, outputs: int) -> dict[str, Any]:
    return {"class": "torch.nn.Linear", "params": [inputs, outputs]}


def table(**columns: Any) -> pa.Table:
    """Rows whose two numbers tell their sign, their word and their sum."""
    rng = np.random.default_rng(0)
    a, b = rng.normal(size=ROWS), rng.normal(size=ROWS)
    own = {
        "a": a,
        "b": b,
        "both": list(np.column_stack([a, b])),
        "word": np.where(a + b > 0, "up", "down"),
        "third": np.digitize(a, [-0.5, 0.5]),
        "sum": 2 * a - b + 0.25,
    }
    return pa.table({KEY: np.arange(ROWS, dtype=np.uint64)} | own | columns)


def document(form: Any, shelf: Shelf | None = None, **fields: Any) -> ModelDocument:
    shelf = shelf or Shelf()
    form = form if isinstance(form, dict) else TRAINER.describe(form)
    raw = {"_id": "m", "trainer": "torch", "object": form, "training_select": "rows", "train_X": ["a", "b"]} | fields
    raw["fit_kwargs"] = shelf.signed(TRAINER.describe_keywords(raw.get("fit_kwargs", QUICK)))
    parsed = ModelDocument.parse(raw | {"object": shelf.signed(raw["object"])})
    assert TRAINER.check(parsed, TRUST) == []
    return parsed


class Never(KeptCheckpoints):
    """No checkpoints: they would take longer than these fits."""

    def due(self) -> bool:
        return False


def fit(of: ModelDocument, rows: pa.Table | None = None, **more: Any) -> FittedModule:
    more = {"checkpoints": Never()} | more
    fitted = TRAINER.fit(training(of, rows if rows is not None else table(), **more))
    assert isinstance(fitted, FittedModule)
    return fitted


def again(of: ModelDocument, fitted: FittedModule, shelf: Shelf | None = None) -> FittedModule:
    """What somebody else loads."""
    data = TRAINER.save(fitted)
    found = TRAINER.load(data, of, TRUST, loader(TRUST, shelf))
    assert isinstance(found, FittedModule)
    assert TRAINER.save(found) == data
    return found


# --- targets ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "labels", [("down", "up"), (False, True), (0, 1), (-1, 1), (7, 9), (0.0, 1.0)], ids=lambda each: str(each[1])
)
@pytest.mark.parametrize("outputs", [1, 2])
def test_two_classes_of_any_type_come_back(labels: tuple[Any, Any], outputs: int) -> None:
    rows = table()
    given = [labels[each == "up"] for each in rows.column("word").to_pylist()]
    rows = rows.append_column("y", pa.array(given))
    of = document(linear(2, outputs), train_y="y")
    fitted = again(of, fit(of, rows))
    assert TRAINER.evaluate(of, fitted, rows_of(rows), ["accuracy", "roc_auc"]) == {
        "accuracy": pytest.approx(1, abs=0.05),
        "roc_auc": pytest.approx(1, abs=0.01),
    }
    said = TRAINER.predict(of, fitted, [{"a": -3.0, "b": -3.0}, {"a": 3.0, "b": 3.0}]).tolist()
    assert said == list(labels)
    assert [type(each) for each in said] == [type(each) for each in labels]
    assert fitted.detail["classes"] == list(labels)


def test_whole_numbers_are_classes_where_the_module_scores_them() -> None:
    of = document(linear(2, 3), train_y="third")
    fitted = fit(of)
    assert fitted.target.classes == (0, 1, 2)
    assert TRAINER.evaluate(of, fitted, rows_of(table()), [])["accuracy"] > 0.8
    metrics = ["f1_macro", "neg_log_loss", "balanced_accuracy", "roc_auc_ovr", "loss", "neg_loss"]
    values = TRAINER.evaluate(of, fitted, rows_of(table()), metrics)
    assert list(values) == metrics
    assert values["neg_log_loss"] == pytest.approx(-values["loss"], abs=1e-4)


def test_whole_numbers_are_numbers_where_the_module_gives_one() -> None:
    of = document(linear(2, 1), train_y="third")
    fitted = fit(of)
    assert fitted.target.kind == "numbers"
    assert TRAINER.predict(of, fitted, [{"a": 0, "b": 0}]).dtype == np.float32


def test_numbers_are_learned_with_mean_squares() -> None:
    of = document(linear(2, 1), train_y="sum")
    fitted = again(of, fit(of))
    values = TRAINER.evaluate(of, fitted, rows_of(table()), ["r2", "neg_mean_squared_error", "loss"])
    assert values["r2"] > 0.99
    assert values["loss"] == pytest.approx(-values["neg_mean_squared_error"], rel=1e-3)
    np.testing.assert_allclose(TRAINER.predict(of, fitted, [[1.0, 1.0], [0.0, 1.0]]), [1.25, -0.75], atol=0.1)
    assert TRAINER.evaluate(of, fitted, rows_of(table()), []).keys() == {"r2"}


def test_several_targets_and_vectors_are_rows_of_numbers() -> None:
    several = document(linear(2, 2), train_y=["sum", "a"])
    vector = document(linear(2, 2), train_X=["a", "b"], train_y="both")
    assert TRAINER.predict(several, fit(several), [{"a": 1, "b": 1}]) == pytest.approx(np.array([[1.25, 1]]), abs=0.2)
    assert TRAINER.predict(vector, fit(vector), [{"a": 1, "b": 2}]) == pytest.approx(np.array([[1, 2]]), abs=0.2)


def test_without_a_target_an_equal_output_is_trained_to_be_the_input() -> None:
    of = document(linear(2, 2), train_X="both")
    fitted = fit(of)
    assert fitted.target.kind == "input"
    assert TRAINER.predict(of, fitted, [[1.0, 2.0]]) == pytest.approx(np.array([[1, 2]]), abs=0.2)
    assert TRAINER.evaluate(of, fitted, rows_of(table()), [])["neg_loss"] > -0.05


def test_without_a_target_scores_part_the_rows_into_clusters() -> None:
    far = np.repeat([[-4.0, -4.0], [4.0, 4.0]], ROWS // 2, axis=0)
    near = far + np.random.default_rng(1).normal(size=far.shape)
    of = document(linear(2, 3), train_X="both")
    rows = table().drop_columns("both").append_column("both", pa.array(near.tolist()))
    said = TRAINER.predict(of, fit(of, rows), near.tolist())
    assert set(said[: ROWS // 2]).isdisjoint(said[ROWS // 2 :])
    assert fit(of, rows).target.kind == "information"


def test_fewer_outputs_than_classes_are_told() -> None:
    of = document(linear(2, 2), train_y="third")
    with pytest.raises(TrainingFailed, match=r"the module gives 2 outputs, but y has 3 classes: 0, 1, 2; let its last"):
        fit(of)
    with pytest.raises(TrainingFailed, match=r"the module gives 1 output, but y has 3 classes: go, stay, wait"):
        fit(document(linear(2, 1), train_y="w"), table(w=["go", "stay", "wait", "go"] * (ROWS // 4)))


def test_other_outputs_than_numbers_are_told_instead_of_spread() -> None:
    with pytest.raises(TrainingFailed, match="gives 3 numbers for each row, but y has 1 number"):
        fit(document(linear(2, 3), train_y="sum"))


def test_a_class_that_was_not_trained_on_counts_as_an_error() -> None:
    of = document(linear(2, 2), train_y="word")
    fitted = fit(of)
    other = table(word=["sideways"] * ROWS)
    assert TRAINER.evaluate(of, fitted, rows_of(other), ["accuracy"]) == {"accuracy": 0.0}
    held = pa.concat_tables([table(), other])
    assert TRAINER.evaluate(of, fitted, rows_of(held), ["loss"])["loss"] < 1


# --- losses -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "loss",
    [
        "CrossEntropyLoss",
        "torch.nn.CrossEntropyLoss",
        "torch.nn.functional.cross_entropy",
        {"class": "CrossEntropyLoss", "params": {"label_smoothing": 0.01, "weight": [1.0, 2.0]}},
        "MultiMarginLoss",
        nn.CrossEntropyLoss,
        nn.functional.cross_entropy,
    ],
    ids=lambda loss: getattr(loss, "__name__", str(loss)),
)
def test_a_loss_of_classes_gets_their_numbers(loss: Any) -> None:
    of = document(linear(2, 2), train_y="word", fit_kwargs=QUICK | {"loss": loss})
    assert TRAINER.evaluate(of, fit(of), rows_of(table()), ["accuracy"])["accuracy"] > 0.9


def test_a_loss_of_one_probability_takes_two_classes() -> None:
    sigmoid = {"class": "torch.nn.Sequential", "params": [linear(2, 1), {"class": "torch.nn.Sigmoid"}]}
    of = document(sigmoid, train_y="word", fit_kwargs=QUICK | {"loss": "BCELoss"})
    fitted = again(of, fit(of))
    assert TRAINER.evaluate(of, fitted, rows_of(table()), ["accuracy"])["accuracy"] > 0.9
    assert TRAINER.predict(of, fitted, [[-3.0, -3.0], [3.0, 3.0]]).tolist() == ["down", "up"]


def test_a_loss_of_numbers_makes_numbers_of_classes() -> None:
    of = document(linear(2, 1), train_y="third", fit_kwargs=QUICK | {"objective": "SmoothL1Loss"})
    assert TRAINER.evaluate(of, fit(of), rows_of(table()), ["r2"])["r2"] > 0.7


def test_a_loss_of_the_users_takes_outputs_and_y() -> None:
    shelf = Shelf()
    keywords = QUICK | {"loss": lambda outputs, y: ((outputs[:, 0] - y) ** 2).mean()}
    of = document(linear(2, 1), shelf, train_y="sum", fit_kwargs=keywords)
    fitted = fit(of, shelf=shelf)
    assert TRAINER.evaluate(of, fitted, rows_of(table()), ["r2"])["r2"] > 0.99


def test_a_loss_of_the_users_takes_outputs_alone_without_y() -> None:
    shelf = Shelf()
    of = document(linear(2, 1), shelf, fit_kwargs=QUICK | {"loss": lambda outputs: (outputs - 3).abs().mean()})
    fitted = fit(of, shelf=shelf)
    assert TRAINER.predict(of, fitted, [[0.0, 0.0]]) == pytest.approx(3, abs=0.3)


def test_a_loss_that_gives_no_number_is_told() -> None:
    shelf = Shelf()
    of = document(linear(2, 1), shelf, fit_kwargs={"loss": lambda outputs: outputs[:, 0]})
    with pytest.raises(TrainingFailed, match=r"the loss gives \(32,\), where training needs one number"):
        fit(of, shelf=shelf)


# --- what is done with rows ------------------------------------------------------------------------------------


def test_the_snippet_of_the_documentation() -> None:
    shelf = Shelf()
    model = TorchObject(
        preprocess=lambda x: torch.tensor(x),
        object=torch.nn.Linear(64, 512),
        postprocess=lambda x: x.topk(1)[0].item(),
    )
    rows = pa.table({KEY: np.arange(250, dtype=np.uint64), "x": list(np.random.default_rng(0).normal(size=(250, 64)))})
    of = document(model, shelf, train_X="x", fit_kwargs={"batch_size": 100, "num_workers": 4, "max_epochs": 2})
    fitted = again(of, fit(of, rows, shelf=shelf), shelf)
    found = TRAINER.predict(of, fitted, rows.column("x").to_pylist()[:3])
    assert [type(each) for each in found] == [float, float, float]


def test_preprocess_gets_a_mapping_of_several_fields() -> None:
    shelf = Shelf()
    model = TorchObject(nn.Linear(2, 2), lambda row: torch.tensor([row["a"], float(len(row["name"]))]))
    of = document(model, shelf, train_X=["a", "name"], train_y="word")
    rows = table(name=["long name" if each == "up" else "x" for each in table().column("word").to_pylist()])
    fitted = again(of, fit(of, rows, shelf=shelf), shelf)
    assert TRAINER.evaluate(of, fitted, rows_of(rows), [])["accuracy"] > 0.9
    assert TRAINER.predict(of, fitted, {"a": 0.0, "name": "another name"}).tolist() == ["up"]


def test_preprocess_gets_none_for_what_is_missing() -> None:
    shelf = Shelf()
    model = TorchObject(nn.Linear(1, 1), lambda a: torch.tensor([0.0 if a is None else a]))
    of = document(model, shelf, train_X="a", train_y="sum")
    rows = table(a=[None, *table().column("a").to_pylist()[1:]])
    assert TRAINER.predict(of, fit(of, rows, shelf=shelf), [None]).shape == (1,)


def test_a_module_as_preprocess_is_stored_with_its_weights() -> None:
    shelf = Shelf()
    form = {"module": linear(4, 1), "preprocess": linear(2, 4)}
    of = document(form, shelf, train_X="both", train_y="sum", fit_kwargs={"max_epochs": 1})
    fitted = fit(of, shelf=shelf)
    found = again(of, fitted, shelf)
    rows = [[1.0, 2.0], [3.0, 4.0]]
    np.testing.assert_array_equal(TRAINER.predict(of, found, rows), TRAINER.predict(of, fitted, rows))


def test_collate_fn_makes_batches_of_rows_of_different_lengths() -> None:
    shelf = Shelf()

    def padded(samples: list[Any]) -> Any:
        xs, ys = zip(*samples, strict=True)
        return torch.nn.utils.rnn.pad_sequence(list(xs), batch_first=True).sum(1, keepdim=True), torch.stack(ys)

    lists = [[1.0] * (1 + row % 4) for row in range(ROWS)]
    rows = table(v=lists, n=[float(len(each)) + 0.5 for each in lists])
    model = TorchObject(nn.Linear(1, 1), lambda x: torch.tensor(x))
    of = document(model, shelf, train_X="v", train_y="n", fit_kwargs=QUICK | {"collate_fn": padded})
    fitted = fit(of, rows, shelf=shelf)
    assert TRAINER.evaluate(of, fitted, rows_of(rows), ["r2"])["r2"] > 0.9


def test_target_preprocessors_make_what_the_loss_takes() -> None:
    shelf = Shelf()
    keywords = QUICK | {
        "target_preprocessors": {"word": lambda word: 1.0 if word == "up" else 0.0},
        "loss": lambda outputs, y: ((outputs[:, 0].sigmoid() - y) ** 2).mean(),
    }
    of = document(linear(2, 1), shelf, train_y="word", fit_kwargs=keywords)
    fitted = fit(of, shelf=shelf)
    assert (TRAINER.predict(of, fitted, [[3.0, 3.0], [-3.0, -3.0]])[:, 0] > 0).tolist() == [True, False]


def test_a_failing_function_is_told_with_what_it_was_given() -> None:
    shelf = Shelf()
    of = document(TorchObject(nn.Linear(1, 1), lambda x: x.no_such), shelf, train_X="a", train_y="sum")
    with pytest.raises(TrainingFailed, match=r"`preprocess` raised AttributeError.*no_such.*given -?\d"):
        fit(of, shelf=shelf)


def test_images_are_nested_lists() -> None:
    digits = load_digits()
    images = [[image.tolist()] for image in digits.images]
    rows = pa.table({KEY: np.arange(len(images), dtype=np.uint64), "image": images, "digit": digits.target})
    cnn = {
        "class": "torch.nn.Sequential",
        "params": {
            "args": [
                {"class": "torch.nn.Conv2d", "params": {"in_channels": 1, "out_channels": 16, "kernel_size": [3, 3]}},
                {"class": "torch.nn.ReLU"},
                {"class": "torch.nn.MaxPool2d", "args": [2]},
                {"class": "torch.nn.Flatten"},
                {"class": "torch.nn.LazyLinear", "params": [10]},
            ]
        },
    }
    of = document(cnn, train_X="image", train_y="digit", fit_kwargs={"optimizer_kwargs": {"lr": 0.003}})
    whole = rows_of(rows)
    train, held = split(whole.keys(), 0.2)
    fitted = again(of, TRAINER.fit(training(of, whole.choose(train), checkpoints=Never())))  # type: ignore[arg-type]
    assert TRAINER.evaluate(of, fitted, whole.choose(held), [])["accuracy"] > 0.95
    assert TRAINER.predict(of, fitted, images[:4]).tolist() == [0, 1, 2, 3]
    assert TRAINER.predict(of, fitted, images[0]).tolist() == [0]
    assert TRAINER.predict(of, fitted, np.array(images[:2])).tolist() == [0, 1]


def test_an_embedding_gets_whole_numbers() -> None:
    form = {"class": "torch.nn.Sequential", "params": [{"class": "torch.nn.Embedding", "params": [3, 1]}]}
    flat = {"class": "torch.nn.Sequential", "params": [*form["params"], {"class": "torch.nn.Flatten"}]}
    of = document(flat, train_X="third", train_y="sum", fit_kwargs=QUICK)
    assert TRAINER.predict(of, fit(of), [0, 2]).shape == (2,)


# --- predict ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "rows",
    [
        [{"a": 3, "b": 3.0}, {"b": -3, "a": -3, "other": "x"}],
        [[3, 3], [-3, -3]],
        np.array([[3, 3], [-3, -3]]),
        torch.tensor([[3, 3], [-3, -3]]),
        pd.DataFrame({"b": [3, -3], "a": [3, -3], "word": ["?", "?"]}),
        pa.table({"b": [3, -3], "a": [3.0, -3.0]}),
    ],
    ids=["mappings", "lists", "array", "tensor", "frame", "table"],
)
def test_rows_to_predict_come_as_users_write_them(rows: Any) -> None:
    of = document(linear(2, 2), train_y="word")
    assert TRAINER.predict(of, fit(of), rows).tolist() == ["up", "down"]


def test_rows_of_one_vector_field_come_as_users_write_them() -> None:
    of = document(linear(2, 2), train_X="both", train_y="word")
    fitted = fit(of)
    for rows in ([[3, 3], [-3, -3]], [np.array([3, 3]), np.array([-3, -3])], [{"both": [3, 3]}, {"both": [-3, -3]}]):
        assert TRAINER.predict(of, fitted, rows).tolist() == ["up", "down"]
    assert TRAINER.predict(of, fitted, [3, 3]).tolist() == ["up"]
    assert TRAINER.predict(of, fitted, {"both": [-3, -3]}).tolist() == ["down"]


def test_the_whole_row_is_all_but_the_key_and_the_target() -> None:
    of = document(linear(2, 2), train_X="_base", train_y="word", fit_kwargs={"max_epochs": 1})
    fitted = fit(of, table().select([KEY, "a", "word", "b"]))
    assert fitted.inputs.fields == ("a", "b")
    assert TRAINER.fields(of) is None
    assert TRAINER.predict(of, fitted, table()).shape == (ROWS,)


def test_many_rows_are_predicted_as_one_by_one() -> None:
    of = document(linear(2, 1), train_y="sum", fit_kwargs={"batch_size": 8, "max_epochs": 1})
    fitted = fit(of)
    whole = TRAINER.predict(of, fitted, table())
    single = [TRAINER.predict(of, fitted, table().slice(at, 1))[0] for at in range(ROWS)]
    np.testing.assert_allclose(whole, single, rtol=1e-5)


def test_an_unknown_field_is_named() -> None:
    of = document(linear(2, 2), train_y="word", fit_kwargs={"max_epochs": 1})
    with pytest.raises(RowsUnusable, match="no row has a field `b`"):
        TRAINER.predict(of, fit(of), [{"a": 1, "bb": 2}])


# --- rows that can't be used ------------------------------------------------------------------------------------


def test_missing_values_are_counted() -> None:
    gaps = [None, float("nan"), *[1.0] * (ROWS - 2)]
    of = document(linear(2, 2), train_y="word")
    with pytest.raises(RowsUnusable, match=r"`b` is missing in 2 of 200 rows; leave these rows out"):
        fit(of, table(b=pa.array(gaps)))
    with pytest.raises(RowsUnusable, match=r"`word` is missing in 1 of 200 rows"):
        fit(of, table(word=[None, *["up", "down"] * 99, "up"]))


def test_text_needs_a_preprocess() -> None:
    with pytest.raises(RowsUnusable, match="`word` holds text, of which no tensor can be made: give the model a `pre"):
        fit(document(linear(1, 1), train_X="word", train_y="sum"))


def test_vectors_of_different_lengths_are_told() -> None:
    with pytest.raises(RowsUnusable, match="lists of different lengths: 2 in one row, 1 in another"):
        fit(document(linear(2, 1), train_X="both", train_y="sum"), table(both=[[1.0, 2.0]] * (ROWS - 1) + [[1.0]]))


def test_a_shape_that_the_module_does_not_take_is_told() -> None:
    with pytest.raises(TrainingFailed, match=r"can't take a batch of 4×2 \(rows of `a`, `b`\): RuntimeError: mat1 and"):
        fit(document(linear(3, 1), train_y="sum"))


def test_a_loss_that_is_no_number_is_told_with_its_step() -> None:
    of = document(linear(2, 1), train_y="sum", fit_kwargs={"optimizer": "SGD", "optimizer_kwargs": {"lr": 1e30}})
    with pytest.raises(TrainingFailed, match=r"the loss is (inf|nan) at step \d of epoch 1: try a smaller `lr`"):
        fit(of)


def test_what_the_users_module_raises_is_told_with_its_lines() -> None:
    class Broken(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner = nn.Linear(2, 1)

        def forward(self, x: Any) -> Any:
            if self.training:
                raise KeyError("a part of mine")
            return self.inner(x)

    shelf = Shelf()
    of = document(Broken(), shelf, train_y="sum")
    with pytest.raises(
        TrainingFailed, match=r"training raised KeyError: 'a part of mine'\n(.*\n)*.*in forward: raise Key"
    ):
        fit(of, shelf=shelf)


def test_too_few_rows_for_a_full_batch_are_told() -> None:
    of = document(linear(2, 1), train_y="sum", fit_kwargs={"drop_last": True, "batch_size": 500})
    with pytest.raises(
        TrainingFailed, match="`drop_last` leaves no batch: there are 200 rows, and `batch_size` is 500"
    ):
        fit(of)


def test_warnings_are_lines_of_the_log() -> None:
    shelf = Shelf()

    class Warns(nn.Linear):
        def forward(self, x: Any) -> Any:
            import warnings

            warnings.warn("mind the gap", stacklevel=1)
            return super().forward(x)

    report = Recorder()
    fit(document(Warns(2, 1), shelf, train_y="sum"), shelf=shelf, report=report)
    assert said(report) == ["UserWarning: mind the gap"]
