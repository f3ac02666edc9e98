"""An encoder fitted on the training split, for data that no network elsewhere has seen.

With labels it is a classifier, and its features are the activations before the last layer (the
construction of the Inception score's and Frechet distance's network; Salimans et al. 2016, Heusel
et al. 2017). Without, it is a denoising autoencoder (Vincent et al. 2008): what is left of a row in
a bottleneck from which it can be restored, noise taken out.

    classifier     min  -log softmax(W h(x))_label
    autoencoder    min  |D(h(x + s z)) - x|^2,   s half of the rows' standard deviation

Small on purpose: a few strided convolutions and one linear layer, fitted in seconds on one core.
Features are divided by their standard deviations over training rows. The same seed and rows give
the same encoder, up to the machine's rounding.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, final

import torch
from jaxtyping import Int64
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, mse_loss

from undiffuse.errors import InputError
from undiffuse.evaluation.features.abstract import Features, batched
from undiffuse.seeds import mix

WIDTH = 64  # features
FIT_STEPS = 500
HELD = 1000  # rows, at most, on which a classifier's accuracy is measured
_BATCH = 128
_NOISE = 0.5
_CONVOLUTIONS: dict[int, type[nn.Conv1d | nn.Conv2d]] = {
    2: nn.Conv1d,
    3: nn.Conv2d,
}  # by rows' axes


@final
class Trained(Features):
    """Features (N, 64) of an encoder.

    Args:
        training: rows (N, *shape) at unit scale, at least 8.
        labels: their classes (N,), -1 for an unknown one; None without.
        steps: of the fit; `FIT_STEPS` unless given.
        seed: of the fit.

    `classify` gives the classes of rows where there were labels of two classes or more. `accuracy`
    is then measured on rows that were kept out of the fit (a tenth, 1,000 at most); it is None with
    fewer than 200 rows.

    Raises:
        InputError: for too few rows, or rows that are not vectors, sequences or images.

    >>> x = torch.randn(256, 4, generator=torch.Generator().manual_seed(0))
    >>> features = Trained(x, (x[:, 0] > 0).long(), steps=60)
    >>> features(x).shape, features.name
    (torch.Size([256, 64]), 'classifier')
    >>> float((features.classify(x) == (x[:, 0] > 0)).double().mean()) > 0.9
    True
    """

    def __init__(
        self,
        training: Tensor,
        labels: Int64[Tensor, " n"] | None = None,
        *,
        steps: int | None = None,
        seed: int = 0,
    ) -> None:
        rows, steps = training.float(), steps or FIT_STEPS
        if len(rows) < 8:
            raise InputError(
                f"trained features: {len(rows)} training rows are too few to fit an encoder; give "
                "more."
            )
        if labels is not None:
            known = labels >= 0
            rows, labels = (
                (rows[known], labels[known])
                if len(labels[known].unique()) > 1
                else (rows, None)  # one class teaches nothing
            )
        self.shape = tuple(rows.shape[1:])
        self.classes = 0 if labels is None else int(labels.max()) + 1
        self.name = _name(self.classes)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(mix(seed))
            self.encoder, self.head = _networks(self.shape, self.classes)
        held = min(HELD, len(rows) // 10) if labels is not None and len(rows) >= 200 else 0
        order = torch.randperm(len(rows), generator=torch.Generator().manual_seed(mix(seed, 2)))
        apart, fitted = (order[:held], order[held:]) if held else (order[:0], slice(None))
        self._fit(rows[fitted], None if labels is None else labels[fitted], steps, seed)
        if held and labels is not None:
            self.accuracy = float((self.classify(rows[apart]) == labels[apart]).double().mean())
        found = batched(self.encoder, rows[:5000])
        self.scale = found.std(0).clamp(min=1e-3 * float(found.std()) + 1e-12)

    def _fit(self, rows: Tensor, labels: Tensor | None, steps: int, seed: int) -> None:
        """Adam with a one-cycle learning rate; batch i is a function of the seed and i."""
        draw = torch.Generator().manual_seed(mix(seed, 1))
        parameters = [*self.encoder.parameters(), *self.head.parameters()]
        optimizer = torch.optim.AdamW(parameters, lr=2e-3)
        schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 4e-3, total_steps=steps)
        scale = _NOISE * float(rows[:5000].std())
        for _ in range(steps):
            batch = torch.randint(len(rows), (min(_BATCH, len(rows)),), generator=draw)
            x = rows[batch]
            if labels is None:
                noisy = x + scale * torch.randn(x.shape, generator=draw)
                loss = mse_loss(self.head(self.encoder(noisy)), x.flatten(1))
            else:
                loss = cross_entropy(self.head(self.encoder(x)), labels[batch])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
        for part in (self.encoder, self.head):
            part.eval().requires_grad_(False)

    def __call__(self, rows: Tensor) -> Tensor:
        """Return the features. Raises InputError for rows of another shape."""
        return batched(self.encoder, self._checked(rows)) / self.scale

    def classify(self, rows: Tensor) -> Int64[Tensor, " n"]:
        """Return the class of each row.

        Raises:
            InputError: if the encoder was fitted without labels, or for rows of another shape.
        """
        if not self.classes:
            raise InputError(
                "classes: the features were fitted without labels, so there are no classes to tell."
            )
        return batched(lambda part: self.head(self.encoder(part)), self._checked(rows)).argmax(1)

    def _checked(self, rows: Tensor) -> Tensor:
        if tuple(rows.shape[1:]) != self.shape:
            raise InputError(
                f"features {self.name}: rows of shape {tuple(rows.shape[1:])}, fitted on "
                f"{self.shape}; fit them on such rows."
            )
        return rows.float()

    @classmethod
    def fit(cls, rows: Tensor, labels: Tensor | None, *, seed: int, argument: str) -> Trained:
        """Fit an encoder on the rows."""
        return cls(rows, labels, seed=seed)

    def config(self) -> dict[str, Any]:
        """Return the encoder's shape."""
        return {"shape": list(self.shape), "classes": self.classes, "accuracy": self.accuracy}

    def state(self) -> dict[str, Tensor]:
        """Return the weights, and the features' standard deviations."""
        parts = {"encoder": self.encoder, "head": self.head}
        weights = {
            f"{name}.{key}": value
            for name, part in parts.items()
            for key, value in part.state_dict().items()
        }
        return {**weights, "scale": self.scale}

    @classmethod
    def from_state(cls, config: Mapping[str, Any], state: Mapping[str, Tensor]) -> Trained:
        """Make it again."""
        made = cls.__new__(cls)
        made.shape, made.classes = tuple(config["shape"]), config["classes"]
        made.name = _name(made.classes)
        made.accuracy, made.scale = config["accuracy"], state["scale"]
        made.encoder, made.head = _networks(made.shape, made.classes)
        for prefix, part in (("encoder.", made.encoder), ("head.", made.head)):
            part.load_state_dict(
                {k.removeprefix(prefix): v for k, v in state.items() if k.startswith(prefix)}
            )
            part.eval().requires_grad_(False)
        return made


