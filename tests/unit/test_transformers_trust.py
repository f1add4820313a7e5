"""What the transformers trainer refuses to load, and that nothing of it runs: every path has a canary."""

from __future__ import annotations

import contextlib
import io
import json
import pickle
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from registry.errors import ArtifactCorrupt, TrainingFailed, Untrusted
from tests.fixtures.tiny_transformers import Kept, bert, document, rows, sayings, training
from trainers import transformers_checkpoints
from trainers.transformers import TransformersTrainer
from trainers.transformers_archive import pack
from trainers.transformers_artifacts import load, unpack
from trainers.transformers_source import fetch

TRAINER = TransformersTrainer()


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A published version, unpacked."""
    base = bert(tmp_path_factory.mktemp("bert"))
    fitted = TRAINER.fit(training(document(base, fit_kwargs={"max_steps": 1}), rows(sayings())))
    found = tmp_path_factory.mktemp("version")
    unpack(TRAINER.save(fitted), found)
    return found


class Canary:
    """Unpickling it makes a file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[Any, ...]]:
        return Path.touch, (self.path,)


def files(folder: Path) -> dict[str, Path | bytes]:
    return {path.name: path for path in folder.iterdir()}


def archive(*members: tuple[tarfile.TarInfo, bytes]) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as tar:
        for info, data in members:
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    return out.getvalue()


def member(name: str, kind: bytes = tarfile.REGTYPE, link: str = "") -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type, info.linkname = kind, link
    return info


@pytest.mark.parametrize(
    "bad",
    [
        member("/etc/evil.json"),
        member("../evil.json"),
        member("a/../../evil.json"),
        member("folder/evil.json"),
        member("modeling.py"),
        member("pytorch_model.bin"),
        member("weights.pt"),
        member("adapter_config.json"),
        member("adapter_model.safetensors"),
        member(".hidden.json"),
        member("config.json", tarfile.SYMTYPE, "/etc/passwd"),
        member("config.json", tarfile.LNKTYPE, "/etc/passwd"),
        member("config.json", tarfile.FIFOTYPE),
        member("config.json", tarfile.DIRTYPE),
        member("C:evil.json"),
        member("a\\evil.json"),
    ],
    ids=lambda info: f"{info.name}-{info.type.decode()}",
)
def test_an_archive_writes_only_a_models_files(bad: tarfile.TarInfo, tmp_path: Path) -> None:
    data = archive((member("vocab.txt"), b"good"), (bad, b""))
    with pytest.raises(Untrusted, match="which no stored model has need of"):
        unpack(data, tmp_path / "out")
    assert list((tmp_path / "out").iterdir()) == []
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_an_archive_names_a_file_once(tmp_path: Path) -> None:
    with pytest.raises(Untrusted, match="twice"):
        unpack(archive((member("config.json"), b"{}"), (member("CONFIG.json"), b"{}")), tmp_path)


@pytest.mark.parametrize("data", [b"", b"nothing", b"\x1f\x8b" + b"0" * 600, pickle.dumps({"a": 1}) * 600])
def test_bytes_that_are_no_archive_are_told(data: bytes, tmp_path: Path) -> None:
    with pytest.raises(ArtifactCorrupt):
        load(data)


def test_a_good_artifact_is_what_was_saved(folder: Path) -> None:
    assert load(pack(files(folder))).task == "text-classification"


@pytest.mark.parametrize(
    "change",
    [
        {"auto_map": {"AutoConfig": "code.C", "AutoModelForSequenceClassification": "code.M"}, "model_type": "theirs"},
        {"attn_implementation": "evil/kernel"},
        {"text_config": {"attn_implementation": {"": "evil/kernel"}}},
        {"experts_implementation": "evil/kernel@v1:run"},
        {"quantization_config": {"quant_method": "bitsandbytes"}},
        {"model_type": "no such type"},
        {"model_type": "canary"},
        {"architectures": None, "model_type": None},
        {"num_hidden_layers": 3},
        {"id2label": {"0": "a", "1": "b", "2": "c"}},
    ],
    ids=lambda change: next(iter(change)),
)
def test_a_configuration_leads_nowhere_else(folder: Path, change: dict[str, Any], tmp_path: Path) -> None:
    canary = tmp_path / "canary"
    config = json.loads((folder / "config.json").read_text()) | change
    code = f"open({str(canary)!r}, 'w')\n".encode()
    data = pack({**files(folder), "config.json": json.dumps(config).encode()})
    with pytest.raises(Untrusted):
        load(data)
    # A folder may hold code too; it isn't run either.
    base = tmp_path / "base"
    unpack(data, base)
    (base / "code.py").write_bytes(code)
    if "num_hidden_layers" not in change and "id2label" not in change:
        with pytest.raises((TrainingFailed, Untrusted)):
            TRAINER.fit(training(document(base, fit_kwargs={"max_steps": 1}), rows(sayings())))
    assert not canary.exists()


