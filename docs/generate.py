"""Writes the tables of docs/ that come from the code: `python -m docs.generate`, from the repository's root.

Each stands between `<!-- generated: NAME -->` and `<!-- end -->`. A test fails where one is not what this would write.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from refitd.settings import CONFIG_VARIABLE, Settings, variables
from registry import errors
from registry.document import ModelDocument
from registry.durations import format_duration

DOCS = Path(__file__).parent
_BLOCK = re.compile(r"(<!-- generated: (\w+) -->\n).*?(<!-- end -->)", re.DOTALL)
#: Fields whose form in the JSON Schema, `string or number`, says less than this.
_DURATIONS = ("retrain.quiet", "retrain.max_wait", "retrain.cooldown", "timeout")
#: Meanings of fields that have no description of their own.
_MEANINGS = {
    "validation": "how a version is judged before it is published; without it there are no metrics",
    "retrain": "when pending changes lead to a fit",
    "resources": "what one fit may use on the Ray cluster",
    "resources.num_cpus": "CPU cores that Ray sets aside",
    "resources.num_gpus": "GPUs that Ray sets aside",
    "resources.num_workers": "1: a fit is one process",
}


def fields() -> str:
    """Every field of the model document, nested ones under their dotted path."""
    schema = ModelDocument.model_json_schema(by_alias=True)
    return _table(("field", "form", "default", "meaning"), _fields(schema, schema["$defs"], ""))


def _fields(part: Mapping[str, Any], defs: Mapping[str, Any], prefix: str) -> list[tuple[str, ...]]:
    rows: list[tuple[str, ...]] = []
    for name, field in part["properties"].items():
        path = f"{prefix}{name}"
        inner = _inner(field, defs)
        wanted = name in part.get("required", ())
        default = "*needed*" if wanted else _default(path, field)
        meaning = _MEANINGS.get(path) or field.get("description") or ""
        rows.append((f"`{path}`", _form(path, field, inner), default, meaning))
        if inner:
            rows += _fields(inner, defs, f"{path}.")
    return rows


def _inner(field: Mapping[str, Any], defs: Mapping[str, Any]) -> Mapping[str, Any] | None:
    for one in (field, *field.get("anyOf", ())):
        if "$ref" in one:
            found: Mapping[str, Any] = defs[one["$ref"].rpartition("/")[2]]
            return found
    return None


def _form(path: str, field: Mapping[str, Any], inner: Mapping[str, Any] | None) -> str:
    if path in _DURATIONS:
        return "duration"
    some = [one for one in field.get("anyOf", (field,)) if one.get("type") != "null"]
    return " or ".join(dict.fromkeys(_one_form(one) for one in some)) if some != [{}] else "anything"


def _one_form(one: Mapping[str, Any]) -> str:
    if "$ref" in one:
        return "mapping"
    if "const" in one:
        return f"`{one['const']}`"
    if "enum" in one:
        return ", ".join(f"`{value}`" for value in one["enum"])
    names = {"object": "mapping", "array": "list", "integer": "whole number", "boolean": "`true`, `false`"}
    kind = one.get("type")
    return names.get(kind, kind) + _bounds(one) if kind else "anything"


def _bounds(one: Mapping[str, Any]) -> str:
    words = {"exclusiveMinimum": ">", "minimum": "≥", "ge": "≥", "exclusiveMaximum": "<", "maximum": "≤"}
    said = [f"{sign} {one[key]:g}" for key, sign in words.items() if key in one]
    return f" {', '.join(said)}" if said else ""


def _default(path: str, field: Mapping[str, Any]) -> str:
    value = field.get("default")
    if value is None:
        return "–"
    if path in _DURATIONS:
        return f"`{format_duration(value)}`"
    return f"`{str(value).lower() if isinstance(value, bool) else value}`"


def settings() -> str:
    """Every variable of the environment, with its key in the TOML file and its default."""
    rows: list[tuple[str, ...]] = [(f"`{CONFIG_VARIABLE}`", "", "`refitd.toml`", "the TOML file of settings")]
    for variable, meaning in variables():
        parts = variable.removeprefix("REFITD_").lower().split("__")
        rows.append((f"`{variable}`", f"`{'.'.join(parts)}`", _setting(parts), meaning))
    return _table(("variable", "in the file", "default", "meaning"), rows)


def _setting(parts: list[str]) -> str:
    value: Any = Settings.model_construct()
    for part in parts:
        value = getattr(value, part)
    if value is None or value == ():
        return "–"
    return f"`{format_duration(value)}`" if isinstance(value, float) else f"`{value}`"


def error_tree() -> str:
    """The tree that `registry/errors.py` draws."""
    lines = (errors.__doc__ or "").splitlines()
    tree = [line.removeprefix("    ") for line in lines if line.startswith("    ")]
    return "```text\n" + "\n".join(tree) + "\n```\n"


TABLES: Mapping[str, Callable[[], str]] = {"fields": fields, "settings": settings, "errors": error_tree}


def _table(head: tuple[str, ...], rows: list[tuple[str, ...]]) -> str:
    lines = [head, ("---",) * len(head), *rows]
    return "".join("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |\n" for line in lines)


def generated(text: str) -> str:
    """A page with its blocks written anew; those that others write stay."""
    return _BLOCK.sub(lambda found: found[1] + TABLES[found[2]]() + found[3] if found[2] in TABLES else found[0], text)


def stale() -> list[Path]:
    """The pages whose tables are not what the code says."""
    return [page for page in sorted(DOCS.glob("*.md")) if generated(page.read_text()) != page.read_text()]


if __name__ == "__main__":
    for page in stale():
        page.write_text(generated(page.read_text()))
