"""The sampler of the fewest evaluations whose samples are as good as those of many.

A sampler is a method and a grid. The methods take one evaluation of the network a step. For each
number of evaluations n the grid is, after t = 1, spaced evenly in (sigma/alpha)^(1/rho) from `high`
down to `low`, then 0 (Karras et al. 2022, Eq. 5, whose ends are those of the schedule), and

1. rho, high and low are searched by coordinate descent for the smallest end-point error of DEIS,

       e = |x - x*| / |x*|,   x* from the same noise by `ACCURATE`, norms over rows and coordinates

   and the methods are compared by e on the grid that was found;
2. from few evaluations up, samples are compared with those of a reference from the same seeds by
   their kernel distance to held-out rows (see `paired`). The first that is not worse, with an
   end-point error of at most `CLOSE`, or that of the usual sampler, is chosen. The reference is the
   longest of step 1, where its error is at most `NEAR`, and otherwise `ACCURATE`.

One is not worse if its distance is more by at most `TOLERANCE`, two standard errors included. The
comparison is sequential. What is worse on `PILOT` seeds, likewise by two standard errors, goes no
further, what is not worse on `LEAST_SEEDS` is chosen, and what is in doubt is compared on more, up
to `MOST_SEEDS` where there is no limit of time: if so many cannot tell, the difference that they
show decides. Where there is too little time for so many, all are compared on as many as there is
time for, `PILOT` at least; what is in doubt then is not chosen, nor is `ACCURATE`: the model keeps
its usual sampler.

The errors of a network that was trained briefly add up along an ordinary equation, while noise on
the way makes a sampler forget them. So `NOISY`, which has no end point to be compared, is tried as
well if there is time: where it is closer to held-out rows than the reference, at first on `PILOT`
seeds, then on all of them, it takes the reference's place, and the first of its `NOISY_COUNTS` that
is not worse is chosen. Its grids are those on which exact Gaussians are least too wide or narrow.

What is chosen keeps the law that samples of exact Gaussians are as wide as the data, within `WIDTH`
for the data's own deviation: others are never compared.

On the digits a grid by dynamic programming over the accurate trajectory (Chen et al. 2024) had 2.5
to 3.2 times the end-point error of one that is searched like this, at 6 to 10 evaluations: it is
not tried.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from itertools import pairwise
from typing import Any, NamedTuple, final

import torch
from torch import Tensor

from undiffuse.diffusion import METHODS, Grid, Schedule, Step, sample
from undiffuse.diffusion.grid import Karras, noise_range
from undiffuse.diffusion.oracle import Gaussian
from undiffuse.diffusion.schedules.process import Times, as_times
from undiffuse.interfaces import Progress, Stop
from undiffuse.models.methods import SAMPLER
from undiffuse.models.paired import Compared, Pairing

COUNTS = (6, 8, 10, 12, 18, 25)
TRIED = ("deis", "dpmpp", "unipc", "ipndm")
ACCURATE = "deis", 40
NOISY, NOISY_COUNTS = "dpmpp_sde", (12, 18, 25)
ROWS = 2048  # held-out rows, at most
FEWEST = 96  # held-out rows, at least
SEEDS, MOST_SEEDS = 1024, 4096  # that are compared; more where rows are short or time is unlimited
PILOT, LEAST_SEEDS = 192, 1000  # on which one can be refused, and chosen
SCREENED = 8  # seeds for end-point errors, at least
CLOSE = 0.03  # the largest end-point error of what is chosen, unless the usual sampler's is larger
NEAR = 0.002  # likewise, of what others are compared with
TOLERANCE = 0.02  # of the reference's distance, by which another may be worse
NOISE = 0.02  # likewise, of the noise that a distance has
WIDTH = 0.005
_FIRST = 8  # the evaluations whose grid and methods are searched and compared first
_TRIALS = {6: 11, 8: 17, 12: 11}  # of the grids that are searched, about; others take one of these
_METHODS = 2  # that are compared for other numbers, the best for the first
_SPENT = 0.9  # of the time left, by plan
_PENALTY = 4.0  # how much more a wrong width counts than an end-point error
_WIDTHS = {1.0: 1.0, 0.25: 0.25}  # shares of the data's deviation: weights in grids of `NOISY`
_ROWS_FOR = 2**25  # numbers in all held-out rows, at most
_SEEDS_FOR = 2**16  # numbers in all seeds, where there are more than `SEEDS`
_NUMBERS = 4096  # of a row that are compared, at most, evenly spread
_BATCH, _VALUES = 1024, 2**18  # rows and numbers that are drawn at a time, at most
_TIMED, _STEPS = (16, 64), 4  # seeds that are timed, in so many steps


class Spacing(NamedTuple):
    """The grid of a given number of steps: see the head of this module."""

    rho: float
    high: float
    low: float

    def times(self, schedule: Schedule, steps: int) -> Times:
        """Return the `steps` + 1 times, 1 the first and 0 the last."""
        top, _ = _ends(schedule)
        whole = self.high >= top
        ends = as_times([min(self.high, top), self.low]) ** (1 / self.rho)
        shares = torch.linspace(0, 1, max(steps - (not whole), 1), dtype=torch.float64)
        ratios = (ends[0] + shares * (ends[1] - ends[0])) ** self.rho
        inner = schedule.inverse(-2 * ratios.log())
        return torch.cat([as_times([1.0]), inner[1:] if whole else inner, as_times([0.0])])


@final
@dataclass(frozen=True)
class Knots(Grid):
    """Given times. For another number of steps they are interpolated in log t.

    Args:
        knots: descending from 1 to 0, at least three.
    """

    knots: tuple[float, ...] = (1.0, 0.1, 0.0)

    def inner(self, schedule: Schedule, shares: Times) -> Times:
        """Return the times at these shares of the way."""
        logs = as_times(list(self.knots[:-1])).log()
        count = len(shares) - (schedule.t_min == 0)
        places = torch.linspace(0, len(logs) - 1, count, dtype=torch.float64)
        below = places.long().clamp(max=max(len(logs) - 2, 0))
        steps = torch.diff(logs, append=logs[-1:])
        times = (logs[below] + (places - below) * steps[below]).exp()
        return torch.cat([times, as_times([0.0] * (len(shares) - count))])


@final
@dataclass(frozen=True)
class Candidate:
    """A sampler and what was measured of it.

    Attributes:
        method: a name in METHODS, of one evaluation a step.
        times: its grid, descending from 1 to 0.
        error: its end-point error; None for `NOISY`.
        distance: kernel distance of its samples to held-out rows; None: not measured.
        excess: by how much that is more than the reference's.
        stderr: standard error of the excess.
    """

    method: str
    times: tuple[float, ...]
    error: float | None
    distance: float | None = None
    excess: float | None = None
    stderr: float | None = None

    @property
    def steps(self) -> int:
        """The number of steps, and of evaluations."""
        return len(self.times) - 1

    @property
    def rank(self) -> float:
        """Its distance; infinite if that was not measured."""
        return math.inf if self.distance is None else self.distance


@final
@dataclass(frozen=True)
class Guidance:
    """How strongly samples are guided to their class, and what that gave, in features of the data.

    Attributes:
        scale: 1 is off.
        low: the lowest sigma/alpha that is guided.
        high: the highest.
        distance: Frechet distance of guided samples to held-out rows.
        excess: by how much that is more than that of the same samples unguided.
        stderr: standard error of the excess.
        recall: by how much recall is more.
        coverage: by how much coverage is more.
    """

    scale: float
    low: float
    high: float
    distance: float
    excess: float
    stderr: float
    recall: float
    coverage: float


@final
@dataclass(frozen=True)
class Tuned:
    """The samplers that were measured for a trained model, and the one that was chosen.

    Attributes:
        candidates: by ascending number of steps, then the reference.
        chosen: the number of the chosen one.
        seeds: samples of the chosen one that were compared.
        rows: held-out rows that they were compared with.
        guidance: of all of them; None: they are not guided.
    """

    candidates: tuple[Candidate, ...]
    chosen: int
    seeds: int
    rows: int
    guidance: Guidance | None = None

    @property
    def best(self) -> Candidate:
        """The chosen one."""
        return self.candidates[self.chosen]

    def sampler(self, steps: int | None) -> tuple[Step, Grid, int]:
        """Return the step, the grid and the number of steps: the best for `steps`, if given."""
        best = self.best
        if steps is not None and steps != best.steps:
            wanted = math.log(max(steps, 1))
            best = min(
                self.candidates, key=lambda one: (abs(math.log(one.steps) - wanted), one.rank)
            )
        return METHODS[best.method], Knots(best.times), best.steps

    def evaluations(self, schedule: Schedule, one: Candidate | None = None) -> int:
        """Return how many evaluations of the network a sample takes by `one`, or by the best.

        A guided step takes two.
        """
        times = as_times(list((one or self.best).times[:-1]))
        if self.guidance is None:
            return len(times)
        ratio = (-0.5 * schedule.log_snr(times)).exp()
        guided = (ratio >= self.guidance.low) & (ratio <= self.guidance.high)
        return len(times) + int(guided.sum())

    def tree(self) -> dict[str, Any]:
        """Return this as plain data."""
        found = [{**asdict(one), "times": list(one.times)} for one in self.candidates]
        return {**asdict(self), "candidates": found}

    @staticmethod
    def read(tree: Mapping[str, Any]) -> Tuned:
        """Return what `tree` describes, whose types were checked. Raises ValueError if unsound."""
        found: list[Candidate] = []
        for one in tree["candidates"]:
            given: dict[str, Any] = {**one, "times": tuple(one["times"])}
            found.append(Candidate(**given))
        if not 0 <= tree["chosen"] < len(found):
            raise ValueError(f"chosen: there is no candidate {tree['chosen']}")
        guidance = tree.get("guidance")
        guidance = None if guidance is None else Guidance(**guidance)
        if guidance is not None and not guidance.low < guidance.high:
            raise ValueError("guidance: its range does not rise")
        for one in found:
            if one.method not in (*TRIED, ACCURATE[0], NOISY):
                raise ValueError(f"method {one.method}: it is none of those that are tried")
            if (one.error is None) != (one.method == NOISY):
                raise ValueError(f"error: {one.error} is none of {one.method}")
            falling = all(s < t for t, s in pairwise(one.times))
            if one.steps < 1 or (one.times[0], one.times[-1]) != (1, 0) or not falling:
                raise ValueError("times: they do not fall from 1 to 0")
        return Tuned(tuple(found), tree["chosen"], tree["seeds"], tree["rows"], guidance)


Drawing = Callable[[Step, Times, int, int], Tensor]
"""`(step, times, first, n) -> x (n, *shape)`: the samples of n seeds from number `first` on."""


@final
@dataclass(frozen=True, eq=False)
class Measured:
    """What a search needs to know: the schedule, the data's deviation, held-out rows (m, *shape).

    All at unit scale.
    """

    schedule: Schedule
    std: float
    real: Tensor


def find_sampler(
    draw: Drawing,
    data: Measured,
    *,
    seconds: float | None = None,
    progress: Progress | None = None,
    stop: Stop = lambda: False,
) -> tuple[Tuned | None, str]:
    """Search for the cheapest sampler that is as good as the reference.

    Args:
        draw: draws samples.
        data: what is known of the data.
        seconds: how long it may take, about; None: as long as it needs.
        progress: called with (evaluations done, in all, what).
        stop: polled before each batch; true ends the search.

    Returns:
        What was found, None if nothing, and a sentence that says so.
    """
    rows = len(data.real)
    if rows < FEWEST:
        return None, f"not tuned: {rows} held-out rows are too few to compare with ({FEWEST} do)"
    search = _Search(draw, data, progress, stop)
    try:
        search.start(seconds)
        tuned = search.compare(search.screen())
    except _Stopped as ended:
        return None, f"not tuned: {ended}"
    best, dear, told = tuned.best, tuned.candidates[-1], ""
    taken = f"samples take {best.steps} evaluations, by {best.method}: "
    if best == dear:
        return (
            tuned,
            f"{taken}fewer leave them further from held-out rows, by {tuned.seeds:,} samples",
        )
    if best.excess and dear.distance:
        share, error = (100 * one / abs(dear.distance) for one in (best.excess, best.stderr or 0.0))
        told = f" ({share:+.1f} ± {error:.1f} %)"
    return tuned, (
        f"{taken}as close to held-out rows as {dear.method} in {dear.steps}{told}, by "
        f"{tuned.seeds:,} samples"
    )


def least_evaluations() -> int:
    """Return how many evaluations of one row `find_sampler` takes at least, about."""
    return _screening() * SCREENED + (ACCURATE[1] + COUNTS[-2]) * PILOT


def _screening() -> int:
    """The evaluations of a seed on which samplers are searched, about."""
    searched = sum(n * _TRIALS.get(n, 2) for n in {*COUNTS, *_TRIALS})
    usual = METHODS[SAMPLER].steps or _FIRST
    return ACCURATE[1] + usual + searched + len(TRIED) * _FIRST + _METHODS * sum(COUNTS)


@final
class _Stopped(Exception):
    """The search is no longer wanted, or cannot be made: why."""


def rows_for(shape: Sequence[int]) -> int:
    """Return how many held-out rows of this shape samples are compared with, at most."""
    return max(FEWEST, min(ROWS, _ROWS_FOR // math.prod(shape)))


def width(schedule: Schedule, step: Step, times: Times, std: float) -> float:
    """Return the standard deviation of samples of N(0, std^2), over `std`, by an exact denoiser."""
    return widths(schedule, step, times, [std])[0]


def widths(schedule: Schedule, step: Step, times: Times, stds: Sequence[float]) -> list[float]:
    """Return `width` for each of some standard deviations, which are coordinates of one Gaussian.

    A sample is linear in the noise that it starts from and in what is added on the way: the root
    of the sum of squares of what each of them, being 1, contributes alone.
    """
    std = torch.tensor(stds, dtype=torch.float64)
    exact = Gaussian(schedule, torch.zeros(len(stds)), std)
    alpha, sigma = (float(c) for c in schedule(as_times(1.0)))
    start = torch.zeros(len(times), len(stds), dtype=torch.float64)
    start[0] = ((alpha * std).square() + sigma**2).sqrt()
    rows = iter(torch.eye(len(times), dtype=torch.float64)[1:, :, None])
    found = sample(exact, start, times, step, noise=lambda like: next(rows).expand_as(like))
    return [float(one) for one in (found.square().sum(0).sqrt() / std).unbind()]


@final
class _Samples:
    """The samples of one sampler, (n, d) of the first n seeds, drawn as far as they are needed."""

    def __init__(self, draw: Callable[[int, int], Tensor], steps: int) -> None:
        self._draw, self.steps = draw, steps
        self._rows: Tensor | None = None

    def __len__(self) -> int:
        """Return how many were drawn."""
        return 0 if self._rows is None else len(self._rows)

    def __call__(self, n: int) -> Tensor:
        """Return the first n."""
        if self._rows is None:
            self._rows = self._draw(0, n)
        elif n > len(self._rows):
            self._rows = torch.cat([self._rows, self._draw(len(self._rows), n)])
        return self._rows[:n]


@final
class _Search:
    """The search for one model; `screened` seeds are taken for end-point errors."""

    def __init__(
        self, draw: Drawing, data: Measured, progress: Progress | None, stop: Stop
    ) -> None:
        self.draw, self.progress, self.stop = draw, progress, stop
        self.schedule, self.std = data.schedule, data.std
        self.size = size = data.real[0].numel()
        self.numbers = torch.linspace(0, size - 1, min(size, _NUMBERS)).round().long()
        self.batch = max(8, min(_BATCH, _VALUES // size))
        self.real = data.real.flatten(1)[:, self.numbers]
        self.seeds = min(MOST_SEEDS, max(SEEDS, _SEEDS_FOR // size))
        self.screened = max(SCREENED, self.seeds // 128)
        self.done = 0
        self.until, self.each, self.doubted, self.close = math.inf, 0.0, False, CLOSE
        method, steps = ACCURATE
        times = _listed(Karras()(self.schedule, steps))
        self.accurate = Candidate(method, times, 0.0, excess=0.0, stderr=0.0)
        self.samples: dict[Candidate, _Samples] = {}

    @property
    def total(self) -> int:
        """The evaluations of the whole search, about."""
        return self.screened * _screening() + (ACCURATE[1] + _FIRST) * self.seeds

    def drawn(self, step: Step, times: Times, begin: int, n: int) -> Tensor:
        """Return some numbers (n - begin, d) of samples from number `begin` on.

        Their evaluations are counted.
        """
        parts: list[Tensor] = []
        for first in range(begin, n, self.batch):
            if self.stop():
                raise _Stopped("it was stopped")
            count = min(self.batch, n - first)
            x = self.draw(step, times, first, count).flatten(1).cpu()
            parts.append(x[:, self.numbers].nan_to_num(0.0, 0.0, 0.0))
            self.done += count * (len(times) - 1)
            if self.progress:
                self.progress(min(self.done, self.total), self.total, "choosing a sampler")
        return torch.cat(parts)

    def of(self, one: Candidate) -> _Samples:
        """Return the samples of a sampler."""
        key = Candidate(one.method, one.times, None)
        if key not in self.samples:
            step, times = METHODS[one.method], as_times(list(one.times))
            self.samples[key] = _Samples(partial(self.drawn, step, times), one.steps)
        return self.samples[key]

    def start(self, seconds: float | None) -> None:
        """Take note of the time that there is, and of how long an evaluation takes.

        A step of n rows is taken to last a + b n seconds. Raises _Stopped if that is too short.
        """
        if seconds is None:
            self.seeds = MOST_SEEDS
            return
        self.until = time.perf_counter() + seconds
        few, many = (self._timed(n) for n in _TIMED)
        each = max((many - few) / (_TIMED[1] - _TIMED[0]), 1e-9)
        call = max(few - _TIMED[0] * each, 0.0)
        self.each = each + call / self.batch
        screening = _screening() * (call + self.screened * each)
        if not self.fits(screening / self.each + (ACCURATE[1] + COUNTS[-2]) * PILOT):
            raise _Stopped("the time is too short to compare samples; give more")

    def fits(self, evaluations: int | float) -> bool:
        """Whether there is time for so many evaluations of a row."""
        return time.perf_counter() + evaluations * self.each <= self.until

    def _timed(self, n: int) -> float:
        """The seconds that a step of n rows takes, after a first one that is not timed."""
        step, times = METHODS[self.accurate.method], as_times(list(self.accurate.times))
        self.draw(step, times[-2:], 0, n)
        began = time.perf_counter()
        self.draw(step, times[-_STEPS - 1 :], 0, n)
        return (time.perf_counter() - began) / _STEPS

    def screen(self) -> list[Candidate]:
        """Return the best method and grid for each number of evaluations, by end-point error."""
        accurate = self.of(self.accurate)(self.screened)

        def error(method: str, times: Times) -> float:
            found = self.drawn(METHODS[method], times, 0, self.screened)
            wrong = (found - accurate).square().sum() / accurate.square().sum()
            return math.sqrt(float(wrong))

        usual = METHODS[SAMPLER].steps or _FIRST
        self.close = max(CLOSE, error(SAMPLER, Karras()(self.schedule, usual)))

        def objective(one: Spacing, steps: int) -> float:
            times = one.times(self.schedule, steps)
            return error(SAMPLER, times) + _PENALTY * self._wrong(SAMPLER, times)

        top, least = _ends(self.schedule)
        spacings: dict[int, Spacing] = {}
        for steps in sorted(_TRIALS, key=lambda count: abs(count - _FIRST)):
            start = spacings.get(_FIRST, Spacing(7.0, top / 4, 4 * least))
            factors = (1.5,) if spacings else (2.0, 1.4)
            spacings[steps] = self._descend(start, factors, partial(objective, steps=steps))
        kept: list[Candidate] = []
        methods = TRIED
        for steps in sorted(COUNTS, key=lambda count: abs(count - _FIRST)):
            near = sorted(_TRIALS, key=lambda count: abs(count - steps))
            near = [spacings[count] for count in near[: 1 if steps in _TRIALS else 2]]
            if len(near) > 1:
                near.sort(key=partial(objective, steps=steps))
            times = near[0].times(self.schedule, steps)
            tried = [
                Candidate(name, _listed(times), error(name, times))
                for name in methods
                if self._wrong(name, times) <= WIDTH
            ]
            tried.sort(key=lambda one: one.error or 0.0)
            methods = tuple(one.method for one in tried[:_METHODS]) or methods
            kept += tried[:1]
        return sorted(kept, key=lambda one: one.steps)

    def compare(self, kept: list[Candidate]) -> Tuned:
        """Compare with held-out rows until one is good enough."""
        close = [one for one in kept if one.error is not None and one.error <= self.close]
        if not kept or (kept[-1].error or 0.0) > NEAR:
            kept = [*kept, self.accurate]
        *few, last = kept
        seeds = self._affordable([one for one in few if one in close], last)
        found, chosen = self._first(few, last, seeds)
        noisy = self._noisy(NOISY_COUNTS)
        if noisy and self._closer(noisy[-1], last, len(self.of(last))):
            seeds = len(self.of(last))
            among, number = self._first(noisy[:-1], noisy[-1], seeds)
            below = [one for one in found[:-1] if one.steps < NOISY_COUNTS[0]]
            dear = self._pairing(noisy[-1], seeds)(self.of(last)(seeds))
            *among, end = among
            found = [*below, *among, replace(last, **dear._asdict()), end]
            chosen = len(below) + number + (number == len(among))
        compared = min(len(self.of(found[chosen])), len(self.of(found[-1])))
        doubted = self.doubted or compared < LEAST_SEEDS > seeds
        if found[chosen].times == self.accurate.times and doubted:
            raise _Stopped(f"{compared} samples, for which there was time, show no shorter one")
        return Tuned(tuple(found), chosen, compared, len(self.real))

    def _affordable(self, close: list[Candidate], last: Candidate) -> int:
        """How many seeds there is time for: of the reference, and of the first that is close."""
        if self.until == math.inf:
            return self.seeds
        left = _SPENT * (self.until - time.perf_counter()) / self.each
        seeds = min(self.seeds, int(left / (last.steps + sum(one.steps for one in close[:1]))))
        if seeds < PILOT:
            raise _Stopped("the time is too short to compare samples; give more")
        return seeds

    def _pairing(self, last: Candidate, seeds: int) -> Pairing:
        return Pairing(self.of(last)(seeds), self.real)

    def _first(
        self, few: list[Candidate], last: Candidate, seeds: int
    ) -> tuple[list[Candidate], int]:
        """Compare until one is not worse than the last; all, and the number of that one."""
        found: list[Candidate] = []
        chosen = None
        for one in few:
            possible = one.error is None or one.error <= self.close
            if chosen is None and possible and self.fits(one.steps * PILOT):
                compared, good = self._compared(one, last, seeds)
                chosen = len(found) if good else None
                one = replace(one, excess=compared.excess, stderr=compared.stderr)
            found.append(one)
        distance = self._pairing(last, max(len(self.of(last)), min(PILOT, seeds))).distance
        found.append(replace(last, excess=0.0, stderr=0.0))
        found = [
            one if one.excess is None else replace(one, distance=distance + one.excess)
            for one in found
        ]
        return found, len(few) if chosen is None else chosen

    def _compared(self, one: Candidate, last: Candidate, seeds: int) -> tuple[Compared, bool]:
        """Compare on more and more seeds until it is certain whether one is worse than the last."""
        compared, good, worse = Compared(0.0, 0.0, 0.0), False, False
        for n in sorted({min(n, seeds) for n in (PILOT, LEAST_SEEDS, MOST_SEEDS // 2, seeds)}):
            pairing = self._pairing(last, n)
            compared = pairing(self.of(one)(n))
            allowed = max(TOLERANCE * pairing.distance, NOISE * pairing.noise)
            worse, good = compared.worse(allowed), compared.no_worse(allowed)
            if worse or (good and n >= LEAST_SEEDS):
                break
            if n >= MOST_SEEDS and not worse:
                good = compared.excess <= allowed
                worse = not good
        self.doubted |= not (good or worse)
        return compared, good

    def _noisy(self, counts: Sequence[int]) -> list[Candidate]:
        """Return `NOISY` on its best grid for each number of steps for which there is one."""
        step, found = METHODS[NOISY], list[Candidate]()
        top, least = _ends(self.schedule)
        high = min(top, 10 * self.std)
        start = Spacing(20.0, high, min(max(least, self.std / 16), high / 4))
        for steps in reversed(counts):

            def wrong(one: Spacing, steps: int = steps) -> float:
                times = one.times(self.schedule, steps)
                found = widths(self.schedule, step, times, [one * self.std for one in _WIDTHS])
                return sum(weight * abs(one - 1) for weight, one in zip(_WIDTHS.values(), found))

            start = self._descend(start, (2.0, 1.4, 1.1), wrong)
            times = start.times(self.schedule, steps)
            if self._wrong(NOISY, times) <= WIDTH:
                found.append(Candidate(NOISY, _listed(times), None))
        return found[::-1]

    def _closer(self, noisy: Candidate, last: Candidate, seeds: int) -> bool:
        """Whether samples are closer to held-out rows than those of the reference.

        False if that is not certain, or if there is no time left to find out.
        """
        for n in sorted({min(PILOT, seeds), seeds}):
            rows = self.of(noisy)
            if not self.fits((n - len(rows)) * noisy.steps):
                return False
            pairing = self._pairing(last, n)
            compared = pairing(rows(n))
            if compared.excess >= -max(2 * compared.stderr, TOLERANCE * pairing.distance):
                return False
        return True

    def _wrong(self, method: str, times: Times) -> float:
        """By what share samples of a Gaussian as wide as the data are too wide or narrow."""
        return abs(width(self.schedule, METHODS[method], times, self.std) - 1)

    def _descend(
        self, best: Spacing, factors: tuple[float, ...], error: Callable[[Spacing], float]
    ) -> Spacing:
        """Change one number after the other by a factor, as long as the error falls."""
        least = error(best)
        for factor in factors:
            for name in Spacing._fields:
                for by in (factor, 1 / factor):
                    while (moved := self._moved(best, name, by)) is not None:
                        found = error(moved)
                        if not found < least:
                            break
                        best, least = moved, found
        return best

    def _moved(self, one: Spacing, name: str, by: float) -> Spacing | None:
        """The spacing with one number multiplied; None where that is out of its range."""
        top, least = _ends(self.schedule)
        new = one._replace(**{name: getattr(one, name) * by})
        possible = 1 <= new.rho <= 40 and least <= new.low <= new.high / 4 and new.high <= top
        return new if possible else None


def _ends(schedule: Schedule) -> tuple[float, float]:
    """The largest and the smallest sigma/alpha that a grid may have within."""
    karras = Karras()
    ends = noise_range(schedule, karras.lowest, karras.highest)
    return min(float(ends[0]), karras.highest), float(ends[1])


def _listed(times: Times) -> tuple[float, ...]:
    return tuple(float(t) for t in times.unbind())
