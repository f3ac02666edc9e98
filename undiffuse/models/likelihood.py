"""From a family's log-density at unit scale to one in the data's own units, with its error.

    log p(row) >= E[log p(x) + log_correction],    x, log_correction = transform.encode(row, noise)

The expectation runs over what the transform adds (dequantization, the fill of missing values) and
is averaged over `draws` of it; weighted by importance, log mean exp over the draws is a closer
bound (Burda et al. 2016, Eq. 8). A transform that gives the bins of whole numbers, `cells`,
spares the families that can use them all of this: the bound is then one on the probability of the
numbers.

In importance weighting every draw of a row meets the same noise of the likelihood (the same trace
probes): independent noise of standard deviation s inside a log mean exp would add s^2/2 nats.

A way of scoring is an object: `Bound`, `Density` or `Weighted`; `HOW` holds their names.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from typing import Any, Protocol, final, runtime_checkable

import numpy as np
import torch
from torch import Tensor

from undiffuse.diffusion.likelihood.dequantize import Dequantization
from undiffuse.diffusion.noise import Purpose, RowNoise
from undiffuse.errors import InputError, unknown
from undiffuse.interfaces import Noise, Transform

_AVERAGED, _WEIGHTED = 4, 8  # draws unless asked otherwise, where encoding draws at all


@final
@dataclass(frozen=True)
class Likelihood:
    """The log-likelihood of rows.

    Attributes:
        nats: (B,) float64.
        stderr: (B,) float64, the standard error: of what is random, of a solver and of the prior; 0
            where there is none of these, nan where it is unknown.
        kind: "exact" (a density), "bound" (its mean is at most the log-likelihood) or "estimate"
            (of a density, unbiased).
        evaluations: evaluations of the network, mean per row.
        products: vector-Jacobian products, mean per row.
        meaning: one sentence on which number this is.
        model_error: (B,) an estimate of how far the model is from the data, in nats, where one was
            asked for.
    """

    nats: Tensor
    stderr: Tensor
    kind: str
    evaluations: float
    products: float = 0.0
    meaning: str = ""
    model_error: Tensor | None = None


@final
@dataclass(frozen=True)
class Bound:
    """Score by the evidence lower bound.

    Args:
        evaluations: points of the chain (diffusion) or draws of z (vae) per row, at least 1.
    """

    evaluations: int = 64

    def __post_init__(self) -> None:
        _at_least(1, "evaluations", self.evaluations)


@final
@dataclass(frozen=True)
class Density:
    """Score by the density of the probability flow.

    Args:
        tolerance: error allowed per row and step of the solver, relative and absolute, above 0. On
            a table of five columns, 3e-4 took 40 evaluations of the network and was at most 0.02
            nats off, 1e-5 took 130.
        steps: take so many equal Runge-Kutta steps instead of adaptive ones.
        probes: Rademacher probes of the trace; 0 is the exact trace; None is exact up to 64
            coordinates.

    Raises:
        InputError: for a tolerance that is not above 0, fewer than 1 step, and fewer than 0 probes.
    """

    tolerance: float = 3e-4
    steps: int | None = None
    probes: int | None = None

    def __post_init__(self) -> None:
        if not self.tolerance > 0:
            raise InputError(f"tolerance {self.tolerance}: give a number above 0, such as 1e-5.")
        _at_least(1, "steps", self.steps)
        _at_least(0, "probes", self.probes)


@final
@dataclass(frozen=True)
class Weighted:
    """Score by the importance-weighted bound of a vae (Burda et al. 2016, Eq. 8).

    Args:
        draws: draws of z per row, at least 1: the more, the closer the bound.
    """

    draws: int = 64

    def __post_init__(self) -> None:
        _at_least(1, "draws", self.draws)


How = Bound | Density | Weighted
HOW: dict[str, type[How]] = {"elbo": Bound, "ode": Density, "importance": Weighted}
"""Ways of scoring by name."""


@runtime_checkable
class Scorable(Protocol):
    """What scoring asks of a model; see `GenerativeModel`."""

    transform: Transform | None
    scored_by: tuple[type[How], ...]

    @property
    def no_density(self) -> str:
        """Why there is no likelihood, in a sentence; "" if there is one."""
        ...

    def takes_cells(self, how: How | None) -> bool:
        """Return whether `likelihood` in this way takes `cells`."""
        ...

    def likelihood(
        self,
        x: Tensor,
        *,
        noise: Noise,
        cond: Mapping[str, Tensor],
        how: How | None = None,
        cells: tuple[Tensor, Tensor] | None = None,
    ) -> Likelihood:
        """Return log p(x | cond) of each row (B, *shape), in nats."""
        ...


def _at_least(least: int, name: str, value: int | None) -> None:
    if value is not None and value < least:
        raise InputError(f"{name} {value}: give a whole number of at least {least}.")


def how_of(model: Scorable, name: str | None = None, **options: Any) -> How | None:
    """Return the way of scoring that is called `name`, with these options.

    Args:
        model: the model to be scored with.
        name: a key of HOW; None is the model's first way that takes the options.
        options: fields of the way; None counts as not given. `evaluations` is also accepted for
            the draws of `Weighted`.

    Returns:
        The way; None, the model's own choice, if neither a name nor an option is given.

    Raises:
        InputError: for a model without a density, a name or an option that it does not take.
    """
    given = {key: value for key, value in options.items() if value is not None}
    if model.no_density:
        raise InputError(model.no_density)
    if name is None and not given:
        return None
    if name is not None and name not in HOW:
        raise unknown("method", "method of scoring", name, HOW)
    ways = {key: way for key, way in HOW.items() if way in model.scored_by}
    if name is None:
        takers = [way for way in model.scored_by if set(given) <= set(_names(way))]
        if not takers:
            known = sorted({key for way in ways.values() for key in _names(way)})
            raise InputError(f"{', '.join(given)}: {_only('scoring by this model', known)}")
        return _made(takers[0], given)
    check_how(model, HOW[name])
    for key in given:
        if key not in _names(HOW[name]):
            raise InputError(f"{key}: {_only(f'method {name}', _names(HOW[name]))}")
    return _made(HOW[name], given)


def check_how(model: Scorable, way: type[How] | None) -> None:
    """Raise InputError if the model has no density, or is not scored in this way."""
    if model.no_density:
        raise InputError(model.no_density)
    if way is not None and way not in model.scored_by:
        name = next(key for key, value in HOW.items() if value is way)
        own = " or ".join(key for key, value in HOW.items() if value in model.scored_by)
        family = type(model).__name__.lower()
        advice = f"use {own}" if own else "its density is exact; leave the method out"
        raise InputError(f"method {name}: {family} models are not scored by it; {advice}.")


def _names(way: type[How]) -> list[str]:
    """The options of a way of scoring, as people give them."""
    return ["evaluations"] if way is Weighted else [field.name for field in fields(way)]


def _made(way: type[How], options: dict[str, Any]) -> How:
    return Weighted(options.get("evaluations", 64)) if way is Weighted else way(**options)


def _only(who: str, names: list[str]) -> str:
    return f"{who} takes {'only ' + ', '.join(names) if names else 'no options'}; leave it out."


def bits_per_dimension(nats: Any, dimensions: int) -> Any:  # a number or an array, as given
    """Return -nats / (d log 2), d the number of entries of a stored row.

    An image has as many entries as pixels times channels, a table as columns. For whole numbers it
    is the length of the code in bits per number; for a density it depends on the data's units.

    Args:
        nats: a log-likelihood, or an array or tensor of them.
        dimensions: d.

    >>> bits_per_dimension(-8 * math.log(2), 4)  # one chance in 2^8, over four numbers
    2.0
    """
    return -nats / (dimensions * math.log(2))


def likelihood_rows(
    model: Scorable,
    rows: Tensor,
    *,
    how: How | None,
    first: int | np.ndarray,
    seed: int,
    draws: int | None,
    importance: bool,
    dequantization: Dequantization | None,
    cond: dict[str, Tensor],
    device: torch.device,
) -> Likelihood:
    """Do what `GenerativeModel.likelihood_rows` does, whose arguments these are.

    `cond` holds the condition of each row.
    """
    check_how(model, None if how is None else type(how))
    _at_least(1, "draws", draws)
    transform = model.transform
    assert transform is not None
    cells = _cells(model, transform, rows, how, device) if dequantization is None else None
    parts: list[Likelihood] = []
    count = draws or 1
    while len(parts) < count:
        added = RowNoise(seed, len(rows), first, purpose=Purpose.ENCODING, part=len(parts))
        encoding = _Encoding(added, transform, dequantization)
        x, correction = transform.encode(rows, encoding if cells is None else torch.zeros_like)
        correction = correction + encoding.correction if cells is None else 0 * correction
        if draws is None and not parts and encoding.called:
            count = _WEIGHTED if importance else _AVERAGED
        stream = 0 if importance else len(parts)
        noise = RowNoise(seed, len(rows), first, purpose=Purpose.SCORE, part=stream)
        part = model.likelihood(x.to(device), noise=noise, cond=cond, how=how, cells=cells)
        if importance and part.kind == "bound":
            raise InputError(
                "importance: weighting the estimate of a bound would overstate it; leave it out, "
                "or use method ode."
            )
        parts.append(_corrected(part, correction, encoding.called))
    return combined(parts, importance)


def _cells(
    model: Scorable, transform: Transform, rows: Tensor, how: How | None, device: torch.device
) -> tuple[Tensor, Tensor] | None:
    """The edges of the rows' bins, where there are bins and the model takes them."""
    edges = transform.cells(rows)
    if edges is None or not model.takes_cells(how):
        return None
    return edges[0].to(device), edges[1].to(device)


