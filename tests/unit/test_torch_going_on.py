"""Fits of PyTorch modules that stop, go on, begin from other weights, or are done twice."""

from __future__ import annotations

import random
from collections.abc import Iterator
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import torch
from torch import nn

from registry.document import ModelDocument
from registry.errors import Cancelled, TimeLimit
from tests.fixtures.training import TRUST, KeptCheckpoints, Recorder, Shelf, rows_of, said, training
from trainers import spool
from trainers.rows import KEY
from trainers.torch import TorchTrainer
from trainers.torch_module import FittedModule
from trainers.torch_object import TorchObject
from trainers.torch_state import unpack
from trainers.trainer import Interrupted

TRAINER = TorchTrainer()
ROWS = 160
MLP = {
    "class": "torch.nn.Sequential",
    "params": [
        {"class": "torch.nn.Linear", "params": [2, 8]},
        {"class": "torch.nn.Dropout", "params": [0.2]},
        {"class": "torch.nn.Linear", "params": [8, 1]},
    ],
}


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def table(rows: int = ROWS, **columns: Any) -> pa.Table:
    rng = np.random.default_rng(0)
    a, b = rng.normal(size=rows), rng.normal(size=rows)
    return pa.table({KEY: np.arange(rows, dtype=np.uint64), "a": a, "b": b, "sum": 2 * a - b} | columns)


def document(form: Any = MLP, shelf: Shelf | None = None, **fit_kwargs: Any) -> ModelDocument:
    shelf = shelf or Shelf()
    keywords = {"max_epochs": 4, "batch_size": 16, "optimizer_kwargs": {"lr": 0.01}} | fit_kwargs
    form = form if isinstance(form, dict) else TRAINER.describe(form)
    raw = {"_id": "m", "trainer": "torch", "object": shelf.signed(form), "training_select": "rows"}
    raw |= {"train_X": ["a", "b"], "train_y": "sum"}
    of = ModelDocument.parse(raw | {"fit_kwargs": shelf.signed(TRAINER.describe_keywords(keywords))})
    assert TRAINER.check(of, TRUST) == []
    return of


class Some(KeptCheckpoints):
    """Due after some steps, and never again."""

    def __init__(self, after: int) -> None:
        super().__init__()
        self.after = after

    def due(self) -> bool:
        self.after -= 1
        return self.after == 0


def fit(of: ModelDocument, rows: Any = None, **more: Any) -> FittedModule:
    more = {"checkpoints": Some(0)} | more
    fitted = TRAINER.fit(training(of, rows if rows is not None else table(), **more))
    assert isinstance(fitted, FittedModule)
    return fitted


def weights(fitted: Any) -> list[Any]:
    return [each.numpy().tolist() for each in fitted.model.state_dict().values()]


# --- again ------------------------------------------------------------------------------------------------------


def test_equal_fits_have_equal_weights_and_leave_random_numbers_alone() -> None:
    torch.manual_seed(5)
    random.seed(5)
    expected = torch.rand(3).tolist(), random.random()
    torch.manual_seed(5)
    random.seed(5)
    first = fit(document())
    assert (torch.rand(3).tolist(), random.random()) == expected
    assert weights(first) == weights(fit(document()))
    assert weights(first) != weights(fit(document(seed=1)))


