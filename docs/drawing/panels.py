"""One look for all pictures: the data, the colours, and the four panels that most systems are shown
with.

The data are two half circles made of 2 x 20 narrow Gaussians, at unit scale. That is a mixture, so
the denoiser, the score and the density are closed forms at every time
(`undiffuse.diffusion.oracle`), and whatever a picture shows is the method's doing, never a
network's.
"""

from __future__ import annotations

import io
import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure
from PIL import Image
from torch import Tensor

from undiffuse.diffusion import Prior, RowNoise, Schedule, Step, sample
from undiffuse.diffusion.denoiser import AbstractDenoiser
from undiffuse.diffusion.oracle import Mixture

# Okabe and Ito's colours, told apart with any kind of colour vision.
BLUE, RED, GREEN, ORANGE, PURPLE, SKY, BLACK = (
    "#0072B2",
    "#D55E00",
    "#009E73",
    "#E69F00",
    "#CC79A7",
    "#56B4E9",
    "#000000",
)
DENSITY = LinearSegmentedColormap.from_list("density", ["#FFFFFF", "#D3DAE2", "#75849A"])
LIMIT = 2.6
TITLE, LABEL, TICK = 13, 12, 10.5


def moons(schedule: Schedule) -> Mixture:
    """The exact denoiser of the two half circles, float64, zero mean and unit variance over all
    coordinates.
    """
    angle = torch.linspace(0, math.pi, 20, dtype=torch.float64)
    upper = torch.stack([angle.cos(), angle.sin()], dim=1)
    lower = torch.stack([1 - angle.cos(), 0.5 - angle.sin()], dim=1)
    mean = torch.cat([upper, lower])
    mean = mean - mean.mean(0)
    scale = (mean.square().mean() + 0.09**2).sqrt()
    return Mixture(schedule, mean / scale, (0.09 / scale).expand_as(mean))


def mixture_of(oracle: AbstractDenoiser) -> Mixture:
    """The mixture itself, where the oracle is one on another schedule."""
    return oracle if isinstance(oracle, Mixture) else oracle.denoiser


def prior_of(denoiser: AbstractDenoiser) -> Prior:
    """The prior with the first two moments of the oracle's data, on the denoiser's schedule."""
    oracle = mixture_of(denoiser)
    weight = oracle.log_weight.exp().unsqueeze(1)
    mean = (weight * oracle.mean).sum(0)
    return Prior(
        denoiser.schedule,
        mean,
        ((weight * (oracle.mean**2 + oracle.std**2)).sum(0) - mean**2).clamp(min=0).sqrt(),
    )


def start(oracle: AbstractDenoiser, rows: int, seed: int = 0) -> tuple[Tensor, RowNoise]:
    """(x_1, noise): draws of the prior (rows, 2) and the streams for the rest of the way."""
    noise = RowNoise(seed, rows)
    return prior_of(oracle).draw(noise(torch.empty(rows, 2, dtype=torch.float64))), noise


def follow(
    denoiser: AbstractDenoiser, x: Tensor, grid: Tensor, step: Step, noise: Any = None
) -> tuple[list[Tensor], list[Tensor]]:
    """(times, points) of a sampling run, its start included."""
    times, points = [grid[0]], [x]
    sample(
        denoiser,
        x,
        grid,
        step,
        noise=noise,
        callback=lambda i, n, s, x_s: (times.append(s), points.append(x_s.clone())),
    )
    return times, points


def figure(panels: int = 4, widths: Sequence[float] | None = None) -> tuple[Figure, list[Axes]]:
    """A strip of `panels` axes, 1200 x 320 pixels."""
    fig = Figure(figsize=(12, 3.2), dpi=100, layout="constrained")
    FigureCanvasAgg(fig)
    axes = fig.subplots(1, panels, width_ratios=widths, squeeze=False)[0]
    for ax in axes:
        ax.tick_params(labelsize=TICK, length=3)
        for side in ("top", "right"):
            ax.spines[side].set_visible(False)
    return fig, list(axes)


def save(fig: Figure, path: Path) -> int:
    """Write the picture with a palette of 128 colours; returns its size in bytes."""
    buffer = io.BytesIO()
    fig.savefig(buffer, format="png")
    Image.open(buffer).convert("RGB").quantize(128, dither=Image.Dither.NONE).save(
        path, optimize=True
    )
    return path.stat().st_size


def titled(ax: Axes, title: str) -> None:
    ax.set_title(title, fontsize=TITLE, loc="left", pad=5)


def labelled(ax: Axes, x: str, y: str) -> None:
    ax.set_xlabel(x, fontsize=LABEL, labelpad=1)
    ax.set_ylabel(y, fontsize=LABEL, labelpad=1)


def plane(ax: Axes, title: str, limit: float = LIMIT) -> None:
    """Equal axes without ticks, for a picture of the plane."""
    ax.set(
        xlim=(-limit, limit),
        ylim=(-0.89 * limit, 0.89 * limit),
        xticks=[],
        yticks=[],
        aspect="equal",
        anchor="N",
    )
    for side in ax.spines.values():
        side.set(visible=True, color="#BBBBBB")
    titled(ax, title)


def lattice(limit: float, n: int) -> tuple[np.ndarray, np.ndarray, Tensor]:
    """(columns, rows, points (n * n, 2)) of a square grid."""
    line = torch.linspace(-limit, limit, n, dtype=torch.float64)
    u, v = torch.meshgrid(line, line, indexing="xy")
    return u.numpy(), v.numpy(), torch.stack([u.flatten(), v.flatten()], dim=1)


