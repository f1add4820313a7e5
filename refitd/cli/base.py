"""What all commands share: the global options, settings read once, one open session, lazy loading."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from importlib import import_module
from typing import TYPE_CHECKING, Any, TypeVar

import click

if TYPE_CHECKING:
    from refitd.session import Session
    from refitd.settings import Settings
    from registry.store import Store
    from registry.trust import Trust

F = TypeVar("F", bound=Callable[..., Any])


@dataclass
class App:
    """One call of the command."""

    given: dict[str, Any] = field(default_factory=dict)
    _session: Session | None = None

    @property
    def json(self) -> bool:
        """Whether stdout gets exactly one JSON document."""
        return bool(self.given.get("json"))

    def settings(self, **more: Any) -> Settings:
        """The settings; `more` are options of the command itself. Raises `SettingsInvalid`."""
        from refitd.settings import load_settings

        return load_settings(self.given.get("config"), datastore=self.given.get("datastore"), **more)

    @property
    def session(self) -> Session:
        """The registry, opened at the first use and closed with the command. Raises `SettingsInvalid`."""
        if self._session is None:
            from refitd.session import Session

            self._session = click.get_current_context().find_root().with_resource(Session(self.settings()))
        return self._session

    @property
    def store(self) -> Store:
        """The session's store."""
        return self.session.store

    @property
    def trust(self) -> Trust:
        """What documents may name, by the settings."""
        return self.session.trust


pass_app = click.make_pass_decorator(App, ensure=True)


def _remember(context: click.Context, parameter: click.Parameter, value: Any) -> None:
    """Before or after the subcommand, the last one said counts."""
    app = context.ensure_object(App)
    if value is not None and parameter.name is not None:
        app.given[parameter.name] = value


def global_options(function: F) -> F:
    """`--datastore`, `--config`, `--json`: remembered for the whole call instead of handed to the command."""
    keep: dict[str, Any] = {"expose_value": False, "callback": _remember}
    file = click.Path(dir_okay=False)
    options = (
        click.option("--datastore", metavar="URI", help="The datastore, over REFITD_DATASTORE.", **keep),
        click.option("--config", metavar="FILE", type=file, help="The settings' TOML file.", **keep),
        click.option("--json", is_flag=True, default=None, help="One JSON document on stdout.", **keep),
    )
    for option in reversed(options):
        function = option(function)
    return function


class LazyGroup(click.Group):
    """Subcommands in a table, imported when they are called: `refitd status` waits for nobody else's imports."""

    def __init__(self, *args: Any, commands_at: Mapping[str, tuple[str, str]] | None = None, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._at = dict(commands_at or {})

    def list_commands(self, ctx: click.Context) -> list[str]:
        """In the table's order: the ones to begin with first."""
        return list(self._at)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import it; None for an unknown one."""
        if cmd_name not in self._at:
            return None
        module, _, attribute = self._at[cmd_name][0].partition(":")
        command: click.Command = getattr(import_module(module), attribute)
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Raises `UsageError` for an unknown command, naming the nearest."""
        import difflib

        name = args[0] if args else ""
        near = difflib.get_close_matches(name, self._at, n=1)
        if name not in self._at and not name.startswith("-") and near:
            ctx.fail(f"No such command {name!r}; did you mean `refitd {near[0]}`?")
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """The table, without importing anything."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, line) for name, (_, line) in self._at.items()])


def command(name: str) -> Callable[[Callable[..., Any]], click.Command]:
    """A subcommand with the global options; its function's first argument is the `App`."""

    def made(function: Callable[..., Any]) -> click.Command:
        return click.command(name)(global_options(pass_app(function)))

    return made
