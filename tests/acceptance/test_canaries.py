"""Who can write rows or documents, or the registry's bytes, runs nothing: a canary in every path, and none sings."""

from __future__ import annotations

import io
import pickle
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

import refitd
from tests.fixtures.datastores import ONE_OF_EACH, Datastore
from tests.fixtures.servers import ROOT
from tests.fixtures.subject import Subject, row
from tests.fixtures.waiting import wait_fresh, wait_state

pytestmark = pytest.mark.parametrize("kind", ONE_OF_EACH, indirect=True)


class Bomb:
    """Its pickle touches a file when it is loaded."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.path,)


@pytest.fixture
def bird(tmp_path: Path) -> Iterator[Path]:
    """The file that must not be there in the end."""
    yield tmp_path / "canary"
    assert not (tmp_path / "canary").exists()


def objects(path: Path) -> dict[str, dict[str, Any]]:
    """By name, an `object` that would touch the file, and its trainer."""
    shell = f"touch {path}"
    linear = {"class": "torch.nn.Linear", "params": {"in_features": 1, "out_features": 1}}

    def torch_of(module: Any) -> dict[str, Any]:
        return {"trainer": "torch", "object": {"class": "torch.nn.Sequential", "params": [linear, module]}}

    return {
        "a function for a class": {"object": {"class": "os.system", "params": {"command": shell}}},
        "a function of a trusted module": {
            "object": {"class": "sklearn.utils.os.system", "params": {"command": shell}}
        },
        "a nested class": {
            "object": {
                "class": "sklearn.pipeline.Pipeline",
                "params": {"steps": [["a", {"class": "subprocess.Popen", "params": {"args": ["touch", str(path)]}}]]},
            }
        },
        "a function transformer": {
            "object": {
                "class": "sklearn.preprocessing.FunctionTransformer",
                "params": {"func": {"function": "os.system"}, "kw_args": {"command": shell}},
            }
        },
        "torch.load": {"trainer": "torch", "object": {"class": "torch.load", "params": {"f": str(path)}}},
        "torch.hub": {
            "trainer": "torch",
            "object": {
                "class": "torch.hub.load",
                "params": {"repo_or_dir": str(path.parent), "model": "m", "source": "local"},
            },
        },
        "a nested function": torch_of({"class": "torch.nn.modules.module.os.system", "params": [shell]}),
        "a module's own loader": torch_of({"class": "torch.package.PackageImporter", "params": [str(path)]}),
        "unsigned code": {"trainer": "torch", "object": {"code": "0" * 64, "name": "f", "python": "3.11"}},
        "code for a step": {
            "trainer": "torch",
            "object": {"module": linear, "preprocess": {"code": "0" * 64, "signature": "1" * 64}},
        },
        "code for the loss": {
            "trainer": "torch",
            "object": linear,
            "fit_kwargs": {"loss": {"code": "0" * 64, "signature": "1" * 64}},
        },
        "a function for the loss": {"trainer": "torch", "object": linear, "fit_kwargs": {"loss": "os.system"}},
        "an optimizer": {"trainer": "torch", "object": linear, "fit_kwargs": {"optimizer": "os.system"}},
        "code of a repository": {
            "trainer": "transformers",
            "object": {"task": "text-classification", "model": str(path.parent), "trust_remote_code": True},
        },
        "remote code for the arguments": {
            "trainer": "transformers",
            "object": {"task": "text-classification", "model": str(path.parent)},
            "fit_kwargs": {"trust_remote_code": True},
        },
    }  # fmt: skip


@pytest.mark.parametrize("name", objects(Path("/tmp")))
def test_a_document_runs_nothing(subject: Subject, name: str, bird: Path) -> None:
    (bird.parent / "hubconf.py").write_text(f"open({str(bird)!r}, 'w')\n")
    subject.fill()
    subject.insert(**objects(bird)[name], train_y="v")
    said = wait_state(subject.store, subject.name, "invalid")
    assert said["faults"]
    assert said["live"] is None


def test_a_model_directory_runs_nothing(subject: Subject, bird: Path) -> None:
    """One with code that its configuration asks for, and pickled weights."""
    (bird.parent / "config.json").write_text(
        '{"model_type": "mine", "auto_map": {"AutoConfig": "code.C", "AutoModel": "code.M"}}'
    )
    (bird.parent / "code.py").write_text(f"open({str(bird)!r}, 'w')\n")
    (bird.parent / "pytorch_model.bin").write_bytes(pickle.dumps(Bomb(bird)))
    subject.fill()
    subject.insert(
        trainer="transformers",
        object={"task": "text-classification", "model": str(bird.parent)},
        train_X="country",
        train_y="country",
    )
    assert wait_state(subject.store, subject.name, "failing")["error"]


def forged(path: Path) -> dict[str, bytes]:
    """Artifacts that somebody put in place of a version's, digest and all."""
    bomb, held = pickle.dumps(Bomb(path)), io.BytesIO()
    with zipfile.ZipFile(held, "w") as archive:
        archive.writestr("data.pkl", bomb)
        archive.writestr("config.json", "{}")
        archive.writestr("model.safetensors", bomb)
        archive.writestr("schema.json", '{"__class__": "system", "__module__": "os", "__loader__": "ObjectNode"}')
    saved = io.BytesIO()
    torch.save(Bomb(path), saved)
    return {"a pickle": bomb, "an archive": held.getvalue(), "torch.save": saved.getvalue()}


