"""The verdict on curves whose truth is known: power laws, plateaus, rises, with
noise, and on copies.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
import torch

from undiffuse.evaluation.metrics import Figure, Memorization, memorization
from undiffuse.evaluation.verdict.trend import trend
from undiffuse.evaluation.verdict.verdict import verdict

EVEN = np.arange(1, 17) * 1000
DOUBLED = np.array(sorted({250, 500, *EVEN.tolist()}))  # as a run that is looked at early
SEEDS = 40

Curve = Callable[[np.ndarray], np.ndarray]


def slow(s: np.ndarray) -> np.ndarray:
    return 0.2 + 0.3 * (s / 1000) ** -0.5


def plateau(s: np.ndarray) -> np.ndarray:
    return 0.2 + 0.3 * np.exp(-(s - s[0]) / 700)


def rising(s: np.ndarray) -> np.ndarray:
    return 0.2 + 0.3 * (s / 1000) ** -1.0 + 0.006 * np.maximum(0, s / 1000 - 6)


def looks(curve: Curve, steps: np.ndarray, noise: float = 0.0, seed: int = 0) -> list[dict]:
    y = curve(steps.astype(float)) + noise * np.random.default_rng(seed).standard_normal(len(steps))
    return [
        {"step": s, "elapsed": s / 10, "loss": loss}
        for s, loss in zip(steps.tolist(), y.tolist(), strict=True)
    ]


def judge(held_out: list[dict], **facts) -> dict:
    none = {"training": [], "levels": None, "memorization": None, "gap": None, "finished": True}
    return verdict(held_out=held_out, **{**none, **facts})


def gap_of(value: float, stderr: float) -> Figure:
    return Figure(
        value=value, low=value - 1.96 * stderr, high=value + 1.96 * stderr, stderr=stderr, n=500
    )


def levels_of(shares: list[float], stderr: float | None = None) -> dict:
    held_out = np.linspace(0.4, 0.1, len(shares))
    found = {
        "log_snr": np.linspace(-6, 6, len(shares)).tolist(),
        "held_out": held_out.tolist(),
        "training": (held_out * (1 - np.array(shares))).tolist(),
    }
    return found if stderr is None else found | {"stderr": [stderr] * len(shares)}


# --- curves


@pytest.mark.parametrize("steps", [EVEN, DOUBLED], ids=["even", "doubled"])
@pytest.mark.parametrize("noise", [0.0, 0.0005, 0.001])
@pytest.mark.parametrize(
    ("curve", "state"), [(slow, "improving"), (plateau, "converged"), (rising, "overfitting")]
)
def test_planted_curves_are_recognized(curve, state, noise, steps):
    """In at least 85 % of cases, with noise up to half a percent of the loss; what is left
    is called unclear.
    """
    states = Counter(
        judge(looks(curve, steps, noise, seed))["state"] for seed in range(SEEDS if noise else 1)
    )
    wrong = {"improving", "converged", "overfitting"} - {state}
    assert states[state] >= 0.85 * states.total(), states
    assert sum(states[other] for other in wrong) <= 0.05 * states.total(), states


@pytest.mark.parametrize("n", [3, 4, 6, 12, 18])
def test_noise_alone_is_neither_improvement_nor_overfitting(n):
    """However many looks there are, a loss that only scatters is called so in at
    least 92 % of cases.
    """
    steps = np.linspace(1000, 16000, n).astype(int)
    states = Counter(
        judge(looks(lambda s: 0.2 + 0 * s, steps, 0.002, seed))["state"] for seed in range(100)
    )
    assert states["improving"] + states["overfitting"] <= 8, states


@pytest.mark.parametrize("c", [0.0, 0.3, 0.5, 1.0, 1.5])
@pytest.mark.parametrize("steps", [EVEN, DOUBLED], ids=["even", "doubled"])
def test_gain_of_exact_power_laws(c, steps):
    """The extrapolation is the closed form's, to 2 %."""
    last = steps[-1]
    curve = (lambda s: 1 - 0.1 * np.log(s)) if c == 0 else (lambda s: -1 + 0.1 * (s / last) ** -c)
    truth = 0.1 * np.log(2) if c == 0 else 0.1 * (1 - 2**-c)
    found = trend(looks(curve, steps))
    assert found is not None
    assert found.gain == pytest.approx(truth, rel=0.02)


