"""Every sampling method: its error against the network evaluations it took, on an exact mixture and
on a trained model.

    path      distance per coordinate to where the probability-flow ODE ends, of the median row, for
              deterministic steps; the median, because a row that starts near a separatrix and falls
              on its other side says little
    samples   energy distance 2 E|X - Y| - E|X - X'| - E|Y - Y'| to exact samples (or held-out
              rows), for all steps

Methods are compared at the same number of evaluations, not of steps: what a method may take is
counted by a wrapper around the denoiser, and it gets as many steps as fit. Adaptive methods are
given tolerances instead, and stand where their evaluations, averaged over rows, put them. Every
method runs on its own grid, and, if that is not it, on Karras' as well, because a grid can matter
more than a step. All start from the same noise and end with the same last step, to x_hat at t_min.
The floor is what the energy distance shows between two sets of exact samples of the same sizes.

The mixture: 10 Gaussians in 16 dimensions, on the schedule of LinearVP, float64. The model:
`--run`, sampled as it would be by `undiffuse sample`, on fewer rows and in its own precision.

    python benchmarks/samplers.py [--run RUN] [--evaluations 5,10,20,40,80] [--out FOLDER] [--quick]
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Iterator
from dataclasses import MISSING, asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from undiffuse.diffusion import (
    METHODS,
    STEPS,
    Grid,
    Heun,
    Karras,
    LinearVP,
    Prior,
    RowNoise,
    Step,
    Uniform,
    sample,
)
from undiffuse.diffusion.denoiser import AbstractDenoiser, Estimate
from undiffuse.diffusion.oracle import Mixture
from undiffuse.diffusion.schedules.process import Times
from undiffuse.errors import InputError

TOLERANCES = (1e-1, 1e-2, 1e-3, 1e-4)
FLOORS = 8  # pairs of exact sets behind a floor


class Counted(AbstractDenoiser):
    """The same denoiser.

    `asked` counts the rows it was asked about, with those that copies of it were asked about.
    """

    def __init__(self, denoiser: AbstractDenoiser) -> None:
        super().__init__()
        self.denoiser, self.schedule, self.asked = denoiser, denoiser.schedule, [0]

    def estimate(self, x_t: Tensor, t: Times, **cond: Any) -> Estimate:
        self.asked[0] += len(x_t)
        return self.denoiser.estimate(x_t, t, **cond)


@dataclass(frozen=True)
class Problem:
    """What is sampled: a denoiser, the noise it starts from, where the ODE ends, and what the
    samples should be like.

    `given(first, count)` is the denoiser for these rows: classes are per row.
    """

    name: str
    given: Callable[[int, int], AbstractDenoiser]
    schedule: Any
    x: Tensor
    grid: Grid
    end: Tensor
    path_rows: int
    truth: Tensor
    floor: float
    batch: int


@dataclass(frozen=True)
class Result:
    """One method at one number of evaluations; `path` is None for what follows no path."""

    problem: str
    method: str
    grid: str
    allowed: int | None
    evaluations: float
    steps: int
    path: float | None
    samples: float
    floor: float


# --- distances


def mean_distance(a: Tensor, b: Tensor) -> float:
    """E|X - Y| over all pairs; over pairs of different rows where `a` is `b`."""
    total = torch.stack(
        [torch.cdist(part, b).sum(dtype=torch.float64) for part in a.split(512)]
    ).sum()
    return float(total) / (len(a) * (len(b) - (a is b)))


def energy_distance(a: Tensor, b: Tensor) -> float:
    """2 E|X - Y| - E|X - X'| - E|Y - Y'|, each expectation without bias: it can fall a little below
    zero.
    """
    return 2 * mean_distance(a, b) - mean_distance(a, a) - mean_distance(b, b)


def floor_of(draw: Callable[[int], Tensor], truth: Tensor) -> float:
    """Root mean square energy distance between exact sets and `truth`: what cannot be told from
    none.
    """
    return float(
        torch.tensor([energy_distance(draw(i), truth) for i in range(FLOORS)])
        .square()
        .mean()
        .sqrt()
    )


# --- what is sampled


def mixture(rows: int) -> Problem:
    """10 Gaussians in 16 dimensions, from the exact marginal's own moments."""
    make = torch.Generator().manual_seed(0)
    centres = torch.randn(10, 16, dtype=torch.float64, generator=make)
    widths = 0.1 + 0.3 * torch.rand(10, 16, dtype=torch.float64, generator=make)
    oracle = Mixture(LinearVP(), centres, widths)
    prior = Prior(
        oracle.schedule, centres.mean(0), (widths.square() + centres.square()).mean(0).sqrt()
    )
    x = prior.draw(RowNoise(0, rows)(torch.empty(rows, 16, dtype=torch.float64)))
    path_rows = min(rows, 500)
    end = sample(oracle, x[:path_rows], Karras()(oracle.schedule, 2000), Heun())
    truth = oracle.draw(rows, make)
    floor = floor_of(lambda i: oracle.draw(rows, make), truth)
    return Problem(
        "mixture",
        lambda first, n: oracle,
        oracle.schedule,
        x,
        Uniform(),
        end,
        path_rows,
        truth,
        floor,
        rows,
    )


