"""An encoder fitted on the training split, for data that no network elsewhere has seen.

With labels it is a classifier, and its features are the activations before the last layer (the construction of the
Inception score's and Frechet distance's network; Salimans et al. 2016, Heusel et al. 2017). Without, it is a
denoising autoencoder (Vincent et al. 2008): what is left of a row in a bottleneck from which it can be restored,
noise taken out.

    classifier     min  -log softmax(W h(x))_label
    autoencoder    min  |D(h(x + s z)) - x|^2,   s half of the rows' standard deviation

Small on purpose: a few strided convolutions and one linear layer, fitted in seconds on one core. Features are divided
by their standard deviations over training rows. The same seed and rows give the same encoder, up to the machine's
rounding.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, final

import torch
from jaxtyping import Int64
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, mse_loss

from undiffuse.errors import InputError
from undiffuse.evaluation.features.base import batched, content_hash
from undiffuse.seeds import mix

WIDTH = 64  # features
STEPS = 500
BATCH = 128
NOISE = 0.5
HELD = 1000  # rows, a tenth of them at most, that a classifier is not fitted on and that its accuracy is measured on
_CONVOLUTIONS: dict[int, type[nn.Module]] = {2: nn.Conv1d, 3: nn.Conv2d}  # by the rows' axes


def encoder(shape: tuple[int, ...], width: int = WIDTH) -> nn.Sequential:
    """Rows (B, *shape) -> (B, width): convolutions of stride 2 down to at most 4 places, or two layers for vectors."""
    if len(shape) == 1:
        return nn.Sequential(nn.Linear(shape[0], 128), nn.SiLU(), nn.Linear(128, width), nn.SiLU())
    if len(shape) - 1 not in (1, 2):
        raise InputError(
            f"trained features: rows of shape {shape} are no images or sequences; use raw ones, or your own function."
        )
    convolution = _CONVOLUTIONS[len(shape)]
    layers: list[nn.Module] = []
    channels, sides = shape[0], list(shape[1:])
    while not layers or (max(sides) > 4 and len(layers) < 12):
        wider = min(64, 16 * 2 ** (len(layers) // 2))
        layers += [convolution(channels, wider, 3, stride=2, padding=1), nn.SiLU()]
        channels, sides = wider, [(side + 1) // 2 for side in sides]
    inputs = channels * int(torch.tensor(sides).prod())
    return nn.Sequential(*layers, nn.Flatten(), nn.Linear(inputs, width), nn.SiLU())


@final
class Trained:
    """Features (N, 64) of an encoder fitted on training rows (N, *shape) at unit scale, with labels (N,) or without.

    `classify` gives the classes of rows where there were labels. `accuracy` is then measured on rows that were kept
    out of the fit (a tenth, 1,000 at most); it is None without labels, or with fewer than 200 rows.

    >>> x = torch.randn(256, 4, generator=torch.Generator().manual_seed(0))
    >>> features = Trained(x, (x[:, 0] > 0).long(), steps=60)
    >>> features(x).shape, features.name, float((features.classify(x) == (x[:, 0] > 0)).double().mean()) > 0.9
    (torch.Size([256, 64]), 'classifier', True)
    """

    def __init__(
        self,
        training: Tensor,
        labels: Int64[Tensor, " n"] | None = None,
        *,
        steps: int = STEPS,
        seed: int = 0,
    ):
        rows = training.float()
        if len(rows) < 8:
            raise InputError(
                f"trained features: {len(rows)} training rows are too few to fit an encoder; give more."
            )
        known = None if labels is None else labels >= 0
        if (
            known is None or labels is None or len(labels[known].unique()) < 2
        ):  # one class teaches nothing
            labels = None
        elif not known.all():
            rows, labels = rows[known], labels[known]
        self.name = "autoencoder" if labels is None else "classifier"
        self.shape = tuple(rows.shape[1:])
        outputs = rows[0].numel() if labels is None else int(labels.max()) + 1
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(mix(seed))
            self.encoder, self.head = _networks(self.name, self.shape, outputs)
        self.accuracy: float | None = None
        if labels is None:
            _fit(self.encoder, self.head, rows, None, steps=steps, seed=seed)
        else:
            order = torch.randperm(len(rows), generator=torch.Generator().manual_seed(mix(seed, 2)))
            held, kept = order.split([_held(len(rows)), len(rows) - _held(len(rows))])
            _fit(self.encoder, self.head, rows[kept], labels[kept], steps=steps, seed=seed)
            if len(held):
                self.accuracy = float((self.classify(rows[held]) == labels[held]).double().mean())
        known_rows = batched(self.encoder, rows[:5000])
        self.scale = known_rows.std(0).clamp(min=1e-3 * float(known_rows.std()) + 1e-12)

    @property
    def hash(self) -> str:
        return content_hash(self.name, {**self.encoder.state_dict(), "scale": self.scale})

    def __call__(self, rows: Tensor) -> Tensor:
        return batched(self.encoder, self._checked(rows)) / self.scale

    def classify(self, rows: Tensor) -> Int64[Tensor, " n"]:
        """The class of each row. Raises InputError if the encoder was fitted without labels."""
        if self.name != "classifier":
            raise InputError(
                "classes: the features were fitted without labels, so there are no classes to tell."
            )
        return batched(lambda part: self.head(self.encoder(part)), self._checked(rows)).argmax(1)

    def _checked(self, rows: Tensor) -> Tensor:
        if tuple(rows.shape[1:]) != self.shape:
            raise InputError(
                f"features {self.name}: rows of shape {tuple(rows.shape[1:])}, fitted on {self.shape}; "
                "fit them on such rows."
            )
        return rows.float()

    def config(self) -> dict[str, Any]:
        last = list(self.head.parameters())[-1]
        return {
            "name": self.name,
            "shape": list(self.shape),
            "outputs": len(last),
            "accuracy": self.accuracy,
        }

    def state(self) -> dict[str, Tensor]:
        encoder = {f"encoder.{key}": value for key, value in self.encoder.state_dict().items()}
        return (
            encoder
            | {f"head.{key}": value for key, value in self.head.state_dict().items()}
            | {"scale": self.scale}
        )

    @classmethod
    def from_state(cls, config: Mapping[str, Any], state: Mapping[str, Tensor]) -> "Trained":
        made = cls.__new__(cls)
        made.name, made.shape, made.accuracy = (
            config["name"],
            tuple(config["shape"]),
            config["accuracy"],
        )
        made.scale = state["scale"]
        made.encoder, made.head = _networks(made.name, made.shape, config["outputs"])
        for prefix, part in (("encoder.", made.encoder), ("head.", made.head)):
            part.load_state_dict(
                {k.removeprefix(prefix): v for k, v in state.items() if k.startswith(prefix)}
            )
            part.eval().requires_grad_(False)
        return made


def _networks(name: str, shape: tuple[int, ...], outputs: int) -> tuple[nn.Module, nn.Module]:
    return encoder(shape), nn.Linear(WIDTH, outputs) if name == "classifier" else _restorer(outputs)


def _held(n: int) -> int:
    return min(HELD, n // 10) if n >= 200 else 0


def _restorer(outputs: int) -> nn.Sequential:
    return nn.Sequential(nn.Linear(WIDTH, 256), nn.SiLU(), nn.Linear(256, outputs))


def _fit(
    encode: nn.Module,
    head: nn.Module,
    rows: Tensor,
    labels: Tensor | None,
    *,
    steps: int,
    seed: int,
) -> None:
    """Adam with a one-cycle learning rate; batch i is a function of the seed and i."""
    draw = torch.Generator().manual_seed(mix(seed, 1))
    optimizer = torch.optim.AdamW([*encode.parameters(), *head.parameters()], lr=2e-3)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 4e-3, total_steps=steps)
    loss_of = (
        _restoring(rows, draw)
        if labels is None
        else lambda i, h: cross_entropy(head(h(rows[i])), labels[i])
    )
    for _ in range(steps):
        batch = torch.randint(len(rows), (min(BATCH, len(rows)),), generator=draw)
        loss = (
            loss_of(batch, encode)
            if labels is not None
            else loss_of(batch, lambda x: head(encode(x)))
        )
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
    for part in (encode, head):
        part.eval().requires_grad_(False)


def _restoring(
    rows: Tensor, draw: torch.Generator
) -> Callable[[Tensor, Callable[[Tensor], Tensor]], Tensor]:
    scale = NOISE * float(rows[:5000].std())

    def loss(batch: Tensor, restore: Callable[[Tensor], Tensor]) -> Tensor:
        x = rows[batch]
        return mse_loss(restore(x + scale * torch.randn(x.shape, generator=draw)), x.flatten(1))

    return loss
