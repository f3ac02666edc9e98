"""How a run is trained: what may be asked for, what is taken by default, and what a run remembers of it.

What a caller leaves out (None, or "auto") is taken from the run that is resumed, or else chosen here; every choice is
written to the run's config.json, so that a resumed run goes on exactly as it began.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, fields
from math import prod
from typing import Any

from undiffuse.duration import parse_duration
from undiffuse.errors import InputError, unknown
from undiffuse.training.averaging import WIDEST

BUDGET = 600.0  # seconds, if neither steps nor a budget are given
PRECISIONS = ("auto", "float32", "bfloat16")


@dataclass(frozen=True, kw_only=True)
class Options:
    """All that decides how weights come out of data, and how often a run is saved and looked at."""

    steps: int | None = None  # how many optimizer steps; or:
    budget: float | None = None  # how long, in seconds; may be given as "90s", "10m", "1h30m"
    batch: int | None = None  # rows per step; chosen from the data's shape
    lr: float = 1e-3  # peak learning rate
    warmup: int = 100  # steps until the peak (or 5 % of the run, if that is sooner)
    decay: float = 0.7  # share of the run over which the rate falls to zero
    weight_decay: float = 0.01
    clip: float = 1.0  # largest norm of the gradient; 0 for none
    accumulate: int = 1  # parts that a batch is computed in, to fit memory
    averaging: float = 0.1  # width of the weights' average relative to the run; 0 for none
    precision: str = "auto"  # float32, bfloat16
    device: str = "auto"  # cpu, cuda, mps
    compile: bool | None = None  # by default on CUDA only
    seed: int = 0
    checkpoint_every: int = 500  # steps
    evaluate_every: int | None = (
        None  # steps; by default 16 times and early on, within 5 % of the time
    )
    samples: int = 16  # in each preview; 0 for none
    log_every: int = 10  # steps

    def plain(self) -> dict[str, Any]:
        """For config.json."""
        return asdict(self)


def merge(given: Mapping[str, Any], recorded: Mapping[str, Any] | None = None) -> Options:
    """The options `given` by the caller over those `recorded` in a run over the defaults.

    A resumed run keeps its seed whatever is given: the order of its data hangs on it. Asking for steps replaces a
    recorded budget, and the other way round. Raises InputError for a name or a value that makes no sense.
    """
    names = [field.name for field in fields(Options)]
    for name in given:
        if name not in names:
            raise unknown("training", "option", name, names)
    asked = {name: value for name, value in given.items() if value is not None and value != "auto"}
    if "steps" in asked and "budget" in asked:
        raise InputError(
            "steps and budget: give one of the two, a number of steps or a length of time."
        )
    kept = {name: value for name, value in (recorded or {}).items() if name in names}
    if recorded is not None:
        asked.pop("seed", None)
        if "steps" in asked or "budget" in asked:
            kept |= {"steps": None, "budget": None}
    values = asdict(Options()) | kept | asked
    check(values)
    if values["budget"] is not None:
        values["budget"] = parse_duration(values["budget"])
    elif values["steps"] is None:
        values["budget"] = BUDGET
    floats = ("lr", "decay", "weight_decay", "clip", "averaging")
    exact: dict[str, Any] = values | {name: float(values[name]) for name in floats}
    return Options(**exact)


_WHOLE = ("steps", "batch", "accumulate", "checkpoint_every", "evaluate_every", "log_every")
_RANGES: dict[str, tuple[Callable[[Any], bool], str]] = {
    **{
        name: (lambda value: _whole(value) and value >= 1, "a whole number from 1 up")
        for name in _WHOLE
    },
    **{
        name: (lambda value: _whole(value) and value >= 0, "a whole number from 0 up")
        for name in ("warmup", "samples", "seed")
    },
    "lr": (lambda value: 0 < value < float("inf"), "a number above 0, such as 1e-3"),
    "weight_decay": (lambda value: 0 <= value < float("inf"), "a number from 0 up"),
    "clip": (lambda value: 0 <= value < float("inf"), "a number from 0 (no clipping) up"),
    "decay": (lambda value: 0 < value <= 1, "a share of the run, above 0 and at most 1"),
    "averaging": (
        lambda value: value == 0 or 1e-3 <= value <= WIDEST,
        "0, or a share of the run from 0.001 to 0.288",
    ),
    "compile": (lambda value: isinstance(value, bool), "true or false"),
}


def check(values: Mapping[str, Any]) -> None:
    """Raises InputError, naming the option, for a value that is out of range."""
    for name, (holds, what) in _RANGES.items():
        value = values[name]
        try:
            right = value is None or holds(value)
        except TypeError:
            right = False
        if not right:
            raise InputError(f"{name} {value}: must be {what}.")
    if values["precision"] not in PRECISIONS:
        raise unknown("precision", "precision", str(values["precision"]), PRECISIONS)
    if values["batch"] is not None and values["accumulate"] > values["batch"]:
        parts, batch = values["accumulate"], values["batch"]
        raise InputError(
            f"accumulate {parts}: a batch of {batch} rows cannot be cut in so many parts; lower it."
        )


def _whole(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


_BATCHES = (
    (16384, 32),
    (65536, 16),
    (float("inf"), 8),
)  # (numbers in a row up to, rows in a batch)


def batch_for(shape: tuple[int, ...], *, rows: int | None = None, accelerated: bool = False) -> int:
    """Rows per step for data of this shape, a power of two: many of the small, few of the large.

    Four times as many on an accelerator; of a small data set no more than an eighth. In ten minutes of 28 x 28 images
    on two cores, batches of 32 learned more than batches of 64.

    >>> batch_for((1, 28, 28)), batch_for((3, 64, 64)), batch_for((2,)), batch_for((3, 256, 256))
    (32, 32, 256, 8)
    """
    size = prod(shape)
    small_vector = len(shape) == 1 and size <= 256
    batch = 256 if small_vector else next(count for limit, count in _BATCHES if size <= limit)
    batch *= 4 if accelerated else 1
    if rows is not None:
        batch = max(min(batch, rows // 8), min(16, rows), 1)
    return 1 << (batch.bit_length() - 1)
