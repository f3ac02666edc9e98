"""Laws of the pictures of an autoencoder, on one that keeps every pixel as it is."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
import torch
from model_cases import Identity
from PIL import Image
from torch import nn

from undiffuse.data.images.form import ImageForm, image_transform
from undiffuse.errors import InputError
from undiffuse.models import VAE
from undiffuse.models.observation import GaussianObservation, LogisticObservation
from undiffuse.nn.autoencoder import Autoencoder

IMAGE = {"row_shape": (2, 2), "channel_axis": None, "levels": 17, "dtype": "uint8"}


class Pixels(nn.Module):
    """m = x, and a deviation near 0."""

    def forward(self, x):
        return torch.cat([x.flatten(1), torch.full_like(x, -9.0).flatten(1)], dim=1)


class Back(nn.Module):
    """z as an image again."""

    def forward(self, z):
        return z.unflatten(1, (1, 2, 2))


def faithful():
    network = Autoencoder(encoder=Pixels(), decoder=Back(), scales=1)
    model = VAE(
        observation=LogisticObservation(), latent=4, network=network, shape=(1, 2, 2), levels=17
    )
    model.transform, model.form = image_transform(ImageForm(**IMAGE)), ImageForm(**IMAGE)
    return model


def tiles(picture, lines, columns):
    """The tiles of a sheet, a list of lines of arrays."""
    pixels = np.asarray(picture)
    height, width = (pixels.shape[0] + 2) // lines, (pixels.shape[1] + 2) // columns
    cut = [[pixels[i * height :, j * width :] for j in range(columns)] for i in range(lines)]
    return [[tile[: height - 2, : width - 2] for tile in line] for line in cut]


def drawn(row):
    return np.asarray(ImageForm(**IMAGE).preview(row[None]).convert("RGB"))


def test_reconstructions_stand_beneath_their_rows():
    rows = np.random.default_rng(0).integers(0, 17, (5, 2, 2)).astype(np.uint8)
    above, beneath = tiles(faithful().reconstructions(rows), 2, 5)
    for row, one, other in zip(rows, above, beneath):
        np.testing.assert_array_equal(one, drawn(row))
        np.testing.assert_array_equal(other, drawn(row))


def test_a_traversal_moves_the_units_that_vary_most_and_no_others():
    rows = np.full((9, 2, 2), 4, np.uint8)
    rows[:, 0, 1] = np.arange(9)  # varies most, then the last pixel
    rows[:, 1, 1] += np.arange(9, dtype=np.uint8) % 2
    lines = tiles(faithful().traversal(rows, units=2, points=3, span=1.0), 2, 3)
    for place, line in zip(((0, 1), (1, 1)), lines):
        for value, tile in zip((0, 8, 16), line):
            expected = rows[0].copy()
            expected[place] = value
            np.testing.assert_array_equal(tile, drawn(expected))


@pytest.mark.parametrize(("label", "index"), [("b", 1), (None, -1)])
def test_pictures_are_of_one_class_or_of_none(label, index):
    """Encoder and decoder see it once for each row, or for each point of a line."""
    seen = []

    class LabelledPixels(Pixels):
        def forward(self, x, label):
            seen.append(label.tolist())
            return super().forward(x)

    class LabelledBack(Back):
        def forward(self, z, label):
            seen.append(label.tolist())
            return super().forward(z)

    model = faithful()
    model.autoencoder.encoder, model.autoencoder.decoder = LabelledPixels(), LabelledBack()
    model.classes = ("a", "b")
    rows = np.zeros((5, 2, 2), np.uint8)
    model.traversal(rows, units=2, points=3, label=label)
    assert seen == [[index] * 5, [index] * 3, [index] * 3]
    seen.clear()
    model.reconstructions(rows, label=label)
    assert seen == [[index] * 5] * 2


def test_units_of_a_single_row_vary_alike():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        picture = faithful().traversal(np.zeros((1, 2, 2), np.uint8), units=4, points=2)
    assert np.isfinite(np.asarray(picture)).all()


def test_what_cannot_be_drawn_is_refused():
    rows = np.zeros((2, 2, 2), np.uint8)
    with pytest.raises(InputError, match="at least 1 unit and 2 points"):
        faithful().traversal(rows, points=1)
    with pytest.raises(InputError, match="trained without labels"):
        faithful().reconstructions(rows, label=1)
    model = faithful()
    model.transform = None
    with pytest.raises(InputError, match="has not met its data"):
        model.reconstructions(rows)


def test_the_report_s_pictures_are_sixteen_reconstructions_and_a_traversal():
    rows = np.random.default_rng(1).integers(0, 17, (20, 2, 2)).astype(np.uint8)
    model = faithful()
    found = model.pictures(rows)
    assert list(found) == ["reconstructions", "traversal"]
    wanted = model.reconstructions(rows[:16]), model.traversal(rows)
    for picture, same in zip(found.values(), wanted):
        np.testing.assert_array_equal(np.asarray(picture), np.asarray(same))
    # all four units, nine points from -3 to 3
    np.testing.assert_array_equal(
        np.asarray(wanted[1]), np.asarray(model.traversal(rows, units=8, points=9, span=3.0))
    )
    height, width = drawn(rows[0]).shape[:2]
    assert wanted[1].size == (9 * (width + 2) - 2, 4 * (height + 2) - 2)
    assert wanted[0].size == (16 * (width + 2) - 2, 2 * (height + 2) - 2)
    one = model.traversal(rows, units=1, points=2)
    assert one.size == (2 * (width + 2) - 2, height)


class Bars:
    """A form that draws rows as a bar, as high as there are rows and three wide for each column."""

    def preview(self, rows):
        value = 40 * len(rows)
        return Image.new("RGB", (3 * rows.shape[1], 5 * len(rows)), (value, value, value))


def test_rows_that_are_no_images_are_drawn_a_line_at_a_time():
    class Vector(nn.Module):
        def forward(self, x):
            return torch.cat([x, torch.full_like(x, -9.0)], dim=1)

    network = Autoencoder(encoder=Vector(), decoder=nn.Identity(), scales=2)
    model = VAE(observation=GaussianObservation(), latent=2, network=network, shape=(2,))
    model.transform, model.form = Identity((2,)), Bars()
    pixels = np.asarray(model.reconstructions(np.zeros((3, 2), np.float32)))
    assert pixels.shape == (2 * (15 + 2) - 2, 6, 3)
    assert (pixels[:15] == 120).all()
    assert (pixels[15:17] == 255).all()
    assert (pixels[17:] == 120).all()
