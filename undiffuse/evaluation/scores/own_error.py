"""An estimate of the model's own error: how far its log-likelihoods are from the data's.

The standard error of a score says how far it is from the model's own likelihood, and nothing of how
far the model is from the data. Two differences grow with that: between the two likelihoods of one
network, density and bound, which agree where the denoiser is exact; and between the end of training
and an earlier snapshot, which agree once training gains no more. Their sum, times a factor,

    error = FACTOR (|density - bound| + |end - snapshot|)   nats, for each row,

is called an estimate: the factor is such that it holds 90 % of the true errors on half of a set of
mixtures whose density is known (`benchmarks/model_error.py`, which reports coverage and width on
the other half). Nothing guarantees it on data whose density is unknown: a model that misses the
same part of the data all along, in both ways, gives no sign of it.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from torch import Tensor

from undiffuse.models.likelihood import Bound, Density, How, Likelihood

FACTOR = 1.0

Score = Callable[[How | None], Likelihood]
"""The likelihood of some rows, scored in one way or in the model's own (None)."""


def other_way(found: Likelihood) -> How:
    """Return the way of scoring that a diffusion model's likelihood was not scored by."""
    return Density() if found.kind == "bound" else Bound()


def own_error(found: Tensor, other: Tensor, earlier: Tensor) -> np.ndarray:
    """Return the estimate (B,) from log-likelihoods (B,): the score, the other way, the snapshot.

    >>> import torch
    >>> own_error(*torch.tensor([[1.0], [1.5], [0.0]])) / FACTOR
    array([1.5], dtype=float32)
    """
    return FACTOR * ((found - other).abs() + (found - earlier).abs()).cpu().numpy()
