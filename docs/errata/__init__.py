"""What the five documents print, what is right, and a computation that decides it.

A slip is a function of no arguments that returns three numbers: what the printed form gives, what
the right form gives (computed by the library wherever it has the formula), and the truth, found in
a way that knows neither: the trapezoid rule on a definition, differentiation, an exact recursion.
Its docstring says in words what went wrong. `make docs` writes `docs/errata.md` from them, and the
tests hold the right form to the truth and the printed one away from it.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from inspect import getdoc

import torch
from torch import Tensor

Numbers = tuple[float, float, float]

KIM_LEE = "Kim and Lee, Review of Denoising Diffusion Probabilistic Models"
HO_NOTES = "Denoising Diffusion Probabilistic Models, notes after Ho et al."
MALHOTRA = "Malhotra, Diffusion Models Theory"
LIU = "Liu, A Brief Introduction to Diffusion Models"
HANDWRITTEN = "Handwritten notes on DDPM"
ELSEWHERE = "Elsewhere, often"
DOCUMENTS = (KIM_LEE, HO_NOTES, MALHOTRA, LIU, HANDWRITTEN, ELSEWHERE)


@dataclass(frozen=True)
class Slip:
    """One slip: where it is printed, both forms in words and symbols, and the numbers that decide."""

    key: str
    document: str
    where: str
    title: str
    story: str
    printed: str
    right: str
    decided: str
    bound: float
    numbers: Callable[[], Numbers]


SLIPS: dict[str, Slip] = {}


def slip(
    document: str, where: str, *, printed: str, right: str, decided: str, bound: float = 1e-9
) -> Callable[[Callable[[], Numbers]], Callable[[], Numbers]]:
    """Register the function below as a slip.

    `bound` is how far the right form may be from the truth.
    """

    def register(numbers: Callable[[], Numbers]) -> Callable[[], Numbers]:
        title, _, story = (getdoc(numbers) or "").partition("\n\n")
        key = numbers.__name__
        story = " ".join(story.split())
        SLIPS[key] = Slip(
            key, document, where, title, story, printed, right, decided, bound, numbers
        )
        return numbers

    return register


def scalar(value: float) -> Tensor:
    return torch.tensor(value, dtype=torch.float64)


def row(value: float) -> Tensor:
    """One row of one coordinate."""
    return scalar(value).reshape(1, 1)


def line(middle: float = 0.0, width: float = 1.0, points: int = 4001) -> Tensor:
    """A fine even grid that holds all but e^-72 of a Gaussian of this mean and standard deviation."""
    return torch.linspace(middle - 12 * width, middle + 12 * width, points, dtype=torch.float64)


def log_normal(x: Tensor, mean: Tensor | float, variance: float) -> Tensor:
    """log N(x; mean, variance), from torch.distributions: the truth uses nothing of ours."""
    mean = torch.as_tensor(mean, dtype=torch.float64)
    return torch.distributions.Normal(mean, math.sqrt(variance)).log_prob(x)


def integral(values: Tensor, at: Tensor) -> float:
    return float(torch.trapezoid(values, at))


def integrated_kl(mean_a: float, variance_a: float, mean_b: float, variance_b: float) -> float:
    """KL of two Gaussians on the line, by the trapezoid rule on its definition."""
    x = line(mean_a, math.sqrt(variance_a))
    log_a, log_b = log_normal(x, mean_a, variance_a), log_normal(x, mean_b, variance_b)
    return integral(log_a.exp() * (log_a - log_b), x)


def moments(log_weight: Tensor, at: Tensor) -> tuple[float, float]:
    """Mean and variance of the density that is proportional to exp(log_weight), by the trapezoid
    rule.
    """
    density = (log_weight - log_weight.max()).exp()
    total = integral(density, at)
    mean = integral(density * at, at) / total
    return mean, integral(density * (at - mean).square(), at) / total


def least(loss: Tensor, at: Tensor) -> float:
    """Where on the grid `at` the loss is least."""
    return float(at[loss.argmin()])


# They register themselves.
from errata import elsewhere, handwritten, ho_notes, kim_lee, liu, malhotra  # noqa: E402
