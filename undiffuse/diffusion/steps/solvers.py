"""Exponential integrators: the probability-flow ODE solved exactly where it is linear.

In lambda = log(alpha/sigma), h = lambda_s - lambda_t > 0 and r = (lambda - lambda_t)/h, variation
of constants gives

    x_s = (sigma_s/sigma_t) x_t + alpha_s h int_0^1 e^{-(1 - r) h} x_hat(r) dr    (Lu et al. 2022b)
    x_s = (alpha_s/alpha_t) x_t - sigma_s h int_0^1 e^{+(1 - r) h} z_hat(r) dr    (Lu et al. 2022a)

and what remains is to replace the prediction, known at t and at a few other times r_j, by the
polynomial through them. Its integral is a weighted sum of the predictions,

    m_0 f + sum_j w_j (f_j - f),   sum_j w_j r_j^k = m_k,  m_k(h) = h int_0^1 e^{-(1 - r) h} r^k dr,

for the data; for the noise the same at -h. The methods differ in which of the two they
interpolate, and where:

    DPM-Solver++   data,    at previous times, or at one in between          (Lu et al. 2022b)
    UniPC          data,    at previous times, then once more with the end   (Zhao et al. 2023)
    DEIS           noise,   at previous times                                (Zhang and Chen 2023)

With no other time all of them are DDIM. Where alpha_t = 0, lambda_t is -inf and no polynomial
goes through it: the step away from it is DDIM, and it is not remembered. A step to sigma_s = 0,
where h is infinite, is alpha_s x_hat.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, final

import torch
from torch import Tensor
from typing_extensions import override

from undiffuse.diffusion.denoiser import AbstractDenoiser
from undiffuse.diffusion.grid import Grid, Karras
from undiffuse.diffusion.schedules.process import Schedule, Times
from undiffuse.diffusion.steps.moves import Moved, Step
from undiffuse.diffusion.typed import solve
from undiffuse.errors import InputError
from undiffuse.interfaces import Noise

Node = tuple[Tensor, Times]
"""A prediction and the lambda it belongs to; a memory is a list of them, the latest first."""


def moments(h: Times, count: int) -> Tensor:
    """m_k(h) = h integral_0^1 e^{-(1 - r) h} r^k dr for k = 0 .. `count` - 1, h of either sign.

    m_0 = 1 - e^{-h}, m_k = 1 - k m_{k-1} / h; below |h| = 1, where that cancels, by their power
    series.
    """
    if h.abs() < 1:
        k, j = torch.arange(count, dtype=h.dtype).unsqueeze(1), torch.arange(20, dtype=h.dtype)
        return h * ((-h) ** j * torch.exp(torch.lgamma(k + 1) - torch.lgamma(j + k + 2))).sum(1)
    m = [-torch.expm1(-h)]
    for k in range(1, count):
        m.append(1 - k * m[-1] / h)
    return torch.stack(m)


def bend(h: Times, f: Tensor, r: list[Times], others: list[Tensor]) -> Tensor | float:
    """Return sum_j w_j (f_j - f): what the polynomial through f at 0, f_j at r_j adds to m_0 f."""
    if not others:
        return 0.0
    nodes, k = torch.stack(r), torch.arange(1, len(r) + 1).unsqueeze(1)
    w = solve(nodes**k, moments(h, len(r) + 1)[1:])
    return sum(w_j * (f_j - f) for w_j, f_j in zip(w, others, strict=True))


class BH(ABC):
    """UniPC's B(h), in place of 2 m_1 where one difference is known: any h + O(h^2) will do."""

    @abstractmethod
    def __call__(self, h: Times) -> Times:
        """Return B(h), h the way in lambda."""


@final
@dataclass(frozen=True)
class BH1(BH):
    """B(h) = h: for many steps."""

    @override
    def __call__(self, h: Times) -> Times:
        return h


@final
@dataclass(frozen=True)
class BH2(BH):
    """B(h) = m_0(h) = 1 - e^{-h}: for few steps."""

    @override
    def __call__(self, h: Times) -> Times:
        return -torch.expm1(-h)


def predicted(b: BH, lambda_s: Times, known: Node, others: list[Node]) -> Tensor:
    """Return m_0 x_hat and its bend on the way to `lambda_s`, from `known` and `others`."""
    x_hat, lambda_t = known
    h = lambda_s - lambda_t
    straight = -torch.expm1(-h) * x_hat
    r = [(lambda_j - lambda_t) / h for _, lambda_j in others]
    if len(others) == 1:
        return straight + b(h) / 2 * (others[0][0] - x_hat) / r[0]
    return straight + bend(h, x_hat, r, [x_j for x_j, _ in others])


