"""`fit_kwargs` of the PyTorch trainer, validated: all faults at once.

| keyword | default | meaning |
|---|---|---|
| `loss` | by the target | a loss of `torch.nn` by name (`CrossEntropyLoss`), `{class, params}`, or a function of yours: it takes (outputs, y), or (outputs,) without `train_y` |
| `objective` | | SuperDuperDB's name of `loss` |
| `optimizer` | `AdamW` | an optimizer of `torch.optim` by name, `{class, params}`, or a class or function of yours: it takes (parameters, **optimizer_kwargs) |
| `optimizer_cls` | | SuperDuperDB's name of `optimizer` |
| `optimizer_kwargs` | `{}` | its keywords, `{lr: 0.001}` |
| `scheduler` | none | a scheduler of `torch.optim.lr_scheduler` by name, `{class, params}`, or a function of yours: it takes (optimizer, **scheduler_kwargs) |
| `scheduler_kwargs` | `{}` | its keywords; `T_max` and `total_steps` are filled in from the length of the fit |
| `scheduler_interval` | by the scheduler | `step` or `epoch`: when it moves; OneCycleLR and CyclicLR move every step, others every epoch |
| `max_epochs` | 10, or without bound where `max_iterations` is given | how often it goes through the rows |
| `max_iterations` | none | how many batches it trains on at most |
| `validation_interval` | each epoch | after how many iterations the rows held out are judged |
| `no_improve_then_stop` | none | stop after so many validations without improvement, and keep the best weights; without rows held out, the training loss is judged |
| `watch` | `loss` | what must improve: `loss` (or `objective`), or one of `metrics` |
| `listen` | | another name of `watch` (SuperDuperDB 0.1.3) |
| `metrics` | `[]` | metrics that each validation reports while it trains; those of a version stand in `validation.metrics` |
| `compute_metrics` | none | a function of yours: it takes (predictions, targets) of a validation, gives a mapping from name to number |
| `target_preprocessors` | none | a function of yours that makes one row's y what the loss takes, or `{field: function}`; needs `loss` |
| `batch_size` | 32 | rows in a batch |
| `shuffle` | true | whether each epoch has an order of its own (rows in a file: within a window) |
| `drop_last` | false | whether an epoch's last batch is left out when it is not full |
| `num_workers` | 0 | processes that make batches |
| `collate_fn` | PyTorch's | a function of yours that makes a batch of a list of rows: (x, y), or x without `train_y` |
| `worker_init_fn` | none | a function of yours, called with its number in each of these processes |
| `pin_memory` | false | as in PyTorch's DataLoader |
| `pin_memory_device` | "" | as in PyTorch's DataLoader |
| `prefetch_factor` | 2 with workers | as in PyTorch's DataLoader |
| `persistent_workers` | true | whether these processes stay from epoch to epoch |
| `multiprocessing_context` | `fork` | others can't share rows that lie in a file |
| `timeout` | 0 | seconds to wait for a batch of a worker |
| `in_order` | true | as in PyTorch's DataLoader |
| `loader_kwargs` | `{}` | SuperDuperDB's name for the DataLoader's keywords together |
| `seed` | 0 | of weights, order and dropout: same seed, rows and device, same metrics |
| `device` | `auto` | `auto` (CUDA, else MPS, else CPU), `cpu`, `cuda`, `cuda:N` or `mps` |
| `precision` | `no` | mixed precision: `no`, `fp16` (needs a GPU) or `bf16` |
| `gradient_clip_norm` | none | the norm that all gradients together are cut to |
| `gradient_clip_value` | none | the size that each gradient is cut to |
| `gradient_accumulation` | 1 | batches whose gradients are added up for one step of the optimizer |
| `download` | false | taken for SuperDuperDB's sake, and means nothing: rows are always read beforehand |

A keyword whose value is a function of yours holds its signed code: see `registry.code`.
"""  # noqa: E501 (a table)

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Final, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, StrictBool, StrictInt, StrictStr, ValidationError

from registry.errors import DocumentInvalid, Fault
from registry.nearest import nearest

