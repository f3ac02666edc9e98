"""What the axes of an array are: inferred from made data whose layout is known, given, and kept."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest
import torch

import undiffuse as ud
from undiffuse.data import complete, conform, load, restore
from undiffuse.data.arrays.axes import LAYOUTS, infer_axes, layout_of
from undiffuse.data.rows import as_tensor
from undiffuse.errors import InputError


def rng(seed=0):
    return np.random.default_rng(seed)


def series(seed, *, rows=80, steps=24, channels=8, memory=0.6):
    """(N, T, C): autoregressive processes of correlated noise, in units within a factor of ten."""
    draw = rng(seed)
    noise = draw.normal(size=(rows, steps + 10, channels)) @ draw.normal(size=(channels, channels))
    x = np.zeros_like(noise)
    for t in range(1, noise.shape[1]):
        x[:, t] = memory * x[:, t - 1] + noise[:, t]
    return x[:, 10:] * 10 ** draw.uniform(-0.5, 0.5, channels)


def smooth(seed, *shape):
    """(N, *shape): noise averaged over the places beside it, along each axis of a row."""
    x = rng(seed).normal(size=(60, *shape))
    for axis in range(1, x.ndim):
        x = sum(np.roll(x, shift, axis) for shift in (-1, 0, 1))
    return x


def colours(seed, *shape, channels=3):
    """(N, *shape, C): colours that have most of their brightness in common."""
    shared = smooth(seed, *shape)
    return np.stack([shared + smooth(seed + k, *shape) / 2 for k in range(1, channels + 1)], -1)


MADE = {
    "NTC": series,
    "NCT": lambda seed: series(seed, steps=20, channels=16, memory=0.4).swapaxes(1, 2),
    "NHW": lambda seed: smooth(seed, 12, 10),
    "NHWC": lambda seed: colours(seed, 12, 10),
    "NCHW": lambda seed: np.moveaxis(colours(seed, 12, 10, channels=2), -1, 1),
    "NDHW": lambda seed: smooth(seed, 7, 9, 8),
    "NDHWC": lambda seed: colours(seed, 8, 7, 9),
    "NCDHW": lambda seed: np.moveaxis(colours(seed, 8, 7, 9), -1, 1),
    "NDCHW": lambda seed: np.moveaxis(colours(seed, 8, 7, 9), -1, 2),
}


def test_the_axes_of_made_data_are_inferred():
    """19 of 20 at least, and none that is wrong without being called a guess more than once."""
    found = [(axes, infer_axes(make(seed))) for axes, make in MADE.items() for seed in range(6)]
    wrong = [(axes, one) for axes, one in found if one.letters != axes[1:]]
    assert len(wrong) <= 0.05 * len(found), wrong
    assert sum(not one.guess for _, one in wrong) <= 1
    assert sum(one.guess for _, one in found) <= 0.05 * len(found)


def test_what_nothing_tells_is_called_a_guess_in_a_note():
    data = load(rng().normal(size=(60, 24, 20)))
    assert data.describe()["axes"] in data.notes[0]
    assert "a guess from the shape alone; otherwise --data.axes NTC or NCT" in data.notes[0]
    assert load(rng().normal(size=(60, 24, 20)), axes="NTC").notes == ()
    sure = load(series(1, channels=6))
    assert sure.notes == ()
    assert sure.describe()["axes"] == (
        "NTC: rows of 24 steps, 6 channels (neighbours are alike along every axis but the last; "
        "otherwise --data.axes NCT or NHW)"
    )


def test_dark_margins_make_no_columns_of_a_picture():
    """The scale of pixels jumps at the rim, along both axes and along one."""
    digits = np.asarray(ud.load("digits").loaded.rows.take(np.arange(500)), np.float64)
    assert infer_axes(digits).letters == "HW"
    assert infer_axes(digits[:, :, 1:]).letters == "HW"


def test_small_whole_numbers_are_pictures_unless_they_are_seen_to_be_series():
    noise = rng().integers(0, 256, (60, 24, 8)).astype(np.uint8)
    assert load(noise).loaded.kind == "images"
    x = series(1)
    counts = np.clip(128 + 20 * x / x.std((0, 1)), 0, 255).astype(np.uint8)
    assert (load(counts).loaded.kind, load(counts).shape) == ("arrays", (8, 24))
    assert load(noise, axes="NTC").shape == (8, 24)
    assert load(counts, axes="NHW").loaded.kind == "images"


def test_a_series_in_columns_is_left_so_and_the_way_to_change_it_is_said():
    walks = rng().normal(size=(60, 30)).cumsum(1)
    assert load(walks).shape == (30,)
    assert "otherwise --data.axes NT" in load(walks).describe()["axes"]
    assert load(walks, axes="NT").shape == (1, 30)
    assert "axes" not in load(rng().normal(size=(60, 30))).describe()


# --- given


def rows_with(axes, seed=0, dtype=np.float64):
    sizes = {"T": 5, "C": 3, "D": 2, "H": 7, "W": 6}
    x = rng(seed).normal(size=(40, *(sizes[letter] for letter in axes[1:])))
    return (100 * x).astype(dtype)


ALL = [axes for several in LAYOUTS.values() for axes in several]


@pytest.mark.parametrize("dtype", [np.float64, np.int16])
@pytest.mark.parametrize("axes", ALL)
def test_rows_come_back_in_the_axes_that_they_had(axes, dtype):
    rows = rows_with(axes, dtype=dtype)
    data = load(rows, axes=axes.lower())
    rows = rows[data.split.training(np.arange(len(data)))]  # whole numbers stay in their range
    assert data.config()["reading"] == {"axes": axes.lower()}
    transform, form, _ = restore(json.loads(json.dumps(data.config())))
    assert data.shape == layout_of(rows.shape[1:], axes[1:])
    for use in (data.transform, transform):
        back = use.decode(use.encode(as_tensor(rows), torch.randn_like)[0])
        assert (back.shape, back.dtype) == (rows.shape, rows.dtype)
        np.testing.assert_allclose(back, rows, rtol=1e-5, atol=1e-4)
    assert form.present(back).shape == rows.shape
    form.preview(rows[:2])
    new = rows_with(axes, seed=1, dtype=dtype)
    taken = next(conform(new, data.config()).batches(len(new)))["row"]
    np.testing.assert_array_equal(taken.numpy(), new)
    if dtype == np.float64 and new.ndim > 1:
        partial = np.array(new)
        partial[:, 0] = np.nan
        known = complete(partial, data.config()).known
        np.testing.assert_array_equal(known, ~np.isnan(partial))
        x_known = transform.known(torch.from_numpy(known))
        kept = transform.encode(as_tensor(new), torch.zeros_like)[0][x_known]
        moved = transform.encode(as_tensor(np.nan_to_num(partial)), torch.zeros_like)[0][x_known]
        torch.testing.assert_close(kept, moved)


@pytest.mark.parametrize("axes", ["NTC", "NCT", "NHWC", "NCHW", "NDHWC", "NCDHW", "NDCHW", "NTCHW"])
def test_a_model_sees_the_same_wherever_the_channels_are(axes):
    """They are moved to the front of a row; what a model gets is what that gives."""
    rows = rows_with(axes)
    first = np.moveaxis(rows, axes.index("C"), 1)
    moved = "NC" + axes[1:].replace("C", "")
    a, b = load(rows, axes=axes), load(first, axes=moved)
    assert a.shape == b.shape
    x, y = (
        data.transform.encode(as_tensor(array), torch.zeros_like)
        for data, array in ((a, rows), (b, first))
    )
    torch.testing.assert_close(x[0], y[0])
    torch.testing.assert_close(x[1], y[1])


@pytest.mark.parametrize(
    ("shape", "axes", "said"),
    [
        ((9, 5, 3), "NTX", "its rows are 5 x 3, and axes NTX are none of theirs; give NTC or NCT "
         "or NHW (N rows, T time, C channels, D H W depth, height, width)."),
        ((9, 5), "NTC", "its rows are 5, and axes NTC are none of theirs; give NC or NT"),
        ((9, 5, 3), "TNC", "axes TNC are none of theirs; give NTC or NCT or NHW"),
        ((9, 5, 3), "TC", "axes TC are none of theirs; give NTC or NCT or NHW"),
        ((9, 1, 2, 3, 4, 5), "NTCDHW", "none of theirs; leave --data.axes out"),
        ((9,), "NC", "its rows are one number, and axes NC are none of theirs; give N "),
    ],
)  # fmt: skip
def test_axes_that_rows_do_not_have_are_refused_with_those_they_could(shape, axes, said):
    with pytest.raises(InputError) as refused:
        load(rng().normal(size=shape), axes=axes)
    assert str(refused.value).startswith("data: ")
    assert said in str(refused.value)


def test_only_arrays_have_axes(tmp_path):
    (tmp_path / "t.csv").write_text("a,b\n" + "1,2\n3,4\n" * 10)
    for source in ("moons", tmp_path / "t.csv"):
        with pytest.raises(InputError, match=r"--data\.axes is for arrays, not for this; leave it"):
            load(source, axes="NC")


# --- over time


def test_sequences_are_standardized_over_time_where_time_changes_them():
    still = load(series(2, rows=300))
    assert still.transform.description.endswith("standardized per channel.")
    x = series(2, rows=300)
    hours = np.linspace(0, 2 * np.pi, 24)[:, None]
    for changed in (x + 2 * x.std() * np.sin(hours), x * np.exp(np.cos(hours))):
        data = load(changed)
        assert "standardized per channel and step" in data.transform.description
        encoded = data.transform.encode(data.sample_batch(999)["row"], torch.zeros_like)[0]
        torch.testing.assert_close(encoded.mean(0), torch.zeros(8, 24), atol=1e-5, rtol=0)
        torch.testing.assert_close(encoded.std(0), torch.ones(8, 24), atol=1e-2, rtol=0)
        rows = changed[:5]
        at, correction = data.transform.encode(as_tensor(rows), torch.zeros_like)
        np.testing.assert_allclose(data.transform.decode(at), rows, rtol=1e-4, atol=1e-4)
        scales = changed[data.split.training(np.arange(len(data)))].std(0)
        np.testing.assert_allclose(correction, -np.log(scales).sum(), rtol=1e-6)


def test_a_step_that_hardly_varies_is_not_blown_up():
    walks = rng().normal(size=(200, 24, 3)).cumsum(1)
    walks[:, 0] = 0.0  # where all walks begin
    data = load(walks)
    encoded = data.transform.encode(data.sample_batch(999)["row"], torch.zeros_like)[0]
    assert "and step" in data.transform.description
    assert bool(encoded.isfinite().all())
    assert encoded.abs().max() < 10
    assert load(rng().normal(size=(31, 24, 3)).cumsum(1)).transform.description.endswith("channel.")


# --- gaps


def with_gaps(axes, seed=0, share=0.2):
    """Rows in which values are missing, never in the last channel where there are several."""
    rows = rows_with(axes, seed)
    gone = rng(seed + 9).random(rows.shape) < share
    if "C" in axes:
        gone[(slice(None),) * axes.index("C") + (-1,)] = False
    return np.where(gone, np.nan, rows), gone


@pytest.mark.parametrize("axes", ALL)
def test_a_row_with_gaps_has_the_likelihood_of_what_is_known_and_of_where_the_gaps_are(axes):
    """Under independent standard normal coordinates, whatever noise fills the gaps."""
    rows, gone = with_gaps(axes)
    data = load(rows, axes=axes)
    transform = data.transform
    torch.manual_seed(0)
    x, correction = transform.encode(as_tensor(rows), torch.randn_like)
    assert bool(x.isfinite().all())
    assert x.shape[1:] == data.shape
    normal = -0.5 * x.double() ** 2 - 0.5 * math.log(2 * math.pi)
    nats = normal.flatten(1).sum(1) + correction

    training = rows[data.split.training(np.arange(len(data)))]
    channel = axes.find("C")
    layout = layout_of(rows.shape[1:], axes[1:])
    front = (lambda a: np.moveaxis(a, channel, 1)) if channel > 1 else (lambda a: a)
    known, gaps = (front(a).reshape(len(a), layout[0], -1) for a in (rows, gone))
    of = front(training).reshape(len(training), layout[0], -1)
    mean = np.nanmean(of, (0, 2))[:, None]
    std = np.nanstd(of, (0, 2))[:, None]
    share = np.isnan(of).mean((0, 2))[:, None]
    z = (known - mean) / std
    values = -0.5 * z**2 - 0.5 * math.log(2 * math.pi) - np.log(std)
    with np.errstate(divide="ignore"):
        mask = np.where(gaps, np.log(share), np.log1p(-share))
    expected = np.where(gaps, 0, values).sum((1, 2)) + mask.sum((1, 2))
    np.testing.assert_allclose(nats, expected, rtol=1e-5, atol=1e-4)

    back = transform.decode(x)
    np.testing.assert_array_equal(np.isnan(back), gone)
    np.testing.assert_allclose(back, rows, rtol=1e-4, atol=1e-3)
    restored = restore(json.loads(json.dumps(data.config())))[0]
    np.testing.assert_array_equal(restored.decode(x), back)


def test_gaps_are_counted_completed_and_known_in_new_rows_only_where_training_had_them():
    rows, gone = with_gaps("NTC")
    data = load(rows, axes="NTC")
    assert data.describe()["missing"] == gone.sum()
    assert "2 more for where values are missing" in data.transform.description
    partial = complete(rows[:4], data.config())
    known = data.transform.known(torch.from_numpy(partial.known))
    assert bool(known[:, 3:].all())  # what is drawn for a gap is a value
    assert int((~known).sum()) == gone[:4].sum()
    x = data.transform.encode(as_tensor(partial.rows), torch.zeros_like)[0]
    assert not np.isnan(data.transform.decode(x)).any()
    new = rows[:3].copy()
    new[1, 2, 2] = np.nan
    batch = next(conform(new, data.config()).batches(3))
    assert list(batch["problems"]) == [1]
    assert "a value is missing where none was in training" in batch["problems"][1].reason
    whole = load(rows_with("NTC"), axes="NTC")
    with pytest.raises(InputError, match="NaN, the first in row 0, and none was in training; fill"):
        conform(rows, whole.config())
    conform(rows_with("NTC"), data.config())


def test_models_of_rows_with_gaps_train_on_numbers_and_draw_gaps(tmp_path):
    rows, _ = with_gaps("NCT", share=0.4)
    data = load(rows, axes="NCT")
    model = ud.edm(data, width=16)
    result = ud.fit(model, data, steps=4, out=tmp_path / "run")
    assert math.isfinite(result.held_out["loss"])
    samples = ud.open(tmp_path / "run").sample(40, seed=0, steps=4)
    assert samples.shape[1:] == rows.shape[1:]
    assert 0 < np.isnan(samples).mean() < 1
    full = ud.open(tmp_path / "run").sample(2, given=rows[:3], seed=0, steps=4)
    assert not np.isnan(full).any()
    nats = ud.open(tmp_path / "run").log_prob(rows[:3])
    assert np.isfinite(np.asarray(nats)).all()
