"""The laws of every figure in METRICS, on planted models whose quality is known; wrong ones fail.

For each type of input there is a world that draws one of a perfect model, and of a worse one. A
figure's error must be that of fresh draws, its interval hold what is known of a perfect model, its
floor be its value for real rows, its better end be the better one, and it must not change under the
maps that it declares.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cache
from itertools import combinations
from typing import Any

import numpy as np
import pytest
import torch

from undiffuse.evaluation.metrics import (
    METRICS,
    Figure,
    Manifold,
    Matched,
    Meaning,
    Memorization,
    Metric,
    Mixed,
    Modes,
    RowScores,
    Sequences,
    Tables,
    Timings,
    as_facts,
    figures_of,
    kernel_figure,
    manifold_figures,
    match_features,
    memorization,
    modes,
    series,
    two_sample,
)
from undiffuse.evaluation.metrics import tables as trees
from undiffuse.evaluation.metrics.figure import spread

N, DRAWS, WORSE = 60, 30, 10
Raw = dict[str, np.ndarray]


@dataclass(frozen=True)
class World:
    """`draw(rng, worse)` gives arrays, `build(arrays, seed)` the input; `maps` change arrays."""

    draw: Callable[[np.random.Generator, bool], Raw]
    build: Callable[[Raw, int], Any]
    maps: dict[str, Callable[[np.ndarray], np.ndarray]]


def features(rng: np.random.Generator, worse: bool) -> Raw:
    """Half of the law is missing and the rest is noisy, if worse."""
    rows = {"real": rng.normal(size=(2 * N, 3)), "fake": rng.normal(size=(N, 3))}
    if worse:
        rows["fake"][:, 0] = abs(rows["fake"][:, 0]) + 1.5
        rows["fake"] += 0.7 * rng.normal(size=(N, 3))
    return rows


def distances(rng: np.random.Generator, worse: bool) -> Raw:
    rows = {name: rng.normal(size=(N, 3)) for name in ("real", "fake", "training")}
    if worse:
        rows["fake"] = rows["training"] + 1e-3 * rows["fake"]
    return rows


def classes(rng: np.random.Generator, worse: bool) -> Raw:
    return {"real": rng.integers(4, size=2 * N), "fake": rng.integers(2 if worse else 4, size=N)}


def table(rng: np.random.Generator, worse: bool) -> Raw:
    """Two numbers of correlation 0.8, and the sign of their sum, missing now and then."""

    def rows(n: int = N) -> np.ndarray:
        a, z = rng.normal(size=(2, n))
        b = 0.8 * a + 0.6 * z
        kind = np.where(rng.random(n) < 0.05, np.nan, (a + b > 0) * 1.0)
        return np.stack([a, b, kind], 1)

    found = {"real": rows(2 * N), "fake": rows(), "training": rows()}
    if worse:
        columns = found["fake"].T + np.array([[0.0], [2.0], [0.0]])
        found["fake"] = np.stack([rng.permutation(column) for column in columns], 1)
        found["fake"][: N // 2, 2] = 0.0
    return found


def waves(rng: np.random.Generator, worse: bool) -> Raw:
    """Each step is near the one before, or its negative, and about 2, if worse."""

    def rows(n: int, near: float) -> np.ndarray:
        z, found = rng.normal(size=(n, 4)), [rng.normal(size=n)]
        for step in z.T[1:]:
            found.append(near * found[-1] + (1 - near**2) ** 0.5 * step)
        return np.stack(found, 1)[:, None]

    fake = 2.2 + rows(N, -0.6) if worse else rows(N, 0.9)
    return {"real": rows(N, 0.9), "fake": fake, "training": rows(10 * N, 0.9)}


def scores(rng: np.random.Generator, worse: bool) -> Raw:
    return {"held_out": rng.normal(-5 - 2 * worse, size=N), "training": rng.normal(-5, size=N)}


def times(rng: np.random.Generator, worse: bool) -> Raw:
    seconds = rng.lognormal(sigma=0.2, size=12) * (1 + worse)
    return {"batches": 8 * seconds[:6], "singles": seconds[6:]}


def torched(build: Callable[..., Any]) -> Callable[[Raw, int], Any]:
    return lambda raw, seed: build({name: torch.from_numpy(x) for name, x in raw.items()}, seed)


_TURN = np.linalg.qr(np.random.default_rng(0).normal(size=(3, 3)))[0]
GEOMETRY = {
    "rotation": lambda x: x @ _TURN,
    "shift": lambda x: x + np.array([3.0, -1.0, 0.5]),
    "scale": lambda x: 7.0 * x,
}
SIZES = {"length": 0, "weight": 0, "kind": 2}
WORLDS: dict[type, World] = {
    Matched: World(
        features, torched(lambda x, seed: match_features(x["real"], x["fake"], seed=seed)), GEOMETRY
    ),
    Manifold: World(
        features,
        torched(
            lambda x, seed: manifold_figures(match_features(x["real"], x["fake"], seed=seed), 3)
        ),
        GEOMETRY,
    ),
    Memorization: World(
        distances,
        torched(lambda x, seed: memorization(x["training"], x["real"], x["fake"])),
        GEOMETRY,
    ),
    Modes: World(
        classes,
        torched(lambda x, seed: modes(x["real"], x["fake"], classes=4, seed=seed)),
        {"renaming": lambda x: (x + 1) % 4},
    ),
    Tables: World(
        table,
        lambda raw, seed: Tables(**raw, sizes=SIZES, seed=seed),
        {"monotone": lambda x: np.stack([np.exp(x[:, 0]), x[:, 1] ** 3, x[:, 2]], 1)},
    ),
    Mixed: World(
        features,
        lambda raw, seed: Mixed(real=raw["real"][:N], fake=raw["fake"], seed=seed),
        {"monotone": np.exp},
    ),
    Sequences: World(
        waves,
        lambda raw, seed: Sequences(**raw, seed=seed),
        {"shift": lambda x: x + 3.0, "scale": lambda x: 7.0 * x},
    ),
    RowScores: World(scores, lambda raw, seed: RowScores(**raw, dimensions=4), {}),
    Timings: World(
        times,
        lambda raw, seed: Timings(
            batches=tuple((8, s) for s in raw["batches"]), singles=tuple(raw["singles"])
        ),
        {},
    ),
}


@pytest.fixture(autouse=True)
def few_trees(monkeypatch):
    monkeypatch.setattr(trees, "TREES", 4)
    monkeypatch.setattr(two_sample, "TREES", 4)
    monkeypatch.setattr(two_sample, "FOLDS", 2)
    monkeypatch.setattr(series, "FITTED", 12)
    monkeypatch.setattr(series, "LR", 0.1)


@cache
def raw(needs: type, seed: int, worse: bool = False) -> Raw:
    return WORLDS[needs].draw(np.random.default_rng([seed, worse]), worse)


@cache
def built(needs: type, seed: int, worse: bool = False) -> Any:
    return WORLDS[needs].build(raw(needs, seed, worse), seed)


def found(name: str, given: Any) -> dict[str, Figure]:
    """The figure, or those by column."""
    figure = METRICS[name].of(given)
    assert figure is not None
    return {"": figure} if isinstance(figure, Figure) else figure


_DRAWN: dict[tuple[str, Any, bool], list[dict[str, Figure]]] = {}


def drawn(name: str, worse: bool = False, count: int = DRAWS) -> dict[str, list[Figure]]:
    """The figures of so many models."""
    metric = METRICS[name]
    each = _DRAWN.setdefault((name, metric.of, worse), [])
    for seed in range(len(each), count):
        each.append(found(name, built(metric.needs, seed, worse)))
    return {column: [figures[column] for figures in each[:count]] for column in each[0]}


def values(figures: list[Figure], attribute: str = "value") -> np.ndarray:
    return np.array([getattr(figure, attribute) for figure in figures], dtype=float)


def as_many(rows: Raw) -> Raw:
    """As many real rows as samples: then all are compared, and no choice of rows matters."""
    return {name: x[:N] for name, x in rows.items()}


# --- the laws


def law_of_errors(name: str) -> None:
    """The standard error is the standard deviation over fresh draws; the interval holds the value.

    Halves of sets of one law are farther from their mean than the sets are (its variance is of
    second order there): then the error may be too large, but for another law it may not.
    """

    def ratios(worse: bool) -> list[float]:
        kept = []
        for figures in drawn(name, worse).values():
            value, low, high = (values(figures, end) for end in ("value", "low", "high"))
            assert ((low <= value) & (value <= high)).all()
            if (deviation := value.std(ddof=1)) > 0:
                kept.append(values(figures, "stderr").mean() / deviation)
                assert (high - low).mean() / 2 <= 2.7 * kept[-1] * deviation
                farther = np.maximum(high - value, value - low)  # one end may be cut off
                assert farther.mean() >= 1.15 * kept[-1] * deviation
        return kept

    found = ratios(worse=False)
    assert min(found, default=1) >= 0.7
    if max(found, default=1) > 1.7:
        found = ratios(worse=True)
    assert max(found, default=1) <= 1.7


def law_of_intervals(name: str) -> None:
    """An interval holds what is known of a perfect model at its rate."""
    perfect = METRICS[name].perfect
    for figures in drawn(name).values() if perfect is not None else ():
        held = np.mean((values(figures, "low") <= perfect) & (perfect <= values(figures, "high")))
        assert held >= 0.95 - 3 * (0.95 * 0.05 / DRAWS) ** 0.5


def law_of_floors(name: str) -> None:
    """A perfect model is at the floor on average."""
    for figures in drawn(name).values():
        if figures[0].floor is not None:
            gaps = values(figures) - values(figures, "floor")
            assert abs(gaps.mean()) <= 4 * gaps.std(ddof=1) / DRAWS**0.5


def law_of_direction(name: str) -> None:
    """A worse model is on the worse side, beyond chance."""
    better = METRICS[name].better
    ours, theirs = drawn(name), drawn(name, True, WORSE)

    def badness(figures: list[Figure]) -> np.ndarray:
        if better == "floor":
            return abs(values(figures) - values(figures, "floor"))
        return {"lower": 1, "higher": -1}[better] * values(figures)

    for column, figures in ours.items():
        good, bad = badness(figures), badness(theirs[column])
        if name == "columns" and column == "length":
            assert (values(figures) > 0.5).all()  # left as it is
            continue
        error = np.hypot(good.std(ddof=1) / DRAWS**0.5, bad.std(ddof=1) / WORSE**0.5)
        assert bad.mean() - good.mean() > 3 * error


def law_of_mirrors(name: str) -> None:
    """With samples and real rows exchanged, it is the figure that it says."""
    metric = METRICS[name]
    if metric.mirror:
        given = as_many(raw(metric.needs, 0, True))
        swapped = {**given, "real": given["fake"], "fake": given["real"]}
        ours = found(name, WORLDS[metric.needs].build(given, 0))
        theirs = found(metric.mirror, WORLDS[metric.needs].build(swapped, 0))
        for column, figure in ours.items():
            assert figure.value == pytest.approx(theirs[column].value, rel=1e-9)


def law_of_invariance(name: str) -> None:
    """It does not change with what it declares."""
    metric = METRICS[name]
    world, given = WORLDS[metric.needs], as_many(raw(metric.needs, 0, True))
    for word in metric.unchanged:
        rng = np.random.default_rng(1)
        change = rng.permutation if word == "order" else world.maps[word]
        ours, theirs = (
            found(name, world.build(rows, 0))
            for rows in (given, {part: change(x) for part, x in given.items()})
        )
        for column, figure in ours.items():
            assert theirs[column].value == pytest.approx(figure.value, rel=1e-7, abs=1e-9), word


BY_TREES = ("detection", "usefulness")  # which another order may grow otherwise, or not


def law_of_completeness(name: str) -> None:
    """It changes with all else, and with samples and real rows exchanged, unless it says so."""
    metric = METRICS[name]
    world, given = WORLDS[metric.needs], as_many(raw(metric.needs, 1, True))
    ours = [figure.value for figure in found(name, world.build(given, 0)).values()]

    def same(rows: Raw) -> bool:
        theirs = [figure.value for figure in found(name, world.build(rows, 0)).values()]
        return theirs == pytest.approx(ours, rel=1e-7, abs=1e-9)

    for word in set(world.maps) - set(metric.unchanged) if name not in BY_TREES else ():
        assert not same({part: world.maps[word](x) for part, x in given.items()}), word
    if "order" not in metric.unchanged and name != "usefulness":
        shuffle = np.random.default_rng(1).permutation
        assert not same({part: shuffle(x) for part, x in given.items()})
    if "fake" in given and metric.mirror != name and name != "modes":
        assert not same({**given, "real": given["fake"], "fake": given["real"]})


def extreme(needs: type) -> Any:
    """Real rows as samples, or training rows where copies are looked for."""
    rows = as_many(raw(needs, 0))
    if "fake" in rows:
        rows = {**rows, "fake": rows["training" if needs is Memorization else "real"]}
    return WORLDS[needs].build(rows, 0)


def law_of_ends(name: str) -> None:
    """Values and intervals lie between the fixed ends of its scale, and some are near the upper."""
    metric = METRICS[name]
    low, high = metric.meaning.low, metric.meaning.high
    worlds = [each for worse in (False, True) for each in drawn(name, worse, WORSE).values()]
    top = max(figure.value for figure in found(name, extreme(metric.needs)).values())
    for figures in worlds:
        assert low is None or values(figures).mean() > low - 3 * values(figures, "stderr").mean()
        assert high is None or max(top, *values(figures), *values(figures, "high")) <= high
    if high is not None:
        assert max(top, *(values(figures).max() for figures in worlds)) > 0.85 * high


LAWS = (
    law_of_completeness,
    law_of_ends,
    law_of_errors,
    law_of_intervals,
    law_of_floors,
    law_of_direction,
    law_of_mirrors,
    law_of_invariance,
)


@pytest.mark.parametrize("name", METRICS)
@pytest.mark.parametrize("law", LAWS, ids=lambda law: law.__name__)
def test_every_figure_keeps(law, name):
    law(name)


def shifted(by: float, attribute: str) -> Callable[[Matched], Figure]:
    def of(sets: Matched) -> Figure:
        figure = kernel_figure(sets)
        return replace(figure, **{attribute: getattr(figure, attribute) + by})

    return of


def hundredth(timings: Timings) -> Figure:
    figure = found("latency", timings)[""]
    return replace(figure, stderr=figure.stderr / 100)


def narrow(scored: RowScores) -> Figure:
    figure = found("nats", scored)[""]
    return replace(figure, low=figure.value - figure.stderr, high=figure.value + figure.stderr)


_KERNEL, _DENSITY = METRICS["kernel"], METRICS["density"]


@pytest.mark.parametrize(
    ("law", "wrong"),
    [
        (law_of_errors, replace(METRICS["latency"], of=hundredth)),
        (law_of_errors, replace(METRICS["nats"], of=narrow)),
        (law_of_errors, replace(_KERNEL, of=shifted(1, "low"))),
        (law_of_errors, replace(_KERNEL, of=shifted(1, "high"))),
        (law_of_intervals, replace(_KERNEL, perfect=0.5)),
        (law_of_floors, replace(_KERNEL, of=shifted(1, "floor"))),
        (law_of_direction, replace(_KERNEL, better="higher")),
        (law_of_mirrors, replace(_DENSITY, mirror="density")),
        (law_of_invariance, replace(_KERNEL, unchanged=("shift",))),
        (law_of_completeness, replace(_KERNEL, unchanged=("order",))),
        (law_of_completeness, replace(METRICS["nats"], unchanged=())),
        (law_of_completeness, replace(METRICS["frechet"], mirror="")),
        (law_of_ends, replace(METRICS["nats"], meaning=Meaning("", ""))),
        (law_of_ends, replace(_DENSITY, meaning=Meaning("", "", high=1.0))),
        (law_of_ends, replace(METRICS["recall"], meaning=Meaning("", "", high=2.0))),
    ],
)
def test_a_wrong_figure_breaks(law, wrong, monkeypatch):
    monkeypatch.setitem(METRICS, "wrong", wrong)
    with pytest.raises(AssertionError):
        law("wrong")


def test_a_new_figure_is_one_line(monkeypatch):
    """It is computed and becomes plain data, with which way is better."""
    meaning = Meaning("Shift", "How far apart the means are.")

    def shift(sets: Matched) -> Figure:
        value = float((sets.fake.mean(0) - sets.reference.mean(0)).norm())
        return Figure(value=value, low=0.0, high=1.0, stderr=0.1, n=len(sets.fake))

    monkeypatch.setitem(METRICS, "shift", Metric(shift, Matched, "quality", "lower", meaning))
    facts = as_facts(figures_of(built(Matched, 0)))
    assert list(facts) == ["frechet", "kernel", "shift"]
    assert facts["shift"]["better"] == "lower"


# --- what the laws leave open


@pytest.mark.parametrize("n", [6, 7])
def test_the_spread_over_halves_is_the_error_of_a_mean(n):
    """Exactly, over all halves: s/sqrt(n)."""
    x = np.random.default_rng(0).normal(size=n)
    means = [np.mean(x[list(half)]) for half in combinations(range(n), n // 2)]
    of_all = (1 - 1 / len(means)) ** 0.5  # all halves are no sample of them
    assert spread(means, n) * of_all == pytest.approx(x.std(ddof=1) / n**0.5, rel=1e-12)


def test_ties_are_differences_within_their_errors():
    def figure(value: float) -> Figure:
        return Figure(value=value, low=0.0, high=2.0, stderr=0.1, n=9)

    edge = 1.96 * 0.1 * 2**0.5
    assert figure(1.0).ties(figure(1.0 + 0.99 * edge))
    assert not figure(1.0).ties(figure(1.0 + 1.01 * edge))


def test_the_median_time_is_held_at_the_stated_rate():
    """Between the shortest and the longest of six: 1 - 2^-5."""
    seconds = np.random.default_rng(0).lognormal(size=(1500, 6))
    figures = [found("latency", Timings(batches=(), singles=tuple(row)))[""] for row in seconds]
    held = np.mean((values(figures, "low") <= 1) & (values(figures, "high") >= 1))
    assert held == pytest.approx(1 - 2**-5, abs=3 * (2**-5 / 1500) ** 0.5)


def test_few_times_say_so():
    one = Timings(batches=((8, 1.0),), singles=(2.0, 4.0))
    assert found("latency", one)[""].value == 3.0
    assert "only 2 of 6 draws" in found("latency", one)[""].warning
    assert "no interval" in found("samples_per_second", one)[""].warning
    several = Timings(batches=((8, 1.0), (8, 3.0), (2, 9.0)), singles=())
    assert found("samples_per_second", several)[""].value == 4.0
    assert METRICS["latency"].of(several) is None


def test_bits_are_those_of_the_mean():
    given = built(RowScores, 0)
    nats, bits = (found(name, given)[""] for name in ("nats", "bits_per_dim"))
    assert nats.value == pytest.approx(given.held_out.mean())
    assert nats.stderr == pytest.approx(given.held_out.std(ddof=1) / N**0.5)
    assert bits.value == pytest.approx(-nats.value / (4 * np.log(2)))
    assert found("gap", given)[""].value == pytest.approx(
        given.training.mean() - given.held_out.mean()
    )
    assert METRICS["gap"].of(replace(given, training=None)) is None