def _name(classes: int) -> str:
    return "classifier" if classes else "autoencoder"


def _networks(shape: tuple[int, ...], classes: int) -> tuple[nn.Module, nn.Module]:
    """The encoder, and what follows it in training: the classes' logits, or the row restored."""
    if classes:
        return _encoder(shape), nn.Linear(WIDTH, classes)
    head = nn.Sequential(nn.Linear(WIDTH, 256), nn.SiLU(), nn.Linear(256, math.prod(shape)))
    return _encoder(shape), head


def _encoder(shape: tuple[int, ...]) -> nn.Sequential:
    """Rows (B, *shape) to (B, 64): convolutions of stride 2 down to 4 places, or two layers."""
    if len(shape) == 1:
        return nn.Sequential(nn.Linear(shape[0], 128), nn.SiLU(), nn.Linear(128, WIDTH), nn.SiLU())
    if len(shape) not in _CONVOLUTIONS:
        raise InputError(
            f"trained features: rows of shape {shape} are no images or sequences; use raw ones, or "
            "your own function."
        )
    layers: list[nn.Module] = []
    channels, sides = shape[0], list(shape[1:])
    while not layers or (max(sides) > 4 and len(layers) < 12):
        wider = min(64, 16 * 2 ** (len(layers) // 2))
        convolution = _CONVOLUTIONS[len(shape)](channels, wider, 3, stride=2, padding=1)
        layers += [convolution, nn.SiLU()]
        channels, sides = wider, [(side + 1) // 2 for side in sides]
    last = nn.Linear(channels * math.prod(sides), WIDTH)
    return nn.Sequential(*layers, nn.Flatten(), last, nn.SiLU())