def density(
    ax: Axes, log_prob: Callable[[Tensor], Tensor], limit: float = LIMIT, n: int = 141
) -> None:
    """A density as shades of grey, its square root, so that what is thin is seen."""
    u, v, points = lattice(limit, n)
    value = log_prob(points).exp().sqrt().reshape(n, n).numpy()
    ax.contourf(
        u, v, value, levels=np.linspace(0.05, 1, 7) * value.max(), cmap=DENSITY, extend="max"
    )


def unit(schedule: Schedule, t: Tensor) -> Tensor:
    """sqrt(alpha^2 + sigma^2): what x_t is divided by to be drawn at one scale."""
    alpha, sigma = schedule(t)
    return (alpha**2 + sigma**2).sqrt()


def forward(
    ax: Axes,
    oracle: Mixture,
    *,
    times: Tensor,
    axis: Sequence[float],
    label: str = "t",
    rescaled: bool = False,
    straight: bool = False,
    title: str = "Forward: x to noise",
) -> None:
    """The first coordinate's density over time, and six paths: of the chain, or straight from data
    to noise.

    `times` ascending from near 0; `axis` is where each is drawn.
    """
    schedule, noise = oracle.schedule, RowNoise(5, 6)
    scale = unit(schedule, times) if rescaled else torch.ones_like(times)
    reach = 3.0
    line = torch.linspace(-reach, reach, 121, dtype=torch.float64).unsqueeze(1)
    first = Mixture(schedule, oracle.mean[:, :1], oracle.std[:, :1], oracle.log_weight)
    columns = [first.log_prob(line * k, t).exp() * k for t, k in zip(times, scale)]
    shade = torch.stack(columns, dim=1)
    shade = (shade / shade.max(0).values).sqrt()
    ax.pcolormesh(
        np.asarray(axis),
        line[:, 0].numpy(),
        shade.numpy(),
        cmap=DENSITY,
        vmin=0.0,
        vmax=1.0,
        rasterized=True,
    )
    x = oracle.draw(6, torch.Generator().manual_seed(3))[:, :1]
    z, path = noise(x), [x]
    for i in range(1, len(times)):
        alpha, sigma = schedule(times[i])
        a, b = schedule.transition(times[i], times[i - 1])
        path.append(alpha * x + sigma * z if straight else a * path[-1] + b.sqrt() * noise(x))
    drawn = torch.cat([p / k for p, k in zip(path, scale)], dim=1)
    for k, row in enumerate(drawn):
        ax.plot(axis, row, color=(BLUE, RED, GREEN)[k % 3], lw=1.0)
    ax.set(xlim=(axis[0], axis[-1]), ylim=(-reach, reach))
    labelled(
        ax,
        label,
        r"$x_t/\sqrt{\alpha_t^2+\sigma_t^2}$, first" if rescaled else r"$x_t$, first coordinate",
    )
    titled(ax, title)


def field(
    ax: Axes,
    oracle: Mixture,
    t: float,
    title: str,
    vector: Callable[[Tensor, Tensor], Tensor] | None = None,
) -> None:
    """The marginal p_t in grey and the score (or another vector field) as arrows, drawn at unit
    scale.
    """
    time = torch.tensor(t, dtype=torch.float64)
    scale = unit(oracle.schedule, time)
    density(ax, lambda points: oracle.log_prob(points * scale, time))
    u, v, points = lattice(LIMIT * 0.95, 15)
    arrows = (vector or oracle.score)(points * scale, time)
    length = arrows.norm(dim=1, keepdim=True)
    arrows = arrows / length.clamp(min=1e-9) * (length / length.max()) ** 0.4
    ax.quiver(
        u.flatten(),
        v.flatten(),
        *arrows.T.numpy(),
        color=BLUE,
        scale=15,
        width=0.006,
        headwidth=4,
        pivot="mid",
    )
    plane(ax, title)


def trajectories(
    ax: Axes, oracle: Mixture, grid: Tensor, step: Step, title: str, rows: int = 24, seed: int = 1
) -> None:
    """Paths of a sampler from noise (hollow) to data (filled), each x_t drawn at unit scale."""
    density(ax, lambda points: oracle.log_prob(points))
    x, noise = start(oracle, rows, seed)
    times, points = follow(oracle, x, grid, step, noise)
    drawn = torch.stack([x_t / unit(oracle.schedule, t) for t, x_t in zip(times, points)])
    for k in range(rows):
        ax.plot(
            *drawn[:, k].T,
            color=BLUE if rows > 4 else (BLUE, GREEN, PURPLE, ORANGE)[k],
            lw=1.0,
            alpha=0.8,
        )
    ax.plot(*drawn[0].T, "o", mfc="white", mec=BLACK, ms=4.5, mew=0.9)
    ax.plot(*drawn[-1].T, "o", color=RED, ms=4.5)
    plane(ax, title)


def samples(
    ax: Axes,
    oracle: AbstractDenoiser,
    grid: Tensor,
    step: Step,
    title: str,
    rows: int = 600,
    seed: int = 2,
) -> None:
    """Samples on the exact density."""
    x, noise = start(oracle, rows, seed)
    dots(ax, mixture_of(oracle), sample(oracle, x, grid, step, noise=noise), title)


def dots(ax: Axes, oracle: Mixture, points: Tensor, title: str) -> None:
    """Given points on the exact density."""
    density(ax, lambda at: oracle.log_prob(at))
    ax.plot(*points.T, "o", color=RED, ms=2.6, mew=0, alpha=0.75)
    plane(ax, title)