@pytest.mark.parametrize("n", [5, 8, 16])
def test_gain_is_within_its_error(n):
    """Of power laws with random exponents and noise, the true gain lies within two
    errors in at least 85 %.
    """
    rng, inside = np.random.default_rng(1), 0
    steps = np.linspace(16000 / n, 16000, n).astype(int)
    for seed in range(100):
        c = rng.uniform(0.1, 1.5)
        found = trend(looks(lambda s, c=c: 0.2 + 0.05 * (s / 16000) ** -c, steps, 0.002, seed))
        assert found is not None
        inside += abs(found.gain - 0.05 * (1 - 2**-c)) < 2 * found.gain_error
    assert inside >= 85


@pytest.mark.parametrize(("scale", "shift"), [(10.0, 0.0), (0.1, 0.0), (1.0, -0.35)])
@pytest.mark.parametrize("curve", [slow, plateau, rising])
def test_units_of_the_loss_do_not_matter(curve, scale, shift):
    """Nor does its zero: a density's loss goes through it."""
    own = judge(looks(curve, DOUBLED, 0.001))
    assert (
        judge(looks(lambda s: scale * curve(s) + shift, DOUBLED, 0.001 * scale))["state"]
        == own["state"]
    )


def test_too_few_looks_are_unclear():
    assert judge(looks(slow, EVEN[:2]))["state"] == "unclear"
    assert judge([])["state"] == "unclear"
    missing = [{**look, "loss": None} for look in looks(slow, EVEN)]
    assert "evaluated 0 times" in judge(missing)["evidence"][0]


def test_scatter_that_hides_the_trend_is_unclear():
    assert judge(looks(lambda s: 0.2 + 0 * s, EVEN[::4], 0.05, seed=3))["state"] == "unclear"


def test_an_end_that_has_not_come_is_said():
    found = judge(looks(plateau, EVEN), finished=False)
    assert found["state"] == "converged"
    assert "stopped before its end" in found["sentence"]


def test_a_training_loss_that_rises_as_well_is_no_overfitting():
    """An unsteady game, or too high a learning rate, makes both worse."""
    steps = np.arange(1, 161) * 100
    up, down = (looks(lambda s, k=k: 0.3 + k * s / 1e5, steps, 0.01) for k in (1.0, -1.0))
    assert judge(looks(rising, EVEN), training=up)["state"] == "unclear"
    assert judge(looks(rising, EVEN), training=down)["state"] == "overfitting"


# --- training rows against held-out rows


def test_a_difference_between_training_and_new_rows_is_overfitting_only_once_the_loss_stands():
    wide = levels_of([0.4] * 8, stderr=0.005)
    assert judge(looks(plateau, EVEN), levels=wide)["state"] == "overfitting"
    assert judge(looks(slow, EVEN), levels=wide)["state"] == "improving"
    assert (
        judge(looks(plateau, EVEN), levels=levels_of([0.4] * 8, stderr=0.1))["state"] == "converged"
    )


def test_a_small_steady_difference_is_no_overfitting_but_more_data_would_help():
    plain = judge(
        looks(plateau, EVEN), levels=levels_of([0.05] * 8, stderr=0.001), gap=gap_of(0.1, 0.2)
    )
    assert plain["state"] == "converged"
    assert "more data" not in plain["advice"]
    more = judge(looks(plateau, EVEN), gap=gap_of(4.0, 0.2))
    assert more["state"] == "converged"
    assert "more data" in more["advice"]
    assert any("4 nats per row" in line for line in more["evidence"])


def test_where_the_difference_lies_is_said():
    details = judge(looks(plateau, EVEN), levels=levels_of([0, 0, 0, 0, 0.1, 0.2, 0.3, 0.4]))
    assert any(
        "details" in line and "4 of 8" in line and "log-SNR 6.0" in line
        for line in details["evidence"]
    )
    even = judge(looks(plateau, EVEN), levels=levels_of([0.1] * 8))
    assert not any("details" in line for line in even["evidence"])


# --- copies


def sampled(kind: str) -> Memorization:
    """Samples beside 400 training rows in 8 dimensions: honest, jittered copies, or blurs that
    lie near everything.
    """
    generator = torch.Generator().manual_seed(0)
    rows = torch.randn(1000, 8, generator=generator)
    training, held_out, honest = rows[:400], rows[400:700], rows[700:]
    made = {
        "honest": honest,
        "copies": training[:300] + 0.02 * honest,
        "some copies": torch.cat([training[:45] + 0.02 * honest[:45], honest[45:]]),
        "blurs": 0.5 * honest,
    }
    return memorization(training, held_out, made[kind])


