"""Gaussians with independent coordinates: the closed forms behind bounds, posteriors and oracles.

    log N(x; m, v) = -1/2 sum [ (x - m)^2 / v + log(2 pi v) ]               (Malhotra 2024, Eq. 1.1)
    N(y; a w, v) as a function of w  is  N(w; y / a, v / a^2), up to a factor
                                                                    (Kim and Lee 2024, Eq. 22a)
    N(w; m_1, v_1) N(w; m_2, v_2)    is  N(w; v (m_1/v_1 + m_2/v_2), v), 1/v = 1/v_1 + 1/v_2,
                                         up to a factor                     (Eq. 22b)
    KL(N(m_a, v_a) | N(m_b, v_b)) = 1/2 sum [v_a/v_b - 1 + (m_a - m_b)^2 / v_b + log(v_b / v_a)]
                                                                            (Lemma 3)

Arguments are variances, not standard deviations, and the last logarithm is that of b's variance
over a's. Sums run over the axes after the first. Means are (B, *); variances broadcast against
them: a scalar, (*), (B, *), or (B, 1, ...) from `expand`.
"""

from __future__ import annotations

import math

from torch import Tensor


def nats_per_value(squares: Tensor, variance: Tensor) -> Tensor:
    """Return -log N(x; m, variance) of each value, given `squares` (x - m)^2 of any shape."""
    return (squares / variance + (2 * math.pi * variance).log()) / 2


def kl_per_value(squares: Tensor, variance_a: Tensor, variance_b: Tensor) -> Tensor:
    """Return the KL divergence of each value, given `squares` (mean_a - mean_b)^2 of any shape.

    Kim and Lee (2024), Lemma 3, with its logarithm the right way up; Notes after Ho et al. (2020),
    Appendix C. Infinite where variance_a is 0 and variance_b is not.
    """
    excess = (variance_a - variance_b) / variance_b
    return (squares / variance_b + (excess - excess.log1p())) / 2


def log_prob(x: Tensor, mean: Tensor, variance: Tensor) -> Tensor:
    """Return log N(x; mean, variance) of each row of `x` (B, *), in nats (B,).

    >>> import torch
    >>> log_prob(torch.zeros(1, 2), torch.zeros(1, 2), torch.tensor(1.0))  # -log(2 pi)
    tensor([-1.8379])
    """
    return -nats_per_value((x - mean).square(), variance).flatten(1).sum(1)


def entropy(variance: Tensor) -> Tensor:
    """Return -E[log N(x; m, variance)] in nats (B,) for `variance` (B, *).

    It is the largest of any density with that variance.
    """
    return nats_per_value(variance, variance).flatten(1).sum(1)


def kl(mean_a: Tensor, variance_a: Tensor, mean_b: Tensor, variance_b: Tensor) -> Tensor:
    """Return KL(N(mean_a, variance_a) | N(mean_b, variance_b)) of each row, in nats (B,).

    At least one mean is (B, *).

    >>> import torch
    >>> kl(torch.zeros(1, 1), torch.tensor(1.0), torch.zeros(1, 1), torch.tensor(2.0))
    tensor([0.0966])
    """
    return kl_per_value((mean_a - mean_b).square(), variance_a, variance_b).flatten(1).sum(1)


def inverted(a: Tensor, variance: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    """Return (mean, variance) of N(y; a w, variance) read as a density of w, for a other than 0.

    Kim and Lee (2024), Eq. 22a, which leaves out the argument w.
    """
    return y / a, variance / a**2


def product(
    mean_1: Tensor, variance_1: Tensor, mean_2: Tensor, variance_2: Tensor
) -> tuple[Tensor, Tensor]:
    """Return (mean, variance) of the normalized product of two Gaussian densities of the same w.

    Kim and Lee (2024), Eq. 22b. Bayes' rule for Gaussians is this with `inverted`: after y = a w +
    noise of variance r, a prior N(m, v) on w becomes `product(*inverted(a, r, y), m, v)`. A
    variance of 0 is a point, which no other factor moves.

    >>> import torch
    >>> product(*map(torch.tensor, (0.0, 1.0, 3.0, 0.5)))
    (tensor(2.), tensor(0.3333))
    """
    total = variance_1 + variance_2
    return (mean_1 * variance_2 + mean_2 * variance_1) / total, variance_1 * variance_2 / total
