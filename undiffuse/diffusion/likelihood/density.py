"""The density of a diffusion model, by the change of variables along its probability-flow ODE.

With y = x / (alpha + sigma), u = sigma / (alpha + sigma) the flow is dy/du = z_hat - x_hat, and
(Chen et al. 2018; Song et al. 2021, Eq. 39, in these coordinates)

    log p(x) = log p_1(x_1) + int tr(d(z_hat - x_hat)/dy) du + d log [alpha_0 (alpha_1 +
    sigma_1)/(alpha_0 + sigma_0)]

the subscript 0 standing for the smallest time, t_min. What this is: the density of x_0/alpha_0,
x_0 the model's variable at t_min, evaluated at x; that is p_0(alpha_0 x) alpha_0^d, the data's
density blurred by noise of standard deviation sigma_0/alpha_0. `prior`, the density at t = 1 (or
where else it stands: `Prior.settled`), is part of the number: with another one it is another
number.

The trace is exact for d <= 64, one vector-Jacobian product for each coordinate. Above, it is
Hutchinson's estimate e^T J e with e = +-1 (less variance than Gaussian e: none from the
diagonal), the same e along the whole way, so that each probe has an integral of its own and the
spread of these gives the standard error. The solver's error is added to it: of the adaptive one no
more than the tolerance a step, of a fixed one the difference to half as many steps.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol, final, runtime_checkable

import torch
from torch import Tensor
from typing_extensions import override

from undiffuse.diffusion.denoiser import AbstractDenoiser, expand
from undiffuse.diffusion.schedules.process import LEAST_SCORED, Times, as_times
from undiffuse.diffusion.steps.adaptive import (
    STAGES,
    Field,
    State,
    flow_rate,
    flow_time,
    flow_variable,
    integrate,
)
from undiffuse.errors import InputError
from undiffuse.interfaces import Noise

EXACT = 64  # coordinates up to which the trace is exact unless asked otherwise
_TOGETHER = 16  # vector-Jacobian products taken at once


@runtime_checkable
class HasLogProb(Protocol):
    """A density at one time, mostly 1: `log_prob(x_1)` in nats (B,). `Prior` is one."""

    time: Times | float

    def log_prob(self, x_1: Tensor) -> Tensor:
        """Return the log-density of each row of `x_1` (B, *), nats (B,)."""
        ...


class Solver(ABC):
    """Carries a state along a field from one value of its variable to another."""

    @abstractmethod
    def __call__(
        self, field: Field, state: State, start: Times, end: Times
    ) -> tuple[State, Tensor]:
        """The state at `end`, and the evaluations of the field for each row (B,)."""

    @abstractmethod
    def error(
        self, nats: Tensor, evaluations: Tensor, solved: Callable[[Solver], Tensor]
    ) -> tuple[Tensor, Tensor]:
        """How far log-densities (B,) are off, and the further evaluations to know that, each (B,).

        `solved` gives them by another solver.
        """


@final
@dataclass(frozen=True)
class Adaptive(Solver):
    """Dormand and Prince's pair, each row to `tolerance`, in y and in nats."""

    tolerance: float = 1e-5

    @override
    def __call__(
        self, field: Field, state: State, start: Times, end: Times
    ) -> tuple[State, Tensor]:
        return integrate(field, state, start, end, rtol=self.tolerance, atol=self.tolerance)

    @override
    def error(
        self, nats: Tensor, evaluations: Tensor, solved: Callable[[Solver], Tensor]
    ) -> tuple[Tensor, Tensor]:
        taken = (evaluations.to(nats.device) / STAGES).ceil()
        return taken * self.tolerance * (1 + nats.abs()), torch.zeros_like(evaluations)


@final
@dataclass(frozen=True)
class RungeKutta(Solver):
    """The classic fourth-order method in `steps` equal steps of four evaluations each."""

    steps: int = 16

    def __post_init__(self) -> None:
        if self.steps < 1:
            raise InputError(f"steps {self.steps}: a solver takes at least 1.")

    @override
    def __call__(
        self, field: Field, state: State, start: Times, end: Times
    ) -> tuple[State, Tensor]:
        rows, w, h = torch.arange(len(state[0])), start, (end - start) / self.steps

        def ahead(k: State, share: float) -> State:
            return tuple(x + share * h * slope for x, slope in zip(state, k))

        for i in range(1, self.steps + 1):
            after = start + i * h if i < self.steps else end
            k_1 = field(state, w, rows)
            k_2 = field(ahead(k_1, 0.5), w + h / 2, rows)
            k_3 = field(ahead(k_2, 0.5), w + h / 2, rows)
            k_4 = field(ahead(k_3, 1.0), after, rows)
            state = tuple(
                x + h / 6 * (a + 2 * b + 2 * c + d)
                for x, a, b, c, d in zip(state, k_1, k_2, k_3, k_4)
            )
            w = after
        return state, torch.full((len(rows),), 4 * self.steps)

    @override
    def error(
        self, nats: Tensor, evaluations: Tensor, solved: Callable[[Solver], Tensor]
    ) -> tuple[Tensor, Tensor]:
        half = self.steps // 2
        if not half:
            return torch.full_like(nats, torch.nan), torch.zeros_like(evaluations)
        off = (nats - solved(RungeKutta(half))).abs()
        return off, torch.full_like(evaluations, 4 * half)


