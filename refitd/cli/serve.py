"""`run`, `up`, `demo`: what stays in the foreground."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from refitd.cli.base import App, command

#: What `--datastore` may say where it names a kind; and the kind.
_KINDS = {"mongodb": "mongodb", "postgresql": "postgresql", "postgres": "postgresql"}

_COMPUTE = click.option("--compute", metavar="WHERE", help="local, ray, ray://HOST:10001, or HOST:PORT of a Ray head.")


def _starts_a_datastore(made: click.Command) -> click.Command:
    """For a command that starts one: its `--datastore` names a kind, as there is no URI yet."""
    for parameter in made.params:
        if isinstance(parameter, click.Option) and parameter.name == "datastore":
            parameter.metavar, parameter.help = "KIND", "mongodb or postgresql.  [default: mongodb]"
    return made


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


@_starts_a_datastore
@command("up")
@_COMPUTE
@click.option("--port", type=int, help="The datastore's port; by default the last one, or any that is free.")
def up(app: App, compute: str | None, port: int | None) -> None:
    """Start a datastore, Ray and the daemon here: everything in one command.

    The data stay in .refitd, each kind's in a folder of its own. Other commands in this folder find the datastore by
    themselves. For trying things out: in production give `refitd run` a MongoDB or PostgreSQL of your own.
    """
    kind = _kind(app)
    from refitd.serving import serve
    from refitd.together import datastore_up

    with datastore_up(Path(".refitd"), kind, port) as uri:
        _warn_of_another(app, uri)
        app.given["datastore"] = uri
        settings = app.settings(compute=compute)
        _set_up_logs(settings)
        _greet(app, kind, uri, settings.compute or "ray")
        serve(settings)


def _kind(app: App) -> str:
    """What `--datastore` asks for, which is then no setting. Raises `UsageError` for a URI or an unknown kind."""
    asked = app.given.pop("datastore", "mongodb")
    if asked not in _KINDS:  # not quoted: a URI may hold a password
        name = click.get_current_context().command.name
        raise click.UsageError(
            f"`refitd {name}` starts a datastore, so --datastore names a kind here: mongodb or postgresql. For a "
            "server that runs already it is `refitd run --datastore URI`."
        )
    return _KINDS[asked]


def _warn_of_another(app: App, uri: str) -> None:
    """Where a variable or file names another datastore, other commands of this folder go to that one."""
    from refitd.cli.output import warn

    other = app.settings().datastore
    if other != uri:
        warn(f"REFITD_DATASTORE or refitd.toml names {other}: unset it, or other commands won't find this datastore")


def _greet(app: App, kind: str, uri: str, compute: str) -> None:
    from refitd.cli.output import emit
    from refitd.together import KINDS

    title, folder = KINDS[kind].title, KINDS[kind].folder
    lines = (
        f"{click.style(title.ljust(10), bold=True)}  {uri}",
        f"{click.style('fits run'.ljust(10), bold=True)}  {compute}",
        "",
        "In another terminal, in this folder:",
        "  refitd add model.yaml        a model document: what to fit, on which rows",
        "  refitd status                how every model stands",
        "  refitd why MODEL             why it is, or isn't, being fitted",
        "",
        "or in Python:  db = refitd.connect()",
        f"Ctrl-C stops everything; the data stay in .refitd/{folder}.",
        "",
    )
    emit(app.json, {"datastore": uri, "compute": compute}, lambda: click.echo("\n".join(lines)))


@_starts_a_datastore
@command("demo")
@_COMPUTE
@click.option("--keep", is_flag=True, help="Leave the datastore and the daemon running until Ctrl-C.")
@click.option("--timeout", type=float, default=180.0, show_default=True, help="Seconds after which it gives up.")
def demo(app: App, compute: str | None, keep: bool, timeout: float) -> None:
    """Watch a model being retrained on a real data set as rows arrive.

    A real MongoDB or PostgreSQL, a real Ray and the real daemon, in a temporary folder that is removed at the end.
    """
    kind = _kind(app)
    from refitd.demo import run_demo

    run_demo(kind, compute or "ray", keep=keep, timeout_s=timeout, as_json=app.json)


def _set_up_logs(settings: Any) -> None:
    from refitd.logs import set_up_logs

    set_up_logs(settings.log)
