"""Two image sets, and for each a classifier whose features never change: what images are judged by.

    fashion-mnist   28 x 28 grey, 60,000 + 10,000: its ten classes
    patterns        32 x 32 colour, 50,000 + 10,000 (patterns.py): shape, textures and colours

Features are the 64 activations before the last layer, each over its standard deviation on training
rows. Samples are compared with test rows, which neither the classifier nor a model has learned
from, as `undiffuse evaluate` compares: Frechet and kernel distance, precision, recall, density and
coverage, with intervals and floors. The weights lie beside this file, and their SHA-256 below.

    python benchmarks/pinned.py floor
    python benchmarks/pinned.py measure fashion-mnist --run RUN [--n 5000] [--seed 5]
    python benchmarks/pinned.py measure fashion-mnist --images SAMPLES.npy
    python benchmarks/pinned.py fit fashion-mnist --out FOLDER    # writes other weights
"""

from __future__ import annotations

import argparse
import hashlib
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from patterns import draw_patterns
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from undiffuse.atomic import atomic_file
from undiffuse.errors import InputError
from undiffuse.evaluation.metrics import Figure, figures_of, manifold_figures, match_features

FOLDER = Path(__file__).parent / "weights"
WIDTH = 64  # features
COMPARED = 5000  # samples, and test rows
NAMES = ("frechet", "kernel", "precision", "recall", "density", "coverage")
_BATCH, _RATE = 128, 4e-3
_FASHION_SUM = "226c8ae141be7cac328f500be1c6e7ad618a7ac9e410d8a208da8fd4aa889527"
_PATTERNS_SUM = "388db360dc99a8b7e345051e9e0c4134175c30d4a13ada0e4906375a46f4d7ca"

Rows = tuple[np.ndarray, Tensor]  # stored rows, and what they show: (n,) or (n, k)


def _fashion(part: str, rows: int | None = None) -> Rows:
    from undiffuse.data.load import read

    loaded = read({"train": "fashion-mnist", "test": "fashion-mnist-test"}[part])
    assert loaded.labels is not None
    chosen = np.arange(len(loaded.rows))[:rows]
    return loaded.rows.take(chosen), torch.from_numpy(np.asarray(loaded.labels)[chosen]).long()


def _patterns(part: str, rows: int | None = None) -> Rows:
    drawn = draw_patterns(part, rows)
    columns = drawn.labels[:, None], drawn.textures, drawn.colours
    return drawn.pictures, torch.from_numpy(np.concatenate(columns, 1)).float()


def _wrong_patterns(found: Tensor, true: Tensor) -> Tensor:
    shape, front, back, colours = found.split([10, 4, 4, 6], 1)
    classes = zip((shape, front, back), true[:, :3].long().T)
    parts = [cross_entropy(part, label) for part, label in classes]
    return parts[0] + 0.3 * (parts[1] + parts[2]) + 3 * (colours - true[:, 3:]).square().mean()


@dataclass(frozen=True)
class Pinned:
    """An image set and its classifier.

    Attributes:
        read: `read(part, rows)` gives all rows of "train" or "test", or the first ones.
        channels, side: of an image.
        outputs: of the last layer; the first ten are those of the classes.
        loss: of outputs (n, outputs) and what rows show.
        epochs: of training.
        checksum: SHA-256 of the file of weights.
    """

    name: str
    read: Callable[..., Rows]
    channels: int
    side: int
    outputs: int
    loss: Callable[[Tensor, Tensor], Tensor]
    epochs: int
    checksum: str

    @property
    def file(self) -> Path:
        """Where the weights are."""
        return FOLDER / f"{self.name}.safetensors"


SETS = {
    one.name: one
    for one in (
        Pinned("fashion-mnist", _fashion, 1, 28, 10, cross_entropy, 5, _FASHION_SUM),
        Pinned("patterns", _patterns, 3, 32, 24, _wrong_patterns, 7, _PATTERNS_SUM),
    )
}


