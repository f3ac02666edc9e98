"""How many of the first samples of a run on the digits are recognized, as `make demo` draws them.

A support-vector machine with calibrated probabilities, fitted on scikit-learn's 1,797 digits, gives
each sample a probability of the class that it was asked for. It is recognized if that is at least
0.9. Beside it stands the share of real digits that are, by cross-validation in five parts.

    python benchmarks/recognized.py --run runs/digits [--n 32] [--seed 0]
"""

from __future__ import annotations

import argparse

import numpy as np
import torch
from sklearn.calibration import CalibratedClassifierCV
from sklearn.datasets import load_digits
from sklearn.model_selection import cross_val_predict
from sklearn.svm import SVC

from undiffuse.errors import InputError
from undiffuse.run import Run

LEAST = 0.9


def classifier() -> CalibratedClassifierCV:
    """Return the classifier, not fitted."""
    return CalibratedClassifierCV(SVC(gamma=1e-3, C=10), method="temperature", cv=5)


def main() -> None:
    """Print how many are recognized, and which are not."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--run", required=True, help="of the digits")
    parser.add_argument("--n", type=int, default=32, help="samples, default 32")
    parser.add_argument("--seed", type=int, default=0, help="of samples, default 0")
    asked = parser.parse_args()
    torch.set_num_threads(1)
    model = Run(asked.run).model()
    conditions = model.sample_conditions(asked.n, seed=asked.seed)
    if "label" not in conditions or model.shape != (1, 8, 8):
        raise InputError(f"{asked.run}: was not trained on the digits and their classes.")
    labels = conditions["label"].numpy()
    rows = model.sample_rows(asked.n, seed=asked.seed).reshape(asked.n, -1)
    pixels, classes = load_digits(return_X_y=True)
    held = cross_val_predict(classifier(), pixels, classes, cv=5, method="predict_proba")
    real = held[np.arange(len(classes)), classes] >= LEAST
    found = classifier().fit(pixels, classes).predict_proba(rows.astype(float))
    own = found[np.arange(asked.n), labels]
    print(f"{int((own >= LEAST).sum())} of {asked.n} are recognized at {LEAST:g}; ", end="")
    print(f"of {len(real):,} real digits {real.mean():.1%}")
    for number in np.flatnonzero(own < LEAST):
        guess = found[number].argmax()
        print(
            f"sample {number}, asked for a {labels[number]}: {own[number]:.2f}; "
            f"looks like a {guess}: {found[number, guess]:.2f}"
        )


if __name__ == "__main__":
    main()
