"""Code of the user's own (a lambda, a class, an `nn.Module`), on its way from Python to a worker.

Code is pickled by value (cloudpickle), stored as an artifact under its digest, and named in the model document:

    {code: <sha256>, signature: <hex>, name: <lambda>, python: "3.11"}

Unpickling runs code, so it is done only for bytes whose digest somebody vouches for: by a signature with the
operator's key (HMAC-SHA256), checked where the key is, or, in a worker, by whoever checked it and sent the worker.
A signature says that this code may run here, not in which model.

Source: https://www.rfc-editor.org/rfc/rfc2104 (HMAC)
"""

from __future__ import annotations

import hmac
import io
import re
import site
import sys
import sysconfig
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from hashlib import sha256
from pathlib import Path
from typing import Any, Protocol

from registry.errors import Untrusted
from registry.tensors import is_tensor, reduced

#: What a signature is made over, before the digest: so that it means nothing elsewhere.
_PURPOSE = b"refitd code v1\n"
_FIELDS = ("code", "signature", "name", "python")
KEY_SETTING = "REFITD_SIGNING_KEY"
HOW_TO_SIGN = (
    "code is signed when Python adds the model: call db.add(model) or model.fit(db=db) where the operator's "
    f"{KEY_SETTING} is set (a running `refitd up` has one of its own)"
)


class Bytes(Protocol):
    """Where artifacts lie: `registry.store.Artifacts`, as far as it is needed here."""

    def get(self, digest: str) -> bytes:
        """The bytes under their digest, which is checked."""


@dataclass(frozen=True, slots=True)
class Custom:
    """A part of a model that no document can say, before it is stored and signed."""

    value: Any

    @property
    def name(self) -> str:
        """What it is called, for people."""
        named = getattr(self.value, "__qualname__", None) or type(self.value).__qualname__
        return str(named).rpartition(".")[2] or "code"


@dataclass(frozen=True, slots=True)
class Key:
    """The operator's signing key. Shows nothing of itself."""

    secret: bytes

    def __repr__(self) -> str:
        return "Key(…)"

    def sign(self, digest: str) -> str:
        """The signature of code with this digest, in hexadecimal."""
        return hmac.new(self.secret, _PURPOSE + digest.encode(), sha256).hexdigest()

    def signed(self, digest: str, signature: str) -> bool:
        """Whether that is its signature. Takes the same time for every wrong one."""
        return hmac.compare_digest(self.sign(digest).encode(), signature.encode(errors="surrogatepass"))


@dataclass(frozen=True, slots=True)
class Vouching:
    """Who says which code may run here: a key that checks signatures, or whoever checked them for us."""

    key: Key | None = None
    digests: frozenset[str] = frozenset()
    #: For who only judges documents and has no key to check signatures with: any passes, and no code is loaded.
    lenient: bool = False

    def check(self, form: Mapping[str, Any] | Custom) -> str:
        """The digest of code that may run here; nothing for a `Custom`, which is this process's own.

        Raises:
            Untrusted: nobody vouches for it, or the form is none; says why, and how to sign.
        """
        if isinstance(form, Custom):
            return ""
        digest, signature = _parsed(form)
        what = f"the code `{_shown(form.get('name'))}` ({digest[:12]}…)"
        if digest not in self.digests:
            if signature is None:
                raise Untrusted(f"{what} is not signed: {HOW_TO_SIGN}")
            if self.lenient:
                return digest
            if self.key is None:
                raise Untrusted(f"{what} can't be checked, since no {KEY_SETTING} is set here: {HOW_TO_SIGN}")
            if not self.key.signed(digest, signature):
                raise Untrusted(f"{what} was signed with another key, or changed after it was: {HOW_TO_SIGN}")
        return digest

    def passing_on(self, forms: Iterator[Mapping[str, Any]]) -> Vouching:
        """What a worker needs to run what these forms name: no key travels."""
        found = set()
        for form in forms:
            try:
                found.add(self.check(form))
            except Untrusted:
                continue  # the worker will say so
        return Vouching(None, frozenset(found))


@dataclass(frozen=True, slots=True)
class CodeLoader:
    """Makes objects of code forms."""

    vouching: Vouching
    artifacts: Bytes

    def load(self, form: Mapping[str, Any] | Custom) -> Any:
        """The object; of a `Custom`, which no datastore holds, what is in it.

        Raises:
            Untrusted: nobody vouches for the code, or it can't be read by this Python.
            NotFound, ArtifactCorrupt: its bytes are gone, or others.
        """
        if isinstance(form, Custom):
            return form.value
        digest = replace(self.vouching, lenient=False).check(form)
        made_by = form.get("python")
        if made_by != _python():
            raise Untrusted(
                f"the code `{_shown(form.get('name'))}` was made by Python {_shown(made_by)}, this is {_python()}: "
                "add the model again from the Python version that the workers run"
            )
        return _unpickled(self.artifacts.get(digest), str(form.get("name")))


