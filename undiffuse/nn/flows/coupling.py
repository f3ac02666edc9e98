"""An invertible network for images and sequences (Dinh et al. 2017; Kingma and Dhariwal 2018).

    log p(x) = log N(z; 0, I) + log |det dz/dx|,    z = f^-1(x)      (Kim and Lee 2024, Eq. 4)

f^-1 is a chain of layers (Eq. 7) of which each can be undone and knows its own log-determinant; they add up:

    normalize   h <- (h - b) e^s                         per channel; starts with the mean and deviation of the data
    mix         h <- W h,  W = P L (U + diag(+-e^d))     across channels at each position; log|det W| = sum d
    couple      h_2 <- (h_2 - t(h_1)) e^{s(h_1)}         one half of the channels, given the other, by a small network
    squeeze     2 x 2 positions -> 4 channels            (Dinh et al. 2017, Sec. 3.6)
    split       z_2 = (h_2 - t(h_1)) e^{s(h_1)}          half of the channels leave: Gaussian, given those that stay
    peel        the same for the last rows or columns, given those beside them, where a side does not divide evenly

so any size is taken, a sequence as an image of one row. `invertible` has the layers.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, cast, final

import torch
from jaxtyping import Float, Int64
from torch import Tensor, nn

from undiffuse.nn import checks
from undiffuse.nn.flows.invertible import Normalize, Peel, Split, Squeeze, Step
from undiffuse.nn.layers import LabelEntry

_FEATURES = 64  # numbers that stand for a label


@final
class CouplingFlow(nn.Module):
    """x (B, *shape) <-> z (B, D), D the numbers in a row, for rows of shape (C, H, W) or (C, L).

    Arguments (all plain, kept under their own names):
        shape: of a row. width: channels inside the small networks. depth: normalize-mix-couple steps on each scale.
        scales: how often the sides are divided, half of the channels leaving in between. patch: by how much they are
        divided first (then by 2). classes: labels 0 .. classes - 1, -1 for none (0 for no labels).

    Raises InputError for sizes that are not positive or another data shape.

    >>> net = CouplingFlow(shape=(1, 5, 7), width=8, depth=1)
    >>> x = torch.randn(3, 1, 5, 7)
    >>> z, log_det = net(x)
    >>> z.shape, log_det.shape, bool((net.inverse(z) - x).abs().max() < 1e-5)
    (torch.Size([3, 35]), torch.Size([3]), True)
    """

    def __init__(
        self,
        *,
        shape: Sequence[int],
        width: int = 64,
        depth: int = 6,
        scales: int = 2,
        patch: int = 2,
        classes: int = 0,
    ) -> None:
        super().__init__()
        checks.axes("coupling", shape, {2: "(C, L)", 3: "(C, H, W)"})
        checks.at_least("coupling", 1, width=width, depth=depth, scales=scales, patch=patch)
        checks.at_least("coupling", 0, classes=classes)
        self.shape, self.width, self.depth, self.scales = tuple(shape), width, depth, scales
        self.patch, self.classes = patch, classes
        self.label = LabelEntry(classes=classes, width=_FEATURES) if classes else None
        features = _FEATURES if classes else 0
        channels, (height, length) = shape[0], (shape[1:] if len(shape) == 3 else (1, shape[1]))
        self.image = (channels, height, length)
        layers: list[nn.Module] = []
        for scale in range(scales):
            if scale and height == length == 1:
                break
            if scale and channels > 1:
                layers.append(Split(channels, (height, length), width, features))
                channels = channels // 2
            by = patch if scale == 0 else 2
            if rest := height % min(by, height):
                layers.append(Peel(channels, (height, length), 2, rest, width, features))
                height -= rest
            if rest := length % min(by, length):
                layers.append(Peel(channels, (height, length), 3, rest, width, features))
                length -= rest
            rows, columns = min(by, height), min(by, length)
            layers.append(Squeeze((rows, columns)))
            channels, height, length = channels * rows * columns, height // rows, length // columns
            if channels > 1:
                layers.extend(
                    Step(channels, (height, length), width, features) for _ in range(depth)
                )
        layers.append(Normalize(channels))
        self.layers = nn.ModuleList(layers)
        self.last = (channels, height, length)

    def forward(
        self, x: Float[Tensor, "b *shape"], label: Int64[Tensor, " b"] | None = None
    ) -> tuple[Float[Tensor, "b d"], Float[Tensor, " b"]]:
        """Z and log|det dz/dx|."""
        checks.call("coupling", self.shape, self.classes, 0, x, label, None)
        with torch.autocast(
            x.device.type, enabled=False
        ):  # a density is only as exact as its arithmetic
            e = None if self.label is None else self.label(label)
            h, left, log_det = x.reshape(-1, *self.image), [], x.new_zeros(len(x))
            for layer in self.layers:
                h, z, log_scale = layer(h, e)
                left.append(z)
                log_det = log_det + log_scale
            return torch.cat([*left, h.flatten(1)], dim=1), log_det

    def inverse(
        self, z: Float[Tensor, "b d"], label: Int64[Tensor, " b"] | None = None
    ) -> Float[Tensor, "b *shape"]:
        """The x whose z this is."""
        with torch.autocast(z.device.type, enabled=False):
            e = None if self.label is None else self.label(label)
            *left, h = z.split(
                [*(layer.leaves for layer in self.layers), math.prod(self.last)], dim=1
            )
            h = h.reshape(-1, *self.last)
            for i in range(len(left) - 1, -1, -1):
                h = cast(Any, self.layers[i]).inverse(h, left[i], e)
            return h.reshape(-1, *self.shape)

    @torch.no_grad()
    def initialize(
        self, x: Float[Tensor, "b *shape"], label: Int64[Tensor, " b"] | None = None
    ) -> None:
        """Let each normalization start with the mean and deviation of what reaches it from these rows."""
        norms = [layer for layer in self.modules() if isinstance(layer, Normalize)]
        hooks = [norm.register_forward_pre_hook(_measure) for norm in norms]
        try:
            self(x, label)
        finally:
            for hook in hooks:
                hook.remove()


def _measure(norm: nn.Module, inputs: tuple[Tensor, Tensor | None]) -> None:
    assert isinstance(norm, Normalize)
    norm.measure(inputs[0])
