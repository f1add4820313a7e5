"""The house: each layer imports only those below it, Ray is imported in one place, files stay small."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections import defaultdict
from pathlib import Path

import pytest

from refitd._siblings import check_siblings
from tests.fixtures.imports import LAYERS, ROOT, Import, all_imports, find_cycle, imports_of, sources

FILE_LINES = 300
FUNCTION_LINES = 40

# `package/file.py` or `package/file.py:function` → why it may be longer. Keep it tiny.
LONG_BECAUSE: dict[str, str] = {}

HEAVY = ("torch", "transformers", "ray", "sklearn", "pandas", "pyarrow", "numpy", "pymongo", "pydantic")


def layer_of(module: str) -> int | None:
    top = module.partition(".")[0]
    return LAYERS.index(top) if top in LAYERS else None


def runs_up(found: Import) -> bool:
    importer, imported = layer_of(found.importer), layer_of(found.imported)
    return importer is not None and imported is not None and imported < importer


def imports_in(source: str, path: str) -> list[Import]:
    return list(imports_of(source, ROOT / path, {"registry.errors", "refitd.cli", "trainers.sklearn"}))


def test_no_layer_imports_one_above_it() -> None:
    assert [f"{found.where} imports {found.imported}" for found in all_imports() if runs_up(found)] == []


def test_no_layer_imports_the_tests_or_the_benchmarks() -> None:
    tops = {"tests", "bench"}
    assert [found.where for found in all_imports() if found.imported.partition(".")[0] in tops] == []


def test_ray_is_imported_in_its_place_alone() -> None:
    of_ray = [found for found in all_imports() if found.imported.partition(".")[0] == "ray"]
    assert [found.where for found in of_ray if not found.importer.startswith("trainers.ray")] == []


def test_no_import_cycle_within_a_layer() -> None:
    # Imports for types and in functions count too: a circle that only runs late is still a circle.
    edges: dict[str, set[str]] = defaultdict(set)
    for found in all_imports():
        if layer_of(found.importer) == layer_of(found.imported):
            edges[found.importer].add(found.imported)
    assert find_cycle(dict(edges)) is None


@pytest.mark.parametrize(
    "source",
    [
        "import refitd.cli",
        "from refitd import cli",
        "def late():\n    from refitd.cli import main",
        "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    import refitd",
        "from importlib import import_module\nimport_module('refitd.cli')",
        "import importlib\nimportlib.import_module('listener.daemon')",
        "try:\n    import listener\nexcept ImportError:\n    listener = None",
    ],
)
def test_the_test_sees_an_import_that_runs_up(source: str) -> None:
    assert any(runs_up(found) for found in imports_in(source, "trainers/sklearn.py"))


@pytest.mark.parametrize(
    ("source", "imported"),
    [
        ("from registry import errors", "registry.errors"),
        ("from registry.errors import NotFound", "registry.errors"),
        ("from . import sklearn", "trainers.sklearn"),
        ("from .sklearn import fit", "trainers.sklearn"),
    ],
)
def test_the_test_names_what_is_imported(source: str, imported: str) -> None:
    assert [found.imported for found in imports_in(source, "trainers/fit.py")] == [imported]


def test_the_test_sees_a_cycle() -> None:
    assert find_cycle({"a": {"b"}, "b": {"c", "d"}, "c": set(), "d": {"b"}}) == ["b", "d", "b"]
    assert find_cycle({"a": {"b", "c"}, "b": {"c"}, "c": set()}) is None


def test_importing_refitd_loads_nothing_heavy() -> None:
    code = f"import refitd, sys; print([name for name in {HEAVY!r} if name in sys.modules])"
    run = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert run.stdout == "[]\n"


def test_every_public_name_of_refitd_can_be_loaded() -> None:
    import refitd

    missing = [name for name in refitd._HOME if getattr(refitd, name, None) is None]
    assert missing == []
    with pytest.raises(AttributeError, match="no attribute 'Estimater'"):
        refitd.Estimater  # noqa: B018


def test_our_own_siblings_are_accepted() -> None:
    check_siblings()


def test_a_shadowing_folder_is_named(tmp_path: Path) -> None:
    (tmp_path / "registry").mkdir()
    (tmp_path / "registry" / "__init__.py").write_text("")
    code = f"import sys; sys.path.append({str(ROOT)!r}); import refitd"
    run = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=False)
    error = run.stderr.splitlines()[-1]
    assert error.startswith(f"ImportError: {tmp_path / 'registry'} shadows refitd's own package 'registry'")
    assert str(ROOT / "registry") in error


def test_a_missing_sibling_is_named(tmp_path: Path) -> None:
    with pytest.raises(ImportError, match=f"belongs at {tmp_path}|shadows"):
        check_siblings(tmp_path)


def test_no_file_is_too_long() -> None:
    long = {str(path.relative_to(ROOT)): len(path.read_text().splitlines()) for path in sources()}
    over = {name: lines for name, lines in long.items() if lines > FILE_LINES and name not in LONG_BECAUSE}
    assert over == {}


def code_lines(function: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    """Its lines from `def` on, without the docstring."""
    docstring = function.body[0] if ast.get_docstring(function) is not None else None
    spared = (docstring.end_lineno or 0) - docstring.lineno + 1 if docstring else 0
    return (function.end_lineno or 0) - function.lineno + 1 - spared


def test_no_function_is_too_long() -> None:
    over = {}
    for path in sources():
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and code_lines(node) > FUNCTION_LINES:
                over[f"{path.relative_to(ROOT)}:{node.name}"] = code_lines(node)
    assert {name: lines for name, lines in over.items() if name not in LONG_BECAUSE} == {}
