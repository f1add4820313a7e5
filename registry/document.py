"""The model document: what to fit, on which rows, and when.

One pydantic model validates it, and gives the JSON Schema, the datastore's validator and the documentation
table. All faults of a document come at once, each with its path. What needs the trainer's libraries to judge
(does the class exist, is the parameter known?) is judged by the trainer, on top of this.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Annotated, Any, Literal, Self, get_args

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    StrictBool,
    StrictInt,
    StrictStr,
    ValidationError,
    model_validator,
)

from registry.canonical import fingerprint
from registry.durations import Duration
from registry.errors import DocumentInvalid, Fault
from registry.nearest import nearest
from registry.schedule import check_schedule

_NAME = re.compile(r"[^\x00-\x1f\x7f/\\]{1,128}")

Name = Annotated[StrictStr, Field(min_length=1)]
Select = dict[str, Any] | Name


def check_name(name: str) -> str:
    """The model's name, when it can be one: 1 to 128 characters, no control characters or slashes.

    Raises:
        ValueError: it can't.
    """
    if not _NAME.fullmatch(name) or name != name.strip():
        raise ValueError("a model's name has 1 to 128 characters, no slash, no control character, no space at its ends")
    return name


def _whole(value: Any) -> Any:
    """3.0 is 3: some shells write every number as a double."""
    return int(value) if isinstance(value, float) and value.is_integer() else value


Whole = Annotated[StrictInt, Field(ge=1), BeforeValidator(_whole)]


def _listed(value: list[str]) -> list[str]:
    if len(set(value)) != len(value):
        raise ValueError(f"a field is named twice in {value}")
    return value


Fields = Name | Annotated[list[Name], Field(min_length=1), AfterValidator(_listed)]


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, populate_by_name=True)


class Gate(_Part):
    """When a new version may become the live one."""

    metric: Name = Field(description="one of the scikit-learn scorers; higher is better")
    min: float | None = Field(None, description="at least this")
    max_drop: Annotated[float, Field(ge=0)] | None = Field(
        None, description="at most this much below the live version's value"
    )


class Validation(_Part):
    """How a version is judged before it is published."""

    split: Annotated[float, Field(gt=0, lt=1)] | None = Field(
        None, description="the share of the selected rows that is held out, chosen by a hash of each row's key"
    )
    select: Select | None = Field(None, description="the rows to judge on, in the form of `training_select`")
    metrics: list[Name] = Field(default_factory=list, description="scikit-learn scorer names")
    promote: Literal["always", "never"] | Gate = Field("always", description="when a version becomes live")

    @model_validator(mode="after")
    def _one_source(self) -> Self:
        if (self.split is None) == (self.select is None):
            raise ValueError("give either `split` or `select`: the rows to judge on come from one of them")
        return self


class Retrain(_Part):
    """When pending changes lead to a fit."""

    on_change: StrictBool = Field(True, description="whether matching changes lead to a fit")
    min_changes: Whole = Field(1, description="how many matching changes it takes")
    quiet: Duration = Field(1.0, description="wait this long after the last of them")
    max_wait: Duration = Field(30.0, description="but not longer than this after the first")
    cooldown: Duration = Field(0.0, description="at least this long between two fits")
    schedule: Annotated[StrictStr, AfterValidator(check_schedule)] | None = Field(
        None, description="five-field cron expression, in UTC, beside or instead of changes"
    )
    start_from: Literal["scratch", "live"] = Field(
        "scratch", description="`live`: go on from the live version's weights (torch, transformers)"
    )


class Resources(_Part):
    """What one fit may use on the Ray cluster."""

    num_cpus: Annotated[float, Field(ge=0)] = Field(1.0, description="cores that Ray keeps for the fit")
    num_gpus: Annotated[float, Field(ge=0)] = Field(0.0, description="GPUs that Ray keeps for the fit")
    memory: Annotated[int, Field(gt=0)] | None = Field(None, description="bytes")
    num_workers: Whole = Field(1, description="processes that train together: one, in this release")


class ModelDocument(_Part):
    """A model document, validated. `ModelDocument.parse` is the way in."""

    id: Annotated[StrictStr, AfterValidator(check_name)] = Field(alias="_id", description="the model's name")
    trainer: Name = Field(description="`sklearn`, `torch`, `transformers`, or an installed plug-in's name")
    object: dict[str, Any] = Field(description="what is fitted, in the trainer's own terms")
    training_select: Select = Field(description="the rows to train on")
    train_X: Fields = Field(description="one field or several; `_base` is the whole row")
    train_y: Fields | None = Field(None, description="the target; unsupervised without it")
    fit_kwargs: dict[str, Any] = Field(default_factory=dict, description="keywords of the trainer's fit")
    validation: Validation | None = None
    retrain: Retrain = Field(default_factory=Retrain)
    resources: Resources = Field(default_factory=Resources)
    timeout: Duration = Field(3600.0, description="a fit that runs longer is stopped")
    paused: StrictBool = Field(False, description="no fits while true; changes stay pending")
    live: Literal["latest"] | Whole = Field(
        "latest", description="the newest promoted version, or a version number that pins it"
    )
    retrain_now: Any = Field(None, description="any new value asks for a fit")

    @classmethod
    def parse(cls, raw: Mapping[str, Any]) -> Self:
        """The validated document; `status`, which is the daemon's, is left aside.

        Raises:
            DocumentInvalid: it has faults; all of them are named.
        """
        try:
            return cls.model_validate({key: value for key, value in raw.items() if key != "status"})
        except ValidationError as error:
            raise DocumentInvalid(_faults(error)) from None

    @property
    def fields_X(self) -> tuple[str, ...]:  # noqa: N802 (X is scikit-learn's name)
        """The fields of X, in order."""
        return (self.train_X,) if isinstance(self.train_X, str) else tuple(self.train_X)

    @property
    def fields_y(self) -> tuple[str, ...]:
        """The fields of y, in order; empty for an unsupervised model."""
        if self.train_y is None:
            return ()
        return (self.train_y,) if isinstance(self.train_y, str) else tuple(self.train_y)

    def spec_hash(self) -> str:
        """Fingerprint of all that a fit's outcome depends on: a version with another one is out of date."""
        raw = self.model_dump(by_alias=True, include={"trainer", "object", "training_select", "train_X", "train_y"})
        raw |= self.model_dump(include={"fit_kwargs", "validation"})
        return fingerprint(raw)

    def select_hash(self) -> str:
        """Fingerprint of the select alone."""
        return fingerprint(self.training_select)


