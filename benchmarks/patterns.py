"""A colour image set that needs no download: one shape on a background, with textures and noise.

    picture = light * [m * texture_1 + (1 - m) * texture_0] + noise

32 x 32 pixels, uint8. m is the smooth inside of one of ten shapes (the label) of random place, size
and angle. Either texture blends two random colours by stripes, checks, a gradient or smooth noise.
`light` falls from one side to the other. Picture i of a part is a function of (part, i) alone, with
the numpy of constraints.txt; another may draw other numbers.

    python benchmarks/patterns.py --out patterns.npz [--rows 50000] [--part train]
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np

SIDE = 32
PARTS = {"train": 50_000, "test": 10_000}  # rows
_CHUNK = 1000
_NOISE = 0.02
_EDGE = 0.06  # half the width over which a shape ends, where half a picture is 1

Plane = np.ndarray  # (n, SIDE, SIDE)


def _polygon(x: Plane, y: Plane, sides: int) -> Plane:
    """How far outside a regular polygon, whose nearest points have distance 1/2, each point is."""
    sector = 2 * np.pi / sides
    angle = (np.arctan2(y, x) + sector / 2) % sector - sector / 2
    return np.hypot(x, y) * np.cos(angle) - 0.5


def _star(x: Plane, y: Plane) -> Plane:
    return np.hypot(x, y) - 0.5 - 0.25 * np.cos(5 * np.arctan2(y, x))


def _heart(x: Plane, y: Plane) -> Plane:
    across = np.abs(x)
    return np.hypot(across * 1.1, 1.1 * y + 0.1 - 0.7 * np.sqrt(across)) - 0.62


SHAPES: dict[str, Callable[[Plane, Plane], Plane]] = {
    "disc": lambda x, y: np.hypot(x, y) - 0.6,
    "ring": lambda x, y: np.abs(np.hypot(x, y) - 0.5) - 0.16,
    "triangle": lambda x, y: _polygon(x, y, 3) + 0.06,
    "square": lambda x, y: _polygon(x, y, 4),
    "hexagon": lambda x, y: _polygon(x, y, 6) - 0.03,
    "bar": lambda x, y: np.maximum(np.abs(x) - 0.8, np.abs(y) - 0.22),
    "cross": lambda x, y: np.minimum(
        np.maximum(np.abs(x) - 0.7, np.abs(y) - 0.2), np.maximum(np.abs(y) - 0.7, np.abs(x) - 0.2)
    ),
    "star": _star,
    "crescent": lambda x, y: np.maximum(np.hypot(x, y) - 0.65, 0.5 - np.hypot(x - 0.35, y)),
    "heart": _heart,
}
"""Name -> how far a point is outside it, about, negative inside; in the order of the labels."""


class Patterns(NamedTuple):
    """Pictures and what they show.

    Attributes:
        pictures: (n, 32, 32, 3) uint8.
        labels: (n,) the shape, from 0 to 9.
        textures: (n, 2) those of the shape and of the background, from 0 to 3.
        colours: (n, 6) the mean colours of these two, from 0 to 1.
    """

    pictures: np.ndarray
    labels: np.ndarray
    textures: np.ndarray
    colours: np.ndarray


def draw_patterns(part: str, rows: int | None = None) -> Patterns:
    """Return the first rows of a part, or all of them.

    >>> pictures = draw_patterns("test", 3).pictures
    >>> pictures.shape, pictures.dtype
    ((3, 32, 32, 3), dtype('uint8'))
    """
    rows = PARTS[part] if rows is None else rows
    seed = list(PARTS).index(part)
    chunks = [_chunk(np.random.default_rng([seed, i])) for i in range(-(-rows // _CHUNK))]
    return Patterns(*(np.concatenate(column)[:rows] for column in zip(*chunks, strict=True)))


def _chunk(random: np.random.Generator) -> Patterns:
    labels = random.integers(len(SHAPES), size=_CHUNK)
    line = (np.arange(SIDE) + 0.5) / SIDE * 2 - 1
    x, y = (np.broadcast_to(plane, (_CHUNK, SIDE, SIDE)) for plane in np.meshgrid(line, line))
    place = random.uniform(-0.25, 0.25, (2, _CHUNK, 1, 1))
    size = random.uniform(0.75, 1.15, (_CHUNK, 1, 1))
    own_x, own_y = _turned((x - place[0]) / size, (y - place[1]) / size, _angles(random))
    outside = np.empty_like(own_x)
    for label, shape in enumerate(SHAPES.values()):
        here = labels == label
        outside[here] = shape(own_x[here], own_y[here])
    inside = (1 / (1 + np.exp(np.clip(outside * size / _EDGE * 4, -50, 50))))[..., None]
    near, *candidates = random.uniform(0.05, 0.95, (4, _CHUNK, 3))
    apart = [np.linalg.norm(one - near, axis=1) for one in candidates]
    far = np.stack(candidates)[np.argmax(apart, 0), np.arange(_CHUNK)]
    front, *known = _coloured(random, x, y, near)
    back, *others = _coloured(random, x, y, far)
    across, _ = _turned(x, y, _angles(random))
    light = (1 - random.uniform(0, 0.35, (_CHUNK, 1, 1)) * (across + 1.4) / 2.8)[..., None]
    clean = light * (inside * front + (1 - inside) * back)
    noisy = clean + _NOISE * random.standard_normal(clean.shape)
    pictures = (noisy.clip(0, 1) * 255).round().astype(np.uint8)
    textures, colours = (np.stack(pair, 1) for pair in zip(known, others, strict=True))
    return Patterns(pictures, labels, textures, colours.reshape(_CHUNK, 6))


def _angles(random: np.random.Generator) -> np.ndarray:
    return random.uniform(0, 2 * np.pi, (_CHUNK, 1, 1))


def _turned(x: Plane, y: Plane, angle: np.ndarray) -> tuple[Plane, Plane]:
    return x * np.cos(angle) + y * np.sin(angle), y * np.cos(angle) - x * np.sin(angle)


def _coloured(
    random: np.random.Generator, x: Plane, y: Plane, first: np.ndarray
) -> tuple[np.ndarray, ...]:
    """Pictures (n, SIDE, SIDE, 3) of two colours, `first` and one more, in one of four textures.

    And which texture (n,), and the mean of the two colours (n, 3).
    """
    along, across = _turned(x, y, _angles(random))
    pitch = random.uniform(4, 11, (_CHUNK, 1, 1))
    phases = random.uniform(0, 2 * np.pi, (2, _CHUNK, 1, 1))
    waves = [np.sin(pitch * plane + phase) for plane, phase in zip((along, across), phases)]
    cloud = np.zeros_like(along)
    for weight in (1.0, 0.7, 0.5):
        wave_x, wave_y = random.uniform(-7, 7, (2, _CHUNK, 1, 1))
        cloud += weight * np.sin(wave_x * x + wave_y * y + _angles(random))
    textures = np.stack([waves[0], 1.5 * waves[0] * waves[1], along, cloud])
    which = random.integers(len(textures), size=_CHUNK)
    blend = textures[which, np.arange(_CHUNK)]
    share = (1 / (1 + np.exp(-2.5 * blend)))[..., None]
    second = first + 0.6 * (random.uniform(0.05, 0.95, (_CHUNK, 3)) - first)
    one, other = first[:, None, None], second[:, None, None]
    return share * one + (1 - share) * other, which, (first + second) / 2


def main() -> None:
    """Write a part to a file that `undiffuse train` reads."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, required=True, help=".npz file to write")
    parser.add_argument("--rows", type=int, help="how many; default all of the part")
    parser.add_argument("--part", choices=PARTS, default="train", help="default train")
    asked = parser.parse_args()
    drawn = draw_patterns(asked.part, asked.rows)
    np.savez(asked.out, images=drawn.pictures, labels=drawn.labels)


if __name__ == "__main__":
    main()