class _Encoding:
    """A transform's noise: whether it was drawn, and what its density adds to the correction."""

    def __init__(
        self, noise: RowNoise, transform: Transform, dequantization: Dequantization | None
    ) -> None:
        self.noise, self.transform, self.dequantization = noise, transform, dequantization
        self.called, self.correction = False, torch.zeros(())
        if dequantization is not None and transform.bin_width is None:
            raise InputError(
                "dequantization: it is for images and arrays of whole numbers; leave it out."
            )

    def __call__(self, like: Tensor) -> Tensor:
        self.called = True
        z = self.noise(like)
        if self.dequantization is not None and self.transform.bin_width is not None:
            z, self.correction = self.dequantization(z, self.transform.bin_width)
        return z


def _corrected(part: Likelihood, correction: Tensor, random: bool) -> Likelihood:
    """The same in the data's units; what the transform holds to be impossible stays so."""
    nats, stderr = part.nats.double().cpu(), part.stderr.double().cpu()
    correction = correction.cpu()
    impossible = correction == -math.inf
    nats = torch.where(impossible, -math.inf, nats + correction)
    kind = "bound" if random else part.kind
    return replace(part, nats=nats, stderr=torch.where(impossible, 0.0, stderr), kind=kind)


def log_mean_exp(nats: Tensor) -> tuple[Tensor, Tensor]:
    """Return log(mean exp) of K draws (K, B) and its standard error, each (B,).

    The error is the jackknife's, from the K values without one draw each. To first order it would
    be std(weights) / sqrt(K), which is too small where few draws carry most of the weight: 0.70 of
    the actual error for 8 draws that spread by 1.5 nats, where the jackknife's is 1.03. It is nan
    for one draw.
    """
    n, total = len(nats), nats.logsumexp(0)
    share = (nats - total).exp()
    largest = nats.argmax(0, keepdim=True)  # the only one whose 1 - share may lose its digits, or 0
    rest = nats.scatter(0, largest, -math.inf).logsumexp(0, keepdim=True)
    without = (total + torch.log1p(-share)).scatter(0, largest, rest)
    stderr = without.std(0) * (n - 1) / n**0.5 if n > 1 else torch.full_like(total, math.nan)
    return total - math.log(n), stderr


def combined(parts: list[Likelihood], importance: bool) -> Likelihood:
    """Return one likelihood from those of several draws of the encoding.

    Averaged, the spread of the parts holds their own errors too, which are independent. Weighted by
    importance, all parts share the noise of the likelihood: the spread of the weights does not see
    it, and its variance is added.

    Args:
        parts: one for each draw, all of the same rows.
        importance: log of the mean of the exponentials instead of the mean.
    """
    n, nats = len(parts), torch.stack([part.nats for part in parts])
    inner = torch.stack([part.stderr for part in parts]).square().mean(0)
    if n == 1:
        value, stderr = nats[0], inner.sqrt()
    elif importance:
        value, spread = log_mean_exp(nats)
        stderr = (spread.square() + inner).sqrt()
    else:
        value, stderr = nats.mean(0), nats.std(0) / n**0.5
    stderr = torch.where(value == -math.inf, 0.0, stderr)
    return replace(
        parts[0],
        nats=value,
        stderr=stderr,
        evaluations=sum(part.evaluations for part in parts),
        products=sum(part.products for part in parts),
    )
