"""Code of the user's own: what is signed runs, and nothing else is ever unpickled."""

from __future__ import annotations

import pickle
import sys
import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
import torch

from registry.artifacts import digest_of, verified
from registry.code import CodeLoader, Custom, Key, Vouching, code_forms, is_code, pickled, written
from registry.errors import ArtifactCorrupt, Untrusted
from registry.trust import Trust
from tests.fixtures.training import Shelf

KEY = Key(b"the operator's")
SIGNED = Vouching(KEY)


class Checked(Shelf):
    """A shelf that checks digests, as every store of artifacts does."""

    def get(self, digest: str) -> bytes:
        return verified(digest, super().get(digest), "here")


@pytest.fixture
def shelf() -> Checked:
    return Checked()


def canary(path: Path) -> bytes:
    """A pickle that touches a file when it is loaded."""

    class Bomb:
        def __reduce__(self) -> tuple[Any, ...]:
            return Path.touch, (path,)

    return pickle.dumps(Bomb())


def test_what_was_signed_is_made_again(shelf: Checked) -> None:
    factor = 3
    form = shelf.signed({"f": Custom(lambda x: x * factor), "kept": [1, {"a": None}]}, KEY)
    assert form["kept"] == [1, {"a": None}]
    assert set(form["f"]) == {"code", "signature", "name", "python"}
    assert form["f"]["name"] == "<lambda>"
    assert CodeLoader(SIGNED, shelf).load(form["f"])(2) == 6


def test_a_module_keeps_its_weights_and_what_they_share(shelf: Checked) -> None:
    module = torch.nn.Sequential(torch.nn.Linear(2, 2), torch.nn.Linear(2, 2))
    module[1].weight = module[0].weight
    module.register_buffer("small", torch.ones(3, dtype=torch.bfloat16))
    module[0].bias.requires_grad = False
    form = shelf.signed(Custom(module), KEY)
    assert not any(b"_load_from_bytes" in data for data in shelf.held.values()), "that leads to torch.load"
    made = CodeLoader(SIGNED, shelf).load(form)
    assert all(torch.equal(made.state_dict()[name], value) for name, value in module.state_dict().items())
    assert made[1].weight is made[0].weight
    assert (made.small.dtype, made[0].bias.requires_grad, made[0].weight.requires_grad) == (torch.bfloat16, False, True)


def changed(form: Mapping[str, Any], **fields: Any) -> dict[str, Any]:
    return {name: value for name, value in {**form, **fields}.items() if value is not None}


@pytest.mark.parametrize(
    ("change", "vouching", "words"),
    [
        (lambda form: changed(form, signature=None), SIGNED, "is not signed"),
        (lambda form: changed(form, signature="00"), SIGNED, "another key, or changed"),
        (lambda form: changed(form, signature=5), SIGNED, "is not signed"),
        (lambda form: changed(form, signature="é"), SIGNED, "another key, or changed"),
        (lambda form: changed(form, code=digest_of(b"another")), SIGNED, "another key, or changed"),
        (lambda form: changed(form, code="../x"), SIGNED, "must be the SHA-256 digest"),
        (lambda form: changed(form, more=1), SIGNED, "more"),
        (dict, Vouching(Key(b"somebody's")), "another key"),
        (dict, Vouching(), "no REFITD_SIGNING_KEY is set"),
        (lambda form: changed(form, python="2.7"), SIGNED, "was made by Python 2.7"),
    ],
    ids=[
        "unsigned", "forged", "no text", "no hexadecimal", "other code", "a path", "more", "another key", "no key",
        "another Python",
    ],
)  # fmt: skip
def test_whatever_nobody_vouches_for_is_not_touched(
    change: Callable[[Any], dict[str, Any]], vouching: Vouching, words: str, shelf: Checked, tmp_path: Path
) -> None:
    form = written(Custom(Path(tmp_path / "canary").touch), shelf.put, KEY)
    shelf.held[form["code"]] = canary(tmp_path / "canary")
    with pytest.raises(Untrusted, match=words):
        CodeLoader(vouching, shelf).load(change(form))
    assert not (tmp_path / "canary").exists()


def test_other_bytes_under_a_signed_digest_are_not_unpickled(shelf: Checked, tmp_path: Path) -> None:
    form = shelf.signed(Custom(len), KEY)
    shelf.held[form["code"]] = canary(tmp_path / "canary")
    with pytest.raises(ArtifactCorrupt):
        CodeLoader(SIGNED, shelf).load(form)
    assert not (tmp_path / "canary").exists()


def test_a_worker_gets_no_key_and_runs_what_was_checked(shelf: Checked) -> None:
    form = shelf.signed({"a": Custom(len), "b": [{"c": Custom(max)}]}, KEY)
    document = {"object": form, "fit_kwargs": {"loss": {"code": digest_of(b"x"), "signature": "00", "name": "x"}}}
    trust = Trust(("a",), SIGNED).travelling(document)
    assert trust.modules == ("a",)
    assert trust.vouching.key is None
    assert b"the operator's" not in pickle.dumps(trust)
    assert trust.vouching.digests == {one["code"] for one in code_forms(form)}
    assert CodeLoader(trust.vouching, shelf).load(form["a"])("abc") == 3
    with pytest.raises(Untrusted):
        CodeLoader(trust.vouching, shelf).load(document["fit_kwargs"]["loss"])


def test_who_only_judges_loads_nothing(shelf: Checked) -> None:
    form = shelf.signed(Custom(len), KEY)
    lenient = Vouching(Key(b"another"), lenient=True)
    assert lenient.check(form) == form["code"]
    with pytest.raises(Untrusted, match="is not signed"):
        lenient.check(changed(form, signature=None))
    with pytest.raises(Untrusted, match="another key"):
        CodeLoader(lenient, shelf).load(form)


def test_a_key_shows_nothing_of_itself() -> None:
    assert "operator" not in f"{KEY} {Vouching(KEY)} {Trust(vouching=SIGNED)}"


def test_code_that_was_never_written_down_is_itself(shelf: Checked) -> None:
    assert is_code(Custom(len))
    assert CodeLoader(Vouching(), shelf).load(Custom(len)) is len


def test_code_of_a_module_that_is_not_installed_goes_along(
    tmp_path: Path, shelf: Checked, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = "BASE = 40\ndef helper(x):\n    return BASE + x\ndef top(x):\n    return helper(x)\n"
    (tmp_path / "mine_alone.py").write_text(source)
    monkeypatch.syspath_prepend(tmp_path)
    import mine_alone  # type: ignore[import-not-found]

    form = shelf.signed(Custom(mine_alone.top), KEY)
    monkeypatch.delitem(sys.modules, "mine_alone")
    monkeypatch.setattr(sys, "path", [path for path in sys.path if path != str(tmp_path)])
    assert CodeLoader(SIGNED, shelf).load(form)(2) == 42


def test_what_can_not_travel_is_told() -> None:
    lock = threading.Lock()
    with pytest.raises(Untrusted, match=r"<lambda> can't be sent to a worker"):
        pickled(Custom(lambda: lock.locked()))


def test_only_parts_that_may_hold_code_are_looked_at(shelf: Checked) -> None:
    form = shelf.signed(Custom(len), KEY)
    assert Trust(vouching=SIGNED).travelling({"object": {}, "retrain_now": form}).vouching.digests == frozenset()
