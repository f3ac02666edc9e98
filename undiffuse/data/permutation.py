"""A shuffle that is never stored: a bijection on range(n), computed per position from a key.

A Feistel network is a bijection on pairs of h-bit halves whatever its round function f is,

    (L, R) -> (R, L xor f_i(R)),        inverse  (L, R) -> (R xor f_i(L), L),

so with 2^(2h) >= n it permutes a range that covers range(n); positions that land outside are sent
through again until they land inside ("cycle walking", fewer than four rounds on average). The round
function is the finalizer of SplitMix64 (Steele, Lea, Flood 2014). A data set of any size is split
and shuffled in no memory, and the place of any row in any epoch is known at once, which is what
makes a run resumable without iterator state.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

_GOLDEN = np.uint64(0x9E3779B97F4A7C15)
_ROUNDS = 8

_Network = Callable[[np.ndarray, np.ndarray, np.uint64], np.ndarray]


def key(*numbers: int | np.ndarray) -> np.ndarray | np.uint64:
    """Return one 64-bit key for several whole numbers; arrays give an array of keys.

    >>> int(key(0, 1)) == int(key(0, 1)), int(key(0, 1)) == int(key(1, 0))
    (True, False)
    """
    mixed = np.zeros(1, np.uint64)
    for number in numbers:
        is_array = isinstance(number, np.ndarray)
        word = number.astype(np.uint64) if is_array else np.uint64(number % 2**64)
        mixed = _mix(mixed * np.uint64(31) + _GOLDEN + word)
    return mixed if any(isinstance(number, np.ndarray) for number in numbers) else mixed[0]


def permute(positions: np.ndarray, n: int, keys: np.ndarray | np.uint64) -> np.ndarray:
    """Return where each position goes.

    Args:
        positions: whole numbers in range(n), of any shape.
        n: the number of things permuted.
        keys: one key, or one for each position.

    Returns:
        Whole numbers in range(n), int64 of the same shape.

    >>> sorted(permute(np.arange(10), 10, key(0)).tolist())
    [0, 1, 2, 3, 4, 5, 6, 7, 8, 9]
    """
    return _walk(_forward, positions, n, keys)


def unpermute(places: np.ndarray, n: int, keys: np.ndarray | np.uint64) -> np.ndarray:
    """Return which position goes to each place: the inverse of `permute`.

    >>> unpermute(permute(np.arange(5), 5, key(3)), 5, key(3)).tolist()
    [0, 1, 2, 3, 4]
    """
    return _walk(_backward, places, n, keys)


def _walk(
    network: _Network, positions: np.ndarray, n: int, keys: np.ndarray | np.uint64
) -> np.ndarray:
    half = np.uint64(max(1, ((n - 1).bit_length() + 1) // 2))
    rounds = _rounds(keys, positions.shape)
    result = network(positions.reshape(-1).astype(np.uint64), rounds, half)
    outside = np.flatnonzero(result >= n)
    while outside.size:
        own = rounds if rounds.shape[1] == 1 else rounds[:, outside]
        result[outside] = network(result[outside], own, half)
        outside = outside[result[outside] >= n]
    return result.reshape(positions.shape).astype(np.int64)


def _rounds(keys: np.ndarray | np.uint64, shape: tuple[int, ...]) -> np.ndarray:
    """The keys of all rounds (rounds, 1), or for each position (rounds, positions)."""
    keys = np.atleast_1d(np.asarray(keys, np.uint64))
    keys = keys if keys.size == 1 else np.broadcast_to(keys, shape)
    offsets = [np.uint64((int(_GOLDEN) * (i + 1)) % 2**64) for i in range(_ROUNDS)]
    return np.stack([_mix(keys.reshape(-1) + offset) for offset in offsets])


def _forward(value: np.ndarray, rounds: np.ndarray, half: np.uint64) -> np.ndarray:
    left, right = value >> half, value & _mask(half)
    for own in rounds:
        left, right = right, left ^ _round(right, own, half)
    return (left << half) | right


def _backward(value: np.ndarray, rounds: np.ndarray, half: np.uint64) -> np.ndarray:
    left, right = value >> half, value & _mask(half)
    for own in rounds[::-1]:
        left, right = right ^ _round(left, own, half), left
    return (left << half) | right


def _round(part: np.ndarray, own: np.ndarray, half: np.uint64) -> np.ndarray:
    return _mix(own ^ part) >> (np.uint64(64) - half)


def _mask(half: np.uint64) -> np.uint64:
    return np.uint64((1 << int(half)) - 1)


def _mix(word: np.ndarray) -> np.ndarray:
    word = (word ^ (word >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    word = (word ^ (word >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return word ^ (word >> np.uint64(31))
