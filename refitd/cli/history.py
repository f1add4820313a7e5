"""`versions`, `fits`, `logs`, `feeds`: what happened, and where things stand."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any

import click

from refitd.cli.base import App, command
from refitd.cli.output import emit, note, table

if TYPE_CHECKING:
    from registry.records import FeedRow, Fit, Version
    from registry.store import Store

Line = tuple[int, datetime, str]


@command("versions")
@click.argument("model")
def versions(app: App, model: str) -> None:
    """What was published of a model, the newest first."""
    from refitd.views import live_number, version_row, versions_of

    found, live = versions_of(app.store, model), live_number(app.store, model)

    def human() -> None:
        if not found:
            click.echo(f"{model} has no version yet; `refitd why {model}` says why")
            return
        columns = ("VERSION", "LIVE", "CREATED", "ROWS", "METRICS", "REASON", "SECONDS", "GATE")
        table(columns, (_version_cells(one, live, app.store.now()) for one in found))

    emit(app.json, [version_row(one, live, app.store) for one in found], human)


def _version_cells(version: Version, live: int | None, now: datetime) -> Sequence[Any]:
    from refitd.views import ago, describe_reason

    draft = version.draft
    return (
        version.number,
        "live" if version.number == live else "",
        ago(version.created, now),
        draft.rows,
        ", ".join(f"{name} {value:.4f}" for name, value in draft.metrics.items()) or None,
        describe_reason(version.reason),
        sum(draft.parts.values()),
        "" if draft.promoted else f"not promoted: {draft.gate}",
    )


@command("fits")
@click.argument("model", required=False)
@click.option("--limit", type=click.IntRange(min=1), default=20, show_default=True, help="How many.")
def fits(app: App, model: str | None, limit: int) -> None:
    """The newest training runs, of one model or of all."""
    from refitd.standing import document
    from refitd.views import ago, fit_row, seconds

    found = app.store.fits.recent(model, limit)
    if model is not None and not found:
        document(app.store, model)

    def human() -> None:
        now = app.store.now()
        columns = ("FIT", "MODEL", "STATE", "VERSION", "CREATED", "SECONDS", "WHAT")
        table(
            columns,
            [
                (
                    fit.id, fit.model, str(fit.state), fit.version, ago(fit.created, now), seconds(fit), _says(fit),
                )
                for fit in found
            ],
        )  # fmt: skip

    emit(app.json, [fit_row(fit) for fit in found], human)


@command("logs")
@click.argument("what", metavar="FIT|MODEL")
@click.option("-f", "--follow", is_flag=True, help="Go on until the fit has ended.")
def logs(app: App, what: str, follow: bool) -> None:
    """What a training run printed: a fit by its id, or a model's newest. Exits 1 when the fit failed."""
    store = app.store
    fit = _fit(store, what)
    shown: list[Line] = []

    def print_new() -> None:
        for line in store.fits.lines(fit.id, shown[-1][0] if shown else 0):
            shown.append(line)
            if not app.json:
                click.echo(f"{click.style(line[1].strftime('%H:%M:%S'), dim=True)} {line[2]}")

    if follow:
        fit = _follow(store, fit, print_new)
    print_new()
    emit(app.json, _log_row(fit, shown), lambda: None)
    if not app.json:
        note(f"{fit.model} {fit.id}: {fit.state}" + (f", version {fit.version}" if fit.version else ""))
        if fit.error:
            click.echo(fit.error, err=True)
    if fit.state in ("failed", "lost"):
        click.get_current_context().exit(1)


def _follow(store: Store, fit: Fit, print_new: Any) -> Fit:
    from refitd.waiting import wait_ended

    return wait_ended(store, fit.id, lambda _: print_new())


def _log_row(fit: Fit, lines: list[Line]) -> dict[str, Any]:
    from refitd.views import fit_row

    return {**fit_row(fit), "lines": [{"n": n, "at": at, "line": line} for n, at, line in lines]}


def _fit(store: Store, what: str) -> Fit:
    """By its id, or a model's newest. Raises `NotFound`."""
    from refitd.standing import unknown_model
    from registry.errors import NotFound

    try:
        return store.fits.get(what)
    except NotFound:
        recent = store.fits.recent(what, 1)
    if recent:
        return recent[0]
    if store.documents.get(what) is not None:
        raise NotFound(f"{what} was never fitted; `refitd why {what}` says why")
    raise NotFound(f"no fit has the id {what!r}, and {unknown_model(store, what)}")


@command("feeds")
def feeds(app: App) -> None:
    """Where the feeds of changes stand, and who follows them."""
    from refitd.retention import retained_bytes
    from refitd.views import feed_row

    found, retained = app.store.feeds.all(), retained_bytes(app.store)
    rows = [feed_row(row, app.store, retained.get(row.id)) for row in found]

    def human() -> None:
        if not rows:
            click.echo("no feed yet: `refitd run` starts following")
            return
        columns = ("FEED", "KIND", "POSITION", "LAG", "RETAINED", "RESYNCS", "DEAD LETTERS", "OWNER", "FOLLOWS")
        shown = [at for at, column in enumerate(columns) if retained or column != "RETAINED"]
        cells = [_feed_cells(row, one) for row, one in zip(rows, found, strict=True)]
        table([columns[at] for at in shown], [[row[at] for at in shown] for row in cells])
        for one in found:
            if one.last_resync:
                note(f"{one.id}: the last resync: {one.last_resync}")

    emit(app.json, rows, human)


def _feed_cells(row: Mapping[str, Any], feed: FeedRow) -> Sequence[Any]:
    from refitd.views import size

    return (
        row["feed"], row["kind"], row["position"], _lag(row["lag_s"]), size(row["retained_bytes"]), row["resyncs"],
        row["dead_letters"], row["owner"] or "nobody", ", ".join(sorted(feed.relations)),
    )  # fmt: skip


def _lag(lag_s: float | None) -> str | None:
    return None if lag_s is None else f"{lag_s:.1f}s"


def _says(fit: Fit) -> str:
    """What went wrong, how far it is, or why it ran."""
    from refitd.views import describe_reason

    if fit.state.ended:
        return fit.error.strip().splitlines()[0] if fit.error and fit.error.strip() else describe_reason(fit.reason)
    return how_far(fit)


def how_far(fit: Fit) -> str:
    """`fit 32% epoch 4/10, loss 0.31, 20 s left`; empty where nothing was heard yet."""
    from registry.durations import format_duration

    told = fit.progress
    fraction, left = told.get("fraction"), told.get("eta_s")
    said = [told.get("stage"), f"{fraction:.0%}" if fraction is not None else "", told.get("message")]
    shown = " ".join(str(part) for part in said if part)
    return f"{shown}, {format_duration(left)} left" if left and left >= 1 else shown