@pytest.mark.parametrize("curve", [slow, plateau, rising])
@pytest.mark.parametrize("kind", ["copies", "some copies"])
def test_copies_come_before_everything(kind, curve):
    found = judge(looks(curve, EVEN), memorization=sampled(kind))
    assert found["state"] == "memorizing"
    assert "p = " in found["evidence"][-1]


def test_copies_are_told_without_any_curve():
    assert judge([], memorization=sampled("copies"))["state"] == "memorizing"
    honest = judge([], memorization=sampled("honest"))
    assert honest["state"] == "unclear"
    assert "not copies" in honest["sentence"]


def test_honest_samples_and_blurs_are_no_copies():
    """Blurs fail the test of memorization, being near everything; what they are not is said."""
    honest, blurs = (
        judge(looks(plateau, EVEN), memorization=sampled(kind)) for kind in ("honest", "blurs")
    )
    assert sampled("blurs").caught
    assert honest["state"] == blurs["state"] == "converged"
    assert "blurred" in blurs["evidence"][-1]
    assert "blurred" not in honest["evidence"][-1]


def test_nearness_is_copying_where_training_rows_have_a_far_lower_loss():
    """A small, sure difference is not enough: every model knows its training rows a
    little better.
    """
    near = {"memorization": sampled("blurs"), "gap": gap_of(1.0, 0.1)}
    assert judge(looks(plateau, EVEN), **near)["state"] == "converged"
    assert (
        judge(looks(plateau, EVEN), **near, levels=levels_of([0.4] * 8, stderr=0.005))["state"]
        == "memorizing"
    )


def test_a_floor_of_few_held_out_rows_is_no_proof_of_copies():
    """A fifth of the samples look like copies, as do none of eight held-out rows:
    that may be chance.
    """
    found = sampled("blurs")
    copies = replace(found.copies, value=0.2, floor=0.0, stderr=0.01)
    few, many = (replace(found, copies=copies, closer=replace(found.closer, n=n)) for n in (8, 300))
    assert judge(looks(plateau, EVEN), memorization=few)["state"] == "converged"
    assert judge(looks(plateau, EVEN), memorization=many)["state"] == "memorizing"


# --- barely trained


def detected(low: float) -> Figure:
    return Figure(value=low + 0.1, low=low, high=low + 0.2, stderr=0.05, n=28)


@pytest.mark.parametrize("curve", [slow, plateau])
@pytest.mark.parametrize(
    ("share", "low", "barely"),
    [(0.99, 0.7, True), (0.99, 0.4, False), (0.8, 0.7, False), (1.3, 0.4, True), (1.3, 0.7, True)],
)
def test_a_model_no_better_than_a_linear_one_is_barely_trained(curve, share, low, barely):
    """Gaussian data, where no model is better, are told by samples that pass for real rows."""
    linear = {"share": share, "stderr": 0.01}
    found = judge(looks(curve, EVEN), linear=linear, detection=detected(low))
    assert (found["state"] == "barely") == barely
    assert f"in {low + 0.1:.0%} of pairs" in found["sentence"]
    assert any("best linear denoiser" in line for line in found["evidence"])


def test_samples_that_trees_take_for_real_rows_are_no_praise():
    """Far below chance is not better than chance; the interval decides."""
    for low, said in ((0.02, True), (0.35, False), (0.7, False)):
        found = judge(looks(plateau, EVEN), detection=detected(low))
        assert ("repeat single held-out rows" in found["sentence"]) == said


@pytest.mark.parametrize("low", [0.45, 0.7, 0.8, 0.97])
def test_of_samples_that_are_easily_told_it_is_not_said_that_training_would_not_help(low):
    """A loss that hardly falls says little of them."""
    found = judge(looks(plateau, EVEN), detection=detected(low))
    assert found["state"] == "converged"
    assert ("would not help" in found["advice"]) == (low < 0.75)
    assert ("Train for longer" in found["advice"]) == (low > 0.75)


def test_copies_and_overfitting_come_before_barely_trained():
    linear = {"share": 1.3, "stderr": 0.01}
    assert judge(looks(rising, EVEN), linear=linear)["state"] == "overfitting"
    copied = judge(looks(plateau, EVEN), linear=linear, memorization=sampled("copies"))
    assert copied["state"] == "memorizing"
