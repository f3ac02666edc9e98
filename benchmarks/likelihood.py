"""What a log-likelihood costs: network passes to a given error of the mean, ours and the classic
recipe.

The classic recipe (Song et al. 2021, section 4.3 and Appendix D.2, from its description): the
probability-flow ODE in t by scipy's RK45 with rtol = atol = 1e-5, the whole batch as one state, the
trace by one Gaussian probe per row.

A pass is a forward pass; a vector-Jacobian product counts two more. All errors are in bits per
dimension (bpd), and each method is held to its own limit: the ODE to its solution (RK4 in our
coordinates, 32 steps; the row of 16 shows how far to trust that), the bound to its expectation.
What separates the two limits is a fact about the model, shown last.

    (a) solver    against the reference at the same probe and dequantization, on 24 rows
    (b) trace     standard deviation over probes, Rademacher and Gaussian, along the same paths
    (c) cost      passes until the error of the mean over 1,000 rows is below 0.01 bpd:
                  sqrt(bias^2 + variance/1000), the bias that of the solver, the variance of a row
                  over probes and dequantization, measured on 96 rows, twice each

    python benchmarks/likelihood.py --run RUN [--rows 1000] [--scale 1.0] [--out FOLDER]
"""

from __future__ import annotations

import argparse
import json
import math
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

import undiffuse as ud
from undiffuse.diffusion import Prior, RowNoise
from undiffuse.diffusion.denoiser import AbstractDenoiser, expand
from undiffuse.diffusion.likelihood.density import Adaptive, RungeKutta, log_density
from undiffuse.diffusion.likelihood.elbo import elbo
from undiffuse.diffusion.schedules.process import LEAST_SCORED
from undiffuse.diffusion.steps.adaptive import flow_rate, flow_time, flow_variable

BATCH, PROBES = 48, 4
SOLVED, SPREAD, COMPARED = 24, 96, 144  # rows of (a) and half of (b), of (c), of the two limits
GOAL = 0.01
STEPS, REFERENCE = (2, 3, 4, 6, 8, 16), 32
TOLERANCES = (1e-1, 1e-2, 1e-3)
POINTS = (1, 2, 4, 8, 16, 32)
FORWARD, WITH_PRODUCT = 1, 3  # passes of an evaluation


class Scored:
    """A trained model without conditions, and held-out rows encoded with a dequantization of their
    own per seed.
    """

    def __init__(self, run: str, rows: int) -> None:
        opened = ud.Run(run)
        self.model, data = opened.model(), opened.data()
        self.row = data.held_out_batch(rows)["row"]
        self.denoiser: AbstractDenoiser = self.model.denoiser.given()
        self.prior: Prior = self.model.prior
        self.rows, self.d = len(self.row), math.prod(self.model.shape)

    def encoded(self, seed: int, rows: int) -> tuple[Tensor, Tensor]:
        """(x, log_correction) of the first `rows` rows."""
        return self.model.transform.encode(self.row[:rows], RowNoise(seed, rows))

    def bits(self, nats: Tensor) -> Tensor:
        """Bits per dimension of log-likelihoods in nats, float64."""
        return -nats.double() / (self.d * math.log(2))


# --- the methods


def by_ode(scored: Scored, solver: Any, rows: int, seed: int = 0) -> tuple[Tensor, float]:
    """(bits per dimension (rows,), evaluations per row): our coordinates, one Rademacher probe."""
    x, correction = scored.encoded(seed, rows)
    nats, evaluations = [], 0.0
    for first in range(0, rows, BATCH):
        part = x[first : first + BATCH]
        noise = RowNoise(seed + 1000, len(part), first)
        found = log_density(
            scored.denoiser, part, scored.prior, solver=solver, probes=1, noise=noise
        )
        nats.append(found.nats)
        evaluations += float(found.evaluations.sum())
    return scored.bits(torch.cat(nats) + correction), evaluations / rows


