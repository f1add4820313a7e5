"""What a document may say of a PyTorch module, who is trusted with what, and what an artifact may hold."""

from __future__ import annotations

import io
import json
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
import torch
from torch import nn

from registry.code import Custom, Key
from registry.document import ModelDocument
from registry.errors import ArtifactCorrupt, RefitdError, TrainingFailed, Untrusted
from registry.trust import Trust
from tests.fixtures.training import TRUST, Shelf, loader, training, without_key
from trainers.rows import KEY
from trainers.torch import TorchTrainer
from trainers.torch_forms import Forms, build
from trainers.torch_module import FittedModule
from trainers.torch_object import TorchObject

TRAINER = TorchTrainer()
LINEAR = {"class": "torch.nn.Linear", "params": [2, 1]}
QUICK = {"max_epochs": 1, "batch_size": 4}


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def document(form: Any, shelf: Shelf | None = None, key: Key | None = None, **fields: Any) -> ModelDocument:
    shelf = shelf or Shelf()
    signed = shelf.signed(form) if key is None else shelf.signed(form, key)
    raw = {"_id": "m", "trainer": "torch", "object": signed, "training_select": "rows", "train_X": "x", "train_y": "y"}
    raw |= {"fit_kwargs": shelf.signed(fields.pop("fit_kwargs", QUICK))}
    return ModelDocument.parse(raw | fields)


def faults(form: Any, trust: Trust = TRUST, **fields: Any) -> dict[str, str]:
    return {fault.path: fault.message for fault in TRAINER.check(document(form, **fields), trust)}


def table() -> pa.Table:
    return pa.table({KEY: pa.array(range(8), pa.uint64()), "x": [[1.0, float(n)] for n in range(8)], "y": [0.5] * 8})


def fit(of: ModelDocument, shelf: Shelf | None = None) -> FittedModule:
    fitted = TRAINER.fit(training(of, table(), shelf=shelf))
    assert isinstance(fitted, FittedModule)
    return fitted


# --- building ---------------------------------------------------------------------------------------------------


def test_a_form_says_what_python_would_call() -> None:
    form = {
        "class": "torch.nn.Sequential",
        "params": {
            "args": [
                {"class": "torch.nn.Linear", "args": [2], "params": {"out_features": 8, "bias": False}},
                {"class": "torch.nn.Unflatten", "params": {"dim": 1, "unflattened_size": [2, 4]}},
                {
                    "class": "torch.nn.TransformerEncoder",
                    "params": {
                        "encoder_layer": {
                            "class": "torch.nn.TransformerEncoderLayer",
                            "params": {"d_model": 4, "nhead": 2, "activation": "gelu", "batch_first": True},
                        },
                        "num_layers": 1,
                    },
                },
            ]
        },
    }
    assert faults(form) == {}
    built = build(form, TRUST, loader())
    assert [type(each).__name__ for each in built.children()] == ["Linear", "Unflatten", "TransformerEncoder"]
    assert built(torch.zeros(3, 2)).shape == (3, 2, 4)


def test_lists_and_mappings_of_modules_are_built() -> None:
    several = build({"class": "torch.nn.ModuleList", "params": [[LINEAR, LINEAR]]}, TRUST, loader())
    named = build({"class": "torch.nn.ModuleDict", "params": {"modules": {"one": LINEAR}}}, TRUST, loader())
    assert len(list(several.children())) == 2
    assert [name for name, _ in named.named_children()] == ["one"]


def test_checking_makes_no_weights() -> None:
    assert faults({"class": "torch.nn.Linear", "params": [10**9, 10**9]}) == {}


def test_all_faults_are_told_at_once_with_their_paths() -> None:
    form = {
        "class": "torch.nn.Sequential",
        "params": [
            {"class": "torch.nn.Liner", "params": [2, 1]},
            {"class": "torch.nn.Linear", "params": {"in_feature": 2, "out_features": 1}},
            {"class": "torch.nn.Linear", "params": [2]},
            {"class": "torch.nn.Linear", "parms": [2, 1]},
            {"class": "torch.nn.TransformerEncoderLayer", "params": {"d_model": 4, "nhead": 2, "activation": "os"}},
            {
                "class": "torch.nn.Conv2d",
                "params": {"in_channels": 3, "out_channels": 4, "kernel_size": 3, "groups": 2},
            },
        ],
        "preprocess": {"class": "torch.nn.Nothing"},
    }
    assert faults(form) == {
        "object.params.0.class": "there is no `Liner` in `torch.nn`; did you mean `torch.nn.Linear`?",
        "object.params.1.params.in_feature": "Linear has no parameter `in_feature`; did you mean `in_features`?",
        "object.params.2.params": "Linear: missing a required argument: 'out_features'",
        "object.params.3.parms": "a module has no parameter `parms`; did you mean `params`?",
        "object.params.4.params": "TransformerEncoderLayer refuses them: "
        "RuntimeError: activation should be relu/gelu, not os",
        "object.params.5.params": "Conv2d refuses them: ValueError: in_channels must be divisible by groups",
        "object.preprocess.class": "there is no `Nothing` in `torch.nn`",
    }


