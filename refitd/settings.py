"""The operator's settings: the only place that reads the environment and the settings files, once.

Highest first: what a command line or a call gives; `REFITD_…` variables, nested with `__`
(`REFITD_TRUST__MODULES`); the TOML file (`--config`, `REFITD_CONFIG`, or `refitd.toml` in the current folder);
`.refitd/up.toml` there, which a running `refitd up` keeps; the defaults.
"""

from __future__ import annotations

import difflib
import json
import os
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, SecretStr, StrictStr, ValidationError
from pydantic_settings import (
    BaseSettings,
    InitSettingsSource,
    NoDecode,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
)

from refitd.signing import checked_key, read_key
from registry.code import Key, Vouching
from registry.durations import Duration
from registry.errors import SettingsInvalid
from registry.owner import is_dead
from registry.redaction import redact
from registry.trust import Trust

PREFIX = "REFITD_"
CONFIG_VARIABLE = "REFITD_CONFIG"
DEFAULT_CONFIG = Path("refitd.toml")
#: Where `refitd up` tells other commands in the same folder how to find its datastore.
UP_FILE = Path(".refitd") / "up.toml"

_PART = ConfigDict(extra="forbid", frozen=True)


def _listed(value: Any) -> Any:
    """`a, b` or `["a", "b"]` in a variable; a list in a file."""
    if not isinstance(value, str):
        return value
    text = value.strip()
    if text.startswith("["):
        try:
            return json.loads(text)
        except json.JSONDecodeError:
            raise ValueError("write names with commas between, or a JSON list") from None
    return [part.strip() for part in text.split(",") if part.strip()]


class TrustSettings(BaseModel):
    """What model documents may name."""

    model_config = _PART
    modules: Annotated[tuple[StrictStr, ...], NoDecode, BeforeValidator(_listed)] = Field(
        (), description="module prefixes that model documents may name, beside the defaults"
    )


class LogSettings(BaseModel):
    """How the daemon logs."""

    model_config = _PART
    format: Literal["console", "json"] | None = Field(
        None, description="`console` or `json`; by default `console` on a terminal, `json` elsewhere"
    )
    level: Literal["debug", "info", "warning", "error"] = Field("info", description="the least level that is logged")


class Settings(BaseSettings):
    """All settings, validated. `load_settings` is the way in."""

    model_config = SettingsConfigDict(
        env_prefix=PREFIX, env_nested_delimiter="__", extra="forbid", frozen=True, env_ignore_empty=True
    )

    datastore: StrictStr | None = Field(
        None,
        description="the database that holds the rows and the registry: `mongodb://HOST:PORT/DATABASE?replicaSet=NAME` "
        "or `postgresql://USER@HOST:PORT/DATABASE`",
    )
    compute: StrictStr | None = Field(
        None, description="where fits run: `local`, `ray`, `ray://HOST:10001`, or `HOST:PORT` of a Ray head"
    )
    artifacts: StrictStr | None = Field(
        None,
        description="an fsspec URL for artifacts (`s3://…`, `file:///…`); without it they lie in the datastore",
    )
    signing_key: SecretStr | None = Field(
        None, description="the operator's key: custom Python code runs only where it was signed with this key"
    )
    signing_key_file: Path | None = Field(None, description="a file that holds the signing key, instead")
    lease: Duration = Field(5.0, description="how long a daemon that is silent keeps its right to act")
    trust: TrustSettings = Field(default_factory=TrustSettings)
    log: LogSettings = Field(default_factory=LogSettings)

    @property
    def trusted(self) -> Trust:
        """The defaults, the operator's own modules, and the key that code must be signed with."""
        return Trust.adding(self.trust.modules, Vouching(self.key))

    @property
    def key(self) -> Key | None:
        """The signing key; None where none is set.

        Raises:
            SettingsInvalid: its file can't be read, or holds none.
        """
        if self.signing_key is not None:
            return checked_key(self.signing_key.get_secret_value().encode(), "signing_key")
        return None if self.signing_key_file is None else read_key(self.signing_key_file)

    def need_datastore(self) -> str:
        """The datastore's URI.

        Raises:
            SettingsInvalid: it is not set; says how to set it.
        """
        if not self.datastore:
            raise SettingsInvalid(
                "no datastore is set: export REFITD_DATASTORE='mongodb://HOST:PORT/DATABASE?replicaSet=NAME' or "
                "'postgresql://USER@HOST:PORT/DATABASE', or give --datastore URI (or `datastore = …` in refitd.toml); "
                "`refitd up` starts one of your own"
            )
        return self.datastore

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """The call, the environment, then the files, whose values travel in the call under `_files`."""
        assert isinstance(init_settings, InitSettingsSource)
        given = dict(init_settings.init_kwargs)
        files: tuple[dict[str, Any], ...] = given.pop("_files", ())
        return (
            InitSettingsSource(settings_cls, given),
            env_settings,
            *(InitSettingsSource(settings_cls, values) for values in files),
        )


