"""Are the `registry`, `listener` and `trainers` that Python finds those that belong to this `refitd`?

The names are common ones: a folder `registry/` in the directory that a program is started from comes first on
`sys.path`, and the failure would otherwise be an ImportError far from its cause.
"""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

SIBLINGS = ("registry", "listener", "trainers")


def check_siblings(root: Path | None = None) -> None:
    """Raise ImportError, naming both folders, if one of ours is shadowed or missing.

    `root` is the folder that holds the four packages (default: where this `refitd` lies). Nothing is
    imported.
    """
    root = (root or Path(__file__).parent.parent).resolve()
    for name in SIBLINGS:
        found = _found(name)
        if found != root / name:
            raise ImportError(_message(name, root / name, found), name=name)


def _found(name: str) -> Path | None:
    """The folder or file that `import name` would use, or None."""
    try:
        spec = find_spec(name)
    except ValueError:  # it is in sys.modules already, and was put there without a spec
        return None
    if spec is None:
        return None
    if spec.origin is None:  # a namespace package: a folder without __init__.py
        folders = list(spec.submodule_search_locations or ())
        return Path(folders[0]).resolve() if folders else None
    origin = Path(spec.origin).resolve()
    return origin.parent if origin.name == "__init__.py" else origin


def _message(name: str, wanted: Path, found: Path | None) -> str:
    if found is None:
        return f"refitd's own package {name!r} was not found; it belongs at {wanted}: install refitd again"
    return (
        f"{found} shadows refitd's own package {name!r} at {wanted}: rename it, or start from another folder "
        f"than {found.parent}, or take that folder off sys.path"
    )
