"""The verdict on a run, with its evidence.

    memorizing    samples are copies of training rows, whatever the curves say
    barely        the model removes noise no better than the best linear denoiser, and its samples
                  are told from real rows: they are noise with the data's mean and covariance
    overfitting   the held-out loss has risen since its best, or has stopped far above that of
                  training rows
    improving     twice the training would lower the held-out loss by enough to matter (`trend`)
    converged     it would not
    unclear       there are too few evaluations, or they scatter too much

Samples that lie closer to training rows than held-out rows do (`metrics.memorization`) need not be
copies: blurred samples lie close to everything. They are copies if the ratio of distances says so
too, or if the loss of training rows is far below that of held-out rows, which blur does not cause.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, final

import numpy as np

from undiffuse.evaluation.metrics.figure import Figure
from undiffuse.evaluation.metrics.memorization import Memorization
from undiffuse.evaluation.verdict.trend import FEWEST, WORTH, Trend, finite, trend

LARGE = 0.2  # share of the held-out loss: a gap to training rows that matters once the loss stops
SEEN = 0.02  # share of the loss at low noise: a smaller gap to training rows is not mentioned
NEAR = 0.97  # of the error of the best linear denoiser: a model above it knows little more
FAR = 1.05  # of that error: a model above it knows less, whatever its samples look like
TOLD = 0.75  # of pairs, at least, in which trees know the sample: it is easily told
MANY = 3.0  # standard errors that make an excess of copies, or a gap, more than chance
_TWINS = (
    "fewer than by chance, which is no praise; samples repeat single held-out rows, or the data "
    "hold rows twice"
)
_BARELY = (
    "barely",
    "Barely trained: the model removes noise no better than the best linear denoiser; its samples "
    "are little more than noise with the data's mean and covariance.",
    "Train for longer; the other figures say little about such a model.",
)


@final
@dataclass(frozen=True, kw_only=True)
class LevelLosses:
    """By which share the loss of held-out rows exceeds that of training rows, and where."""

    share: float
    error: float | None
    worst: float
    worst_log_snr: float
    higher: int
    count: int
    details: bool

    @property
    def large(self) -> bool:
        """Whether the difference is large, and more than chance as far as its error is known."""
        return self.share > max(LARGE, MANY * (self.error or 0.0))


def _level_losses(levels: Mapping[str, Any] | None) -> LevelLosses | None:
    """The difference per noise level; None without one."""
    if levels is None or not levels.get("training") or not levels.get("held_out"):
        return None
    error = levels.get("stderr") or [None] * len(levels["held_out"])
    rows = [
        row
        for row in zip(
            levels["log_snr"], levels["held_out"], levels["training"], error, strict=True
        )
        if all(finite(value) for value in row[:3])
    ]
    if not rows:
        return None
    log_snr, held_out, training = (np.array([row[i] for row in rows]) for i in range(3))
    gap, least = held_out - training, 1e-12 + 1e-6 * abs(held_out).mean()
    shares = gap / np.maximum(abs(held_out), least)
    errors = [row[3] for row in rows if row[3] is not None and finite(row[3])]
    worst = int(shares.argmax())
    little_noise = log_snr > np.median(log_snr)
    total = max(float(abs(held_out).mean()), 1e-300)
    share, error = float(gap.mean()) / total, float(np.mean(errors)) / total if errors else None
    there, elsewhere = (
        float(shares[part].mean()) if part.any() else 0.0 for part in (little_noise, ~little_noise)
    )
    return LevelLosses(
        share=share,
        error=error,  # the levels share their rows: errors add up
        worst=float(shares[worst]),
        worst_log_snr=float(log_snr[worst]),
        higher=int((gap > 0).sum()),
        count=len(rows),
        details=share > MANY * (error or 0.0) and there > max(2 * abs(elsewhere), SEEN),
    )


def verdict(
    *,
    training: list[dict[str, Any]],
    held_out: list[dict[str, Any]],
    levels: dict[str, Any] | None,
    memorization: Memorization | None,
    gap: Figure | None,
    finished: bool,
    linear: Mapping[str, float] | None = None,
    detection: Figure | None = None,
) -> dict[str, Any]:
    """Judge a run by its curves and samples.

    Args:
        training: {"step", "elapsed", "loss"} of training rows, in order.
        held_out: the same of held-out rows, always the same rows, with the averaged weights.
        levels: {"log_snr", "held_out", "training"}, losses per noise level of the trained model,
            and "stderr" of their difference if it is known.
        memorization: of samples of the model; None if it was not measured.
        gap: log-likelihood of training rows less that of held-out rows, nats per row.
        finished: whether training has come to its end, where the learning rate is zero.
        linear: {"share", "stderr"}, the error of held-out rows over that of the best linear
            denoiser; None if it is not known.
        detection: how surely samples are told from real rows; None if it was not measured.

    Returns:
        {"state", "sentence", "evidence", "advice"}; the states are listed at the top of this
        module.

    >>> steps = range(100, 1700, 100)
    >>> looks = [{"step": s, "elapsed": s / 10, "loss": 1 + 2 * s**-0.5} for s in steps]
    >>> more = {"training": [], "levels": None, "memorization": None, "gap": None}
    >>> found = verdict(held_out=looks, finished=True, **more)
    >>> found["state"], found["advice"]
    ('improving', 'Train for longer.')
    """
    course, split = trend(held_out), _level_losses(levels)
    large = split is not None and split.large
    apart = large or (gap is not None and gap.value > MANY * gap.stderr)
    copies = _copies(memorization, large)
    state, sentence, advice = _judged(course, split, training)
    if copies:
        assert memorization is not None
        state, sentence, advice = _memorizing(memorization)
    elif state != "overfitting" and _barely(linear, detection):
        state, sentence, advice = _BARELY
    elif not finished and state in ("improving", "converged"):
        sentence += " Training was stopped before its end."
        advice = (
            "Resume training to its end first: the last part, with a falling learning rate, "
            "improves the model most."
        )
    elif course is None and memorization is not None and not memorization.powerless:
        sentence += " The samples are not copies of training rows."
    elif state == "converged" and detection is not None and detection.low > TOLD:
        advice = (
            "By the loss longer training would help little; but samples are easily told from real "
            "rows, and a loss that hardly falls can hide how much better they become. Train for "
            "longer, or a larger network, and compare."
        )
    elif apart and state == "converged":
        advice = (
            "Longer training would not help; more data would: training rows are modelled better."
        )
    if detection is not None:
        sentence += f" Trees tell samples from real rows in {detection.value:.0%} of pairs"
        sentence += f": {_TWINS}." if detection.high < 0.5 else "."
    evidence = [
        *_detection_words(detection),
        *_linear_words(linear),
        *_course_words(course, held_out),
        *_level_words(split),
        *_gap_words(gap),
        *_memorization_words(memorization, copies),
    ]
    return {"state": state, "sentence": sentence, "evidence": evidence, "advice": advice}


def _copies(found: Memorization | None, large: bool) -> bool:
    """Whether samples are copies: closer to training rows, and by ratio or by these rows' loss."""
    if found is None or not found.caught:
        return False
    floor, n = found.copies.floor or 0.0, max(found.closer.n, 1)  # the floor is of at most n rows
    error = math.hypot(found.copies.stderr, math.sqrt((floor * (1 - floor) + 1 / n) / n))
    return large or found.copies.value - floor > MANY * error