def load_settings(config: Path | str | None = None, **given: Any) -> Settings:
    """Read everything once.

    Args:
        config: the TOML file; by default the one that `REFITD_CONFIG` names, or `refitd.toml` if it is there.
        given: values from a command line or a call; None counts as not given.

    Raises:
        SettingsInvalid: a file can't be read or some values can't be used; all faults are named at once.
    """
    faults: list[str] = []
    files = tuple(_files(config, faults))
    asked = {name: value for name, value in given.items() if value is not None}
    faults += _misspelt()
    try:
        settings = Settings(_files=files, **asked)  # type: ignore[call-arg]
    except ValidationError as error:
        faults += [_fault(detail, asked, files) for detail in error.errors(include_url=False)]
    except ValueError:  # pydantic-settings: a group of settings given as one variable, which is not JSON
        faults += _grouped()
    if faults:
        raise SettingsInvalid("; ".join(faults))
    return settings


def _files(config: Path | str | None, faults: list[str]) -> list[dict[str, Any]]:
    """What the files say, the strongest first."""
    named = config or os.environ.get(CONFIG_VARIABLE)
    main = Path(named) if named else DEFAULT_CONFIG
    found = []
    if named or main.exists():
        found.append(_read(main, faults))
    if UP_FILE.exists():
        up = _read(UP_FILE, [])
        owner = up.pop("owner", None)
        if not (isinstance(owner, str) and is_dead(owner)):
            found.append(up)
    return found


def _read(path: Path, faults: list[str]) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text())
    except OSError as error:
        faults.append(f"the settings file {path} can't be read: {error.strerror}")
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        faults.append(f"the settings file {path} is not TOML: {error}")
    return {}


def _misspelt() -> list[str]:
    """Variables that look like a slip of the pen for one of ours; others of that prefix may be anybody's."""
    known = [CONFIG_VARIABLE, *(variable for variable, _ in variables())]
    faults = []
    for name in sorted(os.environ):
        near = difflib.get_close_matches(name, known, n=1, cutoff=0.88)
        if name.startswith(PREFIX) and name not in known and near:
            faults.append(f"there is no setting {name}; did you mean {near[0]}?")
    return faults


def _grouped() -> list[str]:
    """`REFITD_LOG=json`, where `REFITD_LOG__FORMAT=json` was meant."""
    groups = {variable.rpartition("__")[0] for variable, _ in variables() if "__" in variable}
    return [
        f"{group} is a group of settings: set {', '.join(name for name, _ in variables() if name.startswith(group))}"
        for group in sorted(groups & os.environ.keys())
    ]


def variables() -> list[tuple[str, str]]:
    """Every variable with its meaning: for errors, and the documentation's table."""
    return list(_variables(Settings, PREFIX))


def _variables(part: type[BaseModel], prefix: str) -> list[tuple[str, str]]:
    found: list[tuple[str, str]] = []
    for name, field in part.model_fields.items():
        inner = field.annotation
        if isinstance(inner, type) and issubclass(inner, BaseModel):
            found += _variables(inner, f"{prefix}{name.upper()}__")
        else:
            found.append((f"{prefix}{name.upper()}", field.description or ""))
    return found


def _fault(detail: Mapping[str, Any], asked: Mapping[str, Any], files: tuple[dict[str, Any], ...]) -> str:
    """One fault, named as the person wrote it: the option, the variable, or the file's key."""
    location = [str(part) for part in detail["loc"]]
    named = [part for part in location if not part.isdigit()]
    variable = PREFIX + "__".join(named).upper()
    if detail["type"] == "extra_forbidden":
        known = [name for name, _ in variables()]
        near = difflib.get_close_matches(variable, known, n=1)
        hint = f"did you mean {_dotted(near[0])}?" if near else f"known: {', '.join(map(_dotted, known))}"
        return f"there is no setting {'.'.join(named)}; {hint}"
    where = variable
    if named and named[0] in asked:
        where = f"--{named[0]}"
    elif variable not in os.environ and any(_holds(values, named) for values in files):
        where = f"{'.'.join(named)} in the settings file"
    message = str(detail["msg"]).removeprefix("Value error, ").removeprefix("Input ")
    meaning = dict(variables()).get(variable)
    shown = repr(detail["input"])
    given = "" if shown in message else f", given {shown}"
    return redact(f"{where}: {message}{given}" + (f" ({meaning})" if meaning else ""))


def _dotted(variable: str) -> str:
    return variable.removeprefix(PREFIX).lower().replace("__", ".")


def _holds(values: Any, path: list[str]) -> bool:
    for part in path:
        if not isinstance(values, Mapping) or part not in values:
            return False
        values = values[part]
    return True