class Classifier(nn.Module):
    """Images at unit scale to features (n, 64), and these to outputs."""

    def __init__(self, pinned: Pinned) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        channels, side = pinned.channels, pinned.side
        for wide, kernel in ((32, 5), (64, 3), (96, 3)):
            convolution = nn.Conv2d(channels, wide, kernel, 2, kernel // 2, bias=False)
            layers += [convolution, nn.BatchNorm2d(wide), nn.SiLU()]
            channels, side = wide, -(-side // 2)
        last = nn.Linear(channels * side**2, WIDTH)
        self.features = nn.Sequential(*layers, nn.Flatten(), last, nn.SiLU())
        self.head = nn.Linear(WIDTH, pinned.outputs)
        self.register_buffer("scale", torch.ones(WIDTH))

    def forward(self, x: Tensor) -> Tensor:
        """Return the outputs of the last layer."""
        return self.head(self.features(x))


def encoded(rows: np.ndarray) -> Tensor:
    """Return stored rows (n, h, w) or (n, h, w, 3) uint8 as images (n, c, h, w) in [-1, 1]."""
    x = torch.from_numpy(np.ascontiguousarray(rows))
    x = x[:, None] if x.ndim == 3 else x.permute(0, 3, 1, 2)
    return x.float() / 127.5 - 1


@cache
def classifier(name: str) -> Classifier:
    """Return the pinned classifier of a set.

    Raises:
        InputError: if its weights are not those whose checksum stands above.
    """
    from safetensors.torch import load

    pinned = SETS[name]
    content = pinned.file.read_bytes()
    if (found := hashlib.sha256(content).hexdigest()) != pinned.checksum:
        raise InputError(
            f"{pinned.file}: its SHA-256 is {found}, not {pinned.checksum}; restore that file."
        )
    network = Classifier(pinned)
    network.load_state_dict(load(content))  # float16, which become float32
    return network.eval().requires_grad_(False)


def _batched(of: Callable[[Tensor], Tensor], rows: np.ndarray) -> Tensor:
    with torch.no_grad():
        return torch.cat(
            [of(encoded(rows[i : i + 500])).double() for i in range(0, len(rows), 500)]
        )


def features(name: str, rows: np.ndarray) -> Tensor:
    """Return the features (n, 64) of stored rows."""
    network = classifier(name)
    return _batched(network.features, rows) / network.scale


def recognized(name: str, rows: np.ndarray) -> Tensor:
    """Return the probability (n, 10) of each class for stored rows."""
    return _batched(classifier(name), rows)[:, :10].softmax(1)


@cache
def _real(name: str) -> Tensor:
    return features(name, SETS[name].read("test")[0])


def measure(name: str, samples: np.ndarray, *, seed: int = 0) -> dict[str, Figure]:
    """Return the figures of stored rows (n, ...) against as many test rows, at most 10,000."""
    sets = match_features(_real(name), features(name, samples), seed=seed)
    return figures_of(sets, manifold_figures(sets), names=NAMES)


def fit(pinned: Pinned) -> Classifier:
    """Train a classifier on all training rows, the same each time on the same machine."""
    rows, truth = pinned.read("train")
    torch.manual_seed(0)
    network, draw = Classifier(pinned), torch.Generator().manual_seed(0)
    steps = pinned.epochs * (len(rows) // _BATCH)
    optimizer = torch.optim.AdamW(network.parameters(), weight_decay=0.02)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, _RATE, total_steps=steps)
    network.to(memory_format=torch.channels_last)
    for _ in range(pinned.epochs):
        order = torch.randperm(len(rows), generator=draw)
        for batch in order[: len(rows) // _BATCH * _BATCH].view(-1, _BATCH):
            loss = pinned.loss(network(encoded(rows[batch.numpy()])), truth[batch])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
    network.to(memory_format=torch.contiguous_format)
    network.eval().requires_grad_(False)
    network.scale.copy_(_batched(network.features, rows).std(0))
    return network


def _write(pinned: Pinned, folder: Path) -> None:
    """Fit a classifier, write it in float16, print its checksum and its accuracy."""
    from safetensors.torch import save_file

    began, network = time.perf_counter(), fit(pinned).half()
    state = {key: value for key, value in network.state_dict().items() if value.ndim}
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / pinned.file.name
    with atomic_file(file) as temporary:
        save_file(state, temporary)
    rows, truth = pinned.read("test")
    classes = truth if truth.ndim == 1 else truth[:, 0].long()
    found = _batched(network.float(), rows)[:, :10].argmax(1)
    accuracy = float((found == classes).double().mean())
    digits = hashlib.sha256(file.read_bytes()).hexdigest()
    print(f"{file}: {file.stat().st_size:,} bytes, sha256 {digits}")
    print(f"accuracy {accuracy:.4f} on test rows; {time.perf_counter() - began:.0f} s")


def table(found: dict[str, dict[str, Figure]]) -> str:
    """Return figures by name as a table in Markdown."""
    heads = ["", *NAMES, "Frechet interval", "Frechet floor"]
    lines = [f"| {' | '.join(heads)} |", "|" + "---|" * len(heads)]
    for title, figures in found.items():
        one = figures["frechet"]
        cells = [f"{figures[name].value:.4g}" for name in NAMES]
        cells += [f"{one.low:.4g} to {one.high:.4g}", f"{one.floor:.3g}"]
        lines.append(f"| {title} | {' | '.join(cells)} |")
    return "\n".join(lines)


@cache
def floor(name: str, n: int = COMPARED) -> dict[str, Figure]:
    """Return the figures of the first n training rows."""
    return measure(name, SETS[name].read("train", n)[0])


def _drawn(asked: argparse.Namespace) -> np.ndarray:
    if asked.images:
        return np.load(asked.images, allow_pickle=False)
    from undiffuse.run import Run

    return Run(asked.run).model().sample_rows(asked.n, seed=asked.seed)


def main() -> None:
    """Fit, measure the floor, or measure samples."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--threads", type=int, default=1, help="default 1")
    verbs = parser.add_subparsers(dest="verb", required=True)
    verbs.add_parser("floor", help="5,000 training rows of each set against test rows")
    for verb in ("fit", "measure"):
        verbs.add_parser(verb).add_argument("set", choices=SETS)
    verbs.choices["fit"].add_argument("--out", type=Path, required=True, help="folder to write in")
    judged = verbs.choices["measure"]
    source = judged.add_mutually_exclusive_group(required=True)
    source.add_argument("--run", help="run to draw from, by its default sampler")
    source.add_argument("--images", help=".npy file of samples as the data are stored")
    judged.add_argument("--n", type=int, default=COMPARED, help="samples to draw, default 5000")
    judged.add_argument("--seed", type=int, default=5, help="of samples, default 5")
    asked: Any = parser.parse_args()
    torch.set_num_threads(asked.threads)
    if asked.verb == "fit":
        _write(SETS[asked.set], asked.out)
    elif asked.verb == "floor":
        print(table({f"{name}, training rows": floor(name) for name in SETS}))
    else:
        print(table({asked.run or asked.images: measure(asked.set, _drawn(asked))}))


if __name__ == "__main__":
    main()
