"""PyTorch through the real daemon: declared or signed, fitted again, lost and gone on with, cancelled, gone on from."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from sklearn.datasets import load_digits

import refitd
from tests.fixtures.daemon import DaemonProcess, Daemons
from tests.fixtures.datastores import ONE_OF_EACH, Datastore
from tests.fixtures.waiting import wait_for, wait_fresh, wait_state

pytestmark = pytest.mark.parametrize("kind", ONE_OF_EACH, indirect=True)

KEY = "a key of the operator's"
DIGITS = "id bigint PRIMARY KEY, image double precision[], digit bigint"
CNN = {
    "class": "torch.nn.Sequential",
    "params": [
        {"class": "torch.nn.Unflatten", "params": {"dim": 1, "unflattened_size": [1, 8, 8]}},
        {"class": "torch.nn.Conv2d", "params": {"in_channels": 1, "out_channels": 16, "kernel_size": 3}},
        {"class": "torch.nn.ReLU"},
        {"class": "torch.nn.Flatten"},
        {"class": "torch.nn.Linear", "params": {"in_features": 576, "out_features": 10}},
    ],
}


@pytest.fixture
def daemon(datastore: Datastore, daemons: Daemons, monkeypatch: pytest.MonkeyPatch) -> DaemonProcess:
    monkeypatch.setenv("REFITD_SIGNING_KEY", KEY)
    return daemons(env={"REFITD_SIGNING_KEY": KEY}).start()


@pytest.fixture
def db(datastore: Datastore, daemon: DaemonProcess) -> Iterator[refitd.Database]:
    with refitd.connect(datastore.uri, compute="local") as opened:
        yield opened


@pytest.fixture
def digits(datastore: Datastore) -> Any:
    """The first 1,500 digits of scikit-learn's; the select of them."""
    table = datastore.table("digits")
    table.make(columns=DIGITS)
    table.insert(*(digit(n) for n in range(1500)))
    return datastore.select("digits", fields=["id", "image", "digit"])


IMAGES, LABELS = load_digits(return_X_y=True)


def digit(number: int) -> dict[str, Any]:
    return {"id": number, "image": (IMAGES[number] / 16).tolist(), "digit": int(LABELS[number])}


def document(name: str, select: Any, **fields: Any) -> dict[str, Any]:
    common = {"trainer": "torch", "object": CNN, "training_select": select, "train_X": "image", "train_y": "digit"}
    return {"_id": name, **common, "retrain": {"quiet": "0s"}, **fields}


def small(select: Any, **fields: Any) -> dict[str, Any]:
    """The keywords of a small model on the digits."""
    common = {"training_select": select, "train_X": "image", "train_y": "digit", "retrain": {"quiet": "0s"}}
    return {**common, **fields}


@pytest.mark.timeout(300)
def test_a_small_cnn_reads_digits_and_is_fitted_again(
    datastore: Datastore, daemon: DaemonProcess, digits: Any, db: refitd.Database
) -> None:
    validation = {"split": 0.2, "metrics": ["accuracy", "f1_macro"], "promote": {"metric": "accuracy", "min": 0.9}}
    kwargs = {"batch_size": 32, "max_epochs": 15}
    datastore.documents.insert(document("cnn", digits, validation=validation, fit_kwargs=kwargs))
    wait_fresh(datastore, "cnn", 1, 120)
    assert db.versions("cnn")[0]["metrics"]["accuracy"] > 0.95
    datastore.table("digits").insert(*(digit(n) for n in range(1500, 1600)))
    wait_fresh(datastore, "cnn", 2, 120)
    newest = db.versions("cnn")[0]
    assert (newest["rows"], newest["reason"]["inserts"]) == (1600, 100)
    assert newest["metrics"]["accuracy"] > 0.95
    said = db.load("cnn").predict([digit(n) for n in range(1600, 1797)])
    assert (said == LABELS[1600:]).mean() > 0.9