@pytest.mark.parametrize("how", [*forged(Path("/tmp")), "other bytes under the digest"])
@pytest.mark.parametrize("trainer", ["sklearn", "torch"])
def test_an_artifact_runs_nothing(subject: Subject, trainer: str, how: str, bird: Path) -> None:
    subject.fill()
    linear = {"class": "torch.nn.Linear", "params": {"in_features": 2, "out_features": 1}}
    chosen: dict[str, Any] = {"trainer": "torch", "object": linear} if trainer == "torch" else {
        "object": {"class": "sklearn.linear_model.LinearRegression"}
    }  # fmt: skip
    subject.insert(**chosen, train_X=["id", "v"], train_y="v")
    wait_fresh(subject.store, subject.name, 1)
    replace_artifact(subject.store, subject.name, how, bird)
    with refitd.connect(subject.store.uri) as db, pytest.raises(refitd.Untrusted):
        db.load(subject.name)
    done = subprocess.run(
        [sys.executable, "-m", "refitd", "predict", subject.name, "--datastore", subject.store.uri],
        cwd=ROOT, input='{"id": 1, "v": 2}', capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    # The daemon neither loads it nor minds.
    subject.rows.insert(row(100))
    wait_fresh(subject.store, subject.name, 2)


def replace_artifact(store: Datastore, model: str, how: str, path: Path) -> None:
    """What somebody with write access to the registry can do."""
    digest = store.registry.newest(model)["draft"]["digest"]
    artifacts = store.registry.store.artifacts
    if how in forged(path):
        put = artifacts.put(forged(path)[how])
        store.change_version(model, digest, put)
    else:
        store.change_artifact(digest, pickle.dumps(Bomb(path)))


def test_a_signed_model_whose_code_was_replaced_runs_nothing(
    subject: Subject, bird: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("REFITD_SIGNING_KEY", "a key of the tests")
    subject.fill()
    with refitd.connect(subject.store.uri) as db:
        db.add(
            refitd.Module(
                subject.name, torch.nn.Linear(1, 1), preprocess=lambda x: torch.tensor([float(x)]),
                training_select=subject.select, train_X="id", train_y="v", retrain={"quiet": "0s"},
            )
        )  # fmt: skip
        wait_fresh(subject.store, subject.name, 1)
        code = subject.written()["object"]["preprocess"]["code"]
        subject.store.change_artifact(code, pickle.dumps(Bomb(bird)))
        with pytest.raises(refitd.Untrusted, match="other bytes"):
            db.load(subject.name)
        subject.rows.insert(row(100))
        assert "other bytes" in wait_state(subject.store, subject.name, "failing")["error"]
