"""The smallest models and data to train: a Gaussian, and two players that need each other."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn

from undiffuse.interfaces import Player
from undiffuse.models.base import GenerativeModel


class Identity:
    """A transform of integer rows (B, 2): dequantized, then scaled by ten."""

    row_shape = shape = (2,)
    description, levels, bin_width = "whole numbers, dequantized and divided by ten", None, 0.1

    def encode(self, row: Tensor, noise: Any) -> tuple[Tensor, Tensor]:
        x = (row.float() + torch.special.ndtr(noise(row.float()))) / 10
        return x, torch.zeros(len(row), dtype=torch.float64)

    def decode(self, x: Tensor) -> np.ndarray:
        return (x * 10).floor().to(torch.int32).numpy()

    def cells(self, row: Tensor) -> None:
        return None

    def known(self, mask: Tensor) -> Tensor:
        return mask


class Form:
    """A picture as large as there are rows."""

    def preview(self, rows: np.ndarray) -> Image.Image:
        return Image.new("L", (len(rows), 1))

    def sound(self, rows: np.ndarray) -> None:
        return None

    def repeated(self, rows: np.ndarray) -> np.ndarray:
        return np.zeros(len(rows), dtype=bool)

    def present(self, rows: np.ndarray, *, drawn: bool = True) -> np.ndarray:
        return rows


class Points:
    """Rows around (20, -10), of deviations 3 and 8, in an order that depends on (seed, step)."""

    def __init__(self, n: int = 400, *, fingerprint: str = "points", form: Any = None) -> None:
        rng = np.random.default_rng(0)
        self.rows = torch.from_numpy(
            (rng.standard_normal((n, 2)) * [3, 8] + [20, -10]).round().astype(np.int32)
        )
        self.transform, self.conditions, self.form, self.classes = Identity(), {}, form, ()
        self.fingerprint, self.asked = fingerprint, []

    def batches(
        self, size: int, *, seed: int, start_step: int = 0, rank: int = 0, world: int = 1
    ) -> Iterator[dict]:
        step = start_step
        while True:
            self.asked.append(step)
            generator = torch.Generator().manual_seed(seed * 100_003 + step)
            yield {"row": self.rows[torch.randint(len(self.rows), (size,), generator=generator)]}
            step += 1

    def held_out_batch(self, size: int) -> dict:
        return {"row": self.rows[: min(size, 50)]}

    def sample_batch(self, size: int) -> dict:
        return {"row": self.rows[:size]}

    def config(self) -> dict[str, Any]:
        return {"name": "points", "path": None, "fingerprint": self.fingerprint}


class Gaussian(GenerativeModel):
    """N(mean, exp(log_std)^2) by maximum likelihood; no finite loss at the steps of `poison`."""

    def __init__(self, *, size: int = 2, poison: tuple[int, ...] = ()) -> None:
        super().__init__()
        self.size, self.poison, self.calls = size, poison, 0
        self.net = nn.Module()
        self.net.mean = nn.Parameter(torch.zeros(1, size))
        self.net.log_std = nn.Parameter(torch.zeros(size))
        self.register_buffer("seen", torch.zeros((), dtype=torch.int64))

    def prepare(self, source: Any) -> None:
        with torch.no_grad():
            self.net.mean.copy_(torch.randn(1, self.size))

    def players(self) -> dict[str, Player]:
        return {"gaussian": Player(self.net)}

    def losses(self, x: Tensor, **cond: Tensor) -> Iterator[tuple[str, Tensor]]:
        self.seen += 1
        x = x + 0.01 * torch.randn_like(x)
        loss = self.diagnose(x).mean()
        poisoned = self.calls in self.poison
        self.calls += 1
        yield "gaussian", loss * float("nan") if poisoned else loss

    def diagnose(self, x: Tensor) -> Tensor:
        z = (x - self.net.mean) * torch.exp(-self.net.log_std)
        return z.square() / 2 + self.net.log_std

    def draw(self, n: int, *, noise: Any, callback: Any = None, **options: Any) -> Tensor:
        return self.net.mean + torch.exp(self.net.log_std) * noise(torch.empty(n, self.size))

    def diagnostics(self, x: Tensor, **cond: Tensor) -> dict[str, Any]:
        loss = self.diagnose(x + 0.01 * torch.randn_like(x))
        return {"loss": loss.mean(), "levels": loss.mean(0)}

    def config(self) -> dict[str, Any]:
        return {"kind": "gaussian", "size": self.size}


class TwoPlayers(GenerativeModel):
    """The second player's loss depends on the first one, which has just moved."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(2, 1, bias=False), nn.Linear(2, 1, bias=False)
        self.seen: list[tuple[Tensor, Tensor]] = []

    def prepare(self, source: Any) -> None:
        for layer in (self.first, self.second):
            nn.init.ones_(layer.weight)

    def players(self) -> dict[str, Player]:
        return {
            "first": Player(self.first, averaged=False),
            "second": Player(self.second, lr_scale=0.5),
        }

    def losses(self, x: Tensor, **cond: Tensor) -> Iterator[tuple[str, Tensor]]:
        before = self.first.weight.detach().clone()
        yield "first", self.first.weight.square().sum() + 0.0 * x.sum()
        self.seen.append((before, self.first.weight.detach().clone()))
        # the first player is not frozen here: what reaches it from this loss must not move it
        yield (
            "second",
            (self.second.weight - self.first.weight).square().sum() + 10 * self.first.weight.sum(),
        )

    def draw(self, n: int, *, noise: Any, callback: Any = None, **options: Any) -> Tensor:
        return noise(torch.empty(n, 2))

    def diagnostics(self, x: Tensor, **cond: Tensor) -> dict[str, Any]:
        return {"loss": 0.0}

    def config(self) -> dict[str, Any]:
        return {"kind": "two"}


def events(folder: Path, *kinds: str) -> list[dict[str, Any]]:
    """The lines of log.jsonl of these kinds, without times."""
    import json

    lines = [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]
    times = ("rate", "elapsed", "left")
    return [
        {k: v for k, v in line.items() if k not in times}
        for line in lines
        if line["event"] in kinds
    ]


def same_weights(one: GenerativeModel, other: GenerativeModel) -> bool:
    """Whether all tensors are equal, bit for bit."""
    a, b = one.state_dict(), other.state_dict()
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)
