import itertools

import numpy as np
import pytest

from undiffuse.data import load, restore
from undiffuse.data.permutation import key, permute
from undiffuse.errors import InputError


def numbered(n):
    """Rows that are their own number, so that what a batch holds can be read off it."""
    return np.arange(n, dtype=np.float32)[:, None]


def take(data, size, steps, **options):
    batches = data.batches(size, seed=options.pop("seed", 0), **options)
    return [batch["row"][:, 0].numpy() for batch in itertools.islice(batches, steps)]


def held_out(data):
    return set(data.held_out[:, 0].tolist())


@pytest.mark.parametrize("n", [3, 10, 101, 1000])
def test_split_is_disjoint_complete_and_stable(n):
    data = load(numbered(n), seed=5)
    train = {float(row) for row in data.train[:][:, 0]}
    assert train.isdisjoint(held_out(data))
    assert train | held_out(data) == set(range(n))
    assert len(held_out(data)) == len(data.held_out) == max(1, round(0.1 * n))
    assert len(data) == len(data.train) == len(train)
    again = load(numbered(n), seed=5)
    assert held_out(again) == held_out(data)


def test_split_follows_its_seed_and_its_size():
    splits = [held_out(load(numbered(1000), seed=seed)) for seed in range(3)]
    assert len({frozenset(split) for split in splits}) == 3
    assert len(load(numbered(1000), held_out=0.25).held_out) == 250
    assert len(load(numbered(1000), held_out=3).held_out) == 3
    assert len(load(numbered(150_000)).held_out) == 10_000


@pytest.mark.parametrize("wanted", [0, -1, 1000, 1.0, -0.5, 5000])
def test_a_split_that_leaves_nothing_is_refused(wanted):
    with pytest.raises(InputError, match="leaves none on one side; give a share between 0 and 1"):
        load(numbered(1000), held_out=wanted)


def test_an_epoch_meets_every_training_row_once():
    data = load(numbered(100))
    for epoch in np.concatenate(take(data, 30, 12)).reshape(4, 90):
        assert sorted(epoch) == sorted(set(range(100)) - held_out(data))
    epochs = np.concatenate(take(data, 90, 2)).reshape(2, 90)
    assert not np.array_equal(*epochs)


def test_a_batch_is_a_function_of_seed_and_step():
    data = load(numbered(101))
    whole = take(data, 7, 60, seed=3)
    for start in (0, 1, 13, 59):
        np.testing.assert_array_equal(take(data, 7, 1, seed=3, start_step=start)[0], whole[start])
    assert not np.array_equal(whole[0], take(data, 7, 1, seed=4)[0])


@pytest.mark.parametrize("world", [2, 3, 5])
def test_ranks_together_see_what_one_would(world):
    data = load(numbered(101))
    one = take(data, 6 * world, 9)
    ranks = [take(data, 6, 9, rank=rank, world=world) for rank in range(world)]
    for step in range(9):
        np.testing.assert_array_equal(np.concatenate([rank[step] for rank in ranks]), one[step])


def test_fewer_rows_than_a_batch_go_on_into_the_next_epoch():
    data = load(numbered(4))
    rows = take(data, 10, 3)
    counts = np.unique(np.concatenate(rows), return_counts=True)[1]
    assert counts.tolist() == [10, 10, 10]


def test_labels_travel_with_their_rows():
    data = load((numbered(50), np.array(["even", "odd"])[np.arange(50) % 2]))
    assert (data.classes, data.conditions) == (("even", "odd"), {"label": 2})
    for batch in (next(data.batches(16, seed=0)), data.held_out_batch(99), data.sample_batch(20)):
        assert (batch["row"][:, 0] % 2 == batch["label"]).all()


def test_fixed_batches_hold_what_they_say():
    data = load(numbered(100))
    fixed = data.held_out_batch(1000)["row"][:, 0].tolist()
    np.testing.assert_array_equal(fixed, data.held_out[:, 0])
    assert data.held_out_batch(4)["row"][:, 0].tolist() == fixed[:4]
    assert set(data.sample_batch(1000)["row"][:, 0].tolist()) == set(range(100)) - set(fixed)


def test_nothing_is_measured_on_held_out_rows():
    rows = numbered(100)
    outside = permute(np.arange(10), 100, key(1, 0))
    rows[outside] = 1e6
    data = load(rows)
    assert (data.held_out == 1e6).all()
    assert data.transform.high[0] < 100


def test_a_damaged_config_is_refused():
    config = load("moons").config()
    with pytest.raises(InputError, match='"form" is missing'):
        restore({name: value for name, value in config.items() if name != "form"})
    with pytest.raises(InputError, match=r"no such kind\. Did you mean arrays"):
        restore({**config, "kind": "array"})
    with pytest.raises(InputError, match=r"no such kind\. \(form, transform\)"):
        restore({**config, "transform": {"kind": "images"}})


def test_describe_is_plain_and_tells_the_classes():
    tree = load("digits").describe()
    assert (tree["rows"], tree["row_shape"], tree["greatest"]) == (1797, [8, 8], 16)
    assert sum(tree["classes"].values()) == 1797
    assert "whole numbers from 0 to 16" in tree["modelled_as"]


def test_training_rows_are_read_where_they_are_indexed():
    data = load(numbered(100))
    everything = data.train[:]
    np.testing.assert_array_equal(data.train[5], everything[5:6])
    np.testing.assert_array_equal(data.train[-1], everything[-1:])
    np.testing.assert_array_equal(data.train[[3, 1]], everything[[3, 1]])
    with pytest.raises(IndexError):
        data.train[90]


def test_progress_is_told_and_reaches_the_end():
    told = []
    load(numbered(100_000), progress=lambda done, total, what: told.append((done, total, what)))
    assert {what for *_, what in told} == {"checking data", "measuring data"}
    assert all(done <= total == 100_000 for done, total, _ in told)
    assert told[-1][0] == 100_000
