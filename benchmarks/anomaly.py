"""Does a digit that a model has never met stand out? AUROC of the log-likelihood, beside two
classical scores.

For each class c of scikit-learn's digits (1,797 images of 8 x 8, values 0 to 16) a model is trained
on four fifths of the images of the other nine classes, without labels. It then scores the remaining
fifth and all images of c: by the variational bound on log P(image), in nats. The area under the ROC
curve is the chance that an image of c scores below an ordinary one. On the same rows, from the same
training rows:

    nearest neighbour   the distance to the nearest training image (Euclidean, on the 64 values)
    isolation forest    scikit-learn's, 500 trees, its own defaults otherwise (Liu, Ting, Zhou 2008)

The interval is 1.96 standard errors of the area by placement values (DeLong, DeLong, Clarke-Pearson
1988, Eq. 5), over the rows that are scored: it holds the training set and the trained model fixed.

    python benchmarks/anomaly.py [--classes 0,1,2] [--seconds 60] [--evaluations 64] [--seed 0]
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable

import numpy as np


def auroc(ordinary: np.ndarray, anomalous: np.ndarray) -> tuple[float, float]:
    """The area and its standard error, for scores that are higher for more ordinary rows.

    >>> auroc(np.array([3.0, 4.0]), np.array([1.0, 2.0]))
    (1.0, 0.0)
    """
    above = (ordinary[:, None] > anomalous) + 0.5 * (ordinary[:, None] == anomalous)
    of_ordinary, of_anomalous = above.mean(1), above.mean(0)  # placement values
    variance = of_ordinary.var(ddof=1) / len(ordinary) + of_anomalous.var(ddof=1) / len(anomalous)
    return float(above.mean()), float(np.sqrt(variance))


def by_likelihood(train: np.ndarray, *, seconds: float, evaluations: int, seed: int) -> Callable:
    """A model trained for so long, as a function from rows to their log-likelihoods."""
    import undiffuse as ud
    from undiffuse.models.likelihood import Bound

    model = ud.edm()
    data = ud.load(train, seed=seed, held_out=64)
    model.fit(data, budget=f"{seconds:g}s", seed=seed)
    return lambda rows: model.log_prob(rows, how=Bound(evaluations), seed=seed)


def by_neighbour(train: np.ndarray) -> Callable:
    from sklearn.neighbors import NearestNeighbors

    nearest = NearestNeighbors(n_neighbors=1).fit(train.reshape(len(train), -1).astype(float))
    return lambda rows: -nearest.kneighbors(rows.reshape(len(rows), -1).astype(float))[0][:, 0]


def by_forest(train: np.ndarray, *, seed: int) -> Callable:
    from sklearn.ensemble import IsolationForest

    forest = IsolationForest(n_estimators=500, random_state=seed).fit(train.reshape(len(train), -1))
    return lambda rows: forest.score_samples(rows.reshape(len(rows), -1))


def leave_out(
    digit: int, *, seconds: float, evaluations: int, seed: int
) -> dict[str, tuple[float, float]]:
    """The area and its error of each score, with this digit as the anomaly."""
    from sklearn.datasets import load_digits

    pixels, labels = load_digits(return_X_y=True)
    images = np.asarray(pixels).reshape(-1, 8, 8).astype(np.uint8)
    others = np.random.default_rng(seed).permutation(np.flatnonzero(labels != digit))
    cut = 4 * len(others) // 5
    train, ordinary, anomalous = images[others[:cut]], images[others[cut:]], images[labels == digit]
    scores = {
        "log-likelihood": by_likelihood(train, seconds=seconds, evaluations=evaluations, seed=seed),
        "nearest neighbour": by_neighbour(train),
        "isolation forest": by_forest(train, seed=seed),
    }
    return {name: auroc(score(ordinary), score(anomalous)) for name, score in scores.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument(
        "--classes", default="0,1,2,3,4,5,6,7,8,9", help="digits to leave out, one at a time"
    )
    parser.add_argument("--seconds", type=float, default=60, help="of training, for each")
    parser.add_argument(
        "--evaluations", type=int, default=64, help="of the network, per image scored"
    )
    parser.add_argument("--seed", type=int, default=0)
    asked = parser.parse_args()
    digits = [int(digit) for digit in asked.classes.split(",")]
    began, found = time.perf_counter(), {}
    for digit in digits:
        found[digit] = leave_out(
            digit, seconds=asked.seconds, evaluations=asked.evaluations, seed=asked.seed
        )
        if digit == digits[0]:
            print("| left out | " + " | ".join(found[digit]) + " |")
            print("|---" * (1 + len(found[digit])) + "|")
        areas = (f"{area:.3f} ± {1.96 * error:.3f}" for area, error in found[digit].values())
        print(f"| {digit} | " + " | ".join(areas) + " |", flush=True)
    means = {
        name: np.mean([areas[name][0] for areas in found.values()]) for name in found[digits[0]]
    }
    print("| mean | " + " | ".join(f"{mean:.3f}" for mean in means.values()) + " |")
    print(
        f"\n{asked.seconds:g} s of training each, seed {asked.seed}; "
        f"{time.perf_counter() - began:.0f} s in all."
    )


if __name__ == "__main__":
    main()