def trained(run: str, rows: int) -> Problem:
    """The model of a run, and its held-out rows at unit scale."""
    import undiffuse as ud
    from undiffuse.diffusion.guidance import Clipped

    opened = ud.Run(run)
    model, source = opened.model(), opened.data()
    conditions = model.sample_conditions(rows)

    def given(first: int, n: int) -> AbstractDenoiser:
        cond = {name: value[first : first + n] for name, value in conditions.items()}
        denoiser = model.denoiser.given(**cond)
        return Clipped(denoiser, *model.data_range) if model.clip else denoiser

    def encoded(batch: dict) -> Tensor:
        return model.transform.encode(batch["row"], torch.zeros_like)[0].flatten(1).double()

    x = model.prior.draw(RowNoise(0, rows)(torch.empty(rows, *model.shape)))
    path_rows = min(rows, 64)
    with torch.no_grad():
        end = sample(given(0, path_rows), x[:path_rows], Karras()(model.schedule, 150), Heun())
    truth, known = encoded(source.held_out_batch(2000)), encoded(source.sample_batch(FLOORS * rows))
    floor = floor_of(
        lambda i: known[
            torch.randperm(len(known), generator=torch.Generator().manual_seed(i))[:rows]
        ],
        truth,
    )
    return Problem(
        Path(run).name, given, model.schedule, x, model.grid, end, path_rows, truth, floor, 64
    )


def methods(problem: Problem) -> Iterator[tuple[str, Step, Grid]]:
    """Every named method and every registered step, on its own grid and on Karras'."""
    named = {name: (method, method.grid) for name, method in METHODS.items()}
    known = {type(step) for step, _ in named.values()}
    for kind, step in STEPS.items():
        required = any(f.default is MISSING and f.default_factory is MISSING for f in fields(step))
        if step not in known and not required:
            named[kind] = (step(), None)
    for name, (step, own) in named.items():
        grids = {type(grid): grid for grid in (own or problem.grid, Karras())}
        for grid in list(grids.values())[: 1 if hasattr(step, "tolerance") else 2]:
            yield name, step, grid


def deterministic(step: Step) -> bool:
    """Whether its end point is a function of its start alone."""
    return step.order is not None and not getattr(step, "eta", 0) and not getattr(step, "churn", 0)


def outcome(
    problem: Problem, step: Step, grid: Grid, steps: int, rows: int
) -> tuple[Tensor, float]:
    """(samples, evaluations per row) of the first `rows` rows."""
    times, parts, asked = grid(problem.schedule, steps), [], 0.0
    for first in range(0, rows, problem.batch):
        x = problem.x[first : min(first + problem.batch, rows)]
        counted = Counted(problem.given(first, len(x)))
        parts.append(sample(counted, x, times, step, noise=RowNoise(1, len(x), first)))
        asked += counted.asked[0]
    return torch.cat(parts), asked / rows


