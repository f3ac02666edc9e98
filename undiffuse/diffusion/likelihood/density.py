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

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass
from functools import partial
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
    Stops,
    flow_rate,
    flow_time,
    flow_variable,
    integrate,
)
from undiffuse.errors import InputError
from undiffuse.interfaces import Noise

EXACT = 64  # coordinates up to which the trace is exact unless asked otherwise
MANY = 8  # products of a trace, from which an adaptive solver takes it less often
POINTS = 25  # of a path, at which an adaptive solver takes the trace; odd
_TOGETHER = 16  # vector-Jacobian products taken at once


@runtime_checkable
class HasLogProb(Protocol):
    """A density at one time, mostly 1: `log_prob(x_1)` in nats (B,). `Prior` is one."""

    time: Times | float

    def log_prob(self, x_1: Tensor) -> Tensor:
        """Return the log-density of each row of `x_1` (B, *), nats (B,)."""
        ...


class Solved(NamedTuple):
    """Where rows end along the flow.

    Attributes:
        y: (B, *), the ends.
        traces: (B, P), what each probe adds to the log-density; (B, 1) for the exact trace.
        evaluations: (B,), of the network.
        points: (B,), at how many of these the trace was taken.
        error: (B,), of the log-densities, in nats.
    """

    y: Tensor
    traces: Tensor
    evaluations: Tensor
    points: Tensor
    error: Tensor


class Solver(ABC):
    """Carries rows along the flow."""

    @abstractmethod
    def solve(self, flow: Course) -> Solved:
        """Return where the rows of the flow end."""


@final
@dataclass(frozen=True)
class Adaptive(Solver):
    """Dormand and Prince's pair, each row to `tolerance`, in y and in nats.

    The path does not depend on the trace, which is the dear part where it has many products. From
    `MANY` on the path is solved first, to a tenth of the tolerance, and the trace is taken at
    `POINTS` of it, the same ones for all rows, by Clenshaw and Curtis' rule in u^(1/4). Every other
    point gives the rule's error: a third of the difference, as of a rule of order two. Rows for
    which that is more than three times the path's are solved again, path and trace together.

    Args:
        tolerance: of each row, absolute and relative, above 0.
    """

    tolerance: float = 1e-5

    @override
    def solve(self, flow: Course) -> Solved:
        """See `Solver`."""
        return self._together(flow) if flow.products < MANY else self._apart(flow)

    def _together(self, flow: Course) -> Solved:
        """Path and trace as one state."""
        (y, traces), taken = self._integrate(flow.field, flow.state, flow)
        return Solved(y, traces, taken, taken, self.error(flow.nats(y, traces), taken))

    def _apart(self, flow: Course) -> Solved:
        """The path, then the trace on it."""
        v = flow.start.sqrt() + (flow.end.sqrt() - flow.start.sqrt()) * places(POINTS - 1)
        stops = Stops(v.square().clamp(flow.start, flow.end), flow.state[0])
        (y,), path = self._integrate(flow.path, flow.state[:1], flow, stops, 1 / 10)
        heights = [
            4 * at**3 * flow.trace(part, w) for at, w, part in zip(v, stops.at, stops.states)
        ]
        traces = (v[-1] - v[0]) * clenshaw_curtis(heights)
        coarse = (v[-1] - v[0]) * clenshaw_curtis(heights[::2])
        off, error = (traces - coarse).mean(1).abs() / 3, self.error(flow.nats(y, traces), path)
        evaluations, points = path + POINTS, torch.full_like(path, POINTS)
        again = (off > 3 * error).nonzero().flatten()
        error = error + off
        if len(again):
            rows = again.cpu()
            some = flow.of_rows(rows)
            (y[again], traces[again]), taken = self._integrate(some.field, some.state, some)
            evaluations[rows], points[rows] = evaluations[rows] + taken, points[rows] + taken
            error[again] = self.error(flow.nats(y, traces)[again], taken)
        return Solved(y, traces, evaluations, points, error)

    def _integrate(
        self,
        field: Field,
        state: State,
        flow: Course,
        stops: Stops | None = None,
        share: float = 1.0,
    ) -> tuple[State, Tensor]:
        ends, tolerance = (flow.start, flow.end), share * self.tolerance
        return integrate(field, state, *ends, rtol=tolerance, atol=tolerance, stops=stops)

    def error(self, nats: Tensor, evaluations: Tensor) -> Tensor:
        """Return how far log-densities (B,) are off by a path of so many evaluations (B,)."""
        taken = (evaluations.to(nats.device) / STAGES).ceil()
        return taken * self.tolerance * (1 + nats.abs())


def places(n: int) -> Tensor:
    """Return the n + 1 places (1 - cos(pi k/n))/2 of [0, 1] that `clenshaw_curtis` takes."""
    return (1 - (math.pi / n * torch.arange(n + 1).double()).cos()) / 2