@pytest.mark.parametrize(
    ("form", "path", "said"),
    [
        ({}, "object", "must say `class`, such as torch.nn.Linear"),
        ({"module": [LINEAR]}, "object", "must say `class`"),
        ({"class": "torch.nn.Linear", "params": "2, 1"}, "object.params", "must be a mapping"),
        (
            {"class": "torch.nn.Linear", "params": [2, 1], "preprocess": "str"},
            "object.preprocess",
            "a function of yours",
        ),
    ],
)
def test_what_is_no_form_is_told(form: Any, path: str, said: str) -> None:
    assert said in faults(form)[path]


def test_depth_has_an_end() -> None:
    form: Any = LINEAR
    for _ in range(200):
        form = {"class": "torch.nn.Sequential", "params": [form]}
    assert any("nested deeper" in said for said in faults(form).values())


# --- trust ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "name",
    [
        "os.system",
        "builtins.eval",
        "torch.load",
        "torch.hub.load",
        "torch.jit.load",
        "torch.nn.modules.module.torch.load",
        "torch.nn.functional.linear",
        "torch.nn.utils.parametrize.register_parametrization",
        "torch.nn.utils.parametrize.ParametrizationList",
        "torch.nn.Parameter",
        "torch.nn.Module",
        "torch.nn.ParameterDict",
        "torch.nn.DataParallel",
        "torch.nn.parallel.DistributedDataParallel",
        "torch.nn.init.os",
        "torch.optim.Adam",
        "sklearn.svm.SVC",
        "sklearn.preprocessing.FunctionTransformer",
        "transformers.BertModel",
        "trainers.torch_module._Tensors",
    ],
)
def test_a_class_that_does_more_than_compute_is_refused(name: str) -> None:
    form = {"class": name, "params": ["touch /tmp/refitd-canary"]}
    assert "object.class" in faults(form)
    with pytest.raises(RefitdError):
        fit(document(form))
    inner = {"class": "torch.nn.Sequential", "params": [form]}
    assert "object.params.0.class" in faults(inner)


@pytest.mark.parametrize("place", ["module", "preprocess", "postprocess", "inner", "loss", "optimizer", "collate_fn"])
@pytest.mark.parametrize("how", ["unsigned", "another key", "another digest", "no digest"])
def test_code_that_nobody_vouches_for_never_runs(place: str, how: str, tmp_path: Path) -> None:
    canary = tmp_path / "canary"

    class Evil:
        def __reduce__(self) -> Any:
            return open, (str(canary), "w")

    shelf = Shelf()
    code = shelf.signed(Custom(Evil()), Key(b"another" if how == "another key" else b"a key of the tests"))
    if how == "unsigned":
        del code["signature"]
    elif how == "another digest":
        code["code"] = shelf.signed(Custom(len))["code"]
    elif how == "no digest":
        code["code"] = "/tmp/code.pickle"
    form: Any = {"module": LINEAR}
    keywords: dict[str, Any] = dict(QUICK)
    if place == "inner":
        form = {"class": "torch.nn.Sequential", "params": [code]}
    elif place in ("module", "preprocess", "postprocess"):
        form[place] = code
    else:
        keywords[place] = code
    of = document(form, shelf, fit_kwargs=keywords)
    said = [fault.message for fault in TRAINER.check(of, TRUST)]
    assert len(said) == 1
    assert "how to sign" in said[0] or "db.add(model)" in said[0]
    with pytest.raises(RefitdError):
        fit(of, shelf)
    assert not canary.exists()


def test_a_worker_without_the_key_runs_what_was_checked_for_it() -> None:
    shelf = Shelf()
    of = document(TRAINER.describe(TorchObject(nn.Linear(2, 1), postprocess=float)), shelf)
    trust = without_key(TRUST, of.model_dump(by_alias=True))
    assert trust.vouching.key is None
    fitted = TRAINER.fit(training(of, table(), trust=trust, shelf=shelf))
    found = TRAINER.load(TRAINER.save(fitted), of, trust, loader(trust, shelf))
    assert isinstance(TRAINER.predict(of, found, [[1.0, 2.0]])[0], float)
    with pytest.raises(Untrusted, match="REFITD_SIGNING_KEY"):
        TRAINER.load(TRAINER.save(fitted), of, Trust(), loader(Trust(), shelf))


def test_the_operator_s_own_modules_may_be_named() -> None:
    trust = Trust.adding(["tests.fixtures.estimators"], TRUST.vouching)
    said = faults({"class": "tests.fixtures.estimators.NoSuch"}, trust)
    assert said["object.class"].startswith("there is no `NoSuch`")