def by_bound(scored: Scored, points: int, rows: int, seed: int = 0) -> tuple[Tensor, float]:
    """(bits per dimension (rows,), evaluations per row): the continuous bound at `points` of its
    integral.
    """
    x, correction = scored.encoded(seed, rows)
    nats, evaluations = [], 0
    for first in range(0, rows, BATCH):
        part = x[first : first + BATCH]
        noise = RowNoise(seed + 1000, len(part), first)
        found = elbo(scored.denoiser, part, scored.prior, evaluations=points, noise=noise)
        nats.append(found.nats)
        evaluations = found.evaluations
    return scored.bits(torch.cat(nats) + correction), float(evaluations)


def classic(scored: Scored, tolerance: float, rows: int, seed: int = 0) -> tuple[Tensor, float]:
    """(bits per dimension (rows,), evaluations): the classic recipe, at the probe of `by_ode` in
    place of its own.
    """
    from scipy.integrate import solve_ivp

    x, correction = scored.encoded(seed, rows)
    noise = [
        RowNoise(seed + 1000, len(part), first)(part)
        for first, part in zip(range(0, rows, BATCH), x.split(BATCH))
    ]
    probe = torch.where(torch.cat(noise) < 0, -1.0, 1.0)
    schedule, size = scored.denoiser.schedule, x.numel()
    t_0 = schedule.last_time(LEAST_SCORED)
    alpha_0 = schedule(t_0)[0]

    def slope(t: float, state: Any) -> Any:
        at = torch.from_numpy(state[:size]).reshape(x.shape).float()
        velocity, trace = [], []
        for part, e in zip(at.split(BATCH), probe.split(BATCH)):
            with torch.enable_grad():
                part = part.requires_grad_()
                v = scored.denoiser.velocity(part, t)
                (product,) = torch.autograd.grad(v, part, e)
            velocity.append(v.detach().flatten())
            trace.append((product * e).flatten(1).sum(1))
        return torch.cat([*velocity, *trace]).double().numpy()

    start = torch.cat([(alpha_0 * x.double()).flatten(), torch.zeros(rows, dtype=torch.float64)])
    done = solve_ivp(
        slope, (float(t_0), 1.0), start.numpy(), method="RK45", rtol=tolerance, atol=tolerance
    )
    end = torch.from_numpy(done.y[:, -1])
    nats = (
        scored.prior.log_prob(end[:size].reshape(x.shape)) + end[size:] + scored.d * alpha_0.log()
    )
    return scored.bits(nats + correction), float(done.nfev)


