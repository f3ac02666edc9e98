"""What a run's JSON files must hold, checked before anything is done with it."""

from __future__ import annotations

from typing import Annotated, Any, NotRequired

from annotated_types import Ge, Gt, Le, MaxLen, MinLen
from pydantic import ConfigDict, TypeAdapter, ValidationError, with_config
from typing_extensions import TypedDict

_Count = Annotated[int, Ge(0), Le(2**62)]
_Number = Annotated[float, Ge(0), Le(1e300)]
_Signed = Annotated[float, Ge(-1e300), Le(1e300)]
_Share = Annotated[float, Ge(0), Le(1)]
_SOUND = ConfigDict(strict=True, extra="allow", allow_inf_nan=False)


@with_config(_SOUND)
class _Split(TypedDict):
    seed: int
    held_out: _Count | None


@with_config(_SOUND)
class _Data(TypedDict):
    """Sources of the user's own record what they like."""

    name: NotRequired[str]
    path: NotRequired[str | None]
    fingerprint: NotRequired[str]
    rows: NotRequired[_Count]
    reading: NotRequired[dict[str, Any]]
    split: NotRequired[_Split]
    mirrored: NotRequired[bool]
    kind: NotRequired[str]
    transform: NotRequired[dict[str, Any]]
    form: NotRequired[dict[str, Any]]
    classes: NotRequired[list[str]]


_Origin = with_config(_SOUND)(
    TypedDict("_Origin", {"from": str, "steps": _Count | None, "weights": str | None})
)


@with_config(_SOUND)
class _Config(TypedDict):
    format: int
    undiffuse: str
    preset: str | None
    parameters: _Count
    model: dict[str, Any]
    data: _Data
    training: dict[str, Any]
    plugins: NotRequired[list[dict[str, str]]]
    origin: NotRequired[_Origin | None]


@with_config(_SOUND)
class _Ramp(TypedDict):
    step: _Count
    elapsed: _Number


@with_config(_SOUND)
class _Counters(TypedDict):
    step: _Count
    skipped: _Count
    held_out: dict[str, Any] | None
    counts: dict[str, _Count]
    elapsed: _Number
    budget: _Number | None
    evaluating: _Number
    ramp: _Ramp
    finished: bool


@with_config(_SOUND)
class _Candidate(TypedDict):
    method: str
    times: Annotated[list[_Share], MinLen(3), MaxLen(1000)]
    error: _Number | None
    distance: _Signed | None
    excess: _Signed | None
    stderr: _Number | None


_FINITE = ConfigDict(strict=True, extra="forbid", allow_inf_nan=False)


@with_config(_FINITE)
class _Guidance(TypedDict):
    scale: _Number
    low: _Number
    high: _Number
    distance: float
    excess: float
    stderr: _Number
    recall: float
    coverage: float


@with_config(_FINITE)
class _Sampler(TypedDict):
    candidates: Annotated[list[_Candidate], MinLen(1), MaxLen(64)]
    chosen: _Count
    seeds: _Count
    rows: _Count
    guidance: NotRequired[_Guidance | None]


@with_config(_FINITE)
class _Timed(TypedDict):
    rows: Annotated[int, Ge(1), Le(2**62)]
    torch: Annotated[float, Gt(0), Le(1e300)]
    onnx: Annotated[float, Gt(0), Le(1e300)]


@with_config(_FINITE)
class _Backend(TypedDict):
    weights: str
    machine: str
    batches: Annotated[list[_Timed], MinLen(1), MaxLen(16)]


@with_config(_SOUND)
class _Event(TypedDict):
    event: str
    step: _Count
    elapsed: NotRequired[_Number | None]
    loss: NotRequired[float | None]
    skipped: NotRequired[_Count]
    reason: NotRequired[str]


_CONFIG, _COUNTERS, _EVENT = TypeAdapter(_Config), TypeAdapter(_Counters), TypeAdapter(_Event)
_SAMPLER, _BACKEND = TypeAdapter(_Sampler), TypeAdapter(_Backend)


def sound_config(tree: Any) -> dict[str, Any]:
    """Return config.json if its outer tree is sound; the parts in it are checked when built.

    Raises:
        ValueError: saying where it is not.
    """
    from undiffuse.declared import checked
    from undiffuse.options import TrainingOptions

    _check(_CONFIG, tree)
    checked(TrainingOptions, tree["training"], called=lambda names: ".".join(("training", *names)))
    return tree


def sound_counters(tree: Any) -> dict[str, Any]:
    """Return state.json if it is sound. Raises ValueError saying where it is not."""
    _check(_COUNTERS, tree)
    return tree


def sound_sampler(tree: Any) -> dict[str, Any]:
    """Return sampler.json if it is sound. Raises ValueError saying where it is not."""
    _check(_SAMPLER, tree)
    return tree


def sound_backend(tree: Any) -> dict[str, Any]:
    """Return backend.json if it is sound. Raises ValueError saying where it is not."""
    _check(_BACKEND, tree)
    return tree


def is_event(tree: Any) -> bool:
    """Return whether a line of log.jsonl is an event."""
    try:
        _check(_EVENT, tree)
    except ValueError:
        return False
    return True


def _check(adapter: Any, tree: Any) -> None:
    try:
        adapter.validate_python(tree)
    except ValidationError as problem:
        first = problem.errors()[0]
        where = ".".join(map(str, first["loc"])) or "it"
        raise ValueError(f"{where}: {first['msg'][:1].lower()}{first['msg'][1:]}") from None
