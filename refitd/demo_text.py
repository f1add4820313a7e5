"""What the demo says: lively on a terminal, plain lines elsewhere."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import click

from refitd.views import describe_reason

_BAR = 24
_LINE = "  {version:>7}  {rows:>5}  {accuracy:<8}  {bar}  {after:>6}  {because}"


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

    def document(self, document: Mapping[str, Any]) -> None:
        """The model document, as it is written."""
        self._say('   db["refitd.models"].insert_one({')
        for key, value in document.items():
            self._say(click.style(f"       {json.dumps(key)}: {json.dumps(value)},", fg="cyan"))
        self._say("   })")

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

    def summary(self, versions: Sequence[Mapping[str, Any]], seconds: float) -> None:
        """What was seen, and what to do next."""
        ways = " → ".join(f"{row['metrics'].get('accuracy', 0.0):.3f}" for row in versions)
        self._say()
        self._say(click.style(f"{len(versions)} versions in {seconds:.0f} s, accuracy {ways}", bold=True))
        self._say(_EXPLANATION)

    def keep(self, uri: str) -> None:
        """All of it stays for a while."""
        self._say(f"Still running until Ctrl-C; try:  refitd --datastore '{uri}' status")

    def json(self, value: Any) -> None:
        """The one document on stdout."""
        from refitd.plain import to_json

        click.echo(to_json(value))

    def _say(self, text: str = "") -> None:
        click.echo(text, err=self._err)


_EXPLANATION = """
What happened: nobody called fit. The daemon followed MongoDB's change stream and let the database itself say which
changes match the model's select. Those made the model stale, so it was fitted again on Ray, on all rows that match
by then, judged on the held-out ones, and published. Rows that don't match cost nothing, and a change is never lost:
what the daemon has handled is stored in the same transaction as what it made of it.

Try next:
  refitd up                    a datastore, Ray and the daemon, in this folder
  refitd schema                what a model document may say
  refitd add model.yaml        add one; or insert it into "refitd.models" with any client
  refitd status                how every model stands; why MODEL, versions MODEL and fits say more
  refitd doctor                check a MongoDB of your own: REFITD_DATASTORE='mongodb://…' refitd doctor
"""
