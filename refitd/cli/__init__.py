"""The `refitd` command. Exit codes: 0 done, 1 the thing asked about is wrong, 2 usage."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from typing import NoReturn

import click

from refitd import __version__
from refitd.cli.base import LazyGroup, global_options
from refitd.cli.output import report_error
from registry.errors import RefitdError, SettingsInvalid

#: Every command: where it lies, and what it does in a line. Loaded when it is called.
COMMANDS = {
    "up": ("refitd.cli.serve:up", "Start a datastore, Ray and the daemon here: everything in one command."),
    "demo": ("refitd.cli.serve:demo", "Watch a model being retrained on a real data set as rows arrive."),
    "run": ("refitd.cli.serve:run", "Run the daemon: follow the datastore and keep every model fresh."),
    "add": ("refitd.cli.models:add", "Add or change models from YAML or JSON files."),
    "status": ("refitd.cli.models:status", "How every model stands."),
    "show": ("refitd.cli.models:show", "One model: its document, how it stands, its live version."),
    "why": ("refitd.cli.models:why", "Why a model is, or isn't, being fitted."),
    "rm": ("refitd.cli.models:rm", "Remove a model."),
    "versions": ("refitd.cli.history:versions", "What was published of a model."),
    "fits": ("refitd.cli.history:fits", "The newest training runs."),
    "logs": ("refitd.cli.history:logs", "What a training run printed."),
    "feeds": ("refitd.cli.history:feeds", "Where the feeds of changes stand."),
    "retrain": ("refitd.cli.controls:retrain", "Ask for a fit now."),
    "pause": ("refitd.cli.controls:pause", "No fits of a model until it is resumed."),
    "resume": ("refitd.cli.controls:resume", "Fit a paused model again."),
    "cancel": ("refitd.cli.controls:cancel", "Stop the fit of a model that is under way."),
    "rollback": ("refitd.cli.controls:rollback", "Pin the live version to an earlier one."),
    "export": ("refitd.cli.predict:export", "Write a version's files into a folder."),
    "predict": ("refitd.cli.predict:predict", "Predict rows from a file or stdin with the live version."),
    "doctor": ("refitd.cli.upkeep:doctor", "Check datastore, Ray and models; print the exact fix."),
    "gc": ("refitd.cli.upkeep:gc", "Remove versions and artifacts that nothing needs."),
    "schema": ("refitd.cli.upkeep:schema", "The model document's JSON Schema."),
}


#: What has to end in order, once it was imported.
_SLOW_TO_END = {"ray", "sklearn", "multiprocessing.process"}


@click.group(cls=LazyGroup, commands_at=COMMANDS, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, message="refitd %(version)s")
@global_options
def cli() -> None:
    """Keeps models as fresh as the data they are trained on."""


def main(argv: Sequence[str] | None = None) -> NoReturn:
    """Run the command, and exit."""
    code = run(argv)
    try:
        sys.stdout.flush()
    except BrokenPipeError:
        _forget_stdout()
    sys.stderr.flush()
    if not _SLOW_TO_END & sys.modules.keys():
        os._exit(code)  # everything is written and closed; pymongo's threads would take another half second to end
    sys.exit(code)


def run(argv: Sequence[str] | None = None) -> int:
    """Run the command; its exit code."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    try:
        code = cli.main(args=arguments, prog_name="refitd", standalone_mode=False)
    except click.exceptions.Abort:  # Ctrl-C
        return 130
    except click.ClickException as error:
        report_error(error, arguments)
        return error.exit_code
    except RefitdError as error:
        report_error(error, arguments)
        return 2 if isinstance(error, SettingsInvalid) else 1
    except SystemExit as error:
        if type(sys.stdout).__name__ != "PacifyFlushWrapper":  # what click puts there when a reader went away
            return error.code if isinstance(error.code, int) else 1
        _forget_stdout()
        return 0
    return code if isinstance(code, int) else 0


def _forget_stdout() -> None:
    """Nobody reads it any more; the interpreter's own flush at exit must not complain."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
