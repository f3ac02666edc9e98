"""One picture per system: its forward process, its score field, its sampler's trajectories, its
samples.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from matplotlib.figure import Figure

from drawing import panels as draw
from undiffuse.diffusion import (
    EDM,
    VE,
    Ancestral,
    CosineVP,
    DiscreteVP,
    Euler,
    Fraction,
    Heun,
    Karras,
    Levels,
    Linear,
    LinearVP,
    LogSNR,
    RowNoise,
    SubVP,
    Uniform,
    linear_betas,
)
from undiffuse.diffusion.steps.langevin import AnnealedLangevin
from undiffuse.diffusion.steps.stochastic import EulerMaruyama, PredictorCorrector


def _plain(n: int = 160) -> dict:
    """Times drawn where they are."""
    times = torch.linspace(1e-3, 1, n, dtype=torch.float64)
    return {"times": times, "axis": times.tolist()}


def ddpm() -> Figure:
    oracle = draw.moons(DiscreteVP(betas=linear_betas(1000)))
    fig, (a, b, c, d) = draw.figure()
    times = torch.arange(1, 1001, 6, dtype=torch.float64) / 1000
    draw.forward(a, oracle, times=times, axis=(times * 1000).tolist(), label="level i = 1000 t")
    draw.field(b, oracle, 0.1, "Score at level 100")
    draw.trajectories(
        c, oracle, Levels()(oracle.schedule, 1000), Ancestral(), "Ancestral, 1000 steps", rows=3
    )
    draw.samples(d, oracle, Levels()(oracle.schedule, 200), Ancestral(), "600 samples, 200 steps")
    return fig


def edm() -> Figure:
    oracle = draw.moons(EDM())
    fig, (a, b, c, d) = draw.figure()
    sigma = torch.logspace(-2, 1.903, 160, dtype=torch.float64)
    log = sigma.log10().tolist()
    draw.forward(a, oracle, times=sigma / 80, axis=log, label=r"$\log_{10}\sigma$", rescaled=True)
    draw.field(b, oracle, 0.3 / 80, r"Score at $\sigma$ = 0.3")
    grid = Karras()(oracle.schedule, 18)
    draw.trajectories(c, oracle, grid, Heun(), "Heun, 18 steps")
    draw.samples(d, oracle, grid, Heun(), "600 samples, 35 evaluations")
    return fig


def flow_matching() -> Figure:
    oracle = draw.moons(Linear())
    fig, (a, b, c, d) = draw.figure()
    draw.forward(a, oracle, **_plain(), straight=True, title="Straight from x to z")
    draw.field(b, oracle, 0.5, "Velocity, backward, t = 0.5", lambda x, t: -oracle.velocity(x, t))
    draw.trajectories(
        c, oracle, Uniform()(oracle.schedule, 30), Heun(coordinate=Fraction()), "Heun, 30 steps"
    )
    draw.samples(d, oracle, Uniform()(oracle.schedule, 30), Euler(), "600 samples, 30 Euler steps")
    return fig


def score_matching() -> Figure:
    """At one noise level: what a denoising autoencoder moves, the score, the objectives, and plain
    Langevin.
    """
    oracle, sigma = draw.moons(VE(sigma_min=0.01, sigma_max=10.0)), 0.25
    t = oracle.schedule.inverse(torch.tensor(-2 * np.log(sigma)))
    fig, (a, b, c, d) = draw.figure()
    noise = RowNoise(0, 70)
    x = oracle.draw(70, torch.Generator().manual_seed(0))
    noisy = x + sigma * noise(x)
    clean = oracle(noisy, t)
    draw.density(a, lambda at: oracle.log_prob(at))
    for start, end in zip(noisy, clean):
        a.annotate(
            "",
            end.tolist(),
            start.tolist(),
            arrowprops={"arrowstyle": "->", "color": draw.BLUE, "lw": 1},
        )
    a.plot(*noisy.T, "o", mfc="white", mec=draw.BLACK, ms=4, mew=0.8)
    draw.plane(a, r"Denoise: $\tilde{x}$ to $\hat{x}$")
    draw.field(b, oracle, float(t), rf"Score of $p_\sigma$, $\sigma$ = {sigma}")
    _objectives(c, oracle, t, sigma)
    step, at = (
        0.4 * sigma**2,
        3 * torch.randn(600, 2, generator=torch.Generator().manual_seed(1)).double(),
    )
    noise = RowNoise(2, 600)
    for _ in range(300):
        at = at + step / 2 * oracle.score(at, t) + step**0.5 * noise(at)
    draw.density(d, lambda points: oracle.log_prob(points, t))
    d.plot(*at.T, "o", color=draw.RED, ms=2.6, mew=0, alpha=0.75)
    draw.plane(d, "Langevin, 300 steps")
    return fig


def _objectives(ax, oracle, t: torch.Tensor, sigma: float) -> None:
    """The three objectives at the scores c grad log p, as functions of c, each less its value at c
    = 1.

    E|s|^2 / 2, E[tr ds/dx] and E[s . (x~ - x)] / sigma^2 are scaled by c^2, c and c: one sample
    gives all of them.
    """
    generator = torch.Generator().manual_seed(4)
    x = oracle.draw(20_000, generator)
    z = torch.randn(x.shape, dtype=x.dtype, generator=generator)
    probe = torch.randn(x.shape, dtype=x.dtype, generator=generator)
    noisy = x + sigma * z
    score, push = torch.func.jvp(lambda at: oracle.score(at, t), (noisy,), (probe,))
    jacobian = torch.func.vmap(torch.func.jacfwd(lambda at: oracle.score(at[None], t)[0]))(noisy)
    square, trace = (
        score.square().sum(1).mean() / 2,
        jacobian.diagonal(dim1=1, dim2=2).sum(1).mean(),
    )
    sliced_square, sliced = ((score * probe).sum(1) ** 2).mean() / 2, (push * probe).sum(1).mean()
    denoised = (score * z).sum(1).mean() / sigma
    c = torch.linspace(0, 2, 101, dtype=torch.float64)
    curves = {
        "explicit": (c**2 - 1) * square + (c - 1) * trace,
        "denoising": (c**2 - 1) * square + (c - 1) * denoised,
        "sliced": (c**2 - 1) * sliced_square + (c - 1) * sliced,
    }
    for (name, curve), colour, style in zip(
        curves.items(), (draw.BLUE, draw.RED, draw.GREEN), ("-", "--", ":")
    ):
        ax.plot(c, curve, style, color=colour, lw=2.4, label=name)
    ax.axvline(1, color="#BBBBBB", lw=1, zorder=0)
    ax.legend(frameon=False, fontsize=draw.TICK, loc="upper center", handlelength=1.6)
    draw.labelled(ax, "network = c times the score", "loss less that at c = 1")
    draw.titled(ax, "One optimum")


def vdm() -> Figure:
    """The bound is an area under the denoising error: its integrand by schedule, its discrete form,
    and samples.
    """
    schedules = {"linear": LinearVP(), "cosine": CosineVP()}
    oracle = draw.moons(schedules["linear"])
    fig, (a, b, c, d) = draw.figure()
    log_snr, error = _denoising_error(oracle)
    a.plot(log_snr, error, color=draw.BLUE, lw=2)
    a.set(xlim=(11, -9), ylim=(0, None))
    draw.labelled(a, r"$\log$ SNR (data to noise)", r"$E|\hat{x}-x|^2$")
    draw.titled(a, "Denoising error")
    times = torch.linspace(2e-3, 0.998, 5000, dtype=torch.float64)
    for (name, schedule), colour, style in zip(
        schedules.items(), (draw.BLUE, draw.RED), ("-", "--")
    ):
        at = schedule.log_snr(times)
        slope = -(at[2:] - at[:-2]) / (times[2:] - times[:-2])
        loss = slope * at[1:-1].exp() * _interpolated(at[1:-1], log_snr, error) / 2
        inside = at[1:-1].abs() <= 6
        area = torch.trapezoid(loss[inside], times[1:-1][inside])
        b.plot(
            times[1:-1][inside],
            loss[inside],
            style,
            color=colour,
            lw=2,
            label=f"{name}: area {area:.2f}",
        )
    b.set(xlim=(0, 1), yscale="log", ylim=(3e-3, 3e2))
    b.legend(frameon=False, fontsize=draw.TICK, loc="upper right")
    draw.labelled(b, "t", "nats per unit of t")
    draw.titled(b, "One area, any path")
    levels = 2 ** torch.arange(3, 12)
    gaps = [_gap(int(n), log_snr, error) for n in levels]
    c.plot(levels, gaps, "o-", color=draw.BLUE, lw=1.5, ms=4, label="T levels")
    c.plot(levels, gaps[-1] * levels[-1] / levels, color="#999999", ls=":", lw=1.5, label="1/T")
    c.set(xscale="log", yscale="log")
    c.legend(frameon=False, fontsize=draw.TICK)
    draw.labelled(c, "T", "bound less its limit, nats")
    draw.titled(c, "Discrete to continuous")
    draw.samples(d, oracle, LogSNR()(oracle.schedule, 100), Ancestral(), "600 samples, 100 steps")
    return fig


def _denoising_error(oracle) -> tuple[torch.Tensor, torch.Tensor]:
    """E|x_hat - x|^2 at log-SNRs from high to low, by Monte Carlo with the same noise at each."""
    log_snr = torch.linspace(12, -9.5, 87, dtype=torch.float64)
    generator = torch.Generator().manual_seed(0)
    x = oracle.draw(4000, generator)
    z = torch.randn(x.shape, dtype=x.dtype, generator=generator)
    error = []
    for value in log_snr:
        t = oracle.schedule.inverse(value)
        alpha, sigma = oracle.schedule(t)
        error.append((oracle(alpha * x + sigma * z, t) - x).square().sum(1).mean())
    return log_snr, torch.stack(error)


def _interpolated(at: torch.Tensor, log_snr: torch.Tensor, error: torch.Tensor) -> torch.Tensor:
    log = np.interp(at.numpy(), log_snr.flip(0).numpy(), error.log().flip(0).numpy())
    return torch.from_numpy(log).exp()


def _gap(levels: int, log_snr: torch.Tensor, error: torch.Tensor) -> float:
    """sum of (SNR_s - SNR_t) E|x_hat - x|^2 / 2 over `levels` even log-SNR intervals, less the
    integral.
    """
    fine = torch.linspace(8, -8, 2**14 + 1, dtype=torch.float64)
    at = fine[:: 2**14 // levels]

    def total(points: torch.Tensor, weights: float) -> float:
        snr, value = points.exp(), _interpolated(points, log_snr, error)
        return float(
            ((snr[:-1] - snr[1:]) * (weights * value[1:] + (1 - weights) * value[:-1])).sum() / 2
        )

    return total(at, 1.0) - total(fine, 0.5)


def ncsn() -> Figure:
    oracle = draw.moons(VE(sigma_min=0.05, sigma_max=8.0, levels=20))
    fig, (a, b, c, d) = draw.figure()
    times = torch.linspace(0.05, 1, 160, dtype=torch.float64)
    draw.forward(
        a, oracle, times=times, axis=(20 * times).tolist(), label="level i = 20 t", rescaled=True
    )
    draw.field(b, oracle, 8 / 20, "Score at level 8")
    grid = Levels()(oracle.schedule, 20)
    draw.trajectories(c, oracle, grid, AnnealedLangevin(), "Annealed Langevin, 20 levels", rows=3)
    draw.samples(d, oracle, grid, AnnealedLangevin(updates=10), "600 samples, 10 per level")
    return fig


def sde() -> Figure:
    schedules = {"VP": LinearVP(), "sub-VP": SubVP(), "VE": VE(sigma_min=0.01, sigma_max=8.0)}
    oracle = draw.moons(schedules["VP"])
    fig, (a, b, c, d) = draw.figure()
    times = torch.linspace(1e-3, 1, 200, dtype=torch.float64)
    for (name, schedule), colour, style in zip(
        schedules.items(), (draw.BLUE, draw.RED, draw.GREEN), ("-", "--", ":")
    ):
        a.plot(times, schedule.log_snr(times), style, color=colour, lw=2.2, label=name)
    a.set(xlim=(0, 1))
    a.legend(frameon=False, fontsize=draw.TICK)
    draw.labelled(a, "t", r"$\log$ SNR")
    draw.titled(a, "Three forward SDEs")
    draw.forward(b, oracle, **_plain())
    b.set_title("VP: x to noise", fontsize=draw.TITLE, loc="left", pad=5)
    x, noise = draw.start(oracle, 3, seed=6)
    grid = Uniform()(oracle.schedule, 500)
    draw.density(c, lambda at: oracle.log_prob(at))
    for step, alpha, width in ((EulerMaruyama(), 0.6, 0.8), (Euler(), 1.0, 2.0)):
        points = torch.stack(draw.follow(oracle, x, grid, step, noise)[1])
        for k, colour in enumerate((draw.BLUE, draw.GREEN, draw.PURPLE)):
            c.plot(
                *points[:, k].T, color=colour if width < 1 else draw.BLACK, lw=width, alpha=alpha
            )
        c.plot(*points[-1].T, "o", color=draw.RED, ms=4.5)
    c.plot(*x.T, "o", mfc="white", mec=draw.BLACK, ms=5)
    draw.plane(c, "Back: SDE, and ODE (black)")
    draw.samples(
        d,
        oracle,
        Uniform()(oracle.schedule, 100),
        PredictorCorrector(snr=0.03),
        "600 samples, PC, 100 steps",
    )
    return fig


def one_model_every_view() -> Figure:
    """One denoiser, made for DDPM's chain, sampled as four systems sample."""
    oracle = draw.moons(DiscreteVP(betas=linear_betas(1000)))
    views = (
        ("DDPM, ancestral", oracle.schedule, Levels(), 200, Ancestral()),
        (
            "Annealed Langevin",
            VE(sigma_min=0.02, sigma_max=8.0, levels=25),
            Levels(),
            25,
            AnnealedLangevin(updates=8),
        ),
        ("Reverse SDE, sub-VP", SubVP(high=18.0, t_min=0.03), Uniform(), 250, EulerMaruyama()),
        ("ODE, EDM's noise", EDM(sigma_min=0.02, sigma_max=80.0), Karras(), 18, Heun()),
    )
    fig, axes = draw.figure()
    for ax, (title, schedule, grid, steps, step) in zip(axes, views):
        draw.samples(ax, oracle.on(schedule), grid(schedule, steps), step, title)
    return fig


PICTURES: dict[str, Callable[[], Figure]] = {
    "ddpm": ddpm,
    "edm": edm,
    "flow_matching": flow_matching,
    "score_matching": score_matching,
    "vdm": vdm,
    "ncsn": ncsn,
    "sde": sde,
    "one_model_every_view": one_model_every_view,
}
