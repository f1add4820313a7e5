"""`predict`: rows in, predictions out."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import click

from refitd.cli.base import App, command
from refitd.cli.output import emit


@command("predict")
@click.argument("model")
@click.argument("file", default="-", type=click.Path(allow_dash=True))
@click.option("--version", type=click.IntRange(min=1), help="This version instead of the live one.")
def predict(app: App, model: str, file: str, version: int | None) -> None:
    """Predict rows from FILE, or from stdin.

    FILE holds JSON lines, one JSON array, or CSV with a header line; the form is told by its first character.
    Prints one prediction a line, as JSON; with --json one document with all of them.
    """
    from refitd.plain import plain
    from refitd.rows import read_rows
    from refitd.standing import document

    store = app.store
    document(store, model)
    found = store.versions.get(model, version) if version else store.versions.live(model)
    rows = read_rows(_text(file), file)
    predictions = _predict(app, found, rows)
    if app.json:
        click.echo(_json({"model": model, "version": found.number, "predictions": plain(predictions)}))
        return
    for one in predictions:
        click.echo(_json(plain(one)))


@command("export")
@click.argument("model")
@click.argument("folder", type=click.Path(file_okay=False))
@click.option("--version", type=click.IntRange(min=1), help="This version instead of the live one.")
def export(app: App, model: str, folder: str, version: int | None) -> None:
    """Write a version's files into a new FOLDER.

    They are what its framework reads by itself: a directory for transformers' from_pretrained, safetensors of a torch
    module, a file for skops.
    """
    from refitd.standing import document
    from trainers.predict import export_version

    store = app.store
    document(store, model)
    found = store.versions.get(model, version) if version else store.versions.live(model)
    try:
        files = export_version(store, found, Path(folder))
    except OSError as error:
        raise click.UsageError(f"{folder} can't be written: {error}") from None
    said = {"model": model, "version": found.number, "folder": folder, "files": files}
    emit(app.json, said, lambda: click.echo(f"{model}: version {found.number} is in {folder}: {', '.join(files)}"))


def _text(file: str) -> str:
    if file == "-":
        if sys.stdin.isatty():
            click.echo("rows as JSON lines or CSV, then Ctrl-D:", err=True)
        return sys.stdin.buffer.read().decode("utf-8-sig", errors="replace")
    try:
        return Path(file).read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise click.UsageError(f"{file} can't be read: {error}") from None


def _predict(app: App, version: Any, rows: list[Any]) -> list[Any]:
    from trainers.predict import load_version

    predicted = load_version(app.store, version, app.trust).predict(rows)
    listed: list[Any] = predicted.tolist() if hasattr(predicted, "tolist") else list(predicted)
    return listed


def _json(value: Any) -> str:
    """Data of the user's: nothing in it is ours to redact."""
    import json

    return json.dumps(value, ensure_ascii=False, allow_nan=False)
