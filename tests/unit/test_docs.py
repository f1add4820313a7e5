"""The documentation names everything that there is, and nothing that there isn't."""

from __future__ import annotations

import inspect
import re
import runpy
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import pytest

import refitd
from listener.status import STATES
from refitd.cli import COMMANDS
from refitd.database import Database
from refitd.settings import CONFIG_VARIABLE, variables
from registry import errors
from registry.document import ModelDocument
from registry.records import FitState
from registry.trust import DEFAULT_MODULES

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
PAGES = sorted([*DOCS.glob("*.md"), *ROOT.glob("*.md"), *(ROOT / "deploy").rglob("*.md")])


def text(name: str) -> str:
    return (ROOT / name).read_text()


def missing(names: Iterable[str], page: str) -> list[str]:
    """Those that the page doesn't name as code."""
    code = " ".join(re.findall(r"`[^`\n]+`|```.*?```", text(page), re.DOTALL))
    return [name for name in names if not re.search(rf"(?<!\w){re.escape(name)}(?![\w-])", code)]


def test_every_command() -> None:
    assert missing([f"refitd {name}" for name in COMMANDS], "docs/cli.md") == []


@pytest.mark.parametrize("name", sorted(COMMANDS))
def test_every_option_of(name: str) -> None:
    from refitd.cli import cli

    command = cli.get_command(None, name)  # type: ignore[arg-type]
    assert command is not None
    options = [max(one.opts, key=len) for one in command.params if one.opts[0].startswith("-")]
    assert missing(options, "docs/cli.md") == []


def test_no_command_that_there_is_not() -> None:
    written = {
        name
        for page in PAGES
        for code in re.findall(r"`[^`\n]+`|```console.*?```", page.read_text(), re.DOTALL)
        for name in re.findall(r"(?:^`|\$ |^|; |`)refitd ([a-z]+)", code, re.MULTILINE)
    }
    assert written - set(COMMANDS) == set()


def test_every_setting() -> None:
    assert missing([CONFIG_VARIABLE, *(name for name, _ in variables())], "docs/operating.md") == []


def test_no_setting_that_there_is_not() -> None:
    known = {CONFIG_VARIABLE, *(name for name, _ in variables())}
    written = {name for page in PAGES for name in re.findall(r"\bREFITD_[A-Z_]+\b", page.read_text())}
    assert written - known == set()


def test_every_field_of_the_document() -> None:
    assert missing(_fields(ModelDocument), "docs/model-document.md") == []


def _fields(part: Any) -> Iterator[str]:
    schema = part.model_json_schema(by_alias=True)
    for one in (schema, *schema["$defs"].values()):
        yield from one["properties"]


def test_every_state() -> None:
    assert missing(STATES, "docs/model-document.md") == []
    drawn = text("docs/how-it-works.md")
    assert [state for state in FitState if state not in drawn] == []


def test_every_error() -> None:
    kinds = [
        name
        for name, kind in vars(errors).items()
        if inspect.isclass(kind) and issubclass(kind, Exception) and kind.__module__ == errors.__name__
    ]
    assert missing(kinds, "docs/python.md") == []
    assert [name for name in kinds if not hasattr(refitd, name)] == []


def test_every_exported_name() -> None:
    assert missing(refitd._HOME, "docs/python.md") == []


def test_every_method_of_a_database() -> None:
    methods = [f"db.{name}" for name in vars(Database) if not name.startswith("_")]
    assert missing(methods, "docs/python.md") == []


def test_what_is_trusted_by_default() -> None:
    assert missing(DEFAULT_MODULES, "docs/security.md") == []


def test_generated_tables_are_fresh() -> None:
    stale = runpy.run_path(str(DOCS / "generate.py"))["stale"]()
    assert stale == [], "python -m docs.generate"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_relative_links_resolve(page: Path) -> None:
    broken = []
    for target in re.findall(r"\]\(([^)\s]+)\)", page.read_text()):
        if re.match(r"[a-z]+:", target):
            continue
        path, _, anchor = target.partition("#")
        found = (page.parent / path).resolve() if path else page
        if not found.exists() or (anchor and anchor not in _anchors(found)):
            broken.append(target)
    assert broken == []


def _anchors(page: Path) -> set[str]:
    """GitHub's: in lower case, without punctuation, spaces as hyphens."""
    headings = re.findall(r"^#+ (.+)$", page.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def test_named_tests_exist() -> None:
    gone = []
    for path, name in re.findall(r"`(tests/[\w/]+\.py)(?:::(\w+))?`", "".join(map(Path.read_text, PAGES))):
        file = ROOT / path
        if not file.exists() or f"def {name}" not in file.read_text():
            gone.append(f"{path}::{name}")
    assert gone == []


def test_the_readme_names_the_test_command() -> None:
    assert "`make test`" in text("README.md")


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_tables_are_whole(page: Path) -> None:
    """Every row of a table has as many cells as its head."""
    uneven = []
    for block in re.findall(r"(?:^\|.*\n)+", re.sub(r"```.*?```", "", page.read_text(), flags=re.DOTALL), re.MULTILINE):
        counts = {len(re.findall(r"(?<!\\)\|", line)) for line in block.splitlines()}
        if len(counts) > 1:
            uneven.append(block.splitlines()[0])
    assert uneven == []
