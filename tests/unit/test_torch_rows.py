"""Rows on their way to a PyTorch module: columns, targets, batches, and the loss that needs no target."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import torch

from registry.errors import RowsUnusable
from tests.fixtures.training import rows_of
from trainers import spool
from trainers.rows import KEY
from trainers.spool import Rows
from trainers.torch_columns import numbers, survey
from trainers.torch_config import TorchConfig
from trainers.torch_data import Feed, Maker, RowSet, Steps, in_order
from trainers.torch_inputs import Inputs
from trainers.torch_targets import Target, information

ROWS = 3000


def table() -> pa.Table:
    """Each row's X says which row it is, and y the same as text."""
    number = np.arange(ROWS)
    columns = {
        KEY: number.astype(np.uint64),
        "x": list(np.column_stack([number, -number])),
        "y": [str(n) for n in number],
    }
    return pa.table(columns)


@pytest.fixture(autouse=True)
def _small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    """So that few rows lie in several blocks, and several windows."""
    monkeypatch.setattr(spool, "_BLOCK_BYTES", 4096)


def maker(steps: Steps | None = None) -> Maker:
    schema = table().select(["x"]).schema
    classes = tuple(sorted(str(n) for n in range(ROWS)))
    return Maker(Inputs(("x",), schema, True), Target("classes", ("y",), classes), steps or Steps())


def kinds() -> dict[str, Rows]:
    memory, file = rows_of(table()), rows_of(table(), memory=1000, chunk=64)
    odd = np.flatnonzero(np.arange(ROWS) % 3 != 1)
    return {"memory": memory, "file": file, "chosen-memory": memory.choose(odd), "chosen-file": file.choose(odd)}


@pytest.mark.parametrize("by_row", [False, True], ids=["tensors", "by-row"])
@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("kind", ["memory", "file", "chosen-memory", "chosen-file"])
def test_an_epoch_has_each_row_once_with_its_own_y(kind: str, workers: int, by_row: bool) -> None:
    rows = kinds()[kind]
    made = maker(Steps(preprocess=torch.tensor) if by_row else None)
    feed = Feed(rows, made, TorchConfig(batch_size=50, num_workers=workers))
    seen = []
    orders = []
    for epoch in range(2):
        numbered = []
        for x, y in feed.epoch(epoch):
            assert torch.equal(x[:, 0], -x[:, 1])
            assert [made.target.classes[code] for code in y] == [str(int(n)) for n in x[:, 0]]
            numbered += x[:, 0].int().tolist()
        seen.append(sorted(numbered))
        orders.append(numbered)
    assert seen[0] == seen[1] == sorted(rows.keys().tolist())
    assert orders[0] != orders[1] == rows.keys()[np.concatenate(list(feed._order))].tolist()
    rest = [n for x, _ in feed.epoch(1, skip=7) for n in x[:, 0].int().tolist()]
    assert rest == orders[1][350:]


def test_processes_that_share_an_epoch_see_all_of_it() -> None:
    shares = [Feed(rows_of(table()), maker(), TorchConfig(batch_size=64), (index, 2)) for index in range(2)]
    seen = [[n for x, _ in feed.epoch(0) for n in x[:, 0].int().tolist()] for feed in shares]
    assert set(seen[0]) | set(seen[1]) == set(range(ROWS))
    assert shares[0].batches == shares[1].batches


def test_blocks_of_a_file_do_not_pile_up() -> None:
    rows = rows_of(table(), memory=1000, chunk=64)
    assert not rows.in_memory
    assert len(rows.block_rows) > 20
    found = RowSet(rows, maker())
    for at in range(0, ROWS, 10):
        found.__getitems__(np.arange(at, min(at + 10, ROWS)))
        held = sum(rows.block_rows[each] for each in found._held)
        assert held <= 2 * rows.window + max(rows.block_rows)


