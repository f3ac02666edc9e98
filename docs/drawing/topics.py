"""Pictures for the pages about a task and not about one system: solvers, guidance, known entries,
likelihood.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from torch import Tensor

from drawing import panels as draw
from undiffuse.diffusion import (
    DDIM,
    EDM,
    METHODS,
    Heun,
    Karras,
    LinearVP,
    RowNoise,
    Step,
    UniPC,
    sample,
)
from undiffuse.diffusion.denoiser import AbstractDenoiser, Estimate
from undiffuse.diffusion.guidance import ClassifierFree, Interval
from undiffuse.diffusion.known import Conditional, Known
from undiffuse.diffusion.likelihood.density import Adaptive, RungeKutta, log_density
from undiffuse.diffusion.likelihood.elbo import elbo
from undiffuse.diffusion.oracle import Mixture
from undiffuse.diffusion.schedules.process import Times

COLOURS = (draw.BLUE, draw.RED, draw.GREEN, draw.ORANGE, draw.PURPLE, draw.SKY, draw.BLACK)
COMPARED = {"ddim": 1, "heun": 2, "dpmpp_2s": 2, "dpmpp": 1, "dpmpp3": 1, "unipc": 1, "ipndm": 1}


def solvers() -> Figure:
    """Error against evaluations, and ten evaluations of three methods."""
    oracle = draw.moons(EDM())
    fig, (a, b, c, d) = draw.figure(4, widths=(1.35, 1, 1, 1))
    x, _ = draw.start(oracle, 200)
    end = sample(oracle, x, Karras()(oracle.schedule, 1000), Heun())
    for (name, each), colour, mark in zip(COMPARED.items(), COLOURS, "os^Dv<>"):
        counts = [n for n in (4, 6, 8, 12, 16, 24, 32, 48, 64)]
        errors = []
        for count in counts:
            found = sample(oracle, x, Karras()(oracle.schedule, count // each), METHODS[name])
            errors.append(float((found - end).norm(dim=1).median()))
        a.plot(counts, errors, mark + "-", color=colour, ms=4, lw=1.3, label=name)
    a.set(
        xscale="log",
        yscale="log",
        xticks=[4, 8, 16, 32, 64],
        xticklabels=["4", "8", "16", "32", "64"],
        ylim=(3e-4, 3),
    )
    a.minorticks_off()
    a.legend(frameon=False, fontsize=9.5, loc="lower left", handlelength=1.2, labelspacing=0.1)
    draw.labelled(a, "evaluations", "distance to the end")
    draw.titled(a, "Median error")
    for ax, step, steps, name in (
        (b, DDIM(), 10, "DDIM"),
        (c, Heun(), 5, "Heun"),
        (d, UniPC(), 10, "UniPC"),
    ):
        _few(ax, oracle, step, steps, f"{name}, 10 evaluations")
    return fig


def _few(ax: Axes, oracle: Mixture, step: Step, steps: int, title: str) -> None:
    """A method with few steps (dots on lines) on the exact trajectories."""
    draw.density(ax, lambda points: oracle.log_prob(points))
    x, _ = draw.start(oracle, 14, seed=4)
    for method, count, style in (
        (Heun(), 60, {"color": "#555555", "lw": 0.9}),
        (step, steps, {"color": draw.BLUE}),
    ):
        times, points = draw.follow(oracle, x, Karras()(oracle.schedule, count), method)
        drawn = torch.stack([x_t / draw.unit(oracle.schedule, t) for t, x_t in zip(times, points)])
        for k in range(len(x)):
            ax.plot(
                *drawn[:, k].T,
                **{"lw": 1.2, "marker": "o" if count == steps else None, "ms": 2.5, **style},
            )
    ax.plot(*drawn[-1].T, "o", color=draw.RED, ms=4.5)
    draw.plane(ax, title)


class Labelled(AbstractDenoiser):
    """The exact denoiser given the half circle (label 0 or 1), and of both together (label -1)."""

    def __init__(self, whole: Mixture) -> None:
        super().__init__()
        half = len(whole.mean) // 2
        parts = (slice(0, half), slice(half, None))
        self.whole, self.schedule = whole, whole.schedule
        self.halves = torch.nn.ModuleList(
            Mixture(whole.schedule, whole.mean[p], whole.std[p]) for p in parts
        )

    def estimate(self, x_t: Tensor, t: Times, *, label: Tensor, **cond: Any) -> Estimate:
        found = [oracle.estimate(x_t, t) for oracle in (self.whole, *self.halves)]
        pick = [
            torch.stack(view)[label + 1, torch.arange(len(label))] for view in list(zip(*found))[:2]
        ]
        return Estimate(*pick)


def guidance() -> Figure:
    """One class of two that overlap, pushed away from the other."""
    sharp = draw.moons(EDM())
    oracle = Labelled(Mixture(sharp.schedule, sharp.mean, torch.full_like(sharp.mean, 0.35)))
    fig, axes = draw.figure()
    x, noise = draw.start(oracle.whole, 500, seed=3)
    label = torch.zeros(500, dtype=torch.long)
    plain, grid = oracle.given(label=label), Karras()(oracle.schedule, 30)
    u, v, points = draw.lattice(draw.LIMIT, 101)
    other = oracle.halves[1].log_prob(points).exp().reshape(101, 101)
    for ax, (weight, title) in zip(
        axes, ((1, "w = 1: no guidance"), (2, "w = 2"), (4, "w = 4"), (4, "w = 4, interval"))
    ):
        guided = ClassifierFree(oracle, weight, label=-1).given(label=label)
        denoiser = Interval(guided, plain, 0.1, 0.8) if "interval" in title else guided
        draw.dots(ax, oracle.halves[0], sample(denoiser, x, grid, Heun(), noise=noise), title)
        ax.contour(
            u,
            v,
            other,
            levels=[0.1 * float(other.max()), 0.4 * float(other.max())],
            colors=draw.BLUE,
            linewidths=1,
        )
    return fig


def known_entries() -> Figure:
    """The second coordinate, given the first."""
    oracle, given = draw.moons(LinearVP()), 0.62
    fig, (a, b, c, d) = draw.figure()
    rows = 2000
    x, noise = draw.start(oracle, rows, seed=6)
    known = torch.tensor([[given, 0.0]]).double().expand(rows, 2)
    mask = torch.tensor([[True, False]]).expand(rows, 2)
    grid = Karras()(oracle.schedule, 50)
    once, often = (
        sample(oracle, x, grid, Known(DDIM(), known, mask, n), noise=noise) for n in (1, 10)
    )
    both = sample(
        Conditional(oracle, known, mask),
        x,
        grid,
        Known(DDIM(), known, mask, 5),
        noise=RowNoise(7, rows),
    )
    draw.dots(a, oracle, often[:60], f"Given: first = {given}")
    a.axvline(given, color=draw.BLUE, lw=1.2, zorder=0)
    few = slice(0, 4)
    _, points = draw.follow(
        oracle, x[few], grid, Known(DDIM(), known[few], mask[few], 10), RowNoise(1, 4)
    )
    draw.density(b, lambda at: oracle.log_prob(at))
    drawn = torch.stack(points)
    for k in range(4):
        b.plot(*drawn[:, k].T, color=COLOURS[(0, 2, 3, 4)[k]], lw=1)
    b.plot(*drawn[-1].T, "o", color=draw.RED, ms=4.5)
    draw.plane(b, "Known: four paths")
    line = torch.linspace(-2, 2, 401, dtype=torch.float64)
    exact = oracle.log_prob(torch.stack([torch.full_like(line, given), line], dim=1)).exp()
    exact = exact / torch.trapezoid(exact, line)
    bins = np.linspace(-1.8, 1.8, 61)
    for ax, found, title in (
        (c, (once, often), "Known, DDIM"),
        (d, (both,), "Conditional and Known, 5"),
    ):
        ax.fill_between(line, exact, color="#B9C2CE", lw=0, label="exact")
        names = ("repeated 1 time", "repeated 10 times") if len(found) > 1 else ("samples",)
        for values, colour, name in zip(
            found, (draw.BLUE, draw.RED) if len(found) > 1 else (draw.RED,), names
        ):
            ax.hist(
                values[:, 1].numpy(),
                bins=bins,
                density=True,
                histtype="step",
                color=colour,
                lw=1.5,
                label=name,
            )
        ax.set(xlim=(-1.8, 1.8), ylim=(0, 2.6 * float(exact.max())))
        ax.legend(
            frameon=False, fontsize=draw.TICK, loc="upper left", handlelength=1.2, labelspacing=0.2
        )
        draw.labelled(ax, "second coordinate", "density")
        draw.titled(ax, title)
    return fig


def likelihood() -> Figure:
    """The ODE's density on the plane, its error, the bound's, and an alarm among held-out rows."""
    oracle = draw.moons(LinearVP())
    schedule = oracle.schedule
    fig, (a, b, c, d) = draw.figure()
    n = 61
    u, v, points = draw.lattice(draw.LIMIT, n)
    found = log_density(oracle, points, _Exact(oracle), solver=RungeKutta(12)).nats.reshape(n, n)
    a.contourf(u, v, found, levels=np.linspace(-12, 0, 9), cmap=draw.DENSITY, extend="both")
    exact = oracle.log_prob(points, schedule.t_min).reshape(n, n)
    a.contour(
        u, v, exact, levels=[-9, -6, -3, -1.5], colors=draw.RED, linewidths=1, linestyles="--"
    )
    draw.plane(a, "Log-density: ODE, exact")
    x = oracle.draw(200, torch.Generator().manual_seed(8))
    alpha, _ = schedule(torch.tensor(schedule.t_min, dtype=torch.float64))
    truth = oracle.log_prob(alpha * x, schedule.t_min) + 2 * alpha.log()
    settings: list[tuple[str, list[Any]]] = [
        ("RK4", [RungeKutta(k) for k in (2, 3, 4, 6, 8, 12, 16, 24)]),
        ("adaptive", [Adaptive(10.0**-k) for k in range(1, 9)]),
    ]
    for (name, solvers_), colour, mark in zip(settings, (draw.BLUE, draw.RED), "os"):
        results = [log_density(oracle, x, _Exact(oracle), solver=solver) for solver in solvers_]
        errors = [float((r.nats - truth).square().mean().sqrt()) for r in results]
        b.plot(
            [float(r.evaluations.double().mean()) for r in results],
            errors,
            mark + "-",
            color=colour,
            ms=4,
            label=name,
        )
    b.set(xscale="log", yscale="log")
    b.legend(frameon=False, fontsize=draw.TICK)
    draw.labelled(b, "evaluations", "rms error, nats")
    draw.titled(b, "Error of the density")
    _bound(c)
    scores = oracle.log_prob(oracle.draw(999, torch.Generator().manual_seed(1))).sort().values
    alarm, odd = float(scores[9]), float(oracle.log_prob(torch.tensor([[0.0, 0.0]]).double()))
    d.hist(scores.numpy(), bins=40, color="#B9C2CE")
    d.set(yscale="log", ylim=(0.7, 9e3), xticks=[-12, -8, -4, 0])
    d.axvline(alarm, color=draw.BLUE, lw=1.6, label="alarm at 1 %")
    d.axvline(odd, color=draw.RED, lw=1.6, ls="--", label="the point (0, 0)")
    d.legend(frameon=False, fontsize=draw.TICK, loc="upper left")
    draw.labelled(d, "log-likelihood, nats", "held-out rows of 999")
    draw.titled(d, "Alarm")
    return fig


def _bound(ax: Axes) -> None:
    """The mean bound less the mean log-density, against T, for betas that shrink like 1/T."""
    gaps, errors, levels = [], [], [8, 16, 32, 64, 128, 256]
    for T in levels:
        oracle = draw.moons(LinearVP())
        x = oracle.draw(2000, torch.Generator().manual_seed(2))
        grid = Karras()(oracle.schedule, T)
        prior = draw.prior_of(oracle)
        found = elbo(oracle, x, prior, grid=grid, noise=RowNoise(0, len(x)))
        difference = oracle.log_prob(x) - found.nats
        gaps.append(float(difference.mean()))
        errors.append(float(difference.std()) / len(x) ** 0.5)
    ax.errorbar(
        levels, gaps, errors, fmt="o-", color=draw.BLUE, ms=4, lw=1.3, label="exact less bound"
    )
    ax.plot(levels, gaps[-1] * levels[-1] / np.array(levels), ":", color="#999999", label="1/T")
    ax.set(xscale="log", yscale="log")
    ax.legend(frameon=False, fontsize=draw.TICK)
    draw.labelled(ax, "T", "nats per row")
    draw.titled(ax, "Gap of the bound")


class _Exact:
    """The exact density at t = 1 in the place of a prior."""

    time = 1.0

    def __init__(self, oracle: Mixture) -> None:
        self.oracle = oracle

    def log_prob(self, x_1: Tensor) -> Tensor:
        return self.oracle.log_prob(x_1, 1.0)


PICTURES: dict[str, Callable[[], Figure]] = {
    "solvers": solvers,
    "guidance": guidance,
    "known_entries": known_entries,
    "likelihood": likelihood,
}
