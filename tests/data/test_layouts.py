"""What the axes of a row are taken for, and what images become, at the limits of each rule."""

from __future__ import annotations

import numpy as np
import pytest

from undiffuse.data import load
from undiffuse.data.arrays.axes import features_axis, layout_of, shape_axes
from undiffuse.data.arrays.read import from_array
from undiffuse.data.folder import Folder
from undiffuse.data.images.decode import ImageHeader, PixelFormat, plan_images
from undiffuse.errors import InputError

rng = np.random.default_rng(0)


@pytest.mark.parametrize(
    ("shape", "layout", "last"),
    [
        ((16, 64), (16, 64), False),
        ((16, 63), (1, 16, 63), False),
        ((17, 68), (1, 17, 68), False),
        ((64, 16), (16, 64), True),
        ((63, 16), (1, 63, 16), False),
        ((68, 17), (1, 68, 17), False),
        ((8, 8, 3), (3, 8, 8), True),
        ((3, 8, 8), (3, 8, 8), False),
        ((8, 8, 8), (8, 8, 8), False),
        ((8, 8, 9), (9, 8, 8), True),  # a square of pixels, and nine channels
        ((9, 8, 8), (9, 8, 8), False),
        ((10, 20, 9), (9, 10, 20), True),
        ((10, 20, 10), (10, 20, 10), False),
        ((10, 20, 15), (10, 20, 15), False),
        ((2, 5, 10, 20, 9), (90, 10, 20), True),
        ((2, 5, 9, 10, 20), (90, 10, 20), False),
    ],
)
def test_the_layout_of_a_row_follows_from_its_shape_where_nothing_else_is_known(
    shape, layout, last
):
    axes = shape_axes(shape)
    assert (layout_of(shape, axes), axes.endswith("C")) == (layout, last)


def rows_with(deviations, means, *, axis=1, length=30):
    """Rows (200, 30, features), or with the axis first, whose indices have these laws."""
    x = rng.normal(size=(200, length, len(deviations)))
    x = (x - x.mean((0, 1))) / x.std((0, 1)) * deviations + means
    return x if axis == -1 else np.moveaxis(x, -1, 1)


@pytest.mark.parametrize("axis", [0, -1])
@pytest.mark.parametrize(
    ("deviations", "means", "differ"),
    [
        ([1.0, 10.1], [0, 0], True),
        ([1.0, 9.9], [0, 0], False),  # of one order of magnitude
        ([1.0, 3.1, 10.1], [0, 0, 0], True),
        ([1.0, 2.9, 6.0, 10.1], [0] * 4, False),  # by steps of less than 3: gradually
        ([1.0, 1.0], [0, 10.1], True),
        ([1.0, 1.0], [0, 9.9], False),
        ([1.0, 2.0], [0, 19.0], False),  # apart by less than ten of the larger deviation
        ([1.0, 1.0, 1.0], [0, 9, 18], False),  # gradually
        ([1.0, 0.0, 10.1], [0, 5000.0, 0], True),  # a constant is not counted
        ([0.0, 1.0], [0, 100.0], False),
        ([1.0], [0], False),
        ([10.1 if i == 40 else 1.0 for i in range(64)], [0] * 64, True),
        ([10.1 if i == 40 else 1.0 for i in range(65)], [0] * 65, False),
    ],
)
def test_an_axis_of_features_is_one_whose_values_jump(axis, deviations, means, differ):
    rows = rows_with(deviations, means, axis=axis)
    for unit in (1.0, 1e-4, 1e4):  # in whatever unit
        assert features_axis(unit * rows) == (axis if differ else None)


def test_without_two_axes_or_with_jumps_along_both_there_are_no_features():
    assert features_axis(rng.normal(size=(50, 2)) * [1, 1000]) is None
    both = rng.normal(size=(50, 4, 4)) * [1, 1000, 1, 1] * np.array([1, 1, 1, 1000])[:, None]
    assert features_axis(both) is None
    deep = rng.normal(size=(50, 3, 5, 7)) * [1, 1000, 1, 1, 1, 1, 1]
    assert features_axis(deep) == -1
    assert features_axis(np.moveaxis(deep, -1, 1)) == 0


def test_images_have_at_most_four_channels_of_whole_numbers():
    for dtype, shape, kind in (
        ("uint8", (6, 7, 4), "images"), ("uint8", (4, 6, 7), "images"), (">u2", (6, 7), "images"),
        ("uint8", (6, 7, 5), "arrays"), ("uint8", (5, 6, 7), "arrays"), ("int8", (6, 7), "arrays"),
        ("uint8", (6,), "arrays"), ("uint8", (2, 2, 6, 7), "arrays"), ("uint32", (6, 7), "arrays"),
    ):  # fmt: skip
        assert from_array(rng.integers(0, 9, (5, *shape)).astype(dtype), name="x").kind == kind