def clenshaw_curtis(values: list[Tensor]) -> Tensor:
    """Return the mean over [0, 1] of a function from its values at `places(n)`, n even.

    The weights are those of Clenshaw and Curtis (1960).

    >>> round(float(clenshaw_curtis(list(places(4) ** 4))), 12)
    0.2
    """
    n = len(values) - 1
    j, k = torch.arange(n // 2 + 1).double(), torch.arange(n + 1).double()
    parts = torch.where((j == 0) | (j == n // 2), 1.0, 2.0) / (1 - 4 * j**2)
    weights = torch.cos(2 * math.pi / n * k[:, None] * j) @ parts / n
    weights[[0, -1]] /= 2
    return torch.stack([weight * value for weight, value in zip(weights, values)]).sum(0)


@final
@dataclass(frozen=True)
class RungeKutta(Solver):
    """The classic fourth-order method in `steps` equal steps of four evaluations each.

    Args:
        steps: how many, at least 1.

    Raises:
        InputError: for fewer than 1.
    """

    steps: int = 16

    def __post_init__(self) -> None:
        if self.steps < 1:
            raise InputError(f"steps {self.steps}: a solver takes at least 1.")

    @override
    def solve(self, flow: Course) -> Solved:
        """See `Solver`. Half as many steps give the error."""
        (y, traces), evaluations = self(flow.field, flow.state, flow.start, flow.end)
        nats, half = flow.nats(y, traces), self.steps // 2
        if not half:
            return Solved(y, traces, evaluations, evaluations, torch.full_like(nats, torch.nan))
        coarse, more = RungeKutta(half)(flow.field, flow.state, flow.start, flow.end)
        off, evaluations = (nats - flow.nats(*coarse)).abs(), evaluations + more
        return Solved(y, traces, evaluations, evaluations, off)

    def __call__(
        self, field: Field, state: State, start: Times, end: Times
    ) -> tuple[State, Tensor]:
        """Return the state at `end`, and the evaluations of the field for each row (B,)."""
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

    Args:
        denoiser: the one whose probability flow is solved.
        x: rows (B, *) at unit scale.
        prior: what has the log-density at its `time`.
        solver: `Adaptive` or `RungeKutta`.
        probes: Rademacher probes a row; 0: the exact trace; None: exact up to 64 coordinates, else
            4.
        noise: draws the probes, called with a tensor of their shape.

    >>> from undiffuse.diffusion import EDM, Prior
    >>> from undiffuse.diffusion.oracle import Gaussian
    >>> schedule, mean, std = EDM(), torch.zeros(2).double(), torch.ones(2).double()
    >>> x = torch.zeros(1, 2, dtype=torch.float64)
    >>> log_density(Gaussian(schedule, mean, std), x, Prior(schedule, mean, std)).nats  # -log(2 pi)
    tensor([-1.8379], dtype=torch.float64)
    """
    flow = Course.of(denoiser, x, prior, probes, noise)
    found = solver.solve(flow)
    nats = flow.nats(found.y, found.traces)
    stderr = torch.where(nats.isnan() | (flow.probes == 1), torch.nan, 0.0)
    if flow.probes > 1:
        stderr = found.traces.std(1) / flow.probes**0.5
    error, products = torch.hypot(stderr, found.error), found.points * flow.products
    return LogDensity(nats, error, found.evaluations, products)


@final
@dataclass(frozen=True)
class Course:
    """The course of rows x (B, *) along the flow, and what there is to add at its end.

    Args:
        denoiser: of these rows.
        x: the rows.
        prior: what gives the density at the end.
        e: the probes (B, P, *), or all unit vectors.
        probes: how many probes; 0: e are unit vectors.
    """

    denoiser: AbstractDenoiser
    x: Tensor
    prior: HasLogProb
    e: Tensor
    probes: int

    @staticmethod
    def of(
        denoiser: AbstractDenoiser, x: Tensor, prior: HasLogProb, probes: int | None, noise: Noise
    ) -> Course:
        """Return the flow of rows with their probes."""
        if probes is None:
            probes = 0 if x[0].numel() <= EXACT else 4
        if probes < 0:
            raise InputError(f"probes {probes}: give 0 for the exact trace, or a number of probes.")
        return Course(denoiser, x, prior, _directions(x, probes, noise), probes)

    @property
    def products(self) -> int:
        """Vector-Jacobian products of a trace."""
        return self.e.shape[1]

    def of_rows(self, rows: Tensor) -> Course:
        """Return the flow of some rows (b,)."""
        part, here = self.denoiser.of_rows(rows, self.x), rows.to(self.x.device)
        return Course(part, self.x[here], self.prior, self.e[here], self.probes)

    @property
    def times(self) -> tuple[Times, Times]:
        """The first time and the last."""
        return self.denoiser.schedule.last_time(LEAST_SCORED), as_times(self.prior.time)

    @property
    def start(self) -> Times:
        """The flow's variable w at the first time."""
        return flow_variable(self.denoiser.schedule, self.times[0])

    @property
    def end(self) -> Times:
        """The flow's variable w at the last time."""
        return flow_variable(self.denoiser.schedule, self.times[1])

    @property
    def state(self) -> State:
        """The rows at the start, and 0 (B, P) for what their traces add."""
        alpha, sigma = self.denoiser.schedule(self.times[0])
        empty = torch.zeros(len(self.x), max(self.probes, 1)).double()
        return alpha / (alpha + sigma) * self.x.double(), empty.to(self.x.device)

    def path(self, state: State, w: Times, rows: Tensor) -> State:
        """dy/dw of some rows: a `Field`."""
        schedule, y = self.denoiser.schedule, state[0].to(self.x.dtype)
        t = flow_time(schedule, w)
        part = self.denoiser
        part = part if len(rows) == len(self.x) else part.of_rows(rows, self.x)
        x_hat, z_hat = part.split(expand(torch.stack(schedule(t)).sum(0), y) * y, t)
        return (expand(flow_rate(w), state[0]) * (z_hat - x_hat).double(),)

    def field(self, state: State, w: Times, rows: Tensor) -> State:
        """dy/dw of some rows and what their traces add: a `Field`."""
        part = self if len(rows) == len(self.x) else self.of_rows(rows)
        slope, traces = part._slope(state[0], w)
        rate = flow_rate(w)
        return expand(rate, state[0]) * slope.double(), expand(rate, state[1]) * traces

    def trace(self, y: Tensor, w: Times) -> Tensor:
        """Return e^T (d slope/dy) e (B, P) of every probe, or the trace (B, 1), at y (B, *)."""
        return self._slope(y, w)[1]

    def _slope(self, y: Tensor, w: Times) -> tuple[Tensor, Tensor]:
        t = flow_time(self.denoiser.schedule, w)
        slope, traces = slope_and_products(self.denoiser, y.to(self.x.dtype), t, self.e)
        return slope, traces if self.probes else traces.sum(1, keepdim=True)

    def nats(self, y: Tensor, traces: Tensor) -> Tensor:
        """Return the log-densities (B,) of rows that end at y (B, *)."""
        schedule, d = self.denoiser.schedule, self.x[0].numel()
        (alpha_0, sigma_0), (alpha_1, sigma_1) = (schedule(t) for t in self.times)
        scale = d * float(((alpha_1 + sigma_1) / (alpha_0 + sigma_0)).log() + alpha_0.log())
        return self.prior.log_prob((alpha_1 + sigma_1) * y).double() + traces.mean(1) + scale


def _directions(x: Tensor, probes: int, noise: Noise) -> Tensor:
    """Rademacher probes (B, P, *) of the rows (B, *), or all D unit vectors (B, D, *) for none."""
    if probes:
        return torch.stack([torch.where(noise(x) < 0, -1, 1).to(x.dtype) for _ in range(probes)], 1)
    shape, d = x.shape[1:], x[0].numel()
    units = torch.eye(d, dtype=x.dtype, device=x.device).reshape(1, d, *shape)
    return units.expand(len(x), -1, *shape)


def slope_and_products(
    denoiser: AbstractDenoiser, y: Tensor, t: Times, e: Tensor
) -> tuple[Tensor, Tensor]:
    """Return dy/du (B, *) and e^T (d slope/dy) e (B, P), float64, of every probe e (B, P, *)."""
    scale = expand(torch.stack(denoiser.schedule(t)).sum(0), y)
    with torch.enable_grad():
        y = y.detach().requires_grad_()
        x_hat, z_hat = denoiser.split(scale * y, t)
        slope = z_hat - x_hat
        products: list[Any] = []
        for part in torch.split(e.transpose(0, 1), _TOGETHER):
            products += _products(slope, y, part)
    return slope.detach(), (torch.cat(products).double() * e.transpose(0, 1)).flatten(2).sum(2).T


def _products(slope: Tensor, y: Tensor, e: Tensor) -> tuple[Tensor, ...]:
    """Vector-Jacobian products (P, B, *) of probes (P, B, *), at once where the network allows it.

    Not every operation can be batched over probes (`torch.vmap`): those of networks made elsewhere
    may look at how a tensor lies in memory.
    """
    grad = partial(torch.autograd.grad, slope, y, retain_graph=True)
    try:
        return grad(e, is_grads_batched=True)
    except RuntimeError:
        return (torch.stack([grad(one)[0] for one in e]),)