def lambdas(schedule: Schedule, t: Times, s: Times) -> tuple[Times, Times]:
    """Lambda = log(alpha/sigma) at t and at s."""
    return schedule.log_snr(t) / 2, schedule.log_snr(s) / 2


def remember(known: Node, past: list[Node], count: int) -> list[Node]:
    """The latest `count` predictions, without one at lambda = -inf."""
    return [known, *past][:count] if known[1].isfinite() else []


def check_order(name: str, value: int, largest: int, method: str) -> None:
    """Raises InputError for an order that the method does not have."""
    if not 1 <= value <= largest:
        raise InputError(f"{name} {value}: {method} goes from 1 to {largest}.")


@final
@dataclass(frozen=True)
class DPMpp(Step):
    """DPM-Solver++ multistep (Lu et al. 2022b, Algorithm 2): x_hat interpolated at `order` times.

    Order 2 takes m_0/2 for m_1, as published. Order 3 is the full polynomial; the released code
    takes half of its second difference, which makes it order 2. The first steps have a lower
    order.

    Args:
        order: the number of times that are interpolated, from 1 to 3.

    Raises:
        InputError: for another order.
    """

    order: int = 2  # pyright: ignore[reportIncompatibleVariableOverride]
    grid: ClassVar[Grid | None] = Karras()
    steps: ClassVar[int | None] = 18
    formula: ClassVar[str] = "polynomial of x_hat in lambda through `order` times"
    source: ClassVar[str] = "Lu et al. 2022b, Algorithm 2"
    variants: ClassVar[Mapping[str, Mapping[str, Any]]] = {"1": {"order": 1}, "3": {"order": 3}}

    def __post_init__(self) -> None:
        check_order("order", self.order, 3, "DPM-Solver++")

    @override
    def move(
        self, denoiser: AbstractDenoiser, x_t: Tensor, t: Times, s: Times, memory: Any, noise: Noise
    ) -> Moved:
        (_, sigma_t), (alpha_s, sigma_s) = denoiser.schedule(t), denoiser.schedule(s)
        x_hat, _ = denoiser.split(x_t, t)
        past: list[Node] = memory or []
        lambda_t, lambda_s = lambdas(denoiser.schedule, t, s)
        push = predicted(BH2(), lambda_s, (x_hat, lambda_t), past)
        x_s = (sigma_s / sigma_t) * x_t + alpha_s * push
        return x_s, remember((x_hat, lambda_t), past, self.order - 1)


@final
@dataclass(frozen=True)
class DPMpp2S(Step):
    """DPM-Solver++(2S), singlestep (Lu et al. 2022b, Algorithm 1): two evaluations, no memory.

    u = (sigma_m/sigma_t) x_t + alpha_m m_0(r h) x_hat,
    x_s = (sigma_s/sigma_t) x_t + alpha_s m_0(h) D,
    D = (1 - 1/(2r)) x_hat(x_t, t) + 1/(2r) x_hat(u, m)

    m is the time at `r` of the way from lambda_t to lambda_s.

    Args:
        r: where the middle of a step is, a share in (0, 1] of the way in lambda.
    """

    r: float = 0.5
    order: ClassVar[int | None] = 2
    grid: ClassVar[Grid | None] = Karras()
    steps: ClassVar[int | None] = 10
    formula: ClassVar[str] = "x_hat at t and half way in lambda"
    source: ClassVar[str] = "Lu et al. 2022b, Algorithm 1"
    variants: ClassVar[Mapping[str, Mapping[str, Any]]] = {"r_third": {"r": 1 / 3}}

    @override
    def move(
        self, denoiser: AbstractDenoiser, x_t: Tensor, t: Times, s: Times, memory: Any, noise: Noise
    ) -> Moved:
        (_, sigma_t), (alpha_s, sigma_s) = denoiser.schedule(t), denoiser.schedule(s)
        x_hat, z_hat = denoiser.split(x_t, t)
        lambda_t, lambda_s = lambdas(denoiser.schedule, t, s)
        h = lambda_s - lambda_t
        if h.isinf():  # alpha_t = 0
            return alpha_s * x_hat + sigma_s * z_hat, None
        m = denoiser.schedule.inverse(2 * (lambda_t + self.r * h))
        alpha_m, sigma_m = denoiser.schedule(m)
        change = (
            denoiser.split(alpha_m * x_hat + sigma_m * z_hat, m)[0] - x_hat
        )  # u is the step of DDIM to m
        D = x_hat + change / (2 * self.r)
        return (sigma_s / sigma_t) * x_t - alpha_s * torch.expm1(-h) * D, None


