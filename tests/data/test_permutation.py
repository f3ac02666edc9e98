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