class LogDensity(NamedTuple):
    """`nats` (B,) float64, its standard error, and the cost of each row.

    The standard error holds the solver's; that of the trace is 0 if it is exact, and nan for one
    probe.

    `evaluations` of the network, and `products`, vector-Jacobian products, about twice as dear
    (B,).
    """

    nats: Tensor
    stderr: Tensor
    evaluations: Tensor
    products: Tensor


@torch.no_grad()
def log_density(
    denoiser: AbstractDenoiser,
    x: Tensor,
    prior: HasLogProb,
    *,
    solver: Solver = Adaptive(),
    probes: int | None = None,
    noise: Noise = torch.randn_like,
) -> LogDensity:
    """Return the log-density of each row of `x` (B, *) at unit scale, in nats, as defined above.

    `prior` has the log-density at its `time`. `probes`: Rademacher probes per row, drawn through
    `noise`; 0: the exact trace; None: exact up to 64 coordinates, else 4. A row whose path is not
    finite has nan, the others are not touched by it.

    >>> from undiffuse.diffusion import EDM, Prior
    >>> from undiffuse.diffusion.oracle import Gaussian
    >>> schedule, mean, std = EDM(), torch.zeros(2).double(), torch.ones(2).double()
    >>> x = torch.zeros(1, 2, dtype=torch.float64)
    >>> log_density(Gaussian(schedule, mean, std), x, Prior(schedule, mean, std)).nats  # -log(2 pi)
    tensor([-1.8379], dtype=torch.float64)
    """
    flow = _Flow.of(denoiser, x, prior, probes, noise)
    nats, traces, evaluations = flow.solved(solver)
    error, more = solver.error(nats, evaluations, lambda other: flow.solved(other)[0])
    stderr = torch.where(nats.isnan() | (flow.probes == 1), torch.nan, 0.0)
    if flow.probes > 1:
        stderr = traces.std(1) / flow.probes**0.5
    evaluations = evaluations + more
    products = evaluations * (flow.probes or x[0].numel())
    return LogDensity(nats, torch.hypot(stderr, error), evaluations, products)


class _Flow(NamedTuple):
    """The way of rows x (B, *) along the flow, and what there is to add at its end."""

    field: Field
    state: State
    start: Times
    end: Times
    prior: HasLogProb
    spread: Times
    scale: float
    probes: int

    @staticmethod
    def of(
        denoiser: AbstractDenoiser, x: Tensor, prior: HasLogProb, probes: int | None, noise: Noise
    ) -> _Flow:
        schedule, d = denoiser.schedule, x[0].numel()
        if probes is None:
            probes = 0 if d <= EXACT else 4
        if probes < 0:
            raise InputError(f"probes {probes}: give 0 for the exact trace, or a number of probes.")
        e = _directions(x, probes, noise)

        def field(state: State, w: Tensor, rows: Tensor) -> State:
            t, y = flow_time(schedule, w), state[0].to(x.dtype)
            part = denoiser if len(rows) == len(x) else denoiser.of_rows(rows, x)
            slope, traces = _slope(part, y, t, e[rows.to(e.device)])
            traces = traces if probes else traces.sum(1, keepdim=True)
            rate = flow_rate(w)
            return expand(rate, state[0]) * slope.double(), expand(rate, state[1]) * traces

        t_0, t_1 = schedule.last_time(LEAST_SCORED), as_times(prior.time)
        (alpha_0, sigma_0), (alpha_1, sigma_1) = schedule(t_0), schedule(t_1)
        start = (alpha_0 / (alpha_0 + sigma_0)) * x.double()
        empty = torch.zeros(len(x), max(probes, 1), dtype=torch.float64, device=x.device)
        scale = d * float(((alpha_1 + sigma_1) / (alpha_0 + sigma_0)).log() + alpha_0.log())
        ends = flow_variable(schedule, t_0), flow_variable(schedule, t_1)
        return _Flow(field, (start, empty), *ends, prior, alpha_1 + sigma_1, scale, probes)

    def solved(self, by: Solver) -> tuple[Tensor, Tensor, Tensor]:
        """The log-densities, what each probe adds to them, and the evaluations."""
        (y, traces), evaluations = by(self.field, self.state, self.start, self.end)
        ends = self.prior.log_prob(self.spread * y).double()
        return ends + traces.mean(1) + self.scale, traces, evaluations


def _directions(x: Tensor, probes: int, noise: Noise) -> Tensor:
    """Rademacher probes (B, P, *) of the rows (B, *), or all D unit vectors (B, D, *) for none."""
    if probes:
        return torch.stack([torch.where(noise(x) < 0, -1, 1).to(x.dtype) for _ in range(probes)], 1)
    shape, d = x.shape[1:], x[0].numel()
    units = torch.eye(d, dtype=x.dtype, device=x.device).reshape(1, d, *shape)
    return units.expand(len(x), -1, *shape)


def _slope(denoiser: AbstractDenoiser, y: Tensor, t: Times, e: Tensor) -> tuple[Tensor, Tensor]:
    """dy/du (B, *) and e^T (d slope/dy) e (B, P) in float64 for every probe of `e` (B, P, *)."""
    scale = expand(torch.stack(denoiser.schedule(t)).sum(0), y)
    with torch.enable_grad():
        y = y.detach().requires_grad_()
        x_hat, z_hat = denoiser.split(scale * y, t)
        slope = z_hat - x_hat
        products: list[Any] = []
        for part in torch.split(e.transpose(0, 1), _TOGETHER):
            products += torch.autograd.grad(
                slope, y, part, retain_graph=True, is_grads_batched=True
            )
    return slope.detach(), (torch.cat(products).double() * e.transpose(0, 1)).flatten(2).sum(2).T
