"""PyTorch and transformers fits against the bare loop that one would write, over the same rows in memory.

Both do the same steps with the same batch size, optimizer and schedule. Ours takes Arrow rows and text, the bare loop
tensors that are ready: what making them costs is part of ours.
"""

from __future__ import annotations

import time
from typing import Any

import numpy as np
import pyarrow as pa
import torch
import transformers

from bench.measure import Line, alternating, median
from registry.document import ModelDocument
from tests.fixtures.training import training
from tests.fixtures.tweets import MOODS, minilm, tweets
from trainers.rows import KEY
from trainers.torch import TorchTrainer
from trainers.transformers import TransformersTrainer

_LEAST = 0.9
_BATCH = 256


def run(quick: bool) -> list[Line]:
    """One thread: threads that wait for each other measure the machine's mood."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        return [_torch(20_000 if quick else 60_000, 3 if quick else 5), _transformers(3 if quick else 5)]
    finally:
        torch.set_num_threads(before)


def _torch(count: int, repeats: int) -> Line:
    """A perceptron with one hidden layer on vectors of 64 numbers."""
    generator = np.random.default_rng(0)
    X = generator.random((count, 64))
    y = (X @ generator.random((64, 10))).argmax(1)
    vectors = pa.FixedSizeListArray.from_arrays(pa.array(X.reshape(-1)), 64)
    table = pa.table({KEY: np.arange(count, dtype=np.uint64), "x": vectors, "y": y})
    inner = [
        {"class": "torch.nn.Linear", "params": {"in_features": 64, "out_features": 256}},
        {"class": "torch.nn.ReLU"},
        {"class": "torch.nn.Linear", "params": {"in_features": 256, "out_features": 10}},
    ]
    epochs = 3
    document = _document(
        "torch", {"class": "torch.nn.Sequential", "params": inner}, "x", {"batch_size": _BATCH, "max_epochs": epochs}
    )
    tensors = torch.tensor(X, dtype=torch.float32), torch.tensor(y)
    found = alternating(
        repeats, {"ours": lambda: _ours(TorchTrainer(), document, table), "floor": lambda: _bare(*tensors, epochs)}
    )
    return _line("torch", f"{count:,} × 64, {epochs} epochs of {_BATCH}", count * epochs, found)


def _bare(X: torch.Tensor, y: torch.Tensor, epochs: int) -> float:
    began = time.perf_counter()
    torch.manual_seed(0)
    model = torch.nn.Sequential(torch.nn.Linear(64, 256), torch.nn.ReLU(), torch.nn.Linear(256, 10))
    optimizer = torch.optim.AdamW(model.parameters())
    for _ in range(epochs):
        for rows in torch.randperm(len(X)).split(_BATCH):
            loss = torch.nn.functional.cross_entropy(model(X[rows]), y[rows])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    return time.perf_counter() - began


def _transformers(repeats: int) -> Line:
    """all-MiniLM-L6-v2 on labelled tweets."""
    found = tweets(256)
    texts, moods = [text for text, _ in found], [mood for _, mood in found]
    table = pa.table({KEY: np.arange(len(found), dtype=np.uint64), "x": texts, "y": moods})
    keywords = {"num_train_epochs": 1, "per_device_train_batch_size": 16, "learning_rate": 3e-4}
    document = _document(
        "transformers", {"task": "text-classification", "model": str(minilm()), "max_length": 32}, "x", keywords
    )
    labels = torch.tensor([MOODS.index(mood) for mood in moods])
    works = {
        "ours": lambda: _ours(TransformersTrainer(), document, table),
        "floor": lambda: _bare_transformers(texts, labels),
    }
    return _line("transformers", f"{len(found)} tweets, batches of 16", len(found), alternating(repeats, works))


def _bare_transformers(texts: list[str], labels: torch.Tensor) -> float:
    began = time.perf_counter()
    torch.manual_seed(0)
    tokenizer: Any = transformers.AutoTokenizer.from_pretrained(minilm())
    model: Any = transformers.AutoModelForSequenceClassification.from_pretrained(minilm(), num_labels=2)
    model.train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-4)
    batches = torch.randperm(len(texts)).split(16)
    scheduled: Any = transformers.get_linear_schedule_with_warmup
    schedule = scheduled(optimizer, 0, len(batches))
    for rows in batches:
        encoded = tokenizer(
            [texts[row] for row in rows], truncation=True, max_length=32, padding=True, return_tensors="pt"
        )
        loss = model(**encoded, labels=labels[rows]).loss
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        schedule.step()
    return time.perf_counter() - began


def _ours(trainer: Any, document: ModelDocument, table: pa.Table) -> float:
    began = time.perf_counter()
    trainer.fit(training(document, table))
    return time.perf_counter() - began


def _document(trainer: str, model: dict[str, Any], field: str, fit_kwargs: dict[str, Any]) -> ModelDocument:
    common = {"_id": "bench", "training_select": "rows", "train_X": field, "train_y": "y"}
    return ModelDocument.parse({**common, "trainer": trainer, "object": model, "fit_kwargs": fit_kwargs})


def _line(name: str, case: str, samples: int, found: dict[str, list[float]]) -> Line:
    floor, ours = median(found["floor"]), median(found["ours"])
    note = f"{samples / ours:,.0f} samples/s of {samples / floor:,.0f}: {floor / ours:.2f}"
    return Line(
        name, case, floor, ours, f"≥ {_LEAST} of its samples/s", floor / ours >= _LEAST, samples=found, note=note
    )