#: SuperDuperDB's names for what has another one here.
ALIASES: Final = {"objective": "loss", "optimizer_cls": "optimizer", "listen": "watch"}
_ELSEWHERE: Final = {
    "sampler": "the order follows from `seed` and `shuffle`, so that a lost fit can go on where it was",
    "batch_sampler": "the order follows from `seed`, `shuffle` and `batch_size`, so that a lost fit can go on",
    "generator": "give `seed`",
    "dataset": "the rows come from `training_select`",
    "splitter": "`validation.split` of the document holds rows out",
    "lr": "write `optimizer_kwargs: {lr: …}`",
    "learning_rate": "write `optimizer_kwargs: {lr: …}`",
    "weight_decay": "write `optimizer_kwargs: {weight_decay: …}`",
    "momentum": "write `optimizer_kwargs: {momentum: …}`",
    "epochs": "write `max_epochs`",
    "num_epochs": "write `max_epochs`",
    "mixed_precision": "write `precision`",
    "criterion": "write `loss`",
    "X": "`train_X` names its fields",
    "y": "`train_y` names its fields",
}
LOADER: Final = (
    *("num_workers", "pin_memory", "pin_memory_device", "prefetch_factor", "persistent_workers"),
    *("multiprocessing_context", "timeout", "in_order"),
)


def _whole(value: Any) -> Any:
    """3.0 is 3: some shells write every number as a double. SuperDuperDB's 10**100 and infinity are no limit."""
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    return None if isinstance(value, int) and not isinstance(value, bool) and value > 2**62 else value


Count = Annotated[StrictInt, Field(ge=1), BeforeValidator(_whole)]
Limit = Annotated[Annotated[StrictInt, Field(ge=1)] | None, BeforeValidator(_whole)]
Zero = Annotated[StrictInt, Field(ge=0, lt=2**63), BeforeValidator(_whole)]
Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]
#: A name, `{class, params}`, or the form of code.
Named = StrictStr | dict[str, Any]


class TorchConfig(BaseModel):
    """The keywords, with their defaults; the table above says what they mean."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    loss: Named | None = None
    optimizer: Named = "AdamW"
    optimizer_kwargs: dict[str, Any] = Field(default_factory=dict)
    scheduler: Named | None = None
    scheduler_kwargs: dict[str, Any] = Field(default_factory=dict)
    scheduler_interval: Literal["step", "epoch"] | None = None
    max_epochs: Limit = None
    max_iterations: Limit = None
    validation_interval: Count | None = None
    no_improve_then_stop: Limit = None
    watch: StrictStr = "loss"
    metrics: list[StrictStr] = Field(default_factory=list)
    compute_metrics: dict[str, Any] | None = None
    target_preprocessors: dict[str, Any] | None = None
    batch_size: Count = 32
    shuffle: StrictBool = True
    drop_last: StrictBool = False
    num_workers: Zero = 0
    collate_fn: dict[str, Any] | None = None
    worker_init_fn: dict[str, Any] | None = None
    pin_memory: StrictBool = False
    pin_memory_device: StrictStr = ""
    prefetch_factor: Count | None = None
    persistent_workers: StrictBool | None = None
    multiprocessing_context: Literal["fork"] | None = None
    timeout: Annotated[float, Field(ge=0)] = 0
    in_order: StrictBool = True
    seed: Zero = 0
    device: Annotated[StrictStr, Field(pattern=r"^(auto|cpu|mps|cuda(:\d{1,3})?)$")] = "auto"
    precision: Literal["no", "fp16", "bf16"] = "no"
    gradient_clip_norm: Positive | None = None
    gradient_clip_value: Positive | None = None
    gradient_accumulation: Count = 1
    download: StrictBool = False

    @property
    def epochs(self) -> int | None:
        """How often it goes through the rows; None: as often as `max_iterations` takes."""
        return self.max_epochs if self.max_epochs or self.max_iterations else 10

    @property
    def watched(self) -> str:
        """What must improve: `loss`, or a metric."""
        return "loss" if self.watch in ("objective", "loss", "neg_loss") else self.watch

    def loader(self) -> dict[str, Any]:
        """The DataLoader's keywords, but for those that say what is in a batch."""
        found = {name: value for name in LOADER if (value := getattr(self, name)) is not None}
        if self.num_workers and self.persistent_workers is None:
            found["persistent_workers"] = True  # starting them takes long
        return found