def test_rows_in_order_come_beside_what_they_are() -> None:
    parts = list(in_order(rows_of(table()), maker(), 100))
    assert max(rows.num_rows for rows, _ in parts) <= 100
    assert sum(rows.num_rows for rows, _ in parts) == ROWS
    for rows, (x, _) in parts:
        assert rows.column(KEY).to_pylist() == x[:, 0].int().tolist()


@pytest.mark.parametrize(
    ("values", "kind", "shape"),
    [
        ([1, 2, 3], pa.int8(), (3,)),
        ([True, False], pa.bool_(), (2,)),
        ([[1.0, 2.0], [3.0, 4.0], [5.0, 6.0]], pa.list_(pa.float64()), (3, 2)),
        ([[1, 2], [3, 4]], pa.list_(pa.int64(), 2), (2, 2)),
        ([[[1, 2, 3], [4, 5, 6]]] * 4, pa.large_list(pa.list_(pa.float32())), (4, 2, 3)),
        (["1.5", "2.5"], pa.decimal128(5, 2), (2,)),
    ],
    ids=["ints", "bools", "lists", "fixed lists", "nested", "decimals"],
)
def test_numbers_of_any_type_are_arrays(values: list[Any], kind: pa.DataType, shape: tuple[int, ...]) -> None:
    column = pa.array(values).cast(kind) if kind == pa.decimal128(5, 2) else pa.array(values, kind)
    assert numbers(column, "x").shape == shape
    cut = numbers(column.slice(1), "x")
    np.testing.assert_array_equal(cut, numbers(column, "x")[1:])


@pytest.mark.parametrize(
    ("column", "said"),
    [
        (pa.array(["a"]), "`x` holds text, of which no tensor can be made"),
        (pa.array([1, None]), "`x` is missing in 1 of 2 rows"),
        (pa.array([[1.0], [1.0, 2.0]]), "lists of different lengths: 1 in one row, 2 in another"),
        (pa.array([[1.0, None]]), "`x` is missing in 1 of 2 rows"),
        (pa.array([0], pa.timestamp("ms")), "`x` holds dates"),
    ],
)
def test_what_is_no_number_is_told(column: pa.Array, said: str) -> None:
    with pytest.raises(RowsUnusable, match=said):
        numbers(column, "x")


def test_a_survey_sees_gaps_and_labels_in_all_batches() -> None:
    batches = pa.table({"x": [1.0, None, float("nan"), 2.0], "y": ["a", "b", None, "a"]}).to_batches(max_chunksize=1)
    found = survey(batches, ["x", "y"], ["y"])
    assert found.rows == 4
    assert (found.columns["x"].missing, found.columns["y"].missing) == (2, 1)
    assert found.columns["y"].distinct == {"a", "b"}
    with pytest.raises(RowsUnusable, match="`x` is missing in 2 of 4 rows, `y` is missing in 1 of 4 rows; fix"):
        found.refuse_missing(["x", "y"], "fix")


def test_information_is_least_where_rows_are_sure_and_classes_are_used_alike() -> None:
    sure = torch.tensor([[50.0, 0.0], [0.0, 50.0]])
    assert float(information(sure)) == pytest.approx(-np.log(2))
    assert float(information(torch.zeros(4, 3))) == pytest.approx(0)
    assert float(information(torch.tensor([[50.0, 0.0]] * 4))) == pytest.approx(0, abs=1e-5)
    scores = torch.randn(20, 5, generator=torch.Generator().manual_seed(0))
    p = scores.softmax(1)
    expected = -(p * p.log()).sum(1).mean() + (p.mean(0) * p.mean(0).log()).sum()
    assert float(information(scores)) == pytest.approx(float(expected), rel=1e-4)


def test_inputs_and_targets_come_back_from_json() -> None:
    import json

    made = maker()
    inputs = Inputs.read(json.loads(json.dumps(made.inputs.written())))
    assert inputs == made.inputs
    for classes in ((1, 2), (False, True), ("a", "b"), (0.5, 1.0)):
        target = Target("classes", ("y",), classes)
        back = Target.read(json.loads(json.dumps(target.written())))
        assert back == target
        assert [type(each) for each in back.classes] == [type(each) for each in classes]
