"""Forms: what rows are written as and shown as, and that they say so truly."""

import shutil

import numpy as np
import pyarrow as pa
import pytest
from PIL import Image

from undiffuse.data import load
from undiffuse.data.arrays.form import ArrayForm
from undiffuse.data.images.form import ImageForm
from undiffuse.data.kind import KINDS
from undiffuse.errors import InputError
from undiffuse.interfaces import Form, Transform


def image_form(*row_shape, levels=256, dtype="uint8", channel_axis="guess"):
    if channel_axis == "guess":
        channel_axis = None if len(row_shape) == 2 else -1
    return ImageForm(row_shape=row_shape, channel_axis=channel_axis, levels=levels, dtype=dtype)


def pixels(*shape, dtype=np.uint8):
    return np.random.default_rng(0).integers(0, np.iinfo(dtype).max + 1, shape).astype(dtype)


def array_form(rows):
    return load(rows).form


@pytest.mark.parametrize(
    ("shape", "dtype", "levels"),
    [
        ((6, 9), np.uint8, 256),
        ((6, 9, 1), np.uint8, 256),
        ((6, 9, 2), np.uint8, 256),
        ((6, 9, 3), np.uint8, 256),
        ((6, 9, 4), np.uint8, 256),
        ((6, 9), np.uint16, 65536),
    ],
)
def test_a_folder_of_images_reads_back_as_the_same_values(tmp_path, shape, dtype, levels):
    rows = pixels(5, *shape, dtype=dtype)
    image_form(*shape, levels=levels, dtype=np.dtype(dtype).name).save(rows, tmp_path / "out")
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [
        f"{i:05d}.png" for i in range(5)
    ]
    loaded = load(tmp_path / "out").loaded.rows
    np.testing.assert_array_equal(
        loaded.take(np.arange(5)), rows.squeeze(-1) if shape[-1] == 1 else rows
    )


def test_labels_go_into_the_names(tmp_path):
    image_form(4, 4).save(pixels(2, 4, 4), tmp_path / "out", labels=["a/b", "ankle boot"])
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [
        "00000-a%2Fb.png",
        "00001-ankle boot.png",
    ]


@pytest.mark.parametrize("shape", [(6, 9), (6, 9, 3)])
def test_arrays_are_written_as_they_are(tmp_path, shape):
    rows, form = pixels(5, *shape), image_form(*shape)
    form.save(rows, tmp_path / "x.npy")
    form.save(rows, tmp_path / "x.npz", labels=["a"] * 5)
    np.testing.assert_array_equal(np.load(tmp_path / "x.npy"), rows)
    with np.load(tmp_path / "x.npz") as archive:
        np.testing.assert_array_equal(archive["data"], rows)
        assert archive["labels"].tolist() == ["a"] * 5
    assert load(tmp_path / "x.npz").classes == ("a",)
    assert form.present(rows) is rows


@pytest.mark.parametrize("channels", [1, 2, 3, 4])
def test_the_grid_holds_every_image_enlarged_by_a_whole_factor(tmp_path, channels):
    rows = pixels(7, 8, 10, channels)
    image_form(8, 10, channels).save(rows, tmp_path / "grid.png")
    with Image.open(tmp_path / "grid.png") as image:
        grid = np.asarray(image).reshape(image.height, image.width, channels)
    factor, gap, columns = 6, 2, 2
    for i, row in enumerate(rows):
        top = gap + i // columns * (8 * factor + gap)
        left = gap + i % columns * (10 * factor + gap)
        cell = grid[top : top + 8 * factor, left : left + 10 * factor]
        np.testing.assert_array_equal(cell, row.repeat(factor, 0).repeat(factor, 1))


def test_few_levels_span_black_to_white(tmp_path):
    form = image_form(1, 2, levels=17)
    rows = np.array([[[0, 16]], [[8, 16]]], np.uint8)
    form.save(rows, tmp_path / "out")
    with Image.open(tmp_path / "out/00001.png") as image:
        assert np.asarray(image).tolist() == [[128, 255]]
    form.save(rows, tmp_path / "x.npy")
    np.testing.assert_array_equal(np.load(tmp_path / "x.npy"), rows)