def settings(
    problem: Problem, step: Step, grid: Grid, allowed: list[int]
) -> Iterator[tuple[int | None, Step, int]]:
    """(evaluations allowed, step, steps): the most steps that fit, counted on one row.

    Or a step per tolerance.
    """
    if hasattr(step, "tolerance"):
        yield from ((None, replace(step, tolerance=tolerance), 2) for tolerance in TOLERANCES)
        return
    probes = {steps: outcome(problem, step, grid, steps, 1)[1] for steps in (3, 4)}
    each = probes[4] - probes[3]
    for number in allowed:
        steps = int((number - probes[3] + 1e-9) // each) + 3 if each > 0 else 0
        if steps >= 1 and outcome(problem, step, grid, steps, 1)[1] <= number:
            yield number, step, steps


def measure(problem: Problem, allowed: list[int]) -> Iterator[Result]:
    """Every method at every number of evaluations.

    One that refuses the schedule is named and left out.
    """
    for name, step, grid in methods(problem):
        kind = type(grid).__name__
        try:
            for number, chosen, steps in settings(problem, step, grid, allowed):
                x, evaluations = outcome(problem, chosen, grid, steps, len(problem.x))
                path = None
                if deterministic(step):
                    difference = x[: problem.path_rows] - problem.end
                    path = float(difference.double().flatten(1).square().mean(1).sqrt().median())
                distance = energy_distance(x.flatten(1).double(), problem.truth)
                yield Result(
                    problem.name,
                    name,
                    kind,
                    number,
                    evaluations,
                    steps,
                    path,
                    distance,
                    problem.floor,
                )
        except (InputError, ValueError) as refusal:
            print(f"{problem.name}: {name} on {kind}: {refusal}", flush=True)


def table(results: list[Result], what: str, allowed: list[int]) -> list[str]:
    """Markdown: a row per method, a column per number of evaluations, adaptive methods in the
    nearest column.
    """
    rows: dict[tuple[str, str], dict[int, str]] = {}
    for r in results:
        value = getattr(r, what)
        if value is not None:
            column = r.allowed or min(allowed, key=lambda n: abs(n - r.evaluations))
            name = r.method if r.allowed else f"{r.method}, {r.evaluations:.0f} evaluations"
            rows.setdefault((name, r.grid), {})[column] = f"{value:.2g}"
    lines = [
        "| method | grid | " + " | ".join(map(str, allowed)) + " |",
        "|---" * (2 + len(allowed)) + "|",
    ]
    lines += [
        f"| {m} | {g} | " + " | ".join(v.get(n, "-") for n in allowed) + " |"
        for (m, g), v in rows.items()
    ]
    return lines


def report(results: list[Result], allowed: list[int]) -> str:
    """The whole page, in markdown."""
    lines = []
    for problem in dict.fromkeys(r.problem for r in results):
        mine = [r for r in results if r.problem == problem]
        lines += [
            "",
            f"## {problem}: distance to the end of the ODE, by evaluations",
            "",
            *table(mine, "path", allowed),
        ]
        lines += [
            "",
            f"## {problem}: energy distance, by evaluations; floor {mine[0].floor:.2g}",
            "",
        ]
        lines += table(mine, "samples", allowed)
    return "\n".join(lines).strip() + "\n"


def plot(results: list[Result], path: Path) -> None:
    """Both errors against evaluations, a line per method, each on the better of its grids."""
    from matplotlib.figure import Figure

    problems = list(dict.fromkeys(r.problem for r in results))
    fig = Figure(figsize=(13, 4.6 * len(problems)), dpi=100, layout="constrained")
    colours = ("#0072B2", "#D55E00", "#009E73", "#E69F00", "#CC79A7", "#56B4E9", "#000000")
    names = list(dict.fromkeys(r.method for r in results))
    ticks = sorted({r.allowed for r in results if r.allowed})
    for axes, problem in zip(fig.subplots(len(problems), 2, squeeze=False), problems):
        for ax, what in zip(axes, ("path", "samples")):
            for i, name in enumerate(names):
                best: dict[float, float] = {}
                for r in results:
                    value = getattr(r, what)
                    if r.problem == problem and r.method == name and value is not None:
                        at = r.allowed or r.evaluations
                        shown = (
                            max(value, r.floor / 2) if what == "samples" else value
                        )  # a floor, not a cliff
                        best[at] = min(shown, best.get(at, shown))
                if best:
                    marker = "os^Dv"[i // len(colours) % 5]
                    ax.plot(
                        *zip(*sorted(best.items())),
                        marker + "-",
                        color=colours[i % 7],
                        label=name,
                        ms=5,
                        lw=1.3,
                    )
            floor = next(r.floor for r in results if r.problem == problem)
            if what == "samples":
                ax.axhline(floor, color="#888888", ls="--", lw=1)
                ax.set_ylim(floor / 3, 1e3 * floor)  # what is further off has failed
            ax.set(xscale="log", yscale="log", xlabel="evaluations per sample")
            ax.set_xticks(ticks, [str(tick) for tick in ticks])
            ax.set_xticks([], minor=True)
            ax.set_title(
                f"{problem}: "
                + ("distance to the end of the ODE" if what == "path" else "energy distance")
            )
        axes[1].legend(loc="center left", bbox_to_anchor=(1.01, 0.5), frameon=False)
    fig.savefig(path)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--run", help="a trained run to measure beside the mixture")
    parser.add_argument("--evaluations", default="5,10,20,40,80")
    parser.add_argument(
        "--out", default="demo/samplers", help="folder for samplers.md, .json and .png"
    )
    parser.add_argument("--quick", action="store_true", help="a fifth of the rows or fewer")
    given = parser.parse_args()
    allowed = [int(n) for n in given.evaluations.split(",")]
    problems = [mixture(400 if given.quick else 2000)]
    problems += [trained(given.run, 64 if given.quick else 512)] if given.run else []
    results = [result for problem in problems for result in measure(problem, allowed)]
    out = Path(given.out)
    out.mkdir(parents=True, exist_ok=True)
    (out / "samplers.json").write_text(json.dumps([asdict(r) for r in results], indent=1))
    (out / "samplers.md").write_text(report(results, allowed))
    plot(results, out / "samplers.png")
    print(report(results, allowed))


if __name__ == "__main__":
    main()