def _memorizing(found: Memorization) -> tuple[str, str, str]:
    """State, sentence and advice."""
    sentence = (
        f"Memorizing: {found.copies.value:.1%} of the samples are near copies of training rows."
    )
    if found.copies.value <= (found.copies.floor or 0.0):
        sentence = "Memorizing: samples lie closer to training rows than new rows do."
    advice = (
        "Use more data or a smaller network, or train for a shorter time; look at the pairs before "
        "sharing samples."
    )
    return "memorizing", sentence, advice


def _barely(linear: Mapping[str, float] | None, detection: Figure | None) -> bool:
    """Whether the model is no better than linear although the data are not Gaussian, or worse."""
    if linear is None:
        return False
    told = detection is not None and detection.low > 0.5
    return linear["share"] - linear["stderr"] > FAR or (told and linear["share"] > NEAR)


def _judged(
    course: Trend | None, split: LevelLosses | None, training: Sequence[Mapping[str, Any]]
) -> tuple[str, str, str]:
    """State, sentence and advice by the curves alone."""
    if course is None:
        words = (
            "Unclear: held-out rows were evaluated too rarely to tell whether training has "
            "converged."
        )
        return "unclear", words, "Train for longer, or evaluate more often during training."
    if course.risen and not _falling(training, course.best):
        words = (
            f"Unclear: the loss has risen since step {course.best:,}, of training rows as well: "
            "training is unstable."
        )
        return "unclear", words, "Train with a lower learning rate."
    if course.risen:
        words = (
            f"Overfitting: the model was best on new data around step {course.best:,} and has "
            "become worse since."
        )
        advice = "Use more data or a smaller network, or train for a shorter time."
        return "overfitting", words, advice
    if course.improving:
        words = (
            "Still improving: twice the training would lower the held-out loss "
            f"from {course.losses[-1]:.4g} by up to {course.gain:.2g}."
        )
        return "improving", words, "Train for longer."
    if split is not None and split.large:
        words = (
            f"Overfitting: the loss of new rows is {split.share:.0%} above that of training rows, "
            "and no longer falls."
        )
        return "overfitting", words, "Use more data or a smaller network."
    if course.open:
        words = (
            "Unclear: the held-out loss scatters too much, or was evaluated too rarely, to tell "
            "whether it still falls."
        )
        return "unclear", words, "Train for longer, or evaluate more often during training."
    return (
        "converged",
        "Converged: the held-out loss no longer falls.",
        "Longer training would not help.",
    )