def trace_deviations(scored: Scored, rows: int) -> dict[str, float]:
    """Standard deviation over probes, root mean square over rows, by the law of the probe.

    Same paths for both.
    """
    (x, _), schedule = scored.encoded(0, rows), scored.denoiser.schedule
    t_0, t_1 = schedule.last_time(LEAST_SCORED), torch.tensor(1.0, dtype=torch.float64)
    alpha_0, sigma_0 = schedule(t_0)
    generator = torch.Generator().manual_seed(0)
    variances = []
    for part in x.split(BATCH // 2):
        gaussian = torch.randn(PROBES, *part.shape, generator=generator)
        probes = torch.cat([torch.where(gaussian < 0, -1.0, 1.0), gaussian])

        def field(
            state: tuple[Tensor, ...], w: Tensor, rows: Tensor, probes: Tensor = probes
        ) -> tuple[Tensor, ...]:
            t, rate = flow_time(schedule, w), flow_rate(w)
            scale = torch.stack(schedule(t)).sum(0)
            with torch.enable_grad():
                y = state[0].float().requires_grad_()
                x_hat, z_hat = scored.denoiser.split(expand(scale, y) * y, t)
                slope = z_hat - x_hat
                products = [torch.autograd.grad(slope, y, e, retain_graph=True)[0] for e in probes]
            traces = (torch.stack(products) * probes).flatten(2).sum(2).T.double()
            return expand(rate, state[0]) * slope.detach().double(), expand(rate, traces) * traces

        state = (
            part.double() * alpha_0 / (alpha_0 + sigma_0),
            torch.zeros(len(part), 2 * PROBES, dtype=torch.float64),
        )
        (_, traces), _ = RungeKutta(6)(
            field, state, flow_variable(schedule, t_0), flow_variable(schedule, t_1)
        )
        variances.append(scored.bits(traces).unflatten(1, (2, PROBES)).var(2))
    rademacher, normal = torch.cat(variances).mean(0).sqrt().tolist()
    return {"rademacher": rademacher, "gaussian": normal}


# --- what is measured


def against(reference: Tensor, found: tuple[Tensor, float], seconds: float) -> dict[str, float]:
    """Errors of a solver row by row."""
    difference = found[0] - reference
    return {
        "evaluations": found[1],
        "bias": float(difference.mean()),
        "row_rms": float(difference.square().mean().sqrt()),
        "seconds": seconds,
    }


def timed(work: Callable[[], Any]) -> tuple[Any, float]:
    begun = time.perf_counter()
    return work(), time.perf_counter() - begun


def solvers(scored: Scored, first: int) -> tuple[dict[str, dict[str, float]], Tensor]:
    """(a), and the reference (first,)."""
    (reference, _), seconds = timed(lambda: by_ode(scored, RungeKutta(REFERENCE), first))
    print(f"reference: {seconds:.0f} s", flush=True)
    found = {}
    work: dict[str, Callable[[], Any]] = {
        "classic": lambda: classic(scored, 1e-5, first),
        "classic, but 1e-3": lambda: classic(scored, 1e-3, first),
    }
    for steps in STEPS:
        work[f"RK4, {steps} steps"] = lambda steps=steps: by_ode(scored, RungeKutta(steps), first)
    for tolerance in TOLERANCES:
        work[f"adaptive, {tolerance:g}"] = lambda tolerance=tolerance: by_ode(
            scored, Adaptive(tolerance), first
        )
    for name, call in work.items():
        found[name] = against(reference, *timed(call))
        print(name, {key: round(value, 5) for key, value in found[name].items()}, flush=True)
    return found, reference


def row_variance(
    scored: Scored, method: Callable[..., tuple[Tensor, float]], setting: Any, rows: int
) -> tuple[float, float]:
    """Variance of one row's value over probes, points and dequantization, and evaluations a row.

    From two independent replicates.
    """
    (a, evaluations), (b, _) = (method(scored, setting, rows, seed) for seed in (1, 2))
    return float((a - b).square().mean() / 2), evaluations


def costs(
    scored: Scored, solved: dict, trace: dict[str, float], spread: int, rows: int
) -> list[dict[str, Any]]:
    """(c): every setting with its passes and the error of the mean over `rows` rows."""
    sampled, _ = row_variance(scored, by_ode, RungeKutta(6), spread)
    gaussian = max(sampled - trace["rademacher"] ** 2, 0.0) + trace["gaussian"] ** 2
    table = []
    for name, row in solved.items():
        variance = gaussian if "classic" in name else sampled
        table.append(
            {
                "method": f"ODE, {name}",
                "passes": WITH_PRODUCT * row["evaluations"],
                "bias": row["bias"],
                "std": variance,
            }
        )
    for points in POINTS:
        variance, evaluations = row_variance(scored, by_bound, points, spread)
        table.append(
            {
                "method": f"bound, {points} points",
                "passes": FORWARD * evaluations,
                "bias": 0.0,
                "std": variance,
            }
        )
    for row in table:
        row["std"] = math.sqrt(row["std"] / rows)
        row["error"] = math.hypot(row["bias"], row["std"])
        row["cheaper"] = table[0]["passes"] / row["passes"]
    return table


def cheapest(table: list[dict[str, Any]], kind: str) -> dict[str, Any] | None:
    """The setting of `kind` that reaches the goal with the fewest passes.

    The classic recipe is none of them.
    """
    good = [
        r
        for r in table
        if r["method"].startswith(kind) and "classic" not in r["method"] and r["error"] <= GOAL
    ]
    return min(good, key=lambda row: row["passes"], default=None)


def report(result: dict[str, Any]) -> str:
    """The page, in markdown."""
    rows, first, trace = result["rows"], result["first"], result["trace"]
    compared = result["compared"]
    lines = [
        f"## (a) Solver error at a shared probe, bpd, {first} rows, against RK4 with "
        f"{REFERENCE} steps",
        "",
    ]
    lines += [
        "| solver | evaluations | bias of the mean | rms per row | seconds |",
        "|---|---|---|---|---|",
    ]
    for name, r in result["solvers"].items():
        lines.append(
            f"| {name} | {r['evaluations']:.0f} | {r['bias']:+.5f} | {r['row_rms']:.5f} | "
            f"{r['seconds']:.0f} |"
        )
    lines += [
        "",
        "## (b) Trace, standard deviation over probes, bpd",
        "",
        "| probe | one row | mean of the rows |",
    ]
    lines += ["|---|---|---|"]
    lines += [
        f"| {name} | {value:.4f} | {value / rows**0.5:.5f} |" for name, value in trace.items()
    ]
    lines += ["", f"## (c) Passes per row, and the error of the mean over {rows} rows, bpd", ""]
    lines += [
        "| method | passes | bias | std | error | classic over this |",
        "|---|---|---|---|---|---|",
    ]
    lines += [
        f"| {r['method']} | {r['passes']:.0f} | {r['bias']:+.5f} | {r['std']:.5f} | "
        f"{r['error']:.5f} "
        f"| {r['cheaper']:.1f} |"
        for r in result["costs"]
    ]
    lines += ["", f"Cheapest below {GOAL} bpd:"]
    for kind in ("ODE", "bound"):
        best = result["cheapest"][kind]
        said = (
            f"{best['method']}, {best['passes']:.0f} passes, {best['cheaper']:.1f} times fewer"
            if best
            else "none"
        )
        lines.append(f"- {kind}: {said}")
    means = result["means"]
    lines += ["", "## The two limits", ""]
    lines += [f"| | {compared} rows, bpd | standard error over rows |", "|---|---|---|"]
    lines += [f"| {name} | {mean:.4f} | {error:.4f} |" for name, (mean, error) in means.items()]
    return "\n".join(lines) + f"\n\n{result['seconds']:.0f} s in all.\n"


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--run", required=True)
    parser.add_argument(
        "--rows", type=int, default=1000, help="rows that the error of the mean is stated for"
    )
    parser.add_argument(
        "--scale", type=float, default=1.0, help="times the rows that are measured: 24, 96 and 144"
    )
    parser.add_argument(
        "--out", default="demo/likelihood", help="folder for likelihood.md and likelihood.json"
    )
    given = parser.parse_args()
    begun = time.perf_counter()
    solved_rows, spread, compared = (
        max(round(given.scale * rows), 2) for rows in (SOLVED, SPREAD, COMPARED)
    )
    scored = Scored(given.run, compared)
    first, spread = min(solved_rows, scored.rows), min(spread, scored.rows)
    solved, _ = solvers(scored, first)
    trace = trace_deviations(scored, max(first // 2, 2))
    table = costs(scored, solved, trace, spread, given.rows)
    best = {kind: cheapest(table, kind) for kind in ("ODE", "bound")}
    density = by_ode(scored, RungeKutta(8), scored.rows)[0]
    bound = by_bound(scored, max(POINTS), scored.rows)[0]
    columns = {
        "density, RK4 with 8 steps": density,
        "bound": bound,
        "bound less density": bound - density,
    }
    means = {name: (float(v.mean()), float(v.std()) / len(v) ** 0.5) for name, v in columns.items()}
    result = {
        "rows": given.rows,
        "compared": scored.rows,
        "first": first,
        "solvers": solved,
        "trace": trace,
        "costs": table,
    }
    result |= {"cheapest": best, "means": means, "seconds": time.perf_counter() - begun}
    out = Path(given.out)
    out.mkdir(parents=True, exist_ok=True)
    (out / "likelihood.json").write_text(json.dumps(result, indent=1))
    (out / "likelihood.md").write_text(report(result))
    print(report(result))


if __name__ == "__main__":
    main()
