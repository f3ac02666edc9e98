"""The losses of a DDPM: functions from a reverse variance to an objective, for `ddpm(loss=...)`.

simple    E |z_hat - z|^2, the variance fixed                        (Ho et al. 2020, Eq. 14)
min_snr   the same, weighted by min(SNR, 5) on the data error        (Hang et al. 2023, Eq. 9)
vlb       the variational bound, all Gaussian KLs; fixed or learned variance
hybrid    simple + 0.001 vlb with the mean held fixed, the variance learned
                                                       (Nichol and Dhariwal 2021, Eq. 16)
"""

from __future__ import annotations

from collections.abc import Callable

from undiffuse.diffusion.objectives import (
    AbstractObjective,
    DiscreteTimes,
    Hybrid,
    MinSNR,
    Objective,
    Simple,
    VariationalBound,
)
from undiffuse.diffusion.steps.moves import ReverseVariance
from undiffuse.errors import InputError

Loss = Callable[[ReverseVariance], AbstractObjective]


def simple(variance: ReverseVariance) -> AbstractObjective:
    """Return L_simple. Raises InputError for a learned variance, which it would not train."""
    _needs_fixed("simple", variance)
    return Objective(weighting=Simple(), times=DiscreteTimes())


def min_snr(variance: ReverseVariance) -> AbstractObjective:
    """Return Min-SNR. Raises InputError for a learned variance, which it would not train."""
    _needs_fixed("min_snr", variance)
    return Objective(weighting=MinSNR(), times=DiscreteTimes())


def vlb(variance: ReverseVariance) -> AbstractObjective:
    """Return the variational bound under this variance.

    >>> from undiffuse.diffusion import Beta
    >>> vlb(Beta()).learned_variance
    False
    """
    return VariationalBound(variance=variance)


def hybrid(variance: ReverseVariance) -> AbstractObjective:
    """Return L_hybrid. Raises InputError for a fixed variance: its second part trains only that."""
    if not variance.learned:
        raise InputError(
            "loss hybrid: it trains the variance; use variance learned, or loss simple or vlb."
        )
    return Hybrid(variance=variance)


def _needs_fixed(loss: str, variance: ReverseVariance) -> None:
    if variance.learned:
        raise InputError(
            f"loss {loss}: it would leave a learned variance untrained; use loss hybrid or vlb."
        )


LOSSES: dict[str, Loss] = {"simple": simple, "min_snr": min_snr, "vlb": vlb, "hybrid": hybrid}
"""The losses by name."""
