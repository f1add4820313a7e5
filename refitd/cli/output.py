"""What the command prints: one JSON document, or text for people; errors in the same two forms."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import click

from registry.errors import DocumentInvalid, RefitdError
from registry.redaction import redact

#: How each state looks on a terminal.
COLOURS = {
    "fresh": "green", "waiting": "yellow", "queued": "cyan", "fitting": "cyan", "failing": "red",
    "invalid": "red", "paused": "magenta", "published": "green", "running": "cyan", "failed": "red",
    "lost": "red", "cancelled": "yellow",
}  # fmt: skip


def emit(json: bool, value: Any, human: Callable[[], None]) -> None:
    """Print `value` as one JSON document, or have `human` print it for people."""
    if json:
        from refitd.plain import to_json

        click.echo(to_json(value))
    else:
        human()


def table(columns: Sequence[str], rows: Iterable[Sequence[Any]]) -> None:
    """Aligned columns; on a terminal with colours for states, and lines cut where it ends."""
    texts = [[" ".join(_cell(value).split()) for value in row] for row in rows]
    widths = [max(len(row[at]) for row in (columns, *texts)) for at in range(len(columns))]
    room = shutil.get_terminal_size().columns if is_terminal() else None
    click.echo(_line(columns, widths, room, lambda text: click.style(text, bold=True)))
    for row in texts:
        click.echo(_line(row, widths, room, _painted))


def _line(row: Sequence[str], widths: Sequence[int], room: int | None, paint: Callable[[str], str]) -> str:
    """One line, no longer than `room`; colours don't count."""
    shown: list[str] = []
    used = 0
    for text, width in zip(row, widths, strict=True):
        left = width if room is None else min(width, room - used)
        if left <= 1:
            break
        cut = text if len(text) <= left else f"{text[: left - 1]}…"
        shown.append(paint(cut) + " " * (left - len(cut)))
        used += left + 2
    return "  ".join(shown).rstrip()


def pairs(rows: Iterable[tuple[str, Any]]) -> None:
    """Names and values, one a line; None is left out."""
    listed = [(name, _cell(value)) for name, value in rows if value is not None]
    width = max((len(name) for name, _ in listed), default=0)
    for name, text in listed:
        first, *more = text.splitlines() or [""]
        click.echo(f"{click.style(name.ljust(width), dim=True)}  {_painted(first)}")
        for line in more:
            click.echo(f"{' ' * width}  {line}")


def note(text: str) -> None:
    """Something to know that is not the answer: on stderr."""
    click.echo(click.style(redact(text), dim=True), err=True)


def warn(text: str) -> None:
    """Something that somebody should mend: on stderr."""
    click.echo(f"{click.style('warning:', fg='yellow')} {redact(text)}", err=True)


def is_terminal() -> bool:
    """Whether stdout is a person's."""
    return sys.stdout.isatty()


def report_error(error: click.ClickException | RefitdError, arguments: Sequence[str]) -> None:
    """Say what went wrong: as JSON on stdout where that was asked for, else on stderr."""
    if "--json" in arguments:
        from refitd.plain import to_json

        click.echo(to_json(error_row(error)))
        return
    if isinstance(error, click.ClickException):
        error.show()
        return
    click.echo(f"{click.style('error:', fg='red', bold=True)} {_lines(error)}", err=True)


def error_row(error: click.ClickException | RefitdError) -> dict[str, Any]:
    """`{"error": …}`, with `faults` where a document has some."""
    said = error.format_message() if isinstance(error, click.ClickException) else str(error)
    row: dict[str, Any] = {"error": redact(said)}
    if isinstance(error, DocumentInvalid):
        row["faults"] = [{"path": fault.path, "message": redact(fault.message)} for fault in error.faults]
    return row


def _lines(error: RefitdError) -> str:
    if isinstance(error, DocumentInvalid) and len(error.faults) > 1:
        listed = "".join(f"\n  {redact(fault)}" for fault in error.faults)
        return f"{len(error.faults)} faults, so nothing was written:{listed}"
    return redact(error)


def _cell(value: Any) -> str:
    if value is None:
        return "-"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:.4g}"
    return str(value)


def _painted(text: str) -> str:
    colour = COLOURS.get(text)
    return click.style(text, fg=colour) if colour else text