def test_the_first_value_that_is_none_is_shown_where_it_is():
    """Also behind many chunks of good values."""
    rows = np.zeros((70_000, 32))
    rows[:, 0] = np.arange(70_000)
    rows[65_001, 3], rows[65_001, 9], rows[69_999, 0] = np.nan, np.inf, -np.inf
    with pytest.raises(InputError, match=r"2 values .* in row 65001 at position \(9,\)"):
        from_array(rows, name="x")
    loaded = from_array(np.array([[3, -7], [5, 250]], np.int16), name="x")
    assert (loaded.facts["least"], loaded.facts["greatest"]) == (-7, 250)
    with pytest.raises(InputError, match="needs 64 bits without a sign"):
        from_array(np.array([0, 2**63], np.uint64), name="x")
    from_array(np.array([0, 2**63 - 1], np.uint64), name="x")


def test_the_axes_are_found_among_the_rows_of_the_whole_array():
    """Features whose scales differ, in an array of sequences that would be a grid."""
    x = rng.normal(size=(40, 24, 20)) * np.where(np.arange(20) == 3, 100.0, 1.0)
    assert load(x).shape == (20, 24)
    assert load(rng.normal(size=(40, 24, 20))).shape == (1, 24, 20)


# --- images


def header(height: int = 8, width: int = 8, **more: bool) -> ImageHeader:
    return ImageHeader(height, width, **{"colour": False, "alpha": False, "deep": False, **more})


@pytest.fixture
def planned(tmp_path, monkeypatch):
    """`planned(headers, size)` where files with alpha are transparent if they are `clear`."""
    files = tuple(tmp_path / "x" / f"{i}.png" for i in range(9))
    folder = Folder(tmp_path / "x", files, "images")

    def plan(headers, size=None, *, clear=True):
        monkeypatch.setattr("undiffuse.data.images.decode._is_transparent", lambda path: clear)
        return plan_images(folder.name, folder.files, dict(enumerate(headers)), size)

    return plan


@pytest.mark.parametrize(
    ("height", "width", "size", "chosen"),
    [
        (64, 64, None, (64, 64)), (65, 64, None, (64, 63)), (100, 300, None, (21, 64)),
        (30, 20, None, (30, 20)), (30, 20, 60, (60, 40)), (30, 20, 15, (15, 10)),
        (30, 20, (7, 9), (7, 9)), (30, 20, (7,), (7, 5)), (1, 1000, None, (1, 64)),
        (1000, 1, 1, (1, 1)),
    ],
)  # fmt: skip
def test_the_longer_side_is_64_at_most_or_what_is_asked(planned, height, width, size, chosen):
    found, notes = planned([header(height, width)] * 3, size)
    assert (found.height, found.width) == chosen
    ask = "" if size is not None else "; give a size to choose another"
    assert notes == (
        []
        if chosen == (height, width)
        else [
            f"x/: the images of {height} x {width} are resized to {chosen[0]} x {chosen[1]} "
            f"(height x width){ask}."
        ]
    )


@pytest.mark.parametrize("size", [0, -3, (0, 5), (5, -1), (1, 2, 3)])
def test_a_size_that_is_none_is_refused(planned, size):
    with pytest.raises(InputError, match="give the longer side, or height and width"):
        planned([header()], size)


def test_a_size_that_half_have_is_the_size(planned):
    assert planned([header(9, 8)] * 2 + [header(40, 30), header(50, 20)])[0].height == 9
    few, notes = planned([header(9, 8)] * 2 + [header(40, 30), header(50, 20), header(60, 10)])
    assert (few.height, few.width) == (40, 10)
    assert notes == [
        "x/: the images come in 4 sizes; each is resized and centre-cropped to 40 x 10 "
        "(height x width); give a size to choose another."
    ]


@pytest.mark.parametrize(
    ("kinds", "clear", "channels", "deep", "said"),
    [
        ([{}, {}], True, 1, False, []),
        ([{"deep": True}, {}], True, 1, True, []),
        ([{"colour": True}, {"colour": True}], True, 3, False, []),
        ([{"colour": True}, {}], True, 3, False, ["1 of 2 images are grey and are turned into"]),
        ([{"alpha": True}, {}], True, 2, False, []),
        ([{"alpha": True}, {}], False, 1, False, ["no pixel of any image is transparent"]),
        ([{"alpha": True, "colour": True}] * 2, True, 4, False, []),
        (
            [{"deep": True}, {"colour": True}],
            True,
            3,
            False,
            ["16-bit images are reduced to 8 bits", "1 of 2 images are grey"],
        ),
        ([{"deep": True}, {"alpha": True}], True, 2, False, ["16-bit images are reduced"]),
        (
            [{"frames": (0, 1, 4), "others": 2}, {}],
            True,
            1,
            False,
            ["1 of 2 images hold several pages or frames, 3 in all", "2 pages of another size"],
        ),
        (
            [{"colour": True, "deep_colour": True}, {"colour": True}],
            True,
            3,
            False,
            ["1 of 2 images are 16-bit colour, read as 8 bits"],
        ),
    ],
)  # fmt: skip
def test_pixels_become_the_richest_that_are_met(planned, kinds, clear, channels, deep, said):
    found, notes = planned([header(**kind) for kind in kinds], clear=clear)
    assert found == PixelFormat(8, 8, channels, deep=deep)
    assert len(notes) == len(said)
    assert all(words in note for words, note in zip(said, notes))