def test_code_that_makes_no_module_is_told() -> None:
    shelf = Shelf()
    with pytest.raises(TrainingFailed, match=r"gives a int; it must be an nn\.Module, or give one"):
        fit(document({"module": Custom(lambda: 5)}, shelf), shelf)
    with pytest.raises(TrainingFailed, match="called without arguments, and must give the module"):
        fit(document({"module": Custom(nn.Linear)}, shelf), shelf)


# --- artifacts --------------------------------------------------------------------------------------------------


class Tied(nn.Module):
    """Two layers of one weight, a buffer, and a view of a part."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Linear(2, 2)
        self.second = nn.Linear(2, 2)
        self.second.weight = self.first.weight
        self.register_buffer("part", self.first.weight.data[:1])
        self.last = nn.Linear(2, 1)

    def forward(self, x: Any) -> Any:
        return self.last(self.second(self.first(x)))


def test_tied_weights_are_stored_once_and_come_back_tied() -> None:
    shelf = Shelf()
    of = document(TRAINER.describe(Tied()), shelf)
    fitted = fit(of, shelf)
    data = TRAINER.save(fitted)
    found = TRAINER.load(data, of, TRUST, loader(TRUST, shelf)).model
    assert found.first.weight is found.second.weight
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        assert json.loads(archive.read("config.json"))["tied"] == {"module.second.weight": "module.first.weight"}
        assert archive.read("model.safetensors").count(b"weight") == 2
    for name, value in fitted.model.state_dict().items():
        assert torch.equal(value, found.state_dict()[name])


def test_equal_fits_have_equal_bytes() -> None:
    assert TRAINER.save(fit(document(LINEAR))) == TRAINER.save(fit(document(LINEAR)))


def changed(data: bytes, **members: bytes | None) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(data)) as old, zipfile.ZipFile(out, "w") as new:
        for name in old.namelist():
            given = members.get(name.replace(".", "_"), old.read(name))
            if given is not None:
                new.writestr(name, given)
    return out.getvalue()


def test_an_artifact_that_is_none_is_told() -> None:
    of = document(LINEAR)
    data = TRAINER.save(fit(of))
    wide = TRAINER.save(
        fit(document({"class": "torch.nn.Linear", "params": {"in_features": 2, "out_features": 1, "bias": False}}))
    )
    with zipfile.ZipFile(io.BytesIO(wide)) as archive:
        weights = archive.read("model.safetensors")
    for spoilt in (
        b"",
        b"PK\x03\x04",
        data[: len(data) // 2],
        changed(data, config_json=b"{"),
        changed(data, config_json=b"[]"),
        changed(data, model_safetensors=b"\x80\x04."),
        changed(data, model_safetensors=None),
        changed(data, model_safetensors=weights),
    ):
        with pytest.raises(ArtifactCorrupt, match="retrain"):
            TRAINER.load(spoilt, of, TRUST, loader())


def test_an_artifact_names_classes_under_the_same_trust(tmp_path: Path) -> None:
    of = document(LINEAR)
    data = TRAINER.save(fit(of))
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        config = json.loads(archive.read("config.json"))
    canary = tmp_path / "canary"
    for form in (
        {"class": "os.system", "params": [f"touch {canary}"]},
        {"code": "0" * 64},
        {"class": "torch.hub.load"},
    ):
        crafted = changed(data, config_json=json.dumps(config | {"object": form}).encode())
        with pytest.raises(Untrusted):
            TRAINER.load(crafted, of, TRUST, loader())
    assert not canary.exists()


def test_state_that_is_no_tensor_is_told() -> None:
    class Extra(nn.Linear):
        def get_extra_state(self) -> Any:
            return {"count": 3}

        def set_extra_state(self, state: Any) -> None:
            del state

    shelf = Shelf()
    fitted = fit(document(TRAINER.describe(Extra(2, 1)), shelf), shelf)
    with pytest.raises(TrainingFailed, match="`_extra_state` in its state is a dict, not a tensor"):
        TRAINER.save(fitted)


def test_a_walk_without_a_loader_loads_nothing() -> None:
    shelf = Shelf()
    forms = Forms(TRUST)
    assert isinstance(forms.module(shelf.signed(Custom(nn.Linear(2, 1))), "object"), nn.Identity)
    assert forms.faults == []


def test_what_takes_long_to_build_is_not_built_for_a_look() -> None:
    """It would hold up whoever reads documents."""
    params = {"input_size": 1, "hidden_size": 1, "num_layers": 10_000_000}
    forms = Forms(TRUST)
    forms.module({"class": "torch.nn.LSTM", "params": params}, "object")
    assert forms.faults == []
    forms.module({"class": "torch.nn.LSTM", "params": {**params, "layers": 2}}, "object")
    assert [fault.path for fault in forms.faults] == ["object.params"]
