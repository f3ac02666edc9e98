"""The numbers behind "How it works": a density in the plane with an exact denoiser.

The page draws and interpolates; what it draws is computed here, by the oracle, the schedules and
the steps that models use.

    schedule   alpha and sigma at each time
    points     rows x and noises z: x_t = alpha x + sigma z
    fields     at each time, log p_t, x_hat and so the score on a grid of the plane
    paths      from six noises, where each method goes, in 5, 10 or 20 steps
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import torch
from torch import Tensor

from undiffuse.data.toys import draw_toy
from undiffuse.diffusion import METHODS, SCHEDULES, Schedule, Step, Uniform, sample
from undiffuse.diffusion.noise import RowNoise
from undiffuse.diffusion.oracle import Mixture
from undiffuse.errors import unknown

CLOUDS = {"eight": "gaussians8", "moons": "moons", "rings": "rings"}
TOY_SCHEDULES = ("linear_vp", "cosine_vp", "linear")
SOLVERS = ("ddim", "euler", "heun", "dpmpp", "deis", "ancestral", "euler_maruyama")
STEPS = (5, 10, 20)
TIMES, SIDE, EDGE = 21, 29, 3.2  # times, points of the grid along an axis, where it ends
POINTS, PATHS = 240, 6
_CENTRES, _WIDTH = 150, 0.11  # of the density: so many Gaussians, this wide
_SEED = 7


def toy(cloud: str = "eight", schedule: str = "linear_vp") -> dict[str, Any]:
    """Return the numbers for one density and one schedule, as JSON.

    Args:
        cloud: a key of `CLOUDS`.
        schedule: one of `TOY_SCHEDULES`.

    Returns:
        "times", "alpha" and "sigma" (T numbers each); "x" and "z" (240 pairs each); "axis" (29
        numbers), "log_p" (T, 29, 29) and "x_hat" (T, 29, 29, 2), rows from the bottom to the top;
        "hats" (T, 240, 2) of the points themselves; "paths": method -> steps -> {"times", "at": (6,
        steps + 1, 2)}; "clouds", "schedules" and "solvers" that there are.

    Raises:
        InputError: for an unknown density or schedule.

    >>> sorted(toy())[:3]
    ['alpha', 'axis', 'cloud']
    """
    if cloud not in CLOUDS:
        raise unknown("toy", "density", cloud, CLOUDS)
    if schedule not in TOY_SCHEDULES:
        raise unknown("toy", "schedule", schedule, TOY_SCHEDULES)
    return _toy(cloud, schedule)


def toy_oracle(cloud: str, schedule: Schedule) -> Mixture:
    """Return the exact denoiser: of points of a toy, of deviation 1, each with a small Gaussian."""
    rows = torch.from_numpy(draw_toy(CLOUDS[cloud], _CENTRES, seed=_SEED)).double()
    rows = (rows - rows.mean(0)) / rows.std()
    return Mixture(schedule, rows, torch.tensor(_WIDTH, dtype=torch.float64))


@lru_cache(maxsize=9)
@torch.no_grad()
def _toy(cloud: str, name: str) -> dict[str, Any]:
    schedule = SCHEDULES[name]()
    oracle = toy_oracle(cloud, schedule)
    times = torch.linspace(0, 1, TIMES, dtype=torch.float64)
    times[0] = 1 / 500  # the data themselves have no score worth drawing
    alpha, sigma = schedule(times)
    axis = torch.linspace(-EDGE, EDGE, SIDE, dtype=torch.float64)
    y, x = torch.meshgrid(axis, axis, indexing="ij")
    plane = torch.stack([x, y], -1).reshape(-1, 2)
    rows = oracle.draw(POINTS, torch.Generator().manual_seed(_SEED))
    z = RowNoise(_SEED, POINTS)(rows)
    log_p, hats, own = [], [], []
    for t, a, s in zip(times, alpha, sigma, strict=True):
        log_p.append(oracle.log_prob(plane, t).reshape(SIDE, SIDE))
        hats.append(oracle(plane, t).reshape(SIDE, SIDE, 2))
        own.append(oracle(a * rows + s * z, t))
    return {
        "cloud": cloud,
        "schedule": name,
        "clouds": list(CLOUDS),
        "schedules": list(TOY_SCHEDULES),
        "solvers": list(SOLVERS),
        "times": _numbers(times, 4),
        "alpha": _numbers(alpha, 5),
        "sigma": _numbers(sigma, 5),
        "x": _numbers(rows, 3),
        "z": _numbers(z, 3),
        "axis": _numbers(axis, 3),
        "log_p": _numbers(torch.stack(log_p), 1),
        "x_hat": _numbers(torch.stack(hats), 2),
        "hats": _numbers(torch.stack(own), 2),
        "paths": _paths(oracle, schedule),
    }


def _paths(oracle: Mixture, schedule: Schedule) -> dict[str, dict[str, Any]]:
    alpha, sigma = schedule(torch.ones((), dtype=torch.float64))
    noise = sigma * RowNoise(_SEED + 1, PATHS)(torch.zeros(PATHS, 2, dtype=torch.float64))
    found: dict[str, dict[str, Any]] = {}
    for method in SOLVERS:
        step, found[method] = METHODS[method], {}
        for steps in STEPS:
            own = (step.grid or Uniform())(schedule, steps)
            grid = own if alpha > 0 else Uniform()(schedule, steps)
            found[method][str(steps)] = _path(oracle, noise, grid, step)
    return found


def _path(oracle: Mixture, noise: Tensor, grid: Tensor, step: Step) -> dict[str, Any]:
    at = [noise]

    def keep(i: int, n: int, s: Tensor, x: Tensor) -> None:
        at.append(x)

    sample(oracle, noise, grid, step, noise=RowNoise(_SEED + 2, PATHS), callback=keep)
    return {"times": _numbers(grid, 4), "at": _numbers(torch.stack(at, 1), 3)}


def _numbers(values: Tensor, digits: int) -> Any:
    """Nested lists of rounded numbers; what is not finite stays the nearest finite one."""
    rounded = values.double().nan_to_num(0.0).round(decimals=digits)
    return (rounded + 0.0).tolist()