def test_rows_in_a_file_are_trained_on_in_windows(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(spool, "_BLOCK_BYTES", 10_000)
    of = document(max_epochs=2)
    rows = rows_of(table(20_000), memory=1000, chunk=1000)
    assert not rows.in_memory
    assert rows.window < rows.num_rows
    assert TRAINER.evaluate(of, fit(of, rows), rows, ["r2"])["r2"] > 0.9


def test_workers_make_the_same_batches() -> None:
    shelf = Shelf()
    model = TorchObject(nn.Linear(2, 1), lambda row: torch.tensor([row["a"], row["b"]]))
    alone = fit(document(model, shelf, max_epochs=2), shelf=shelf)
    shared = fit(document(model, shelf, max_epochs=2, num_workers=2), shelf=shelf)
    assert weights(alone) == weights(shared)


# --- lost and cancelled -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("after", [3, 10, 14])
@pytest.mark.parametrize(
    "keywords",
    [
        {},
        {"gradient_accumulation": 3, "gradient_clip_norm": 1.0},
        {"scheduler": "OneCycleLR", "scheduler_kwargs": {"max_lr": 0.02}, "optimizer": "SGD"},
        {"scheduler": "ReduceLROnPlateau", "no_improve_then_stop": 3, "validation_interval": 4},
        {"shuffle": False, "precision": "bf16", "max_iterations": 27},
    ],
    ids=["plain", "accumulated", "one-cycle", "plateau", "bf16"],
)
def test_a_lost_fit_goes_on_as_if_it_had_not_been_lost(after: int, keywords: dict[str, Any]) -> None:
    of = document(**keywords)
    held = table(30)
    whole = fit(of, held=held)
    kept = Some(after)
    fit(of, held=held, checkpoints=kept)
    assert kept.data is not None
    state = unpack(kept.data)
    assert state is not None
    report = Recorder()
    going_on = fit(of, held=held, checkpoints=KeptCheckpoints(kept.data), report=report)
    assert said(report) == [f"goes on at step {state['place']['step']}, where an earlier attempt kept a checkpoint"]
    assert weights(going_on) == weights(whole)
    assert going_on.detail == whole.detail


def test_a_checkpoint_that_can_t_be_read_is_told_and_left() -> None:
    report = Recorder()
    spoilt = KeptCheckpoints(b"PK\x03\x04 something else")
    fitted = fit(document(), checkpoints=spoilt, report=report)
    assert said(report) == ["the earlier attempt's checkpoint can't be read; begins at the beginning"]
    assert weights(fitted) == weights(fit(document()))


def test_nothing_in_a_checkpoint_is_run(tmp_path: Any) -> None:
    import io
    import pickle

    canary = tmp_path / "canary"

    class Evil:
        def __reduce__(self) -> Any:
            return open, (str(canary), "w")

    out = io.BytesIO()
    torch.save({"format": "refitd torch checkpoint 1", "module": Evil()}, out)
    for data in (out.getvalue(), pickle.dumps(Evil(), protocol=2)):
        assert unpack(data) is None
    assert not canary.exists()


def test_a_cancelled_fit_hands_over_what_it_has() -> None:
    stop = Cancelled("cancelled: by a test")
    with pytest.raises(Interrupted) as caught:
        fit(document(max_epochs=1000), report=Recorder(stop, after=2))
    assert caught.value.__cause__ is stop
    fitted = caught.value.fitted
    assert isinstance(fitted, FittedModule)
    assert 0 < fitted.detail["steps"] < 10_000
    assert TRAINER.predict(document(), fitted, [[0.0, 0.0]]).shape == (1,)


def test_a_fit_out_of_time_is_none() -> None:
    with pytest.raises(TimeLimit):
        fit(document(max_epochs=1000), report=Recorder(TimeLimit("late"), after=0))


# --- stopping early ---------------------------------------------------------------------------------------------


def test_the_best_weights_are_kept_when_nothing_improves() -> None:
    # A learning rate that grows: after some validations each is worse than the one before.
    keywords: dict[str, Any] = {"scheduler": "ExponentialLR", "scheduler_kwargs": {"gamma": 3.0}}
    held = table(50)
    fitted = fit(document(max_epochs=50, no_improve_then_stop=2, **keywords), held=held)
    best = fitted.detail["best_step"]
    assert fitted.detail["stopped"] == "no better loss in 2 validations"
    assert fitted.detail["steps"] == best + 20 < 500
    assert weights(fitted) == weights(fit(document(max_epochs=50, max_iterations=best, **keywords), held=held))


def test_a_metric_may_be_watched() -> None:
    of = document(max_epochs=30, metrics=["r2"], listen="r2", no_improve_then_stop=1, validation_interval=5)
    report = Recorder()
    fitted = fit(of, held=table(50), report=report)
    assert "best_step" in fitted.detail
    assert report.figures[-1]["val_r2"] is not None


def test_without_rows_held_out_the_training_loss_decides() -> None:
    report = Recorder()
    of = document(max_epochs=60, no_improve_then_stop=1)
    fitted = fit(of, report=report)
    assert said(report) == ["no rows are held out: the training loss decides when nothing improves any more"]
    assert fitted.detail["stopped"] == "no better loss in 1 validations"


def test_metrics_of_the_users_are_reported() -> None:
    shelf = Shelf()
    of = document(MLP, shelf, compute_metrics=lambda said, truth: {"worst": float(abs(said - truth).max())})
    report = Recorder()
    fit(of, held=table(20), shelf=shelf, report=report)
    assert report.figures[-1]["val_worst"] is not None


# --- length and speed -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("keywords", "steps", "epochs"),
    [
        ({"max_epochs": 3}, 30, 3),
        ({"max_epochs": None, "max_iterations": 25}, 25, 3),
        ({"max_epochs": 2, "max_iterations": 100}, 20, 2),
        ({"max_epochs": None}, 100, 10),
        ({"max_epochs": 1, "batch_size": 150}, 2, 1),
        ({"max_epochs": 1, "batch_size": 150, "drop_last": True}, 1, 1),
        ({"max_epochs": None, "max_iterations": 7, "loader_kwargs": {"shuffle": False}}, 7, 1),
    ],
)
def test_a_fit_is_as_long_as_it_is_told(keywords: dict[str, Any], steps: int, epochs: int) -> None:
    report = Recorder()
    fitted = fit(document(**keywords), report=report)
    assert (fitted.detail["steps"], fitted.detail["epochs"]) == (steps, epochs)
    last = report.figures[-1]
    assert (last["step"], last["steps"], last["epoch"], last["epochs"]) == (steps, steps, epochs, epochs)
    assert last["loss"] == fitted.detail["loss"]
    assert last["eta_s"] == 0
    assert last["samples_per_s"] is not None
    assert report.messages[-1].startswith(f"epoch {epochs}/{epochs}, loss ")


