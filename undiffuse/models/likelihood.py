"""From a family's log-density at unit scale to one in the data's own units, with its error.

    log p(row) >= E[log p(x) + log_correction],    x, log_correction = transform.encode(row, noise)

The expectation runs over what the transform adds (dequantization, the fill of missing values) and is averaged over
`draws` of it; weighted by importance, log mean exp over the draws is a closer bound (Burda et al. 2016, Eq. 8). A
transform that can give the bins of whole numbers, `cells`, spares families that can use them all of this: the bound is
then one on the probability of the numbers themselves.

In importance weighting every draw of a row meets the same noise of the likelihood (the same trace probes): independent
noise of standard deviation s inside a log mean exp adds up to s^2/2 nats that are not there.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any, final

import torch
from torch import Tensor

from undiffuse.diffusion.likelihood.dequantize import TruncatedNormal
from undiffuse.diffusion.sample import RowNoise
from undiffuse.errors import InputError
from undiffuse.seeds import mix

_ENCODING, _SCORING = (
    0xE2C0DE,
    0x5C02E,
)  # keep the streams of the two apart from each other and from sampling's
_AVERAGED, _WEIGHTED = 2, 8  # draws unless asked otherwise, where encoding draws at all


@final
@dataclass(frozen=True)
class Likelihood:
    """The log-likelihood of rows: `nats` (B,) and its standard error `stderr` (B,), float64.

    stderr is 0 where nothing is random and nan where it cannot be known. `kind` is "exact" (a density), "bound" (its
    expectation is no more than the log-likelihood) or "estimate" (of a density, without bias). `evaluations` of the
    network and `products`, vector-Jacobian products, are means per row. `meaning` says in words which number this is.
    """

    nats: Tensor
    stderr: Tensor
    kind: str
    evaluations: float
    products: float = 0.0
    meaning: str = ""


def bits_per_dimension(nats: Any, dimensions: int) -> Any:
    """-nats / (d log 2), d the number of entries of a stored row (an image's pixels times channels; a row's cells).

    For whole numbers, the length of the code in bits per number; for a density, it depends on the data's units.

    >>> bits_per_dimension(-8 * math.log(2), 4)  # one chance in 2^8, over four numbers
    2.0
    """
    return -nats / (dimensions * math.log(2))


def likelihood_rows(
    model: Any,
    rows: Tensor,
    *,
    first: int,
    seed: int,
    draws: int | None,
    importance: bool,
    method: str | None,
    dequantization: TruncatedNormal | None,
    cond: dict[str, Tensor],
    options: dict[str, Any],
) -> Likelihood:
    """What `GenerativeModel.likelihood_rows` does, whose arguments these are; `cond` is the condition of each row."""
    if draws is not None and draws < 1:
        raise InputError(f"draws {draws}: average over at least 1.")
    transform, device = model.transform, model.device
    chosen = dict(options) if method is None else {**options, "method": method}
    in_cells = (
        dequantization is None
        and hasattr(transform, "cells")
        and model.takes_cells(method, float(transform.bin_width))
    )
    given = (
        {"cells": tuple(edges.to(device) for edges in transform.cells(rows))} if in_cells else {}
    )
    parts: list[Likelihood] = []
    count = draws or 1
    while len(parts) < count:
        encoding = _Encoding(
            RowNoise(mix(seed, _ENCODING, len(parts)), len(rows), first), transform, dequantization
        )
        x, correction = transform.encode(rows, torch.zeros_like if in_cells else encoding)
        correction = torch.zeros_like(correction) if in_cells else correction + encoding.correction
        if draws is None and not parts and encoding.called:
            count = _WEIGHTED if importance else _AVERAGED
        stream = 0 if importance else len(parts)
        noise = RowNoise(mix(seed, _SCORING, stream), len(rows), first)
        part = model.likelihood(x.to(device), noise=noise, cond=cond, **given, **chosen)
        if importance and part.kind == "bound":
            raise InputError(
                "importance: weighting the estimate of a bound would overstate it; leave it out, or use method ode."
            )
        parts.append(_corrected(part, correction, encoding.called))
    return _combined(parts, importance)


def stored_batches(
    data: Any, config: Mapping[str, Any] | None, size: int
) -> Iterator[tuple[int, dict[str, Any]]]:
    """(number of the first row, batch of `size` rows of the stored type) for a tensor of them, or for a source that is
    converted to what `config` says of the data.
    """
    if size < 1:
        raise InputError(f"batch {size}: score at least 1 row at a time.")
    if isinstance(data, Tensor):
        yield from ((i * size, {"row": part}) for i, part in enumerate(data.split(size)))
        return
    if config is None:
        raise InputError("this model has not met its data yet; call fit, or open a run.")
    from undiffuse.data import conform

    yield from ((i * size, part) for i, part in enumerate(conform(data, config).batches(size)))


class _Encoding:
    """The noise a transform is given: whether it was asked for, and what its density adds to the correction."""

    def __init__(
        self, noise: RowNoise, transform: Any, dequantization: TruncatedNormal | None
    ) -> None:
        self.noise, self.transform, self.dequantization = noise, transform, dequantization
        self.called, self.correction = False, torch.zeros(())
        if dequantization is not None and getattr(transform, "bin_width", None) is None:
            raise InputError(
                "dequantization truncated normal: it is for images and arrays of whole numbers; leave it out."
            )

    def __call__(self, like: Tensor) -> Tensor:
        self.called = True
        z = self.noise(like)
        if self.dequantization is not None:
            z, self.correction = self.dequantization(z, self.transform.bin_width)
        return z


def _corrected(part: Likelihood, correction: Tensor, random: bool) -> Likelihood:
    """In the data's units; what the transform holds to be impossible is so, whatever the model says of the rest."""
    nats, stderr = part.nats.double().cpu(), part.stderr.double().cpu()
    correction = correction.cpu()
    impossible = correction == -math.inf
    nats = torch.where(impossible, -math.inf, nats + correction)
    kind = "bound" if random else part.kind
    return replace(part, nats=nats, stderr=torch.where(impossible, 0.0, stderr), kind=kind)


def _combined(parts: list[Likelihood], importance: bool) -> Likelihood:
    """One likelihood from those of independent draws: their mean, or the log of the mean of their exponentials."""
    n, nats = len(parts), torch.stack([part.nats for part in parts])
    inner = torch.stack([part.stderr for part in parts]).square().mean(0)
    if n == 1:
        value, stderr = nats[0], inner.sqrt()
    elif importance:
        value = nats.logsumexp(0) - math.log(n)
        weight = (nats - nats.logsumexp(0)).exp() * n  # of mean 1
        stderr = (weight.var(0) / n + inner).sqrt()
    else:
        value, stderr = nats.mean(0), nats.std(0) / n**0.5
    stderr = torch.where(value == -math.inf, 0.0, stderr)
    total = {
        name: sum(getattr(part, name) for part in parts) for name in ("evaluations", "products")
    }
    return replace(parts[0], nats=value, stderr=stderr, **total)
