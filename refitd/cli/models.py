"""`add`, `status`, `show`, `why`, `rm`."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from refitd.cli.base import App, command
from refitd.cli.output import emit, note, pairs, table, warn

if TYPE_CHECKING:
    from refitd.standing import Standing
    from registry.store import Store


@command("add")
@click.argument("files", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option("--enable-images", is_flag=True, help="Have the datastore keep rows as they were before a change.")
def add(app: App, files: Sequence[Path], enable_images: bool) -> None:
    """Add or change models from YAML or JSON files.

    Every document of every file is judged first; nothing is written when one has a fault. What people set while a
    model runs (paused, live, retrain_now) stays where a file doesn't say.
    """
    from refitd.adding import add_documents, read_files

    documents = read_files(files)
    app.session.prepare()
    added = add_documents(app.store, documents, app.trust, enable_images=enable_images)

    def human() -> None:
        for one in added:
            click.echo(f"{one.model}: {one.change}")

    emit(app.json, [{"model": one.model, "change": one.change} for one in added], human)
    _hint_images(app.store, {name for one in added for name in one.relations})
    say_if_nobody_follows(app.store)


def _hint_images(store: Store, relations: Iterable[str]) -> None:
    from refitd.images import cost, enabled
    from registry.errors import DatastoreUnsuitable

    try:
        without = [name for name, has in enabled(store, relations).items() if not has]
    except DatastoreUnsuitable:  # the login may not look: doctor says so, and the models are written
        return
    if without:
        note(f"{cost(store, without)}; `refitd doctor --fix` (or add --enable-images) tells them apart")


@command("status")
@click.argument("names", nargs=-1)
def status(app: App, names: Sequence[str]) -> None:
    """How every model stands, or those named. Exits 1 when one is failing or invalid."""
    from refitd.standing import stand, survey
    from refitd.views import model_row

    store, trust = app.store, app.trust
    listed = [stand(store, trust, name) for name in names] if names else survey(store, trust)

    def human() -> None:
        if not listed:
            click.echo("no models yet; `refitd add FILE` adds one")
            return
        columns = ("MODEL", "STATE", "LIVE", "PENDING", "METRIC", "ROWS", "WHY")
        table(columns, (_status_cells(one) for one in listed))

    emit(app.json, [model_row(one) for one in listed], human)
    if listed:
        say_if_nobody_follows(store)
    if any(one.wrong for one in listed):
        click.get_current_context().exit(1)


def _status_cells(one: Standing) -> Sequence[Any]:
    metric = f"{one.metric[0]} {one.metric[1]:.4f}" if one.metric else None
    why = (one.error or "").strip().splitlines()[:1] if one.wrong else [_doing(one) or one.status.get("reason")]
    rows = one.live.draft.rows if one.live else None
    live = one.live.number if one.live else None
    return one.model, one.state, live, one.pending.outstanding.total, metric, rows, *(why or [None])


def _doing(one: Standing) -> str | None:
    """How far the fit under way is."""
    if one.fit is None or one.fit.state.ended:
        return None
    from refitd.cli.history import how_far

    return how_far(one.fit) or None


@command("show")
@click.argument("model")
def show(app: App, model: str) -> None:
    """One model: its document, how it stands, its live version. Exits 1 when it is failing or invalid."""
    from refitd.standing import stand
    from refitd.views import model_row, version_detail

    one = stand(app.store, app.trust, model)
    live = version_detail(one.live, one.live.number, app.store) if one.live else None
    document = {key: value for key, value in one.raw.items() if key != "status"}
    row = {**model_row(one), "status": dict(one.status), "version": live, "document": document}

    def human() -> None:
        pairs(_standing_pairs(one, app.store))
        click.echo()
        click.echo(_yaml(document).rstrip())

    emit(app.json, row, human)
    say_if_nobody_follows(app.store)
    _exit_if_wrong(one)


def _standing_pairs(one: Standing, store: Store) -> Iterable[tuple[str, Any]]:
    from refitd.views import ago, describe_reason

    now = store.now()
    yield "model", one.model
    yield "state", one.state
    yield "error", one.error
    yield "pending", one.pending.outstanding.total
    yield "why", one.status.get("reason")
    if one.live is None:
        yield "live", "no version yet"
        return
    draft = one.live.draft
    metrics = ", ".join(f"{name} {value:.4f}" for name, value in draft.metrics.items())
    pinned = " (pinned)" if one.raw.get("live", "latest") != "latest" else ""
    yield "live", f"version {one.live.number}{pinned}, {ago(one.live.created, now)}, {draft.rows} rows"
    yield "metrics", metrics or None
    yield "because", describe_reason(one.live.reason)


def _yaml(document: Any) -> str:
    import yaml

    from refitd.plain import plain

    text: str = yaml.safe_dump(plain(document), sort_keys=False, allow_unicode=True, default_flow_style=None, width=100)
    return text


@command("why")
@click.argument("model")
def why(app: App, model: str) -> None:
    """Why a model is, or isn't, being fitted. Exits 1 when it is failing or invalid."""
    from refitd.standing import stand
    from refitd.why import explain, why_row

    one = stand(app.store, app.trust, model)
    emit(app.json, why_row(one, app.store), lambda: pairs(explain(one, app.store)))
    say_if_nobody_follows(app.store)
    _exit_if_wrong(one)


@command("rm")
@click.argument("models", nargs=-1, required=True)
def rm(app: App, models: Sequence[str]) -> None:
    """Remove models. A fit under way is cancelled; versions stay until `refitd gc`."""
    from refitd import control
    from refitd.standing import document

    for model in models:
        document(app.store, model)  # all or none: a slip of the pen removes nothing
    for model in models:
        control.remove(app.store, model)
    said = "\n".join(f"{model}: removed" for model in models)
    emit(app.json, {"removed": list(models)}, lambda: click.echo(said))


def say_if_nobody_follows(store: Store) -> None:
    """On stderr, when no daemon would see a change."""
    from refitd.standing import following

    if following(store) is None:
        warn("no daemon follows this datastore now, so changes wait; `refitd run` starts one")


def _exit_if_wrong(one: Standing) -> None:
    if one.wrong:
        click.get_current_context().exit(1)
