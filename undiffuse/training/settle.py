"""Which options a run is trained with: those given over those recorded over the defaults.

The options are declared in `undiffuse.options`. What they leave open (the batch, the precision,
whether to compile) is chosen from the data's shape and by trial on this machine. Every choice is
written to config.json, so that a resumed run goes on exactly as it began.
"""

from __future__ import annotations

from collections.abc import Mapping, Sized
from contextlib import ExitStack
from dataclasses import asdict, fields, replace
from math import inf, prod
from typing import Any

import torch

from undiffuse.declared import checked, with_defaults
from undiffuse.duration import parse_duration
from undiffuse.errors import InputError
from undiffuse.interfaces import Source, Stop, Trainable
from undiffuse.options import DEFAULT_BUDGET, TrainingOptions
from undiffuse.room import check_room
from undiffuse.training.randomness import PREPARE, Randomness
from undiffuse.training.ranks import ALONE, Ranks
from undiffuse.training.shards import decide
from undiffuse.training.sizing import Sizing, choose_width
from undiffuse.training.trial import Trial, choose_precision, compiled

_BATCHES = ((16384, 32), (65536, 16), (inf, 8))  # (numbers in a row up to, rows in a batch)


def merge(given: Mapping[str, Any], recorded: Mapping[str, Any] | None = None) -> TrainingOptions:
    """Return the options `given` by the caller over those `recorded` in a run over the defaults.

    What is given as None or "auto" counts as not given. A resumed run keeps its seed whatever is
    given, because the order of its data depends on it. Steps replace a recorded budget, and the
    other way round. The budget is in seconds.

    Raises:
        InputError: an option is unknown, of another type or out of range, or contradicts another.
    """
    asked = checked(TrainingOptions, {k: v for k, v in given.items() if v not in (None, "auto")})
    names = [field.name for field in fields(TrainingOptions)]
    kept = {k: v for k, v in (recorded or {}).items() if k in names and v is not None}
    if recorded is not None:
        asked.pop("seed", None)
        if "steps" in asked or "budget" in asked:
            kept = {k: v for k, v in kept.items() if k not in ("steps", "budget")}
    values = kept | asked
    if "steps" not in values:
        values["budget"] = parse_duration(values.get("budget", DEFAULT_BUDGET))
    options = with_defaults(TrainingOptions, values)
    if options.batch is not None and options.accumulate > options.batch:
        raise InputError(
            f"accumulate {options.accumulate}: a batch of {options.batch} rows cannot be cut into "
            "so many parts; lower it."
        )
    return options


def settle(
    model: Trainable,
    data: Source,
    options: TrainingOptions,
    device: torch.device,
    randomness: Randomness,
    leaving: ExitStack,
    stop: Stop = lambda: False,
    *,
    wide: bool = False,
    ranks: Ranks = ALONE,
) -> tuple[TrainingOptions, Sizing | None]:
    """Choose what `options` leave open, from the data's shape and by trial on rank 0.

    Args:
        model: the model, sized to the data and on the device.
        data: the data.
        options: what `merge` returned.
        device: the device to train on.
        randomness: seeds the trials.
        leaving: on leaving it, the networks are no longer compiled.
        stop: polled before and in each trial.
        wide: whether the width of the network is open too.
        ranks: the processes that share a batch: it is cut into a multiple of as many parts.

    Raises:
        InputError: a batch cannot be shared by the ranks, or is too large for this machine.
    """
    rows = len(data) if isinstance(data, Sized) else None
    shape = tuple(data.transform.shape)
    batch = options.batch or batch_for(shape, rows=rows, accelerated=device.type != "cpu")
    check_room(64.0 * batch * prod(shape), f"batch {batch:,}", "train on fewer rows a step")
    if batch % ranks.size:
        near = [max(batch // ranks.size, 1) * ranks.size, -(-batch // ranks.size) * ranks.size]
        raise InputError(
            f"batch {batch}: cannot be shared by {ranks.size} processes; take "
            f"{' or '.join(str(one) for one in dict.fromkeys(near))}."
        )
    accumulate = -(-min(options.accumulate, batch) // ranks.size) * ranks.size
    options = replace(options, batch=batch, accumulate=accumulate, device=str(device))
    compiling = device.type == "cuda" if options.compile is None else options.compile
    wide = wide and options.budget is not None and bool(model.widths)
    if not wide:
        model.widths = ()
    if ranks.size > 1 and (options.precision == "auto" or wide):
        found = None
        if ranks.first:
            open_ = replace(options, compile=False)
            own = settle(model, data, open_, device, randomness, leaving, stop, wide=wide)
            found = [own[0].precision, model.width, own[1] and asdict(own[1])]
        precision, width, sizing = ranks.lead(found)
        if wide and not ranks.first:
            randomness.at(PREPARE)
            model.take_width(width)
        model.widths = ()
        options = replace(options, precision=precision)
        chosen, _ = settle(model, data, options, device, randomness, leaving, stop, ranks=ranks)
        return chosen, sizing and Sizing(**sizing)
    if options.precision != "auto" and not compiling and not wide:
        return options, None
    first = next(data.batches(-(-batch // accumulate), seed=options.seed))
    trial = Trial(model, first, data.transform, device, randomness, stop)
    budget, rows = None if options.budget is None else float(options.budget), len(first["row"])
    sizing = None
    if options.precision == "auto":
        chosen = choose_precision(device, trial, budget, rows=rows, stop=stop)
        options = replace(options, precision=chosen)
    if wide and budget is not None:
        usual = model.width
        sizing = choose_width(
            model,
            trial,
            budget=budget,
            rows=rows,
            numbers=prod(shape),
            precision=options.precision,
            stop=stop,
        )
        randomness.at(PREPARE)
        model.take_width(sizing.width if sizing else usual)
        model.widths = ()
    if compiling and not decide(options.parallel, model.parameter_count, device, ranks):
        modules = [player.module for player in model.players().values()]
        leaving.enter_context(compiled(modules, trial, options.precision))
    return options, sizing


def batch_for(shape: tuple[int, ...], *, rows: int | None = None, accelerated: bool = False) -> int:
    """Return the default rows per step, a power of two: many small rows, few large ones.

    An accelerator gets four times as many; a small data set at most an eighth of its rows. In ten
    minutes of 28 x 28 images on two cores, batches of 32 learned more than batches of 64.

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
