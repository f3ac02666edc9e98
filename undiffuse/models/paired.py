"""Two sets of samples from the same seeds: which one is closer to real rows?

    k(x, y) = (x.y / d + 1)^3                                          (Binkowski et al. 2018)
    D = MMD^2(f, y) - MMD^2(g, y)
      = mean_{i != j} [k(f_i, f_j) - k(g_i, g_j)] - 2 mean_{i, j} [k(f_i, y_j) - k(g_i, y_j)]

f_i and g_i come from the same noise, so most of what is random cancels. As a U-statistic of the
pairs (f_i, g_i), with the real rows y given, D has to first order the variance of the mean of

    psi_i = 2 mean_{j != i} [k(f_i, f_j) - k(g_i, g_j)] - 2 mean_j [k(f_i, y_j) - k(g_i, y_j)]
"""

from __future__ import annotations

import math
from typing import NamedTuple

from torch import Tensor


def cubic_kernel(a: Tensor, b: Tensor) -> Tensor:
    """Return k (n, m) of rows (n, d) and (m, d)."""
    return (a @ b.T).div_(a.shape[1]).add_(1).pow_(3)


class Compared(NamedTuple):
    """The kernel distance of one set, and how much larger it is than that of another.

    Attributes:
        distance: MMD^2 of the set to the real rows, without bias.
        excess: D, its distance less that of the other set.
        stderr: standard error of the excess.
    """

    distance: float
    excess: float
    stderr: float

    def no_worse(self, allowed: float) -> bool:
        """Whether the excess is at most `allowed`, two standard errors included.

        Of sets whose excess is `allowed`, 2.3 % pass: a normal error is that far below in as many.
        """
        return self.excess + 2 * self.stderr <= allowed

    def worse(self, allowed: float) -> bool:
        """Whether the excess is more than `allowed`, by two standard errors."""
        return self.excess - 2 * self.stderr > allowed


class Pairing:
    """Real rows (m, d) and a reference set (n, d), n and m at least 4; called with other sets.

    Attributes:
        distance: MMD^2 of the reference set to the real rows, without bias.
        noise: standard deviation of the distance of two sets of these sizes of the real rows' law.
    """

    def __init__(self, reference: Tensor, real: Tensor) -> None:
        self.real = real.double()
        self.own, self.cross = self._means(reference)
        m = len(real)
        within = cubic_kernel(self.real, self.real)
        spread = float(within.sum() - within.trace()) / (m * (m - 1))
        self.distance = float(self.own.mean() - 2 * self.cross.mean()) + spread
        centred = within - within.mean(0) - within.mean(1, keepdim=True) + within.mean()
        v = float(centred.fill_diagonal_(0).square().sum()) / (m * (m - 1))
        self.noise = math.sqrt(2 * v) * (1 / len(reference) + 1 / m)

    def _means(self, rows: Tensor) -> tuple[Tensor, Tensor]:
        """The mean kernel (n,) of each row with the others of its set, and with the real rows."""
        x = rows.double()
        among = cubic_kernel(x, x).fill_diagonal_(0).sum(1) / (len(x) - 1)
        return among, cubic_kernel(x, self.real).mean(1)

    def __call__(self, rows: Tensor) -> Compared:
        """Compare rows (n, d), each from the noise of the reference's row of the same number.

        >>> import torch
        >>> z = torch.randn(300, 2, generator=torch.Generator().manual_seed(0))
        >>> worse = Pairing(z[:150], z[150:])(2.0 * z[:150])
        >>> worse.excess > 2 * worse.stderr
        True
        """
        own, cross = self._means(rows)
        psi = 2 * (own - self.own) - 2 * (cross - self.cross)
        excess = float((own - self.own).mean() - 2 * (cross - self.cross).mean())
        stderr = math.sqrt(float(psi.var()) / len(psi))
        return Compared(self.distance + excess, excess, stderr)
