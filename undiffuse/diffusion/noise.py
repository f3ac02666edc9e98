"""Noise of one independent stream per row: a row depends on its own number alone.

Philox 4x64-10 (Salmon et al. 2011, "Parallel random numbers: as easy as 1, 2, 3") maps a key of two
words and a counter of four, each of 64 bits, to four random words. A draw of rows of B blocks takes

    key = (seed, purpose),    counter = (row B + block, draw, B, part),    block = 1, ..., B

which is one to one: two rows, draws or purposes never share random bits, however many there are.
The halves w_1, w_2 of a word give two normals (Box and Muller 1958):

    z = sqrt(-2 log u) (cos a, sin a),    u = (w_1 + 1/2) / 2^32,    a = 2 pi w_2 / 2^32
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence
from enum import IntEnum
from typing import final

import numpy as np
import torch
from torch import Tensor

from undiffuse.errors import InputError

_WORDS = 1 << 13  # words of 64 bits turned into normals at a time: they stay in the cache


class Purpose(IntEnum):
    """What random numbers are for: different purposes of one seed share nothing."""

    SAMPLE = 0  # what is drawn
    LABEL = 1  # the classes of what is drawn
    GIVEN = 2  # the encoding of the known entries of what is drawn
    ENCODING = 3  # the encoding of rows that are scored
    SCORE = 4  # their likelihood


@final
class RowNoise:
    """`noise(like) -> z`, where row i of every draw comes from a stream of its own.

    Args:
        seed: of the whole set of rows, of 64 bits.
        rows: how many rows a draw has.
        first: number of the first row; row i's stream is that of (seed, first + i). Or the numbers
            of all rows (rows,), in any order: row i's stream is that of (seed, first[i]).
        purpose: what the noise is for.
        part: tells apart streams of one row and purpose.

    Raises:
        InputError: for a seed outside 0 to 2^64 - 1.

    >>> whole, second = RowNoise(0, rows=2), RowNoise(0, rows=1, first=1)
    >>> bool((whole(torch.empty(2, 3))[1] == second(torch.empty(1, 3))[0]).all())
    True
    """

    def __init__(
        self,
        seed: int,
        rows: int,
        first: int | np.ndarray = 0,
        *,
        purpose: Purpose = Purpose.SAMPLE,
        part: int = 0,
    ) -> None:
        if not 0 <= seed < 1 << 64:
            raise InputError(f"seed {seed}: give a whole number from 0 to 2^64 - 1.")
        self.key, self.rows, self.first, self.part = (seed, int(purpose)), rows, first, part
        self.draws = 0

    def __call__(self, like: Tensor) -> Tensor:
        """Return standard normals (rows, *) of the shape, type and device of `like`."""
        if len(like) != self.rows:
            raise ValueError(f"noise of {self.rows} rows for a tensor of {len(like)}")
        size = math.prod(like.shape[1:])
        blocks = -(-size // 8) or 1
        real = np.float64 if like.dtype == torch.float64 else np.float32
        z = np.empty((self.rows * 4 * blocks, 2), real)
        for first, part in zip(*self._runs(z)):
            key, counter = (np.array(w, np.uint64) for w in (self.key, self._after(first, blocks)))
            bits = np.random.Philox(key=key, counter=counter)
            for start in range(0, len(part), _WORDS):
                _normal(bits, part[start : start + _WORDS])
        self.draws += 1
        z = torch.as_tensor(z.reshape(self.rows, 8 * blocks)[:, :size])
        return z.reshape(like.shape).to(like.device, like.dtype)

    def counter(self, blocks: int) -> tuple[int, int, int, int]:
        """Return the counter that the next draw follows, of rows of so many blocks."""
        return self._after(int(np.min(self.first)), blocks)

    def _after(self, first: int, blocks: int) -> tuple[int, int, int, int]:
        return first * blocks, self.draws, blocks, self.part

    def _runs(self, z: np.ndarray) -> tuple[Sequence[int], Sequence[np.ndarray]]:
        """The number of the first row of each run of rows in order, and where its words go."""
        if isinstance(self.first, np.ndarray):
            return self.first.tolist(), np.split(z, max(self.rows, 1))
        return (self.first,), (z,)


def content_numbers(rows: np.ndarray) -> np.ndarray:
    """Return a number for each row (N, ...), below 2^40, that its values alone decide.

    >>> content_numbers(np.array([[1.0, 2.0], [0.0, 0.0], [1.0, 2.0]])).tolist()
    [142765675234, 732654123907, 142765675234]
    """
    hashed = (hashlib.blake2b(row.tobytes(), digest_size=5).digest() for row in rows)
    return np.array([int.from_bytes(one, "big") for one in hashed], np.int64)


def _normal(bits: np.random.Philox, z: np.ndarray) -> None:
    """Fill `z`, (words, 2), with normals: one pair of each of the next words."""
    w = bits.random_raw(len(z)).view(np.uint32).reshape(z.shape)
    u, angle = w[:, 0].astype(z.dtype), w[:, 1].astype(z.dtype)
    u += 0.5
    u *= 2.0**-32
    radius = np.sqrt(-2 * np.log(u, out=u), out=u)
    angle *= 2 * math.pi * 2.0**-32
    np.multiply(radius, np.cos(angle), out=z[:, 0])
    np.multiply(radius, np.sin(angle, out=angle), out=z[:, 1])