@final
@dataclass(frozen=True)
class DPMppSDE(Step):
    """SDE-DPM-Solver++ multistep: the reverse SDE, its noise integrated exactly (Lu et al. 2022b).

    x_s = e^{-h} (sigma_s/sigma_t) x_t + alpha_s m_0(2h) (x_hat + D_1/2) + sigma_s sqrt(m_0(2h)) z

    with D_1 the first difference of x_hat, times h; weak order 1 leaves it out and is DDIM at eta
    = 1.

    Args:
        weak_order: 1 or 2.

    Raises:
        InputError: for another order.
    """

    weak_order: int = 2  # pyright: ignore[reportIncompatibleVariableOverride]
    grid: ClassVar[Grid | None] = Karras()
    steps: ClassVar[int | None] = 36
    formula: ClassVar[str] = "the SDE in lambda, its noise integrated exactly"
    source: ClassVar[str] = "Lu et al. 2022b, Appendix E"
    variants: ClassVar[Mapping[str, Mapping[str, Any]]] = {"1": {"weak_order": 1}}

    def __post_init__(self) -> None:
        check_order("weak_order", self.weak_order, 2, "SDE-DPM-Solver++")

    @override
    def move(
        self, denoiser: AbstractDenoiser, x_t: Tensor, t: Times, s: Times, memory: Any, noise: Noise
    ) -> Moved:
        (_, sigma_t), (alpha_s, sigma_s) = denoiser.schedule(t), denoiser.schedule(s)
        x_hat, _ = denoiser.split(x_t, t)
        past: list[Node] = memory or []
        lambda_t, lambda_s = lambdas(denoiser.schedule, t, s)
        h = lambda_s - lambda_t
        gone = -torch.expm1(-2 * h)
        mean = x_hat
        for x_1, lambda_1 in past:
            mean = x_hat + h / (lambda_t - lambda_1) * (x_hat - x_1) / 2
        x_s = (
            (-h).exp() * (sigma_s / sigma_t) * x_t
            + alpha_s * gone * mean
            + sigma_s * gone.sqrt() * noise(x_t)
        )
        return x_s, remember((x_hat, lambda_t), past, self.weak_order - 1)


@final
@dataclass(frozen=True, kw_only=True)
class UniPC(Step):
    """UniPC-p, a predictor and a free corrector, of order p + 1 (Zhao et al. 2023, Alg. 1-4).

    The predictor (UniP-p) interpolates x_hat at p times, t and those before; the next step
    evaluates x_hat at the new point anyway, and then first repeats the move with that prediction
    among the rest (UniC-p). p = 2 with BH2 predicts as DPM-Solver++(2M) does. The order holds
    once p predictions are known: the first steps have a lower one.

    Args:
        p: times that the predictor interpolates, from 1 to 3.
        b: the function B(h) of the paper: `BH1` or `BH2`.

    Raises:
        InputError: for fewer or more.
    """

    p: int = 2
    b: BH = BH2()
    grid: ClassVar[Grid | None] = Karras()
    steps: ClassVar[int | None] = 18
    formula: ClassVar[str] = "polynomial of x_hat, corrected by the evaluation at s"
    source: ClassVar[str] = "Zhao et al. 2023"
    variants: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        "1": {"p": 1},
        "3": {"p": 3},
        "bh1": {"b": BH1()},
    }

    def __post_init__(self) -> None:
        check_order("p", self.p, 3, "UniPC")

    @property
    def order(self) -> int:  # pyright: ignore[reportIncompatibleVariableOverride]
        """P + 1."""
        return self.p + 1

    @override
    def move(
        self, denoiser: AbstractDenoiser, x_t: Tensor, t: Times, s: Times, memory: Any, noise: Noise
    ) -> Moved:
        (_, sigma_t), (alpha_s, sigma_s) = denoiser.schedule(t), denoiser.schedule(s)
        x_hat, _ = denoiser.split(x_t, t)
        past: list[Node] = memory or []
        lambda_t, lambda_s = lambdas(denoiser.schedule, t, s)
        x_t = self.corrected(denoiser.schedule, x_t, t, x_hat, past)
        x_s = (sigma_s / sigma_t) * x_t + alpha_s * predicted(
            self.b, lambda_s, (x_hat, lambda_t), past[: self.p - 1]
        )
        return x_s, remember((x_hat, lambda_t), past, self.p)

    def corrected(
        self, schedule: Schedule, x_t: Tensor, t: Times, x_hat: Tensor, past: list[Node]
    ) -> Tensor:
        """Return `x_t` corrected by its prediction `x_hat` (UniC-p); itself at the first step."""
        if not past:
            return x_t
        (alpha_t, _), lambda_t = schedule(t), schedule.log_snr(t) / 2
        before, *older = past
        better = predicted(self.b, lambda_t, before, [(x_hat, lambda_t), *older])
        return x_t + alpha_t * (better - predicted(self.b, lambda_t, before, older))


