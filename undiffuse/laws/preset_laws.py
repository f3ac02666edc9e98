"""The laws of presets: what a person does with a model of three steps, on vectors and on images."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from functools import cached_property
from itertools import count
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, final

import numpy as np
import torch

from undiffuse.errors import InputError
from undiffuse.laws.broken import close, hold
from undiffuse.models import Diffusion, GenerativeModel
from undiffuse.models.likelihood import Bound, Density, How, Weighted
from undiffuse.run import Run
from undiffuse.training import fit

MakeModel = Callable[..., GenerativeModel]

_FEW: Mapping[type, How] = {
    Bound: Bound(3),
    Density: Density(steps=2, probes=1),
    Weighted: Weighted(3),
}
_SIZES = ({"width": 8, "depth": 1}, {"width": 8}, {})  # the smallest that the preset takes


def plain_rows(shape: tuple[int, ...], n: int = 48) -> np.ndarray:
    """Return rows (n, *shape): real numbers, or images of 8 bits."""
    rng = np.random.default_rng(0)
    if len(shape) == 1:
        return rng.normal(size=(n, *shape))
    return rng.integers(0, 256, (n, *shape)).astype(np.uint8)


@final
class Briefly:
    """A preset's model of three steps on rows of a shape.

    Args:
        preset: the function.
        shape: (2,) or (8, 8) of images.
    """

    def __init__(self, preset: MakeModel, shape: tuple[int, ...]) -> None:
        self.preset, self.shape = preset, shape

    @cached_property
    def model(self) -> GenerativeModel | None:
        """The trained model; None for data that the preset refuses."""
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            model = self._made()
            hold(isinstance(model, GenerativeModel), f"it returns a {type(model).__name__}")
            try:
                source = model.meet(plain_rows(self.shape))
            except InputError:
                return None
            polls = count()
            options: dict[str, Any] = {"steps": 9, "samples": 0, "batch": 8, "seed": 0}
            options["stop"] = lambda: next(polls) >= 3  # before what a run chooses at its end
            fit(model, source, precision="float32", device="cpu", **options)
        return model.eval()

    def _made(self) -> GenerativeModel:
        for sizes in _SIZES[:-1]:
            try:
                made = self.preset(**sizes)
                made.meet(plain_rows(self.shape))
                return self.preset(**sizes)
            except (InputError, TypeError):  # it has no such option: its own sizes, then
                continue
        return self.preset()

    def drawn(self, model: GenerativeModel) -> np.ndarray:
        """Three samples of few steps."""
        few: dict[str, Any] = {"steps": 2} if model.steps_of(None) else {}
        return model.sample_rows(3, seed=1, **few)


def trains(cases: list[Briefly]) -> None:
    """On one of the two at least; a preset may be for one shape of rows."""
    hold(any(case.model is not None for case in cases), "it refuses both")
    for case in cases:
        if case.model is not None:
            numbers = [p for p in case.model.parameters() if p.requires_grad]
            hold(numbers, "nothing in it can be trained")
            hold(all(bool(p.isfinite().all()) for p in numbers), f"{case.shape}: not finite")


def opens_to_the_same(cases: list[Briefly]) -> None:
    """A run of it is opened to the same samples, bit for bit."""
    for case in cases:
        if (model := case.model) is None:
            continue
        with TemporaryDirectory() as folder:
            again = Run(model.save(Path(folder) / "run")).model()
        found, expected = case.drawn(again), case.drawn(model)
        hold(np.isfinite(expected).all(), f"rows {case.shape}: samples are not finite")
        close(torch.as_tensor(found), torch.as_tensor(expected), f"samples {case.shape}")


def knows_its_density(cases: list[Briefly]) -> None:
    """log_prob is finite, or the model says why there is none."""
    for case in cases:
        if (model := case.model) is None or model.no_density:
            continue
        how = next((_FEW[way] for way in model.scored_by if way in _FEW), None)
        options: dict[str, Any] = {} if how is None else {"how": how}
        nats = model.log_prob(plain_rows(case.shape)[:2], draws=1, **options)
        found = ", ".join(f"{value:g}" for value in nats)
        hold(all(math.isfinite(value) for value in nats), f"rows {case.shape}: {found} nats")


def takes_methods(cases: list[Briefly]) -> None:
    """Each sampling method that the model names draws finite rows."""
    for case in cases:
        model = case.model
        if isinstance(model, Diffusion) and not model.only_own:
            rows = model.sample_rows(2, seed=0, method="ddim", steps=2)
            hold(np.isfinite(rows).all(), f"rows {case.shape} by ddim are not finite")


PRESET_LAWS: Mapping[str, Callable[[list[Briefly]], None]] = {
    "a preset trains on vectors or on images": trains,
    "its run opens to the same samples, bit for bit": opens_to_the_same,
    "log_prob is finite, or the model says why there is none": knows_its_density,
    "a diffusion model is sampled by other methods": takes_methods,
}
"""What a preset is held to, in a sentence -> the law, of its models of vectors and of images."""
