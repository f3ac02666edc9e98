"""Mirrored images: whether they are as likely is known of each set here, by how it was made."""

import itertools

import numpy as np
import pytest
import torch
from scipy.stats import binom
from sklearn.datasets import load_digits

from undiffuse.data import load
from undiffuse.data.mirror import tell_mirrored
from undiffuse.errors import InputError
from undiffuse.models.presets import edm
from undiffuse.run import Run
from undiffuse.training import fit


def noise(n, seed, width=8):
    """Images of which nothing is symmetric, one by one, and everything in law."""
    x = torch.randn(n, 1, 6, width, generator=torch.Generator().manual_seed(seed))
    return x + 0.8 * x.roll(1, 3)  # the law of a moving average is that of its reverse


def arrows(n, seed):
    """Arrows on either side of the middle, and which way they point, (n,)."""
    draw = np.random.default_rng(seed)
    images, labels = np.zeros((n, 1, 9, 13), np.float32), draw.integers(2, size=n)
    for image, label, place in zip(images, labels, draw.integers(9, size=n)):
        tip = np.abs(np.arange(-4, 5))[:, None] <= np.arange(5)
        image[0, :, place : place + 5] = tip[:, ::-1] if label else tip
    return torch.from_numpy(images), torch.from_numpy(labels)


def counted(*sets):
    found = [tell_mirrored(*one) for one in sets]
    return [one for one in found if one is not None]


def test_of_a_symmetric_law_the_count_is_binomial():
    found = counted(*((noise(160, seed), None) for seed in range(40)))
    told, tested = np.array([one.told for one in found]), found[0].tested
    assert tested == 80
    assert abs(told.sum() - 40 * 80 / 2) < 4 * np.sqrt(40 * 80 / 4)
    assert 0.4 < told.var() / (80 / 4) < 1.9  # 4 standard errors of 40 variances


def test_a_symmetric_set_is_refused_as_often_as_the_binomial_says():
    found = counted(*((noise(400, seed), None) for seed in range(30)))
    likely = [one.likely for one in found]
    most = max(k for k in range(200) if type(found[0])(k, 200).likely)
    expected = binom.cdf(most, 200, 0.5)
    assert 0.85 < expected < 0.95  # of 1,000 rows it is 0.998
    assert abs(np.mean(likely) - expected) < 4 * np.sqrt(expected * (1 - expected) / 30)
    many = binom.cdf(max(k for k in range(500) if type(found[0])(k, 500).likely), 500, 0.5)
    assert many > 0.997


def test_an_asymmetric_set_is_never_taken_for_symmetric():
    x = torch.from_numpy(load_digits().images).float()[:, None] / 8 - 1
    draw = torch.Generator().manual_seed(0)
    parts = [(x[torch.randperm(len(x), generator=draw)[:200]], None) for _ in range(20)]
    found = counted(*parts)
    assert not any(one.likely for one in found)
    assert min(one.told / one.tested for one in found) > 0.8


def test_what_is_symmetric_alone_is_not_if_its_label_says_which_way():
    x, labels = arrows(600, 0)
    alone, named = counted((x, None), (x, labels))
    assert alone.likely
    assert named.told == named.tested


def test_an_exactly_symmetric_image_tells_nothing():
    x = noise(200, 0)
    (found,) = counted((x + x.flip(3), None))
    assert found.told == found.tested / 2


def test_few_or_narrow_images_are_not_looked_at():
    assert tell_mirrored(noise(99, 0), None) is None
    assert tell_mirrored(noise(200, 0, width=1), None) is None


# --- what training gets


def images(shape, n=300):
    """Images that are as likely mirrored, of a shape, as (rows, the axis of the width)."""
    rows = np.random.default_rng(0).integers(0, 256, (n, *shape), dtype=np.uint8)
    return rows, -2 if shape[-1] == 3 else -1


@pytest.mark.parametrize("shape", [(9, 8), (9, 8, 3), (3, 9, 8)])
def test_training_sees_each_image_mirrored_half_the_time(shape):
    rows, axis = images(shape)
    data, plain = load(rows), load(rows, mirrored=False)
    assert data.mirrored
    assert not plain.mirrored
    turned = []
    pairs = zip(data.batches(16, seed=3), plain.batches(16, seed=3))
    for batch, other in itertools.islice(pairs, 40):
        for row, own in zip(batch["row"].numpy(), other["row"].numpy()):
            turned.append(not np.array_equal(row, own))
            assert np.array_equal(row, np.flip(own, axis) if turned[-1] else own)
    assert abs(np.mean(turned) - 0.5) < 4 * 0.5 / np.sqrt(640)


def test_an_image_is_mirrored_by_its_seed_and_its_place_in_the_run_alone():
    data = load(images((9, 8))[0])
    whole = [b["row"] for b in itertools.islice(data.batches(8, seed=1), 12)]
    later = next(data.batches(8, seed=1, start_step=7))["row"]
    assert torch.equal(later, whole[7])
    halves = [next(data.batches(4, seed=1, start_step=7, rank=r, world=2))["row"] for r in (0, 1)]
    assert torch.equal(torch.cat(halves), whole[7])
    assert not torch.equal(next(data.batches(8, seed=2))["row"], whole[0])


def test_held_out_rows_are_never_mirrored():
    rows = images((9, 8))[0]
    data, plain = load(rows, mirrored=True), load(rows, mirrored=False)
    assert torch.equal(data.held_out_batch(99)["row"], plain.held_out_batch(99)["row"])
    assert np.array_equal(data.held_out, plain.held_out)
    assert np.array_equal(data.train[:], plain.train[:])


def test_what_is_chosen_is_said_and_recorded():
    data = load(images((9, 8))[0])
    said = data.describe()["mirrored_images"]
    assert said.startswith("trained on: a classifier tells them from the others in ")
    assert said.endswith("% of 135 pairs")
    assert data.config()["mirrored"] is True
    digits = load(load_digits().images[:500].astype(np.uint8))
    assert digits.describe()["mirrored_images"].startswith("left out: ")
    assert digits.config()["mirrored"] is False
    many = load(images((9, 8), 600)[0])  # are not looked at
    assert (many.mirrored, "mirrored_images" in many.describe()) == (False, False)
    asked = load("digits", mirrored=True)
    assert (asked.mirrored, asked.describe()["mirrored_images"]) == (
        True,
        "trained on: as asked for",
    )


def test_a_run_goes_on_as_it_began_or_not_at_all(tmp_path):
    rows, out = images((9, 8), 120)[0], tmp_path / "run"
    options = {"steps": 1, "batch": 8, "device": "cpu", "precision": "float32", "samples": 0}
    data, other = load(rows, mirrored=True), load(rows, mirrored=False)
    fit(edm(width=8, multipliers=(1,), blocks=1), data, out=out, **options)
    assert Run(out).config["data"]["mirrored"] is True
    assert Run(out).data(rows).mirrored
    with pytest.raises(InputError, match=r"not those it was trained on \(their mirrored differs\)"):
        fit(edm(width=8, multipliers=(1,), blocks=1), other, out=out, resume=True, steps=2)


def test_what_are_no_images_is_not_mirrored():
    assert not load("moons").mirrored
    assert "mirrored_images" not in load("moons").describe()
    with pytest.raises(InputError, match="only images can be mirrored, not arrays; leave out"):
        load("moons", mirrored=True)