def is_code(form: Any) -> bool:
    """Whether a value of a document means code. One that was never written down may hold the code itself."""
    return isinstance(form, Custom) or (isinstance(form, Mapping) and "code" in form)


def code_forms(value: Any) -> Iterator[Mapping[str, Any]]:
    """Every code form in a document's value, however deep."""
    if isinstance(value, Mapping) and is_code(value):
        yield value
    elif isinstance(value, Mapping):
        for each in value.values():
            yield from code_forms(each)
    elif isinstance(value, list | tuple):
        for each in value:
            yield from code_forms(each)


def written(value: Any, keep: Callable[[bytes], str], key: Key) -> Any:
    """A form in which every `Custom` is stored, signed and named.

    Args:
        keep: stores bytes; gives their digest.

    Raises:
        Untrusted: some part can't be pickled; names it.
    """
    if isinstance(value, Custom):
        digest = keep(pickled(value))
        return {"code": digest, "signature": key.sign(digest), "name": value.name, "python": _python()}
    if isinstance(value, Mapping):
        return {name: written(each, keep, key) for name, each in value.items()}
    if isinstance(value, list | tuple):
        return [written(each, keep, key) for each in value]
    return value


def pickled(custom: Custom) -> bytes:
    """Its bytes. What it takes from modules of the user's own, which a worker has not, goes with it.

    Raises:
        Untrusted: it holds something that can't be pickled, an open file for example.
    """
    import cloudpickle

    own = _own_module(custom.value)
    if own is not None:
        cloudpickle.register_pickle_by_value(own)
    out = io.BytesIO()
    try:
        _pickler()(out).dump(custom.value)
    except Exception as error:
        raise Untrusted(f"{custom.name} can't be sent to a worker: {type(error).__name__}: {error}") from error
    finally:
        if own is not None:
            cloudpickle.unregister_pickle_by_value(own)
    return out.getvalue()


def _pickler() -> Any:
    """cloudpickle's, but tensors go as plain bytes."""
    import cloudpickle

    torch = sys.modules.get("torch")

    class Pickler(cloudpickle.Pickler):  # type: ignore[misc]
        def reducer_override(self, value: Any) -> Any:
            if torch is not None and is_tensor(value, torch):
                return reduced(value, torch)
            return super().reducer_override(value)

    return Pickler


def _own_module(value: Any) -> Any:
    """The module that a value's code comes from, if it is installed nowhere; None for `__main__`, which
    cloudpickle sends anyway."""
    module = sys.modules.get(getattr(value, "__module__", None) or type(value).__module__)
    file = getattr(module, "__file__", None)
    if module is None or file is None or module.__name__ == "__main__":
        return None
    paths = sysconfig.get_paths()
    places = {paths[name] for name in ("stdlib", "platstdlib", "purelib", "platlib")}
    places |= {*site.getsitepackages(), site.getusersitepackages()}
    return None if any(Path(file).is_relative_to(place) for place in places) else module


def _unpickled(data: bytes, name: str) -> Any:
    import pickle

    try:
        return pickle.loads(data)
    except Exception as error:  # whatever the user's module raises while it is imported
        raise Untrusted(
            f"the code `{_shown(name)}` can't be made here: {type(error).__name__}: {error}; what it imports must be "
            "installed where the workers run"
        ) from error


def _parsed(form: Mapping[str, Any]) -> tuple[str, str | None]:
    digest, signature = form.get("code"), form.get("signature")
    extra = [str(name) for name in form if name not in _FIELDS]
    if not isinstance(digest, str) or not re.fullmatch(r"[0-9a-f]{64}", digest):
        raise Untrusted(f"`code` must be the SHA-256 digest of stored code, in hexadecimal: {HOW_TO_SIGN}")
    if extra:
        raise Untrusted(f"beside `code` there may only be {', '.join(_FIELDS[1:])}, not {', '.join(extra)}")
    return digest, signature if isinstance(signature, str) else None


def _python() -> str:
    return f"{sys.version_info.major}.{sys.version_info.minor}"


def _shown(value: Any) -> str:
    text = str(value)
    return text if len(text) <= 60 else f"{text[:57]}…"