@pytest.mark.parametrize(
    ("name", "content"),
    [
        (name, content)
        for name in ("model.safetensors", "tokenizer.json", "tokenizer_config.json", "config.json")
        for content in (b"", b"{}", b"[1]", b"\0" * 64)
        if (name, content) != ("tokenizer_config.json", b"{}")  # the model's type says enough
    ],
)
def test_broken_files_are_told(folder: Path, name: str, content: bytes, tmp_path: Path) -> None:
    data = pack({**files(folder), name: content})
    with pytest.raises(ArtifactCorrupt):
        load(data)
    unpack(data, tmp_path)
    with pytest.raises(TrainingFailed):
        TRAINER.fit(training(document(tmp_path), rows(sayings())))


def test_a_tokenizer_brings_no_code(folder: Path, tmp_path: Path) -> None:
    canary = tmp_path / "canary"
    config = json.loads((folder / "tokenizer_config.json").read_text())
    config |= {"auto_map": {"AutoTokenizer": ["code.T", "code.T"]}, "tokenizer_class": "T"}
    data = pack({**files(folder), "tokenizer_config.json": json.dumps(config).encode()})
    base = tmp_path / "base"
    unpack(data, base)
    (base / "code.py").write_text(f"open({str(canary)!r}, 'w')\n")
    with contextlib.suppress(TrainingFailed):
        TRAINER.fit(training(document(base, fit_kwargs={"max_steps": 1}), rows(sayings())))
    assert not canary.exists()


def test_pickled_weights_are_not_read(folder: Path, tmp_path: Path) -> None:
    canary, base = tmp_path / "canary", tmp_path / "base"
    unpack(pack({name: path for name, path in files(folder).items() if name != "model.safetensors"}), base)
    torch.save(Canary(canary), base / "pytorch_model.bin")
    with pytest.raises(TrainingFailed, match=r"no weights as safetensors \(it has pytorch_model.bin\)"):
        TRAINER.fit(training(document(base), rows(sayings())))
    assert not canary.exists()


def test_an_adapter_leads_to_no_other_model(folder: Path, tmp_path: Path) -> None:
    base = tmp_path / "base"
    unpack(pack(files(folder)), base)
    (base / "adapter_config.json").write_text(json.dumps({"base_model_name_or_path": "evil/model"}))
    with pytest.raises(Untrusted, match="merge it"):
        TRAINER.fit(training(document(base), rows(sayings())))


@pytest.mark.parametrize("name", ["optimizer.pt", "rng_state.pth", "scheduler.pt"])
def test_a_checkpoint_runs_nothing(folder: Path, name: str, tmp_path: Path) -> None:
    kept, of = Kept(2), document(folder, fit_kwargs={"max_steps": 4})
    TRAINER.fit(training(of, rows(sayings()), checkpoints=kept))
    assert kept.data is not None
    last = transformers_checkpoints.unpack(kept.data, tmp_path)
    assert not (last / "training_args.bin").exists()
    canary = tmp_path / "canary"
    torch.save(Canary(canary), last / name)
    data = transformers_checkpoints.pack(last, None)
    with pytest.raises(TrainingFailed, match="weights_only"):
        TRAINER.fit(training(of, rows(sayings()), checkpoints=Kept(data=data)))
    assert not canary.exists()


@pytest.mark.parametrize(
    "ours", [b"", b"[]", b"{}", b'{"kind": "label", "labels": [{}], "task": "text-classification"}']
)
def test_our_own_part_is_checked(folder: Path, ours: bytes) -> None:
    with pytest.raises(ArtifactCorrupt):
        load(pack({**files(folder), "refitd.json": ours}))


def test_a_model_of_the_hub_that_is_not_here(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(
        TrainingFailed, match=r"model nobody/nothing@abc is not on disk \(.*\) and the hub can't be reached: "
    ):
        fetch("nobody/nothing", "abc")
    for name in ("./nothing", "/nowhere/at/all", "a b", "~/x"):
        with pytest.raises(TrainingFailed, match="there is no folder"):
            fetch(name, None)


def test_a_model_of_the_hub_that_is_here(folder: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    commit = "0123456789abcdef0123456789abcdef01234567"
    snapshot = tmp_path / "models--some--bert" / "snapshots" / commit
    snapshot.parent.mkdir(parents=True)
    unpack(pack(files(folder)), snapshot)
    (tmp_path / "models--some--bert" / "refs").mkdir()
    (tmp_path / "models--some--bert" / "refs" / "main").write_text(commit)
    fitted = TRAINER.fit(training(document("some/bert", fit_kwargs={"max_steps": 1}), rows(sayings())))
    assert (fitted.detail["model"], fitted.detail["revision"]) == ("some/bert", commit)
