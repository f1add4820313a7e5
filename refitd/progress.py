"""How far a fit is, shown while a person waits for it: a bar on a terminal, nothing elsewhere."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Protocol


class Watch(Protocol):
    """Told what a fit's `progress` says: `stage`, `fraction` and `message`."""

    def __call__(self, progress: Mapping[str, Any], /) -> None:
        """Cheap; called often."""


@contextmanager
def shown_progress(title: str) -> Iterator[Watch]:
    """A bar on stderr for as long as this lasts."""
    if not sys.stderr.isatty():
        yield _silent
        return
    from rich.console import Console
    from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

    columns = (
        SpinnerColumn(),
        TextColumn("[bold]{task.description}"),
        BarColumn(bar_width=24),
        TextColumn("{task.fields[stage]} {task.fields[message]}", style="dim"),
        TimeElapsedColumn(),
    )
    with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task(title, total=None, stage="queued", message="")

        def tell(said: Mapping[str, Any], /) -> None:
            fraction = said.get("fraction")
            progress.update(
                task,
                total=None if fraction is None else 1.0,
                completed=fraction or 0.0,
                stage=said.get("stage", ""),
                message=said.get("message", ""),
            )

        yield tell


def _silent(progress: Mapping[str, Any], /) -> None:
    pass
