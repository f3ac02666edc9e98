"""One stream of noise per row: the map to Philox's keys and counters, its bits, and their law."""

import numpy as np
import pytest
import torch
from scipy import stats

import undiffuse as ud
from undiffuse.diffusion import Purpose, RowNoise

_WORD = 1 << 64


def philox(key, counter):
    """Ten rounds of Philox 4x64, straight from Salmon et al. (2011), section 4."""
    (k0, k1), (c0, c1, c2, c3) = key, counter
    for _ in range(10):
        a, b = c0 * 0xD2E7470EE14C6C93, c2 * 0xCA5A826395121157
        c0, c1, c2, c3 = (b // _WORD) ^ c1 ^ k0, b % _WORD, (a // _WORD) ^ c3 ^ k1, a % _WORD
        k0, k1 = (k0 + 0x9E3779B97F4A7C15) % _WORD, (k1 + 0xBB67AE8584CAA73B) % _WORD
    return c0, c1, c2, c3


# kat_vectors of Random123 (D. E. Shaw Research), philox4x64 10: counter, key, output
KNOWN = [
    (
        (0, 0, 0, 0),
        (0, 0),
        (0x16554D9ECA36314C, 0xDB20FE9D672D0FDC, 0xD7E772CEE186176B, 0x7E68B68AEC7BA23B),
    ),
    (
        (_WORD - 1,) * 4,
        (_WORD - 1,) * 2,
        (0x87B092C3013FE90B, 0x438C3C67BE8D0224, 0x9CC7D7C69CD777B6, 0xA09CAEBF594F0BA0),
    ),
    (
        (0x243F6A8885A308D3, 0x13198A2E03707344, 0xA4093822299F31D0, 0x082EFA98EC4E6C89),
        (0x452821E638D01377, 0xBE5466CF34E90C6C),
        (0xA528F45403E61D95, 0x38C72DBD566E9788, 0xA5A1610E72FD18B5, 0x57BD43B5E52B7FE6),
    ),
]


@pytest.mark.parametrize(("counter", "key", "expected"), KNOWN)
def test_the_generator_gives_the_published_words(counter, key, expected):
    assert philox(key, counter) == expected
    before = sum(c << 64 * i for i, c in enumerate(counter)) - 1  # numpy counts, then encrypts
    words = [(before % (1 << 256)) >> 64 * i & _WORD - 1 for i in range(4)]
    bits = np.random.Philox(key=np.array(key, np.uint64), counter=np.array(words, np.uint64))
    assert tuple(bits.random_raw(4).tolist()) == expected


def test_a_row_draws_the_words_of_its_own_key_and_counter():
    """Angles decode to the words' upper halves, radii to the lower ones."""
    seed, first, part = 0xFEDCBA9876543210, (1 << 40) + 7, 3
    noise = RowNoise(seed, 5, first, purpose=Purpose.SCORE, part=part)
    like = torch.empty(5, 3, 7, dtype=torch.float64)  # 21 numbers: three blocks of eight
    for draw in range(2):
        z = noise(like).reshape(5, 21)
        for i in range(5):
            words = [
                word
                for block in (1, 2, 3)
                for word in philox((seed, 4), ((first + i) * 3 + block, draw, 3, part))
            ]
            u = np.array([word % 2**32 + 0.5 for word in words]) / 2**32
            angle = 2 * np.pi * np.array([word >> 32 for word in words]) / 2**32
            pairs = np.sqrt(-2 * np.log(u)) * np.array([np.cos(angle), np.sin(angle)])
            assert z[i].numpy() == pytest.approx(pairs.T.reshape(-1)[:21], abs=1e-12)


def test_seeds_and_rows_map_one_to_one_to_keys_and_counters():
    """Decode a million pairs of 64-bit seeds and rows from their keys and counters."""
    some = np.random.default_rng(0)
    seeds = some.integers(0, _WORD, 1000, dtype=np.uint64).tolist()
    met = set()
    for seed in [*seeds[:-2], 0, _WORD - 1]:
        first, blocks = int(some.integers(0, 2**48)), int(some.integers(1, 5000))
        purpose, part = Purpose(int(some.integers(0, 5))), int(some.integers(0, 9))
        noise = RowNoise(seed, 1000, first, purpose=purpose, part=part)
        start, *rest = noise.counter(blocks)
        low = np.arange(1000) * blocks + start  # as the generator counts on, row after row
        assert low[-1] == RowNoise(seed, 1, first + 999).counter(blocks)[0]
        for block in (1, blocks):  # the blocks of a row never carry into the next word
            assert int(low[-1]) + block < _WORD
            assert np.array_equal((low + block - 1) // rest[1], first + np.arange(1000))
        assert (*noise.key, *rest) == (seed, purpose, 0, blocks, part)
        met.add((noise.key, noise.counter(blocks)))
    assert len(met) == 1000


def test_streams_are_apart_where_32_bits_of_seed_would_meet():
    like = torch.empty(1, 4)
    for one, other in ((5, 5 + 2**32), (0, 2**63)):
        assert not torch.equal(RowNoise(one, 1)(like), RowNoise(other, 1)(like))
    whole = RowNoise(0, 300_000)(torch.empty(300_000, 3))
    assert len(np.unique(whole.numpy(), axis=0)) == 300_000
    purposes = [RowNoise(0, 1, purpose=p)(like) for p in Purpose]
    purposes += [RowNoise(0, 1, part=1)(like), RowNoise(0, 1, first=1)(like)]
    assert len({tuple(z[0].tolist()) for z in purposes}) == len(purposes)


def test_numbers_are_standard_normal_and_independent():
    noise = RowNoise(11, 50_000)
    z = torch.cat([noise(torch.empty(50_000, 3)), noise(torch.empty(50_000, 2))], 1).double()
    assert stats.kstest(z.reshape(-1).numpy(), "norm").pvalue > 1e-3
    assert stats.kstest(z[:, 1].numpy(), "norm").pvalue > 1e-3
    pairs = torch.cat([z[:-1], z[1:], z[:-1].square() - 1, z[1:].square() - 1], 1)  # neighbours too
    correlation = torch.corrcoef(pairs.T) - torch.eye(20)
    assert correlation.abs().max() < 5 / 50_000**0.5
    assert stats.kstest((z.square().sum(1)).numpy(), stats.chi2(5).cdf).pvalue > 1e-3


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
def test_the_same_numbers_in_every_type_and_of_every_batch(dtype):
    exact = RowNoise(3, 70)(torch.empty(70, 1001, dtype=torch.float64))
    whole = RowNoise(3, 70)(torch.empty(70, 1001, dtype=dtype))
    assert whole.dtype == dtype
    assert ((whole - exact).abs() <= 1e-5 + torch.finfo(dtype).eps * exact.abs()).all()
    for first, rows in ((0, 1), (1, 13), (69, 1)):
        part = RowNoise(3, rows, first)(torch.empty(rows, 1001, dtype=dtype))
        assert torch.equal(part, whole[first : first + rows])
    assert RowNoise(3, 0)(torch.empty(0, 4, dtype=dtype)).shape == (0, 4)
    assert RowNoise(3, 2)(torch.empty(2, dtype=dtype)).shape == (2,)


def test_rows_of_any_numbers_have_the_streams_of_these():
    numbers = np.array([5, 2**40, 0, 5])
    noise = RowNoise(3, 4, numbers, purpose=Purpose.SCORE, part=2)
    for draw in range(2):
        z = noise(torch.empty(4, 3, 7))
        for i, number in enumerate(numbers.tolist()):
            one = RowNoise(3, 1, number, purpose=Purpose.SCORE, part=2)
            one.draws = draw
            assert torch.equal(one(torch.empty(1, 3, 7))[0], z[i])
    assert RowNoise(3, 0, numbers[:0])(torch.empty(0, 4)).shape == (0, 4)


@pytest.mark.parametrize("seed", [-1, _WORD, 10**30])
def test_a_seed_of_more_than_64_bits_is_refused(seed):
    with pytest.raises(ud.InputError, match=rf"seed {seed}: give a whole number from 0 to 2\^64"):
        RowNoise(seed, 1)


def test_no_two_purposes_are_the_same():
    values = [int(purpose) for purpose in Purpose.__members__.values()]
    assert len(set(values)) == len(values)
    with pytest.raises(ValueError, match="noise of 3 rows for a tensor of 2"):
        RowNoise(0, 3)(torch.empty(2, 4))


def test_rows_of_nothing_are_drawn_too():
    assert RowNoise(0, 3)(torch.empty(3, 0)).shape == (3, 0)