def _falling(training: Sequence[Mapping[str, Any]], best: int) -> bool:
    """Whether the training loss is no higher at the end than about the step `best`, or unknown."""
    looks = [
        (int(look["step"]), float(look["loss"])) for look in training if finite(look.get("loss"))
    ]
    last = max((step for step, _ in looks), default=0)
    end = [loss for step, loss in looks if step > 0.8 * last]
    about = [loss for step, loss in looks if abs(step - best) <= 0.1 * last]
    if len(end) < 2 or len(about) < 2:
        return True
    error = math.hypot(
        np.std(end, ddof=1) / math.sqrt(len(end)), np.std(about, ddof=1) / math.sqrt(len(about))
    )
    return bool(np.mean(end) - np.mean(about) <= MANY * error)


def _plus(value: float, error: float) -> str:
    """A number with its error, to two digits of the error.

    >>> _plus(0.012345, 0.0021), _plus(3.0, 0.0)
    ('0.0123 +- 0.0021', '3 +- 0')
    """
    digits = 1 - math.floor(math.log10(error)) if error > 0 else 0
    return f"{value:.{max(digits, 0)}f} +- {error:.{max(digits, 0)}f}"


def _course_words(course: Trend | None, held_out: Sequence[Mapping[str, Any]]) -> list[str]:
    if course is None:
        n = sum(finite(look.get("loss")) for look in held_out)
        return [
            f"Held-out rows were evaluated {n} times with a loss; a trend takes at least {FEWEST}."
        ]
    first, last, lowest = course.losses[0], course.losses[-1], min(course.losses)
    words = [
        f"Held-out loss, {len(course.steps)} times: {first:.4g} at step {course.steps[0]:,}, "
        f"{last:.4g} at the end, step {course.steps[-1]:,}; lowest {lowest:.4g}, at step "
        f"{course.steps[course.losses.index(lowest)]:,}.",
        "Extrapolated by a power law, twice the training would change it by "
        f"{_plus(-course.gain, course.gain_error)}; less than {WORTH * course.fall:.2g} does not "
        "matter.",
    ]
    if course.risen or course.perhaps_risen:
        words.append(
            f"It has risen by {_plus(course.rise, course.rise_error)} since step {course.best:,}."
        )
    return words


def _detection_words(detection: Figure | None) -> list[str]:
    if detection is None:
        return []
    return [
        "Trees that did not see them know a sample from a real row in "
        f"{detection.value:.1%} of pairs (95 % interval {detection.low:.1%} to "
        f"{detection.high:.1%}; 50 % is chance; far below it is no better: a sample that repeats a "
        "real row is taken for real, and that row for a sample)."
    ]


def _linear_words(linear: Mapping[str, float] | None) -> list[str]:
    if linear is None:
        return []
    return [
        "The squared error of held-out rows is "
        f"{_plus(100 * linear['share'], 100 * linear['stderr'])} % of that of the best linear "
        "denoiser, where it is least; near 100 % only noise with the data's mean and covariance "
        "is learned."
    ]


def _level_words(split: LevelLosses | None) -> list[str]:
    if split is None:
        return []
    error = "" if split.error is None else f" +- {split.error:.1%}"
    side = "below" if split.share >= 0 else "above"
    words = (
        f"The loss of training rows is {abs(split.share):.1%}{error} {side} that of held-out rows; "
        "it is "
        f"lower at {split.higher} of {split.count} noise levels"
    )
    if split.share > 0:
        words += f", most at log-SNR {split.worst_log_snr:.1f} ({split.worst:.1%})"
    if split.details:
        words += ", where there is little noise: details of training rows are learned"
    return [words + "."]


def _gap_words(gap: Figure | None) -> list[str]:
    if gap is None or not finite(gap.value):
        return []
    return [
        f"Training rows are more likely than held-out rows by {gap.value:.3g} nats per row "
        f"(95 % interval {gap.low:.3g} to {gap.high:.3g})."
    ]


def _memorization_words(found: Memorization | None, copies: bool) -> list[str]:
    if found is None:
        return []
    floor = "" if found.copies.floor is None else f" (of held-out rows {found.copies.floor:.1%})"
    words = [
        f"A sample lies closer to the training rows than a held-out row does in "
        f"{found.closer.value:.1%} of pairs (50 % without memorization; p = {found.p:.2g}), and "
        f"{found.copies.value:.1%} of the samples look like copies{floor}."
    ]
    if found.powerless:
        words[0] += (
            " No samples could have been caught copying: there are too few held-out rows, or these "
            "lie as near to training rows as copies would."
        )
    elif found.detectable is not None:
        words[0] += (
            f" Exact copies are found in 9 of 10 cases if they are at least {found.detectable:.0%} "
            "of the samples; to find fewer takes more held-out rows."
        )
    if found.caught and not copies:
        words.append(
            "Closer than chance, but not copies: blurred or unvaried samples show the same."
        )
    return words