@pytest.mark.timeout(300)
def test_code_runs_where_it_is_signed_and_only_there(
    datastore: Datastore, digits: Any, db: refitd.Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    canary = tmp_path / "canary"

    def double(image: Any) -> torch.Tensor:
        Path(str(canary)).touch()
        return torch.tensor(image) * 2

    db.add(refitd.Module("signed", torch.nn.Linear(64, 10), preprocess=double, **small(digits)))
    wait_fresh(datastore, "signed", 1, 120)
    assert canary.exists()
    canary.unlink()
    form = datastore.documents.get("signed")["object"]
    changes: dict[str, dict[str, Any]] = {
        "unsigned": {"signature": None},
        "forged": {"signature": "0" * 64},
        "swapped": {"code": form["module"]["code"]},
    }
    for name, change in changes.items():
        bad = {**form, "preprocess": {**form["preprocess"], **change}}
        datastore.documents.insert(document(name, digits, object=bad))
        said = wait_state(datastore, name, "invalid")
        assert "preprocess" in said["error"]
        assert "sign" in said["error"]
        assert "REFITD_SIGNING_KEY" in said["error"]
    monkeypatch.setenv("REFITD_SIGNING_KEY", "somebody else's")
    with refitd.connect(datastore.uri) as other:
        other.add(refitd.Module("foreign", torch.nn.Linear(64, 10), preprocess=double, **small(digits)), replace=True)
    assert "another key" in wait_state(datastore, "foreign", "invalid")["error"]
    assert not canary.exists()


@pytest.mark.timeout(300)
def test_a_lost_worker_goes_on_from_its_checkpoint(
    datastore: Datastore, digits: Any, db: refitd.Database, tmp_path: Path
) -> None:
    """And what comes of it is what would have come without the loss."""
    killed, uri = tmp_path / "killed", datastore.uri

    def loss(outputs: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        if not killed.exists():  # it trains slowly, and ends itself when a checkpoint was kept
            with refitd.connect(uri) as mine:
                if mine.fits("killed")[0]["progress"].get("checkpoint"):
                    killed.touch()
                    os.kill(os.getpid(), signal.SIGKILL)
        return torch.nn.functional.cross_entropy(outputs, target)

    killed.touch()
    training = {"validation": {"split": 0.2}, "fit_kwargs": {"loss": loss, "max_epochs": 100}}
    torch.manual_seed(0)
    module = torch.nn.Linear(64, 10)
    db.add(refitd.Module("whole", module, **small(digits, **training)))
    wait_fresh(datastore, "whole", 1, 120)
    killed.unlink()
    db.add(refitd.Module("killed", module, **small(digits, **training)))
    wait_fresh(datastore, "killed", 1, 120)
    published, lost = datastore.registry.store.fits.recent("killed")
    assert killed.exists()
    assert lost.state == "lost"
    lines = [text for _, _, text in datastore.registry.store.fits.lines(published.id)]
    assert any("goes on at step" in line for line in lines), lines
    assert db.versions("killed")[0]["metrics"] == db.versions("whole")[0]["metrics"]


@pytest.mark.timeout(300)
def test_a_cancelled_fit_keeps_what_it_has(
    datastore: Datastore, digits: Any, db: refitd.Database, tmp_path: Path
) -> None:
    db.add(refitd.Module("long", torch.nn.Linear(64, 10), **small(digits, fit_kwargs={"max_epochs": 1_000_000})))
    fits = datastore.registry.store.fits

    def told() -> dict[str, Any] | None:
        newest = fits.recent("long")
        return dict(newest[0].progress) if newest and newest[0].progress.get("step") else None

    progress = wait_for(datastore, told, "the fit tells its steps", 60)
    assert {"epoch", "step", "loss", "samples_per_s", "eta_s"} <= progress.keys()
    db.pause("long")
    db.cancel("long")
    wait_for(datastore, lambda: fits.recent("long")[0].state == "cancelled", "it is cancelled")
    (version,) = db.versions("long")
    assert version["live"] is False
    assert db.load("long", 1).predict([digit(0)]).shape == (1,)
    with pytest.raises(refitd.NotFound):
        db.load("long")


@pytest.mark.timeout(300)
def test_a_fit_goes_on_from_the_live_version(datastore: Datastore, digits: Any, db: refitd.Database) -> None:
    retrain = {"quiet": "0s", "start_from": "live"}
    judged = {"split": 0.2, "metrics": ["neg_loss"]}
    datastore.documents.insert(
        document("warm", digits, retrain=retrain, validation=judged, fit_kwargs={"max_epochs": 2})
    )
    wait_fresh(datastore, "warm", 1, 120)
    datastore.table("digits").insert(digit(1500))
    wait_fresh(datastore, "warm", 2, 120)
    newest, first = db.versions("warm")
    assert newest["metrics"]["neg_loss"] > first["metrics"]["neg_loss"]
    fit = datastore.registry.store.fits.recent("warm")[0]
    assert "starting from version 1" in [text for _, _, text in datastore.registry.store.fits.lines(fit.id)]