#: A keyword that is written otherwise in `fit_kwargs` than here.
KEYWORDS: Final = (*TorchConfig.model_fields, *ALIASES, "loader_kwargs")


def parse(fit_kwargs: Mapping[str, Any]) -> TorchConfig:
    """The keywords, validated.

    Raises:
        DocumentInvalid: they have faults; all of them are named, with paths from `fit_kwargs` on.
    """
    config, faults = read(fit_kwargs)
    if config is None or faults:
        raise DocumentInvalid(faults)
    return config


def read(fit_kwargs: Mapping[str, Any]) -> tuple[TorchConfig | None, list[Fault]]:
    """The keywords and what is wrong with them; None where too little is right."""
    flat, faults = _flat(fit_kwargs)
    try:
        config = TorchConfig.model_validate(flat)
    except ValidationError as error:
        return None, [*faults, *_faults(error, flat)]
    return config, [*faults, *_together(config)]


def _flat(fit_kwargs: Mapping[str, Any]) -> tuple[dict[str, Any], list[Fault]]:
    """Under our own names, those in `loader_kwargs` beside the others."""
    flat: dict[str, Any] = {}
    faults: list[Fault] = []
    inner = fit_kwargs.get("loader_kwargs") or {}
    if not isinstance(inner, Mapping):
        faults.append(Fault("fit_kwargs.loader_kwargs", "must be a mapping from keyword to value"))
        inner = {}
    outer = {name: value for name, value in fit_kwargs.items() if name != "loader_kwargs"}
    for path, given in (("fit_kwargs", outer), ("fit_kwargs.loader_kwargs", inner)):
        for name, value in given.items():
            known = ALIASES.get(name, name)
            if known not in TorchConfig.model_fields:
                faults.append(Fault(f"{path}.{name}", _unknown(name)))
            elif known in flat:
                faults.append(Fault(f"{path}.{name}", f"`{known}` is given twice, under two names; leave one out"))
            elif not (value is None and known in _NOT_NONE):
                flat[known] = value
    return flat, faults


#: Of these, null means the default.
_NOT_NONE: Final = frozenset(name for name, field in TorchConfig.model_fields.items() if field.default is not None)


def _unknown(name: str) -> str:
    if name in _ELSEWHERE:
        return f"is no keyword here: {_ELSEWHERE[name]}"
    near = nearest(name, KEYWORDS)
    return "no such keyword of the torch trainer; " + (
        f"did you mean `{near}`?" if near else f"known here: {', '.join(KEYWORDS)}"
    )


def _together(config: TorchConfig) -> list[Fault]:
    """What only keywords together can be wrong in."""
    faults = []
    if config.num_workers == 0:
        about = "is about processes that make batches: give `num_workers` too"
        names = ("prefetch_factor", "persistent_workers", "timeout", "multiprocessing_context")
        faults += [Fault(f"fit_kwargs.{name}", about) for name in names if getattr(config, name)]
    if config.precision == "fp16" and config.device == "cpu":
        faults.append(Fault("fit_kwargs.precision", "fp16 needs a GPU; use bf16 on a CPU"))
    if config.watched not in ("loss", *config.metrics) and config.compute_metrics is None:
        faults.append(
            Fault("fit_kwargs.watch", f"`{config.watch}` is neither `loss` nor one of `metrics`; name it there")
        )
    if config.target_preprocessors is not None and config.loss is None:
        faults.append(Fault("fit_kwargs.loss", "is missing: with `target_preprocessors` only you know what fits them"))
    return faults


def _faults(error: ValidationError, flat: Mapping[str, Any]) -> list[Fault]:
    """One fault a keyword; where several forms were possible, their complaints joined by `or`."""
    said: dict[str, list[str]] = {}
    for detail in error.errors(include_url=False):
        name = str(detail["loc"][0])
        text = detail["msg"].removeprefix("Value error, ").removeprefix("Input ")
        if name == "device":
            text = "should be auto, cpu, cuda, cuda:N or mps"
        said.setdefault(name, []).append(f"{text[0].lower()}{text[1:]}")
    return [
        Fault(f"fit_kwargs.{name}", f"{', or '.join(dict.fromkeys(each))}; given: {repr(flat.get(name))[:80]}")
        for name, each in said.items()
    ]
