"""Photographs by the network of FID: Inception v3 (Szegedy et al. 2016) as trained by Google in December 2015.

FID (Heusel et al. 2017) is the Frechet distance by the 2048 activations after this network's last pooling, with these
weights and no others. They are not part of the package and are never fetched: a file is named, and only one with the
published checksum is called FID. It is the port to PyTorch of the published TensorFlow graph that pytorch-fid and
torch-fidelity use, 95,628,359 bytes, `pt_inception-2015-12-05-6726825d.pth`.

The graph differs from the usual Inception v3 in its pooling: averages leave the padding out of the count, and the
last block takes a maximum instead. Images lie in [-1, 1] and are resized to 299 x 299 bilinearly, without a filter, as
by pytorch-fid (TensorFlow's resizing of 2015, which torch-fidelity repeats, shifts images by half a pixel).

Blocks are written as tables. A path such as "a b|c" goes through `a`, then through `b` and `c` side by side.
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
from undiffuse.evaluation.features.base import batched, check_images, content_hash

SHA256 = "6726825d0af5f729cebd5821db510b11b1cfad8faad88a03f1befd49fb9129b2"
SIZE = 299
WIDTH, CLASSES = 2048, 1008

# name -> inputs, outputs, kernel, stride; side branches of a block; its paths, concatenated
Table = dict[str, tuple[int, int, tuple[int, int], int]]
_POOLS = {
    "average": lambda: nn.AvgPool2d(3, 1, 1, count_include_pad=False),
    "maximum": lambda: nn.MaxPool2d(3, 1, 1),
    "shrink": lambda: nn.MaxPool2d(3, 2),
}


@final
class Convolution(nn.Module):
    """Convolution, normalization, rectification. Names are the weight file's."""

    def __init__(
        self, inputs: int, outputs: int, kernel: tuple[int, int], stride: int, *, padded: bool
    ) -> None:
        super().__init__()
        padding = (kernel[0] // 2, kernel[1] // 2) if padded else (0, 0)
        self.conv = nn.Conv2d(inputs, outputs, kernel, stride, padding, bias=False)
        self.bn = nn.BatchNorm2d(outputs, eps=1e-3)

    def forward(self, x: Tensor) -> Tensor:
        return relu(self.bn(self.conv(x)), inplace=True)


@final
class Block(nn.Module):
    """Paths from the same input, their channels side by side; convolutions of stride 1 are padded, others are not."""

    def __init__(self, table: Table, *paths: str) -> None:
        super().__init__()
        for name, (inputs, outputs, kernel, stride) in table.items():
            self.add_module(name, Convolution(inputs, outputs, kernel, stride, padded=stride == 1))
        for name in {step for path in paths for step in path.split()} & set(_POOLS):
            self.add_module(name, _POOLS[name]())
        self.paths = [[step.split("|") for step in path.split()] for path in paths]

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([self._along(path, x) for path in self.paths], 1)

    def _along(self, path: list[list[str]], x: Tensor) -> Tensor:
        for names in path:
            sides = [self.get_submodule(name)(x) for name in names]
            x = sides[0] if len(sides) == 1 else torch.cat(sides, 1)
        return x


def _fine(inputs: int, pooled: int) -> Block:
    """35 x 35: 1 x 1, 5 x 5, two 3 x 3."""
    table: Table = {
        "branch1x1": (inputs, 64, (1, 1), 1),
        "branch5x5_1": (inputs, 48, (1, 1), 1),
        "branch5x5_2": (48, 64, (5, 5), 1),
        "branch3x3dbl_1": (inputs, 64, (1, 1), 1),
        "branch3x3dbl_2": (64, 96, (3, 3), 1),
        "branch3x3dbl_3": (96, 96, (3, 3), 1),
        "branch_pool": (inputs, pooled, (1, 1), 1),
    }
    double = "branch3x3dbl_1 branch3x3dbl_2 branch3x3dbl_3"
    return Block(table, "branch1x1", "branch5x5_1 branch5x5_2", double, "average branch_pool")


def _to_17() -> Block:
    table: Table = {
        "branch3x3": (288, 384, (3, 3), 2),
        "branch3x3dbl_1": (288, 64, (1, 1), 1),
        "branch3x3dbl_2": (64, 96, (3, 3), 1),
        "branch3x3dbl_3": (96, 96, (3, 3), 2),
    }
    return Block(table, "branch3x3", "branch3x3dbl_1 branch3x3dbl_2 branch3x3dbl_3", "shrink")


def _middle(width: int) -> Block:
    """17 x 17: 7 x 7 as 1 x 7 and 7 x 1, once and twice."""
    table: Table = {
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
    return Block(table, "branch1x1", once, twice, "average branch_pool")


def _to_8() -> Block:
    table: Table = {
        "branch3x3_1": (768, 192, (1, 1), 1),
        "branch3x3_2": (192, 320, (3, 3), 2),
        "branch7x7x3_1": (768, 192, (1, 1), 1),
        "branch7x7x3_2": (192, 192, (1, 7), 1),
        "branch7x7x3_3": (192, 192, (7, 1), 1),
        "branch7x7x3_4": (192, 192, (3, 3), 2),
    }
    long = " ".join(f"branch7x7x3_{i + 1}" for i in range(4))
    return Block(table, "branch3x3_1 branch3x3_2", long, "shrink")


def _coarse(inputs: int, pool: str) -> Block:
    """8 x 8: 3 x 3 as 1 x 3 beside 3 x 1."""
    table: Table = {
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
    return Block(table, "branch1x1", once, twice, f"{pool} branch_pool")


@final
class Network(nn.Module):
    """Images (B, 3, 299, 299) in [-1, 1] -> (B, 2048)."""

    def __init__(self) -> None:
        super().__init__()
        self.Conv2d_1a_3x3 = Convolution(3, 32, (3, 3), 2, padded=False)
        self.Conv2d_2a_3x3 = Convolution(32, 32, (3, 3), 1, padded=False)
        self.Conv2d_2b_3x3 = Convolution(32, 64, (3, 3), 1, padded=True)
        self.Conv2d_3b_1x1 = Convolution(64, 80, (1, 1), 1, padded=False)
        self.Conv2d_4a_3x3 = Convolution(80, 192, (3, 3), 1, padded=False)
        self.Mixed_5b, self.Mixed_5c, self.Mixed_5d = _fine(192, 32), _fine(256, 64), _fine(288, 64)
        self.Mixed_6a = _to_17()
        self.Mixed_6b, self.Mixed_6c, self.Mixed_6d, self.Mixed_6e = (
            _middle(width) for width in (128, 160, 160, 192)
        )
        self.Mixed_7a = _to_8()
        self.Mixed_7b, self.Mixed_7c = _coarse(1280, "average"), _coarse(2048, "maximum")
        self.fc = nn.Linear(WIDTH, CLASSES)  # not used: part of the file
        self.shrink = nn.MaxPool2d(3, 2)

    def forward(self, x: Tensor) -> Tensor:
        x = self.shrink(self.Conv2d_2b_3x3(self.Conv2d_2a_3x3(self.Conv2d_1a_3x3(x))))
        x = self.shrink(self.Conv2d_4a_3x3(self.Conv2d_3b_1x1(x)))
        for name, block in self.named_children():
            if name.startswith("Mixed"):
                x = block(x)
        return x.mean((2, 3))


@final
class Inception:
    """Features (N, 2048) of images (N, 1 or 3, H, W) in [-1, 1], by the weights in `path` (.pth or .safetensors).

    A file with the published checksum is named FID(inception). Any other must have `checksum`, eight or more of the
    first digits of its SHA-256, and is named by it: its distances are not FID. Raises InputError for a file that is
    not there, has another checksum, or does not hold such a network's weights.
    """

    def __init__(self, path: str | Path, checksum: str = "") -> None:
        self.path = Path(path).expanduser()
        self.checksum = _digest(self.path)
        self.name = (
            "FID(inception)" if self.checksum == SHA256 else f"inception-{self.checksum[:8]}"
        )
        _compare(self.path, self.checksum, checksum.lower())
        self.network = Network()
        state = _weights(self.path)
        try:
            self.network.load_state_dict(state | _counters(self.network))
        except RuntimeError as problem:
            raise InputError(
                f"{path}: these are not the weights of FID's Inception v3 ({str(problem).splitlines()[-1].strip()}); "
                "give pt_inception-2015-12-05-6726825d.pth."
            ) from problem
        self.network.eval().requires_grad_(False)
        self.hash = content_hash(self.name, state)

    def __call__(self, rows: Tensor) -> Tensor:
        check_images(self.name, rows)
        return batched(lambda part: self.network(prepare(part)), rows, batch=16)

    def config(self) -> dict[str, Any]:
        return {"path": str(self.path.absolute()), "checksum": self.checksum}

    def state(self) -> dict[str, Tensor]:
        """Nothing: the weights stay in their file."""
        return {}

    @classmethod
    def from_state(cls, config: Mapping[str, Any], state: Mapping[str, Tensor]) -> "Inception":
        return cls(config["path"], config["checksum"])


def prepare(rows: Tensor) -> Tensor:
    """Images in [-1, 1], grey or in colour -> (B, 3, 299, 299)."""
    return interpolate(
        rows.float().expand(-1, 3, -1, -1), (SIZE, SIZE), mode="bilinear", align_corners=False
    )


def _digest(path: Path) -> str:
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as problem:
        raise InputError(
            f"{path}: could not be read ({problem.strerror}); give Inception's weight file."
        ) from problem


def _compare(path: Path, found: str, wanted: str) -> None:
    if wanted and (len(wanted) < 8 or not found.startswith(wanted)):
        raise InputError(
            f"{path}: its SHA-256 is {found}, and {wanted} was asked for; give the file that was meant."
        )
    if not wanted and found != SHA256:
        raise InputError(
            f"{path}: its SHA-256 is {found[:8]}..., that of FID's weights {SHA256[:8]}...; give that file, or this "
            f"one's checksum with it (inception:{path.name}#{found[:8]}), by which it is named instead of FID."
        )


def _weights(path: Path) -> dict[str, Tensor]:
    from safetensors.torch import load_file

    try:
        if path.suffix == ".safetensors":
            return load_file(path)
        state = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as problem:  # of whatever class: that of the stream's first wrong byte
        raise InputError(
            f"{path}: holds no weights that can be read; give Inception's weight file."
        ) from problem
    if not isinstance(state, Mapping) or not all(
        isinstance(value, Tensor) for value in state.values()
    ):
        raise InputError(
            f"{path}: holds something else than weights by name; give Inception's weight file."
        )
    return dict(state)


def _counters(network: nn.Module) -> dict[str, Tensor]:
    """Of batches seen in training: not all files have them, and they change nothing."""
    return {
        name: value
        for name, value in network.state_dict().items()
        if name.endswith("num_batches_tracked")
    }
