"""The laws of schedules, in closed form or against automatic differentiation."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping

import torch
from torch import Tensor

from undiffuse.diffusion import Schedule
from undiffuse.diffusion.schedules.process import as_times
from undiffuse.laws.broken import close, hold


def trainable_times(schedule: Schedule, n: int = 37) -> Tensor:
    """Return `n` times in [t_min, 1), off the knots of a chain."""
    first = max(schedule.t_min, 1e-4)
    return torch.linspace(first, 1, n + 1, dtype=torch.float64)[:-1] * 0.99987 + 1e-5


def starts_at_the_data(schedule: Schedule) -> None:
    """(alpha_0, sigma_0) = (1, 0)."""
    alpha, sigma = (float(one) for one in schedule(as_times(0.0)))
    hold((alpha, sigma) == (1.0, 0.0), f"they are {alpha:g} and {sigma:g}")


def only_loses_signal(schedule: Schedule) -> None:
    """The log-SNR is infinite at t = 0 and falls from there on."""
    log_snr = schedule.log_snr(torch.linspace(0, 1, 501, dtype=torch.float64))
    hold(log_snr[0] == math.inf, f"at t = 0 it is {float(log_snr[0]):g}")
    hold((log_snr.diff()[1:] < 0).all(), "it rises, or stays, somewhere")


def inverse_undoes_log_snr(schedule: Schedule) -> None:
    """Inverse(log_snr(t)) = t."""
    t = trainable_times(schedule)
    close(schedule.inverse(schedule.log_snr(t)), t, "the time", rtol=1e-12, atol=1e-14)


def slopes_are_those_of_the_marginals(schedule: Schedule) -> None:
    """By automatic differentiation; at t_min the slope is that of the times above it."""
    t = trainable_times(schedule)
    for which, (name, ours) in enumerate(zip(("alpha", "sigma"), schedule.derivative(t))):
        leaf = t.clone().requires_grad_()
        total = (schedule.marginal(leaf)[which] + 0 * leaf).sum()
        exact = torch.autograd.grad(total, leaf)[0]
        close(ours.detach(), exact, f"that of {name}", rtol=1e-10, atol=1e-13)
    ends = schedule.derivative(as_times([1e-9, 0.5, 1.0]))
    hold(all(bool(slope.isfinite().all()) for slope in ends), "a slope is not finite")
    if schedule.t_min > 0:
        for slope in schedule.derivative(as_times([schedule.t_min, schedule.t_min + 1e-9])):
            close(slope[0].detach(), slope[1].detach(), "at t_min", rtol=1e-4, atol=1e-4)


SCHEDULE_LAWS: Mapping[str, Callable[[Schedule], None]] = {
    "alpha_0 is 1 and sigma_0 is 0": starts_at_the_data,
    "the log-SNR falls from t = 0 to 1": only_loses_signal,
    "inverse undoes the log-SNR": inverse_undoes_log_snr,
    "slopes are the derivatives of marginal": slopes_are_those_of_the_marginals,
}
"""What a schedule is held to, in a sentence -> the law."""
