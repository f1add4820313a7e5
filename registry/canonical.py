"""One canonical text for a value of a document, so that equal documents have equal fingerprints."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any

from bson import json_util


def canonical_json(value: Any) -> str:
    """Canonical extended JSON (MongoDB's), keys sorted: the same text for the same value."""
    return json_util.dumps(_plain(value), json_options=json_util.CANONICAL_JSON_OPTIONS, sort_keys=True)


def fingerprint(value: Any) -> str:
    """The first 16 hexadecimal digits of the SHA-256 of `canonical_json(value)`."""
    return hashlib.sha256(canonical_json(value).encode()).hexdigest()[:16]


def key_of(identity: Any) -> str | tuple[str, str]:
    """A document's `_id` as a dictionary key: a name as it is; anything else, which no model can have, as a pair.

    A mapping can't be hashed, and Python takes 1, 1.0 and true for one key.
    """
    return identity if isinstance(identity, str) else (type(identity).__name__, canonical_json(identity))


def _plain(value: Any) -> Any:
    """Whole numbers alike: drivers and shells differ in whether 3 is a 32-bit, 64-bit or double value."""
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if isinstance(value, int) and not isinstance(value, bool):
        return int(value)
    if isinstance(value, float) and value.is_integer() and abs(value) < 2**53:
        return int(value)
    return value