def test_channels_first_images_look_the_same():
    rows = pixels(3, 8, 10, 3)
    first = image_form(3, 8, 10, channel_axis=0).preview(np.moveaxis(rows, -1, 1))
    assert first.tobytes() == image_form(8, 10, 3).preview(rows).tobytes()


@pytest.mark.parametrize(
    ("n", "height", "width"), [(64, 8, 8), (12, 20, 60), (1, 5, 5), (50, 64, 48)]
)
def test_a_grid_is_nearly_square(n, height, width):
    picture = image_form(height, width).preview(pixels(n, height, width))
    longer = max(height, width) / min(height, width)
    assert max(picture.size) / min(picture.size) < max(longer, 1.6)


@pytest.mark.parametrize("out", ["x.csv", "x.wav", "x.jpg"])
def test_other_suffixes_are_refused_with_those_that_work(tmp_path, out):
    with pytest.raises(InputError, match=r"use one of \.npy, \.npz, \.png, folder/"):
        image_form(4, 4).save(pixels(2, 4, 4), tmp_path / out)
    with pytest.raises(
        InputError, match=r"arrays cannot be written as .*; use one of \.npy, \.npz, \.png\."
    ):
        array_form(np.arange(6.0)).save(np.arange(2.0), tmp_path / out)
    with pytest.raises(InputError, match="arrays cannot be written as folder/"):
        array_form(np.arange(6.0)).save(np.arange(2.0), tmp_path / "out")
    assert not list(tmp_path.iterdir())


def test_deep_colour_is_no_png_but_an_array(tmp_path):
    form, rows = (
        image_form(4, 4, 3, levels=65536, dtype="uint16"),
        pixels(2, 4, 4, 3, dtype=np.uint16),
    )
    with pytest.raises(
        InputError,
        match=r"16-bit colour cannot be written as folder/; use one of \.npy, \.npz, \.png",
    ):
        form.save(rows, tmp_path / "out")
    form.save(rows, tmp_path / "x.npy")
    assert form.preview(rows).mode == "RGB"


@pytest.mark.parametrize("row_shape", [(), (2,), (9,), (2, 60), (5, 9, 8), (16, 16, 3), (12, 14)])
def test_every_layout_has_a_picture_that_shows_its_rows(row_shape, tmp_path):
    """A picture is no blank sheet, and other rows give another picture."""
    rng = np.random.default_rng(0)
    rows, others = rng.standard_normal((2, 20, *row_shape)).astype(np.float32)
    form = array_form(rows)
    assert isinstance(form, ArrayForm)
    form.save(rows, tmp_path / "x.png")
    with Image.open(tmp_path / "x.png") as image:
        shown = np.asarray(image.convert("L"))
    assert shown.std() > 1
    assert form.preview(rows).tobytes() != form.preview(others).tobytes()


def test_grids_are_scaled_by_the_range_of_the_data():
    rows = np.linspace(-3, 5, 2 * 64).reshape(2, 8, 8)
    picture = np.asarray(array_form(rows).preview(rows))
    assert (picture[3, 3], picture[66, -4]) == (0, 255)


def test_broken_samples_can_still_be_pictured():
    """A model that diverged gives infinities; its picture must not fail too."""
    for row_shape in [(9,), (2, 60), (12, 14)]:
        rows = np.random.default_rng(0).standard_normal((6, *row_shape))
        form = array_form(rows)
        rows[0], rows[1] = np.nan, np.inf
        assert form.preview(rows).size[0] > 10


@pytest.mark.parametrize("suffix", [".NPY", ".npz", ".NPZ"])
def test_a_suffix_may_be_in_capitals(tmp_path, suffix):
    form = ImageForm(row_shape=(8, 8), channel_axis=None, levels=256, dtype="uint8")
    rows = np.arange(128, dtype=np.uint8).reshape(2, 8, 8)
    form.save(rows, tmp_path / f"x{suffix}")
    assert [path.name for path in tmp_path.iterdir()] == [f"x{suffix}"]
    read = np.load(tmp_path / f"x{suffix}", allow_pickle=False)
    np.testing.assert_array_equal(read if suffix == ".NPY" else read["data"], rows)


