"""The operator's signing key, and Python code of the user's own made ready for a document."""

from __future__ import annotations

import contextlib
import os
import secrets
import warnings
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from typing import Any

from registry.code import HOW_TO_SIGN, KEY_SETTING, Custom, Key, Vouching, written
from registry.errors import SettingsInvalid, Untrusted
from registry.trust import Trust

#: A key with fewer characters is warned of.
_LEAST_KEY = 16


def read_key(path: Path) -> Key:
    """The key that a file holds. Raises `SettingsInvalid`: it can't be read, or is empty."""
    try:
        secret = path.read_bytes().strip()
    except OSError as error:
        raise SettingsInvalid(f"the signing key's file {path} can't be read: {error.strerror}") from None
    return checked_key(secret, f"the signing key's file {path}")


def checked_key(secret: bytes, what: str) -> Key:
    """The key. Warns of one so short that it can be guessed from a signature. Raises `SettingsInvalid`: it is empty."""
    secret = secret.strip()
    advice = "`openssl rand -hex 32` makes a good one"
    if not secret:
        raise SettingsInvalid(f"{what} is empty, and anybody could sign with that: {advice}")
    if len(secret) < _LEAST_KEY:
        warnings.warn(f"{what} is so short that who reads a document may guess it: {advice}", stacklevel=2)
    return Key(secret)


def kept_key(path: Path) -> Path:
    """A file with a key of this place's own, made where there is none; readable by its owner alone."""
    if path.exists():
        return path
    new = path.with_name(f"{path.name}.{secrets.token_hex(4)}")  # whole or not at all, whenever this is killed
    with os.fdopen(os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as out:
        out.write(secrets.token_hex(32))
    with contextlib.suppress(FileExistsError):
        os.link(new, path)
    new.unlink()
    return path


@lru_cache(maxsize=1)
def process_key() -> Key:
    """The key of a process that was given none: it may run what it wrote itself, and nobody else's code."""
    return Key(secrets.token_bytes(32))


def trusted_here(trust: Trust) -> Trust:
    """The operator's trust, with this process's own key where the operator has none."""
    if trust.vouching.key is not None:
        return trust
    return replace(trust, vouching=Vouching(process_key(), trust.vouching.digests))


def judging(trust: Trust) -> Trust:
    """The trust to judge documents by that others will fit: without an operator's key signatures can't be checked."""
    if trust.vouching.key != process_key():
        return trust
    return replace(trust, vouching=replace(trust.vouching, lenient=True))


def signed(
    document: Mapping[str, Any], trust: Trust, keep: Callable[[bytes], str], *, for_daemon: bool
) -> dict[str, Any]:
    """The document with its code stored and signed; as it is where it has none.

    Args:
        keep: stores bytes as an artifact; its digest.
        for_daemon: whether only a daemon will run it, so that a key of this process alone makes no sense.

    Raises:
        Untrusted: some part can't be pickled, or no key is set and only a daemon could use it.
    """
    names = [custom.name for custom in _customs(document)]
    if not names:
        return dict(document)
    key = trust.vouching.key
    assert key is not None
    if key == process_key():
        said = f"{', '.join(f'`{name}`' for name in names)} is code of your own, and no {KEY_SETTING} is set here"
        if for_daemon:
            raise Untrusted(f"{said}: the daemon would refuse it; {HOW_TO_SIGN}")
        warnings.warn(f"{said}: this process may fit it, a daemon will not; {HOW_TO_SIGN}", stacklevel=4)
    made: dict[str, Any] = written(document, keep, key)
    return made


def _customs(value: Any) -> list[Custom]:
    if isinstance(value, Custom):
        return [value]
    inner = value.values() if isinstance(value, Mapping) else value if isinstance(value, list | tuple) else ()
    return [found for each in inner for found in _customs(each)]