def test_accumulated_gradients_are_those_of_a_larger_batch() -> None:
    still: dict[str, Any] = {"optimizer": "SGD", "shuffle": False, "max_epochs": 1}
    form = {"class": "torch.nn.Linear", "params": [2, 1]}
    small = fit(document(form, batch_size=8, gradient_accumulation=4, **still))
    large = fit(document(form, batch_size=32, **still))
    for left, right in zip(weights(small), weights(large), strict=True):
        np.testing.assert_allclose(left, right, rtol=1e-5)


def test_gradients_are_clipped() -> None:
    form = {"class": "torch.nn.Linear", "params": [2, 1]}
    still: dict[str, Any] = {"optimizer": "SGD", "max_iterations": 1, "optimizer_kwargs": {"lr": 1.0}, "max_epochs": 1}
    begin = fit(document(form, **still | {"optimizer_kwargs": {"lr": 0.0}}))
    for clip in ("gradient_clip_norm", "gradient_clip_value"):
        moved = np.array(weights(fit(document(form, **still | {clip: 1e-3})))[0]) - np.array(weights(begin)[0])
        assert 0 < abs(moved).max() <= 1.001e-3


def test_the_module_is_left_as_the_user_built_it() -> None:
    fitted = fit(document(precision="bf16", max_epochs=1))
    assert not {"_is_accelerate_prepared", "_original_forward", "forward"} & set(vars(fitted.model))
    assert not fitted.model.training
    assert all(each.grad is None for each in fitted.model.parameters())


# --- from the live version --------------------------------------------------------------------------------------


def test_a_fit_begins_with_the_live_version_s_weights() -> None:
    live = fit(document(max_epochs=50))
    report = Recorder()
    still = document(optimizer="SGD", optimizer_kwargs={"lr": 0.0}, max_epochs=1)
    fitted = fit(still, start=live, report=report)
    assert weights(fitted) == weights(live)
    assert said(report) == ["begins with the weights of the live version"]


def test_weights_that_don_t_fit_are_left() -> None:
    live = fit(document({"class": "torch.nn.Linear", "params": [2, 1]}))
    wider = document({"class": "torch.nn.Linear", "params": {"in_features": 2, "out_features": 1, "bias": False}})
    report = Recorder()
    fit(wider, start=live, report=report)
    assert said(report) == [
        "begins from scratch: the live version's weights don't fit, its weights are named otherwise (bias)"
    ]


def test_a_module_of_the_users_begins_with_its_own_weights() -> None:
    shelf = Shelf()
    module = nn.Linear(2, 1)
    of = document(module, shelf, optimizer="SGD", optimizer_kwargs={"lr": 0.0}, max_epochs=1)
    assert weights(fit(of, shelf=shelf)) == [each.tolist() for each in module.state_dict().values()]


@pytest.mark.parametrize("made", [lambda: nn.Linear(2, 1), nn.Linear], ids=["function", "class"])
def test_a_function_or_class_makes_the_module_under_the_seed(made: Any) -> None:
    class Own(nn.Linear):
        def __init__(self) -> None:
            super().__init__(2, 1)

    shelf = Shelf()
    of = document(Own if made is nn.Linear else made, shelf)
    assert weights(fit(of, shelf=shelf)) == weights(fit(of, shelf=shelf))