def test_a_folder_of_ones_own_pictures_is_not_replaced(tmp_path):
    form = ImageForm(row_shape=(8, 8), channel_axis=None, levels=256, dtype="uint8")
    (tmp_path / "20240131_birthday.png").touch()
    with pytest.raises(InputError, match=r"holds other files \(20240131_birthday.png"):
        form.save(np.zeros((2, 8, 8), np.uint8), tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["20240131_birthday.png"]


def tones(folder):
    soundfile = pytest.importorskip("soundfile")
    (folder / "tones").mkdir()
    for i in range(3):
        wave = np.sin(np.arange(400) * (i + 1) / 9)
        soundfile.write(folder / "tones" / f"{i}.wav", wave, 8000)
    return folder / "tones"


EXAMPLES = {
    "images": lambda _: pixels(9, 6, 5, 3),
    "recordings": tones,
    "tables": lambda _: pa.table({"age": [30, 40, 50] * 9, "job": ["cook", "pilot", "nurse"] * 9}),
    "arrays": lambda _: np.random.default_rng(0).normal(size=(9, 4)),
}
"""A source of each kind."""

NAMES = [f"x{s}" for s in (".npy", ".npz", ".png", ".csv", ".tsv", ".parquet", ".wav", ".jpg", "")]


def what_a_form_says_it_writes_it_writes(form, rows, folder):
    """`check_out` refuses what `save` refuses, in the same sentence, and writes nothing."""
    form.check_out(folder / form.suggested_out)
    for name in NAMES:
        out = folder / "out" / name
        try:
            form.check_out(out)
            allowed, refusal = True, ""
        except InputError as problem:
            allowed, refusal = False, str(problem)
        assert not out.parent.exists()
        out.parent.mkdir()
        if allowed:
            form.save(rows, out)
            assert out.exists()
        else:
            with pytest.raises(InputError) as refused:
                form.save(rows, out)
            assert str(refused.value) == refusal
            assert not out.exists()
        shutil.rmtree(out.parent)


@pytest.mark.parametrize("kind", KINDS)
def test_forms_and_transforms_of_all_kinds_are_what_the_rest_takes_them_for(kind, tmp_path):
    data = load(EXAMPLES[kind](tmp_path))
    assert data.loaded.kind == kind
    assert isinstance(data.form, Form)
    assert isinstance(data.transform, Transform)
    rows = data.loaded.rows.take(np.arange(3))
    assert data.transform.row_shape == rows.shape[1:]
    assert data.form.dtype == rows.dtype.name
    what_a_form_says_it_writes_it_writes(data.form, rows, tmp_path)


class Careless:
    """A form that says it writes .jpg, and does not."""

    suggested_out = "x.npy"

    def __init__(self, form):
        self.save = form.save
        self.form = form

    def check_out(self, out):
        if out.suffix != ".jpg":
            self.form.check_out(out)


class Untidy(Careless):
    """A form that learns whether it can write by writing."""

    def check_out(self, out):
        self.form.check_out(out)
        out.parent.mkdir(exist_ok=True)


class Right(Careless):
    """The form that it is given."""

    def check_out(self, out):
        self.form.check_out(out)


@pytest.mark.parametrize(("wrong", "how"), [(Careless, InputError), (Untidy, AssertionError)])
def test_a_wrong_form_breaks_the_law(wrong, how, tmp_path):
    rows = np.random.default_rng(0).normal(size=(9, 4))
    what_a_form_says_it_writes_it_writes(Right(load(rows).form), rows, tmp_path)
    with pytest.raises(how, match=r"x\.jpg" if how is InputError else None):
        what_a_form_says_it_writes_it_writes(wrong(load(rows).form), rows, tmp_path)
