import numpy as np
import pytest

from undiffuse.data.permutation import key, permute, unpermute

SIZES = [1, 2, 3, 4, 5, 7, 8, 9, 16, 17, 101, 1024, 1025, 7919, 65537]


@pytest.mark.parametrize("seed", [0, 1, -1, 2**63])
def test_is_a_bijection_with_its_inverse(seed):
    for n in SIZES:
        everyone = np.arange(n)
        places = permute(everyone, n, key(seed))
        assert np.array_equal(np.sort(places), everyone)
        assert np.array_equal(unpermute(places, n, key(seed)), everyone)


def test_each_position_may_have_its_own_key():
    positions, epochs = np.arange(50) % 10, np.arange(50) // 10
    together = permute(positions, 10, key(3, epochs))
    apart = np.concatenate([permute(np.arange(10), 10, key(3, np.array([e]))) for e in range(5)])
    assert np.array_equal(together, apart)


def test_every_row_is_as_likely_in_every_place():
    """Over 4,000 keys each of 12 rows comes to each of 12 places equally often (chi-squared)."""
    n, draws = 12, 4000
    places = permute(
        np.tile(np.arange(n), draws), n, key(0, np.repeat(np.arange(draws), n))
    ).reshape(draws, n)
    counts = np.stack([np.bincount(places[:, i], minlength=n) for i in range(n)])
    chi_squared = ((counts - draws / n) ** 2 / (draws / n)).sum()
    assert chi_squared < 121 + 5 * np.sqrt(2 * 121)


def test_order_shows_no_trace_of_the_one_before():
    places = permute(np.arange(5000), 5000, key(7))
    assert abs(np.corrcoef(np.arange(5000), places)[0, 1]) < 5 / np.sqrt(5000)
    assert abs(np.corrcoef(places[:-1], places[1:])[0, 1]) < 5 / np.sqrt(5000)


def test_works_far_beyond_memory():
    n = 10**15 + 37
    positions = np.array([0, 1, n // 2, n - 1])
    places = permute(positions, n, key(0))
    assert ((places >= 0) & (places < n)).all()
    assert np.array_equal(unpermute(places, n, key(0)), positions)


# --- the same in every version: a run that is resumed must have the split that it had

MASK = 2**64 - 1


def mixed(word):
    """SplitMix64's finalizer (Steele, Lea, Flood 2014), in Python's whole numbers."""
    word = (word ^ (word >> 30)) * 0xBF58476D1CE4E5B9 & MASK
    word = (word ^ (word >> 27)) * 0x94D049BB133111EB & MASK
    return word ^ (word >> 31)


def feistel(position, n, own):
    """Eight rounds on the two halves, again until the place is one of n."""
    half = max(1, -(-(n - 1).bit_length() // 2))
    while True:
        left, right = position >> half, position & (2**half - 1)
        for i in range(1, 9):
            offset = 0x9E3779B97F4A7C15 * i & MASK
            left, right = right, left ^ (mixed(mixed(own + offset & MASK) ^ right) >> (64 - half))
        position = left << half | right
        if position < n:
            return position


def test_the_mixer_is_that_of_splitmix64():
    """The generator's published outputs for seed 1234567."""
    golden = 0x9E3779B97F4A7C15
    outputs = [mixed(1234567 + golden * i & MASK) for i in (1, 2, 3)]
    assert outputs == [6457827717110365317, 3203168211198807973, 9817491932198370423]


@pytest.mark.parametrize("numbers", [(0,), (5,), (-1,), (1, 7), (3, 0, 2**63)])
def test_a_permutation_is_the_same_in_every_version(numbers):
    own = 0
    for number in numbers:
        own = mixed(own * 31 + 0x9E3779B97F4A7C15 + number & MASK)
    assert int(key(*numbers)) == own
    for n in (1, 2, 3, 10, 65, 1000, 2**33 + 5):
        positions = np.unique(np.linspace(0, n - 1, 9).astype(np.int64))
        places = permute(positions, n, key(*numbers))
        assert places.tolist() == [feistel(int(position), n, own) for position in positions]
        assert unpermute(places, n, key(*numbers)).tolist() == positions.tolist()


def test_shapes_and_types_are_kept():
    positions = np.arange(6).reshape(2, 3)
    places = permute(positions, 6, key(0))
    assert (places.shape, places.dtype) == ((2, 3), np.int64)
    assert key(1, np.array([2, 3])).tolist() == [int(key(1, 2)), int(key(1, 3))]
