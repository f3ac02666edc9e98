"""Photographs by the network of FID: Inception v3 (Szegedy et al. 2016), trained in 2015.

FID (Heusel et al. 2017) is the Frechet distance by the 2048 activations after this network's last
pooling, with these weights and no others. They are not part of the package and are never fetched:
the user names a file, and only one with the published checksum is called FID. It is the port to
PyTorch of the published TensorFlow graph that pytorch-fid and torch-fidelity use, 95,628,359 bytes,
`pt_inception-2015-12-05-6726825d.pth`.

The graph differs from the usual Inception v3 in its pooling: averages leave the padding out of the
count, and the last block takes a maximum instead. Images in [-1, 1] are resized to 299 x 299
bilinearly, without a filter, as by pytorch-fid (TensorFlow's resizing of 2015, which torch-fidelity
repeats, shifts images by half a pixel).

Blocks are written as tables. A path such as "a b|c" goes through `a`, then through `b` and `c`
side by side.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, final

import torch
from torch import Tensor, nn
from torch.nn.functional import interpolate, relu

from undiffuse.errors import InputError
from undiffuse.evaluation.features.abstract import Pretrained
from undiffuse.reading import utf8_path

FID_SHA256 = "6726825d0af5f729cebd5821db510b11b1cfad8faad88a03f1befd49fb9129b2"
FID_FILE = "pt_inception-2015-12-05-6726825d.pth"

# name -> inputs, outputs, kernel, stride; side branches of a block; its paths, concatenated
_Table = dict[str, tuple[int, int, tuple[int, int], int]]
_POOLS = {
    "average": lambda: nn.AvgPool2d(3, 1, 1, count_include_pad=False),
    "maximum": lambda: nn.MaxPool2d(3, 1, 1),
    "shrink": lambda: nn.MaxPool2d(3, 2),
}


@final
class _Convolution(nn.Module):
    """Convolution, normalization, rectification. Names are those of the weight file."""

    def __init__(
        self, inputs: int, outputs: int, kernel: tuple[int, int], stride: int, *, padded: bool
    ) -> None:
        super().__init__()
        padding = (kernel[0] // 2, kernel[1] // 2) if padded else (0, 0)
        self.conv = nn.Conv2d(inputs, outputs, kernel, stride, padding, bias=False)
        self.bn = nn.BatchNorm2d(outputs, eps=1e-3)

    def forward(self, x: Tensor) -> Tensor:
        """Return images with `outputs` channels."""
        return relu(self.bn(self.conv(x)), inplace=True)


@final
class _Mixed(nn.Module):
    """Paths from the same input, their channels side by side.

    Convolutions of stride 1 are padded, others are not.
    """

    def __init__(self, table: _Table, *paths: str) -> None:
        super().__init__()
        for name, (inputs, outputs, kernel, stride) in table.items():
            self.add_module(name, _Convolution(inputs, outputs, kernel, stride, padded=stride == 1))
        for name in {step for path in paths for step in path.split()} & set(_POOLS):
            self.add_module(name, _POOLS[name]())
        self.paths = [[step.split("|") for step in path.split()] for path in paths]

    def forward(self, x: Tensor) -> Tensor:
        """Return the channels of all paths."""
        return torch.cat([self._along(path, x) for path in self.paths], 1)

    def _along(self, path: list[list[str]], x: Tensor) -> Tensor:
        for names in path:
            sides = [self.get_submodule(name)(x) for name in names]
            x = sides[0] if len(sides) == 1 else torch.cat(sides, 1)
        return x


def _fine(inputs: int, pooled: int) -> _Mixed:
    """35 x 35: 1 x 1, 5 x 5, two 3 x 3."""
    table: _Table = {
        "branch1x1": (inputs, 64, (1, 1), 1),
        "branch5x5_1": (inputs, 48, (1, 1), 1),
        "branch5x5_2": (48, 64, (5, 5), 1),
        "branch3x3dbl_1": (inputs, 64, (1, 1), 1),
        "branch3x3dbl_2": (64, 96, (3, 3), 1),
        "branch3x3dbl_3": (96, 96, (3, 3), 1),
        "branch_pool": (inputs, pooled, (1, 1), 1),
    }
    double = "branch3x3dbl_1 branch3x3dbl_2 branch3x3dbl_3"
    return _Mixed(table, "branch1x1", "branch5x5_1 branch5x5_2", double, "average branch_pool")


def _to_17() -> _Mixed:
    table: _Table = {
        "branch3x3": (288, 384, (3, 3), 2),
        "branch3x3dbl_1": (288, 64, (1, 1), 1),
        "branch3x3dbl_2": (64, 96, (3, 3), 1),
        "branch3x3dbl_3": (96, 96, (3, 3), 2),
    }
    return _Mixed(table, "branch3x3", "branch3x3dbl_1 branch3x3dbl_2 branch3x3dbl_3", "shrink")


def _middle(width: int) -> _Mixed:
    """17 x 17: 7 x 7 as 1 x 7 and 7 x 1, once and twice."""
    table: _Table = {
        "branch1x1": (768, 192, (1, 1), 1),
        "branch7x7_1": (768, width, (1, 1), 1),
        "branch7x7_2": (width, width, (1, 7), 1),
        "branch7x7_3": (width, 192, (7, 1), 1),
        "branch7x7dbl_1": (768, width, (1, 1), 1),
        "branch7x7dbl_2": (width, width, (7, 1), 1),
        "branch7x7dbl_3": (width, width, (1, 7), 1),
        "branch7x7dbl_4": (width, width, (7, 1), 1),
        "branch7x7dbl_5": (width, 192, (1, 7), 1),
        "branch_pool": (768, 192, (1, 1), 1),
    }
    once, twice = (
        " ".join(f"{name}_{i + 1}" for i in range(n))
        for name, n in (("branch7x7", 3), ("branch7x7dbl", 5))
    )
    return _Mixed(table, "branch1x1", once, twice, "average branch_pool")


def _to_8() -> _Mixed:
    table: _Table = {
        "branch3x3_1": (768, 192, (1, 1), 1),
        "branch3x3_2": (192, 320, (3, 3), 2),
        "branch7x7x3_1": (768, 192, (1, 1), 1),
        "branch7x7x3_2": (192, 192, (1, 7), 1),
        "branch7x7x3_3": (192, 192, (7, 1), 1),
        "branch7x7x3_4": (192, 192, (3, 3), 2),
    }
    long = " ".join(f"branch7x7x3_{i + 1}" for i in range(4))
    return _Mixed(table, "branch3x3_1 branch3x3_2", long, "shrink")


def _coarse(inputs: int, pool: str) -> _Mixed:
    """8 x 8: 3 x 3 as 1 x 3 beside 3 x 1."""
    table: _Table = {
        "branch1x1": (inputs, 320, (1, 1), 1),
        "branch3x3_1": (inputs, 384, (1, 1), 1),
        "branch3x3_2a": (384, 384, (1, 3), 1),
        "branch3x3_2b": (384, 384, (3, 1), 1),
        "branch3x3dbl_1": (inputs, 448, (1, 1), 1),
        "branch3x3dbl_2": (448, 384, (3, 3), 1),
        "branch3x3dbl_3a": (384, 384, (1, 3), 1),
        "branch3x3dbl_3b": (384, 384, (3, 1), 1),
        "branch_pool": (inputs, 192, (1, 1), 1),
    }
    once = "branch3x3_1 branch3x3_2a|branch3x3_2b"
    twice = "branch3x3dbl_1 branch3x3dbl_2 branch3x3dbl_3a|branch3x3dbl_3b"
    return _Mixed(table, "branch1x1", once, twice, f"{pool} branch_pool")


@final
class InceptionV3(nn.Module):
    """The network: images (B, 3, 299, 299) in [-1, 1] to (B, 2048)."""

    def __init__(self) -> None:
        super().__init__()
        self.Conv2d_1a_3x3 = _Convolution(3, 32, (3, 3), 2, padded=False)
        self.Conv2d_2a_3x3 = _Convolution(32, 32, (3, 3), 1, padded=False)
        self.Conv2d_2b_3x3 = _Convolution(32, 64, (3, 3), 1, padded=True)
        self.Conv2d_3b_1x1 = _Convolution(64, 80, (1, 1), 1, padded=False)
        self.Conv2d_4a_3x3 = _Convolution(80, 192, (3, 3), 1, padded=False)
        self.Mixed_5b, self.Mixed_5c, self.Mixed_5d = _fine(192, 32), _fine(256, 64), _fine(288, 64)
        self.Mixed_6a = _to_17()
        self.Mixed_6b, self.Mixed_6c, self.Mixed_6d, self.Mixed_6e = (
            _middle(width) for width in (128, 160, 160, 192)
        )
        self.Mixed_7a = _to_8()
        self.Mixed_7b, self.Mixed_7c = _coarse(1280, "average"), _coarse(2048, "maximum")
        self.fc = nn.Linear(2048, 1008)  # not used: part of the file
        self.shrink = nn.MaxPool2d(3, 2)

    def forward(self, x: Tensor) -> Tensor:
        """Return the activations after the last pooling."""
        x = self.shrink(self.Conv2d_2b_3x3(self.Conv2d_2a_3x3(self.Conv2d_1a_3x3(x))))
        x = self.shrink(self.Conv2d_4a_3x3(self.Conv2d_3b_1x1(x)))
        for name, block in self.named_children():
            if name.startswith("Mixed"):
                x = block(x)
        return x.mean((2, 3))


@final
class Inception(Pretrained):
    """Features (N, 2048) of images (N, 1 or 3, H, W) in [-1, 1].

    Args:
        path: the file of the weights, .pth or .safetensors.
        checksum: "" for FID's weights, by which the features are named FID(inception). Any other
            file needs the first digits of its SHA-256, eight or more, and is named by them: its
            distances are not FID.

    Raises:
        InputError: for a file that is not there, has another checksum, or does not hold the weights
            of such a network.
    """

    argument, batch = "FILE", 16

    def __init__(self, path: str | Path, checksum: str = "") -> None:
        self.path = Path(path).expanduser()
        self.checksum = _checked(self.path, checksum.lower())
        published = self.checksum == FID_SHA256
        self.name = "FID(inception)" if published else f"inception-{self.checksum[:8]}"
        weights = _weights(self.path)
        try:
            self.adopt(InceptionV3, weights)
        except RuntimeError as problem:
            why = str(problem).splitlines()[-1].strip()
            raise InputError(
                f"{path}: these are not the weights of FID's Inception v3 ({why}); give {FID_FILE}."
            ) from problem

    @staticmethod
    def prepared(rows: Tensor) -> Tensor:
        """Return images in [-1, 1], grey or in colour, as (B, 3, 299, 299)."""
        x = rows.float().expand(-1, 3, -1, -1)
        return interpolate(x, (299, 299), mode="bilinear", align_corners=False)

    @classmethod
    def fit(cls, rows: Tensor, labels: Tensor | None, *, seed: int, argument: str) -> Inception:
        """Read the weights from `argument`, PATH or PATH#CHECKSUM; nothing is fitted."""
        path, _, checksum = argument.partition("#")
        return cls(path, checksum)

    def config(self) -> dict[str, Any]:
        """Return the path and the checksum; the weights stay in their file."""
        return {"path": str(self.path.absolute()), "checksum": self.checksum}


