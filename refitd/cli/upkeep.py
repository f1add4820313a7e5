"""`doctor`, `gc`, `schema`."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any

import click

from refitd.cli.base import App, command
from refitd.cli.output import emit, note

if TYPE_CHECKING:
    from refitd.checks import Check


@command("doctor")
@click.option("--fix", is_flag=True, help="Mend what can be mended: make the registry, enable images (see `add`).")
def doctor(app: App, fix: bool) -> None:
    """Check datastore, Ray and models; print the exact fix. Exits 1 when a check fails."""
    from refitd.checks import diagnose

    mended = _mend(app) if fix else []
    checks: list[Check] = []
    for check in diagnose(app.session):
        checks.append(check)
        if not app.json:
            _show(check)
    emit(app.json, [dataclasses.asdict(check) for check in checks], lambda: None)
    for line in mended:
        note(line)
    if not all(check.ok for check in checks):
        click.get_current_context().exit(1)


def _mend(app: App) -> list[str]:
    """What was done, or could not be. A datastore that doesn't answer is left to the checks to report."""
    from refitd.checks.watched import watched
    from refitd.images import enable
    from registry.errors import DatastoreUnavailable, DatastoreUnsuitable

    try:
        app.session.prepare()
        altered = enable(app.store, watched(app.store))
    except DatastoreUnavailable:
        return []
    except DatastoreUnsuitable as error:
        return [f"not fixed: {error}"]
    return [f"fixed: images are kept for {name} from now on" for name in altered]


def _show(check: Check) -> None:
    from registry.redaction import redact

    mark, colour = ("!", "yellow") if check.warning else ("✓", "green") if check.ok else ("✗", "red")
    click.echo(f"{click.style(mark, fg=colour, bold=True)} {check.check}: {redact(check.evidence)}")
    if check.fix:
        click.echo(f"  {click.style('fix:', bold=True)} {redact(check.fix)}")


@command("gc")
@click.option("--dry-run", is_flag=True, help="Only say what would go.")
@click.option("--keep", type=click.IntRange(min=1), metavar="N", help="Beside the live one, the newest N of a model.")
def gc(app: App, dry_run: bool, keep: int | None) -> None:
    """Remove versions and artifacts that nothing needs.

    Versions of removed models, with --keep also old ones of the others (never the live one), and artifacts that no
    version names.
    """
    from refitd.garbage import find_garbage, remove_garbage

    found = find_garbage(app.store, keep)
    gone = found if dry_run else remove_garbage(app.store, found)
    row = {
        "dry_run": dry_run,
        "versions": {model: list(numbers) for model, numbers in gone.versions.items()},
        "artifacts": sorted(gone.artifacts),
        "bytes": gone.size,
        "held": gone.held,
    }

    def human() -> None:
        would = "would go" if dry_run else "removed"
        for model, numbers in gone.versions.items():
            click.echo(f"{model}: {would}: version {', '.join(map(str, sorted(numbers)))}")
        click.echo(f"{len(gone.artifacts)} artifacts {would}, {gone.size / 1e6:.2f} MB")

    emit(app.json, row, human)
    if gone.held:
        note(gone.held)


@command("schema")
def schema(app: App) -> None:
    """The model document's JSON Schema, for editors and validators."""
    from refitd.plain import to_json
    from registry.document import ModelDocument

    described: dict[str, Any] = ModelDocument.model_json_schema(by_alias=True)
    click.echo(to_json({"$schema": "https://json-schema.org/draft/2020-12/schema", **described}))
