"""`retrain`, `pause`, `resume`, `rollback`: writes to the model's document."""

from __future__ import annotations

from typing import Any

import click

from refitd.cli.base import App, command
from refitd.cli.models import say_if_nobody_follows
from refitd.cli.output import emit, note


@command("retrain")
@click.argument("model")
@click.option("--wait", is_flag=True, help="Wait until the new version is there.")
@click.option("--timeout", type=float, metavar="SECONDS", help="With --wait: no longer than this.")
def retrain(app: App, model: str, wait: bool, timeout: float | None) -> None:
    """Ask for a fit now, whatever is pending."""
    from refitd import control
    from refitd.standing import document

    paused = document(app.store, model).get("paused")
    asked = control.retrain(app.store, model)
    version = _wait(app, model, timeout) if wait else None

    def human() -> None:
        click.echo(f"{model}: version {version}" if version else f"{model}: a fit was asked for")

    emit(app.json, {"model": model, "retrain_now": asked, "version": version}, human)
    if paused:
        note(f"{model} is paused: it is fitted when `refitd resume {model}` lets it go on")
    say_if_nobody_follows(app.store)


def _wait(app: App, model: str, timeout: float | None) -> int | None:
    from refitd.waiting import wait_fresh

    published = wait_fresh(app.store, app.trust, model, timeout).pending.published
    return published.number if published else None


@command("pause")
@click.argument("model")
def pause(app: App, model: str) -> None:
    """No fits of a model until it is resumed; changes stay pending."""
    from refitd import control

    control.pause(app.store, model)
    emit(app.json, {"model": model, "paused": True}, lambda: click.echo(f"{model}: paused"))


@command("resume")
@click.argument("model")
def resume(app: App, model: str) -> None:
    """Fit a paused model again, at once if changes are pending."""
    from refitd import control

    control.resume(app.store, model)
    emit(app.json, {"model": model, "paused": False}, lambda: click.echo(f"{model}: resumed"))
    say_if_nobody_follows(app.store)


@command("cancel")
@click.argument("model")
def cancel(app: App, model: str) -> None:
    """Stop the fit of a model that is under way.

    What a torch or transformers model has learned so far is kept as a version that is not live. Pause the model first
    if it should not be fitted again.
    """
    from refitd import control
    from refitd.standing import document

    paused = document(app.store, model).get("paused")
    fit = control.cancel(app.store, model)
    emit(app.json, {"model": model, "fit": fit}, lambda: click.echo(f"{model}: the fit {fit} was asked to stop"))
    if not paused:
        note(f"it is fitted again after a while, unless `refitd pause {model}` says otherwise")


class _Target(click.ParamType[Any]):
    name = "N|latest"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        if value == "latest" or isinstance(value, int):
            return value
        if value.isdigit() and int(value) > 0:
            return int(value)
        return self.fail(f"{value!r} is neither a version's number nor `latest`", param, ctx)


@command("rollback")
@click.argument("model")
@click.option("--to", type=_Target(), help="The version to pin; `latest` unpins.")
def rollback(app: App, model: str, to: Any) -> None:
    """Pin the live version: to --to, or to the promoted version before it.

    It stays live, whatever is published, until `refitd rollback MODEL --to latest`.
    """
    from refitd import control

    live = control.rollback(app.store, model, to)
    said = f"version {live} is live, pinned" if live != "latest" else "the newest promoted version is live"
    emit(app.json, {"model": model, "live": live}, lambda: click.echo(f"{model}: {said}"))