def _checked(path: Path, wanted: str) -> str:
    """The file's SHA-256, if it is the one that was asked for, or FID's."""
    try:
        with path.open("rb") as file:
            digits = hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as problem:
        raise InputError(
            f"{path}: could not be read ({problem.strerror}); give Inception's weight file."
        ) from problem
    if wanted and (len(wanted) < 8 or not digits.startswith(wanted)):
        raise InputError(
            f"{path}: its SHA-256 is {digits}, not {wanted}; give the file with that checksum."
        )
    if not wanted and digits != FID_SHA256:
        raise InputError(
            f"{path}: its SHA-256 is {digits[:8]}..., that of FID's weights {FID_SHA256[:8]}...; "
            f"give that file, or this one with its checksum (inception:{path.name}#{digits[:8]}), "
            "which names it instead of FID."
        )
    return digits


def _weights(path: Path) -> dict[str, Tensor]:
    from safetensors.torch import load_file

    try:
        if path.suffix == ".safetensors":
            with utf8_path(path) as named:
                return load_file(named)
        weights = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as problem:  # its class depends on the first wrong byte
        raise InputError(
            f"{path}: holds no weights that can be read; give Inception's weight file."
        ) from problem
    if not isinstance(weights, Mapping) or not all(
        isinstance(value, Tensor) for value in weights.values()
    ):
        raise InputError(f"{path}: does not hold weights by name; give Inception's weight file.")
    return dict(weights)
