"""`run`, `up`, `demo`: what stays in the foreground."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from refitd.cli.base import App, command

_COMPUTE = click.option("--compute", metavar="WHERE", help="local, ray, ray://HOST:10001, or HOST:PORT of a Ray head.")


@command("run")
@_COMPUTE
@click.option("--artifacts", metavar="URL", help="Where artifacts go; by default into the datastore.")
@click.option("--lease", metavar="DURATION", help="How long a silent daemon keeps its right to act.")
@click.option("--log-level", metavar="LEVEL", help="debug, info, warning or error.")
@click.option("--log-format", metavar="FORM", help="console or json.")
def run(app: App, compute: str, artifacts: str, lease: str, log_level: str | None, log_format: str | None) -> None:
    """Run the daemon: follow the datastore and keep every model fresh.

    Stops within 10 s of SIGTERM or Ctrl-C; SIGHUP reads every document again. A second daemon stands by.
    """
    from refitd.serving import serve

    log = {key: value for key, value in (("level", log_level), ("format", log_format)) if value}
    settings = app.settings(compute=compute, artifacts=artifacts, lease=lease, log=log or None)
    settings.need_datastore()
    _set_up_logs(settings)
    serve(settings)


@command("up")
@_COMPUTE
@click.option("--port", type=int, help="The datastore's port; by default the last one, or any that is free.")
def up(app: App, compute: str | None, port: int | None) -> None:
    """Start a datastore, Ray and the daemon here: everything in one command.

    The data stay in .refitd/data. Other commands in this folder find the datastore by themselves. For trying
    things out: in production give `refitd run` a MongoDB of your own.
    """
    from refitd.serving import serve
    from refitd.together import datastore_up

    with datastore_up(Path(".refitd"), port) as uri:
        _warn_of_another(app, uri)
        app.given["datastore"] = uri
        settings = app.settings(compute=compute)
        _set_up_logs(settings)
        _greet(app, uri, settings.compute or "ray")
        serve(settings)


def _warn_of_another(app: App, uri: str) -> None:
    """Where a variable or file names another datastore, other commands of this folder go to that one."""
    from refitd.cli.output import warn

    other = app.settings().datastore
    if other != uri:
        warn(f"REFITD_DATASTORE or refitd.toml names {other}: unset it, or other commands won't find this datastore")


def _greet(app: App, uri: str, compute: str) -> None:
    from refitd.cli.output import emit

    lines = (
        f"{click.style('MongoDB', bold=True)}   {uri}",
        f"{click.style('fits run', bold=True)}  {compute}",
        "",
        "In another terminal, in this folder:",
        "  refitd add model.yaml        a model document: what to fit, on which rows",
        "  refitd status                how every model stands",
        "  refitd why MODEL             why it is, or isn't, being fitted",
        "",
        "or in Python:  db = refitd.connect()",
        "Ctrl-C stops everything; the data stay in .refitd/data.",
        "",
    )
    emit(app.json, {"datastore": uri, "compute": compute}, lambda: click.echo("\n".join(lines)))


@command("demo")
@_COMPUTE
@click.option("--keep", is_flag=True, help="Leave the datastore and the daemon running until Ctrl-C.")
@click.option("--timeout", type=float, default=180.0, show_default=True, help="Seconds after which it gives up.")
def demo(app: App, compute: str | None, keep: bool, timeout: float) -> None:
    """Watch a model being retrained on a real data set as rows arrive.

    A real MongoDB, a real Ray and the real daemon, in a temporary folder that is removed at the end.
    """
    from refitd.demo import run_demo

    run_demo(compute or "ray", keep=keep, timeout_s=timeout, as_json=app.json)


def _set_up_logs(settings: Any) -> None:
    from refitd.logs import set_up_logs

    set_up_logs(settings.log)