@final
@dataclass(frozen=True)
class DEIS(Step):
    """DEIS, multistep, log-rho AB (Zhang and Chen 2023): z_hat interpolated at `order` times.

    x_s = alpha_s x_hat + sigma_s z_hat + sigma_s sum_j w_j(-h) (z_hat_j - z_hat)

    Args:
        order: the number of times that are interpolated, from 1 to 3.

    Raises:
        InputError: for another order.
    """

    order: int = 3  # pyright: ignore[reportIncompatibleVariableOverride]
    grid: ClassVar[Grid | None] = Karras(highest=30.0)
    steps: ClassVar[int | None] = 12
    formula: ClassVar[str] = "polynomial of z_hat in log(sigma/alpha)"
    source: ClassVar[str] = "Zhang and Chen 2023"
    variants: ClassVar[Mapping[str, Mapping[str, Any]]] = {"1": {"order": 1}, "2": {"order": 2}}

    def __post_init__(self) -> None:
        check_order("order", self.order, 3, "DEIS")

    @override
    def move(
        self, denoiser: AbstractDenoiser, x_t: Tensor, t: Times, s: Times, memory: Any, noise: Noise
    ) -> Moved:
        alpha_s, sigma_s = denoiser.schedule(s)
        x_hat, z_hat = denoiser.split(x_t, t)
        past: list[Node] = memory or []
        lambda_t, lambda_s = lambdas(denoiser.schedule, t, s)
        h = lambda_s - lambda_t
        r = [(lambda_j - lambda_t) / h for _, lambda_j in past]
        x_s = alpha_s * x_hat + sigma_s * (z_hat + bend(-h, z_hat, r, [z_j for z_j, _ in past]))
        return x_s, remember((z_hat, lambda_t), past, self.order - 1)


ADAMS_BASHFORTH = (
    (1,),
    (3 / 2, -1 / 2),
    (23 / 12, -16 / 12, 5 / 12),
    (55 / 24, -59 / 24, 37 / 24, -9 / 24),
)


@final
@dataclass(frozen=True)
class IPNDM(Step):
    """Adams-Bashforth on dy/du = z_hat, y = x/alpha, u = sigma/alpha, as if steps were equal.

    x_s/alpha_s = x_t/alpha_t + (u_s - u_t) sum_j b_j z_hat_j   (Zhang and Chen 2023, iPNDM)

    with up to `points` slopes, t's and those before. On a grid that is even in u the order is
    `points`; the weights are not adapted to others, where it is at most 2, the order declared.

    Args:
        points: slopes that are combined, from 1 to 4.

    Raises:
        InputError: for fewer or more.
    """

    points: int = 4
    grid: ClassVar[Grid | None] = Karras()
    steps: ClassVar[int | None] = 18
    formula: ClassVar[str] = "Adams-Bashforth weights on z_hat, whatever the grid"
    source: ClassVar[str] = "Zhang and Chen 2023"
    variants: ClassVar[Mapping[str, Mapping[str, Any]]] = {"2": {"points": 2}, "3": {"points": 3}}

    def __post_init__(self) -> None:
        check_order("points", self.points, 4, "iPNDM")

    @property
    def order(self) -> int:  # pyright: ignore[reportIncompatibleVariableOverride]
        """2, from two points on."""
        return min(self.points, 2)

    @override
    def move(
        self, denoiser: AbstractDenoiser, x_t: Tensor, t: Times, s: Times, memory: Any, noise: Noise
    ) -> Moved:
        (alpha_t, sigma_t), (alpha_s, sigma_s) = denoiser.schedule(t), denoiser.schedule(s)
        x_hat, z_hat = denoiser.split(x_t, t)
        past: list[Tensor] = memory or []
        x_s = alpha_s * x_hat + sigma_s * z_hat
        for b_j, z_j in zip(ADAMS_BASHFORTH[len(past)][1:], past, strict=True):
            x_s = x_s + (sigma_s - alpha_s * sigma_t / alpha_t) * b_j * (z_j - z_hat)
        return x_s, [z_hat, *past][: self.points - 1] if alpha_t > 0 else []


BHS: dict[str, type[BH]] = {"bh1": BH1, "bh2": BH2}