def _faults(error: ValidationError) -> list[Fault]:
    """One fault a path; where several forms were possible and none fits, their complaints joined by `or`."""
    messages: dict[str, list[str]] = {}
    for detail in error.errors(include_url=False):
        location = [part for part in detail["loc"] if not _is_branch(part)]
        message = _message(detail["type"], detail["msg"], location)
        said = messages.setdefault(".".join(str(part) for part in location), [])
        if message not in said:
            said.append(message)
            given = detail.get("input")
            if detail["type"] not in ("missing", "extra_forbidden", "value_error"):
                said.append(f"\0{_shown(given)}")
    return [Fault(path, _joined(said)) for path, said in messages.items()]


def _joined(said: list[str]) -> str:
    given = next((one[1:] for one in said if one.startswith("\0")), None)
    text = ", or ".join(one for one in said if not one.startswith("\0"))
    return f"{text}; given: {given}" if given else text


def _is_branch(part: int | str) -> bool:
    """pydantic puts the tried branch of a union into the path; a person did not write it."""
    return isinstance(part, str) and bool(_BRANCH.match(part))


_BRANCH = re.compile(r"(function-|list\[|dict\[|literal\[|constrained-|str$|int$|Gate$)")


def _message(kind: str, text: str, location: list[int | str]) -> str:
    if kind == "extra_forbidden":
        known = _known_names(location[:-1])
        near = nearest(str(location[-1]), known)
        hint = f"did you mean `{near}`?" if near else f"known here: {', '.join(known)}"
        return f"no such field; {hint}"
    if kind == "missing":
        return "is missing"
    text = text.removeprefix("Value error, ").removeprefix("Input ")
    return text if kind == "value_error" else f"{text[0].lower()}{text[1:]}"


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 80 else f"{text[:77]}..."


def _known_names(location: list[int | str]) -> list[str]:
    part: type[BaseModel] = ModelDocument
    for name in location:
        part = _inner_model(part, str(name)) or part
    return [field.alias or name for name, field in part.model_fields.items()]


def _inner_model(part: type[BaseModel], name: str) -> type[BaseModel] | None:
    field = part.model_fields.get(name)
    candidates = (field.annotation, *get_args(field.annotation)) if field else ()
    return next((one for one in candidates if isinstance(one, type) and issubclass(one, BaseModel)), None)
