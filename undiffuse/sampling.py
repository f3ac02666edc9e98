"""`ud.sample`: rows of a trained model, or the sampling loop itself."""

from __future__ import annotations

from pathlib import Path
from typing import Any, overload

from torch import Tensor

from undiffuse.diffusion import Step
from undiffuse.diffusion import sample as sampling_loop
from undiffuse.diffusion.denoiser import AbstractDenoiser
from undiffuse.errors import InputError
from undiffuse.models import GenerativeModel
from undiffuse.run import Run


@overload
def sample(what: str | Path | Run | GenerativeModel, n: int, /, **options: Any) -> Any: ...


@overload
def sample(
    what: AbstractDenoiser, x: Tensor, grid: Tensor, step: Step, /, **options: Any
) -> Tensor: ...


def sample(what: Any, *values: Any, **options: Any) -> Any:
    """Draw samples from a trained model, or carry rows through the steps of a denoiser.

        sample(model, 64, seed=1)               as `model.sample` does
        sample("runs/digits", 64)               the same of a run, or of its folder
        sample(denoiser, x, grid, step)         the loop of all samplers (`diffusion.sample`)

    Args:
        what: a model, a run, its folder, or a denoiser.
        *values: the number of samples; of a denoiser rows (B, *), descending times, a step.
        **options: as for `GenerativeModel.sample`; of a denoiser noise and callback.

    Returns:
        Samples in the form of the data; of a denoiser rows (B, *) at the last time.

    Raises:
        InputError: for anything else, and as `GenerativeModel.sample` does.

    >>> sample(3, 64)
    Traceback (most recent call last):
    undiffuse.errors.InputError: sample: an int is no model, run or denoiser; give one of these.
    """
    if isinstance(what, AbstractDenoiser):
        return sampling_loop(what, *values, **options)
    model = what
    if isinstance(what, str | Path | Run):
        model = Run.of(what).model()
    if not isinstance(model, GenerativeModel):
        name = type(what).__name__
        article = "an" if name[0].lower() in "aeiou" else "a"
        raise InputError(
            f"sample: {article} {name} is no model, run or denoiser; give one of these."
        )
    return model.sample(*values, **options)
