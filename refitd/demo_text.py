"""What the demo says: lively on a terminal, plain lines elsewhere."""

from __future__ import annotations

import sys
import textwrap
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click

from refitd.views import describe_reason

_BAR = 24
_WIDTH = 118
_COLUMN = 29
_LINE = "  {version:>7}  {rows:>5}  {accuracy:<8}  {bar}  {after:>6}  {because}"


@dataclass(frozen=True, slots=True)
class Words:
    """What is said of one kind of datastore."""

    title: str
    """What people call it."""
    followed: str
    """What the daemon followed."""
    up: str
    """The command that starts one."""
    insert: str
    """How a model document is added without us."""
    example: str
    """What a URI looks like."""


#: By kind of datastore.
WORDS: Mapping[str, Words] = {
    "mongodb": Words(
        title="MongoDB",
        followed="MongoDB's change stream",
        up="refitd up",
        insert='insert it into "refitd.models" with any client',
        example="mongodb://…",
    ),
    "postgresql": Words(
        title="PostgreSQL",
        followed="PostgreSQL's log through a replication slot",
        up="refitd up --datastore postgresql",
        insert="insert it into refitd.models with psql or any driver",
        example="postgresql://…",
    ),
}


class Voice:
    """Writes to stdout, or to stderr where stdout is for a JSON document."""

    def __init__(self, *, err: bool) -> None:
        self._err = err
        stream = sys.stderr if err else sys.stdout
        self._lively = stream.isatty()
        self._steps = 0

    def title(self, folder: Path) -> None:
        """What this is."""
        self._say(click.style("refitd demo", bold=True) + f": everything is real and lies in {folder}")
        self._say()

    @contextmanager
    def busy(self, what: str) -> Iterator[None]:
        """A spinner while something takes its time."""
        if not self._lively:
            yield
            return
        from rich.console import Console

        with Console(stderr=self._err).status(f"[dim]{what}…"):
            yield

    def done(self, what: str) -> None:
        """Something is there."""
        self._say(f"{click.style('✓', fg='green')} {what}")

    def step(self, what: str) -> None:
        """The next thing that happens."""
        self._steps += 1
        self._say()
        self._say(click.style(f"{self._steps}. {what}", bold=True))

    def document(self, lines: Sequence[str]) -> None:
        """The model document, as it is written; its fields are indented."""
        for line in lines:
            self._say(click.style(f"   {line}", fg="cyan" if line.startswith(" ") else None))

    def header(self) -> None:
        """Above the versions."""
        names = {"version": "version", "rows": "rows", "accuracy": "accuracy", "bar": " " * _BAR, "after": "after"}
        self._say()
        self._say(click.style(_LINE.format(**names, because="because"), dim=True))

    def version(self, row: Mapping[str, Any]) -> None:
        """A version that was published."""
        accuracy = float(row["metrics"].get("accuracy", 0.0))
        filled = round(accuracy * _BAR)
        bar = click.style("█" * filled, fg="green") + click.style("░" * (_BAR - filled), dim=True)
        shown = {
            "version": row["version"],
            "rows": row["rows"],
            "accuracy": f"{accuracy:.4f}",
            "bar": bar,
            "after": f"{row['seconds_after_write']:.1f} s",
            "because": describe_reason(row["reason"]),
        }
        self._say(_LINE.format(**shown))

    def nothing(self, what: str) -> None:
        """Nothing happened, as it should be."""
        self._say(click.style(f"  {what}", fg="yellow"))

    def summary(self, versions: Sequence[Mapping[str, Any]], seconds: float, words: Words) -> None:
        """What was seen, and what to do next."""
        ways = " → ".join(f"{row['metrics'].get('accuracy', 0.0):.3f}" for row in versions)
        self._say()
        self._say(click.style(f"{len(versions)} versions in {seconds:.0f} s, accuracy {ways}", bold=True))
        self._say()
        self._say(textwrap.fill(_EXPLANATION.format(followed=words.followed), _WIDTH))
        self._say()
        self._say("Try next:")
        listed = list(_next(words))
        room = max(_COLUMN, *(len(command) + 2 for command, _ in listed))
        for command, what in listed:
            self._say(f"  {command:<{room}}{what}")
        self._say()

    def keep(self, uri: str) -> None:
        """All of it stays for a while."""
        self._say(f"Still running until Ctrl-C; try:  refitd --datastore '{uri}' status")

    def json(self, value: Any) -> None:
        """The one document on stdout."""
        from refitd.plain import to_json

        click.echo(to_json(value))

    def _say(self, text: str = "") -> None:
        click.echo(text, err=self._err)


def _next(words: Words) -> Iterator[tuple[str, str]]:
    """Commands, and what each does."""
    yield words.up, "a datastore, Ray and the daemon, in this folder"
    yield "refitd schema", "what a model document may say"
    yield "refitd add model.yaml", f"add one; or {words.insert}"
    yield "refitd status", "how every model stands; why MODEL, versions MODEL and fits say more"
    yield "refitd doctor", f"check a {words.title} of your own: REFITD_DATASTORE='{words.example}' refitd doctor"


_EXPLANATION = (
    "What happened: nobody called fit. The daemon followed {followed} and let the database itself say which changes "
    "match the model's select. Those made the model stale, so it was fitted again on Ray, on all rows that match by "
    "then, judged on the held-out ones, and published. Rows that don't match cost nothing, and a change is never lost: "
    "what the daemon has handled is stored in the same transaction as what it made of it."
)
