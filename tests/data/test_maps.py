"""Conditions that are whole arrays: read beside arrays and images, coded, and asked for."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from undiffuse.data import Conditions, ask, conform, load
from undiffuse.data.conditions import Vectors
from undiffuse.data.given import GivenMap
from undiffuse.data.maps import ConditionMap, MapRows, given_map
from undiffuse.errors import InputError

RNG = np.random.default_rng(0)
NUMBERS = RNG.normal(3, 2, (12, 2, 4, 5)) * np.array([1, 100])[:, None, None]
CLASSES = RNG.choice([0, 3, 7], (12, 4, 5))


def as_given(values: np.ndarray, space: tuple[int, ...] = (4, 5)) -> GivenMap:
    return given_map("y", values, space, where="x")


def own_of(config: dict) -> Conditions:
    own = Conditions.restore(json.loads(json.dumps(config)))
    assert own is not None
    return own


@pytest.mark.parametrize("values", [NUMBERS, CLASSES], ids=["numbers", "classes"])
def test_maps_become_vectors_and_come_back(values: np.ndarray) -> None:
    own = ConditionMap.measure(as_given(values), np.arange(12))
    maps = (values if values.ndim == 4 else values[:, None]).astype(float)
    maps[1] = np.nan
    maps[2, :, 3, 4] = np.nan
    vector = own.encode(maps)
    assert (vector.shape, vector.dtype) == ((12, own.width), np.float32)
    np.testing.assert_allclose(own.decode(vector), maps, rtol=1e-5, atol=1e-4)
    assert not vector[1].any()  # what is not known is zero
    assert not vector[2].reshape(own.channels, 4, 5)[:, 3, 4].any()
    again = ConditionMap.read(json.loads(json.dumps(own.tree())))
    assert again == own
    if own.classes:
        assert own.classes == (0, 3, 7)
        assert (vector[0].reshape(3, 20).sum(0) == 1).all()
    else:
        z = own.encode(values)[:, :40].reshape(12, 2, 20).astype(float)
        np.testing.assert_allclose(z.mean((0, 2)), 0, atol=1e-5)
        np.testing.assert_allclose(z.std((0, 2)), 1, atol=1e-5)


def test_what_is_not_known_of_conditions_is_said() -> None:
    """Positions are unknown in all channels together; numbers beside them row by row."""
    x, torn = RNG.normal(size=(12, 4, 5)), NUMBERS.copy()
    assert not [note for note in load((x, torn), axes="NHW").notes if "condition" in note]
    torn[1], torn[2, 0, 3, 4], torn[2, 1, 3, 4], torn[2, 1, 0, 0] = np.nan, np.nan, np.nan, np.nan
    said = "which the model learns as not known."
    (note,) = (note for note in load((x, torn), axes="NHW").notes if "condition" in note)
    assert note == f"condition y: 22 of 240 positions, in 2 of 12 rows, are NaN, {said}"
    angle = np.where(np.arange(12) < 3, np.nan, RNG.normal(size=12))
    data = load((x, {"angle": angle, "depth": x}), axes="NHW")
    notes = [note for note in data.describe()["notes"] if "condition" in note]
    assert notes == [f"condition angle: is missing in 3 of 12 rows, {said}"]
    whole = own_of(load((x, torn), axes="NHW").config()).maps[0].encode(torn)
    assert not whole[1].any()


def test_only_training_rows_measure_a_map() -> None:
    values = np.concatenate([np.zeros((2, 4, 5)), np.full((2, 4, 5), 2.0), np.full((1, 4, 5), 1e9)])
    own = ConditionMap.measure(as_given(values), np.arange(4))
    assert (own.mean, own.deviation, own.low, own.high) == ((1.0,), (1.0,), 0.0, 2.0)


@pytest.mark.parametrize(
    ("axes", "shape", "y"),
    [
        ("NHW", (12, 4, 5), (12, 4, 5)),
        ("NHW", (12, 4, 5), (12, 2, 4, 5)),
        ("NHWC", (12, 4, 5, 3), (12, 4, 5, 2)),
        ("NCHW", (12, 3, 4, 5), (12, 2, 4, 5)),
        ("NTC", (12, 9, 2), (12, 9)),
        ("NDHW", (12, 3, 4, 5), (12, 3, 4, 5)),
    ],
)
def test_whatever_has_the_positions_of_the_rows_is_a_map(
    axes: str, shape: tuple[int, ...], y: tuple[int, ...]
) -> None:
    values = RNG.normal(size=y)
    data = load((RNG.normal(size=shape), values), axes=axes)
    space = data.shape[1:]
    (one,) = own_of(data.config()).maps
    assert (one.name, one.shape[1:]) == ("y", space)
    assert data.conditions == {"maps": one.channels}
    batch = data.sample_batch(3)
    assert batch["vector"].shape == (3, one.width)
    vector = ask(values, data.config())[0]
    np.testing.assert_array_equal(vector, data.vector[:])
    back = one.decode(vector)
    moved = values if y[1:] != (*space, y[-1]) or y[1:] == space else np.moveaxis(values, -1, 1)
    np.testing.assert_allclose(back.reshape(moved.shape), moved, atol=1e-5)
    again = conform((RNG.normal(size=shape), values), data.config())
    assert isinstance(again.vector, Vectors)
    np.testing.assert_array_equal(again.vector[:], vector)
    picked = again.only(np.array([7, 2]))
    assert isinstance(picked.vector, Vectors)
    np.testing.assert_array_equal(picked.vector[:], vector[[7, 2]])
    assert conform(RNG.normal(size=shape), data.config()).vector is None


def test_maps_stand_beside_columns_and_are_asked_for_together() -> None:
    x, depth = RNG.normal(size=(20, 4, 5)), RNG.normal(size=(20, 4, 5))
    beside = {"depth": depth, "age": RNG.normal(size=20), "other": depth > 0}
    data = load((x, beside), axes="NHW")
    assert data.conditions == {"vector": 2, "maps": 4}
    hidden = np.ma.masked_less(depth, 0)
    masked = own_of(load((x, hidden), axes="NHW").config()).maps[0]
    assert masked.low >= 0  # masked ones are not known
    chosen = load((x, beside), axes="NHW", condition="age,depth")
    assert chosen.conditions == {"vector": 2, "maps": 2}
    config = chosen.config()
    both, _ = ask({"depth": depth[:3], "age": [1.0, 2.0, 3.0]}, config)
    assert both.shape == (3, 2 + 40)
    single, _ = ask({"depth": depth[:3], "age": 2.0}, config)
    np.testing.assert_array_equal(single[1], both[1])
    alone, _ = ask("age=2", config)
    np.testing.assert_array_equal(alone[0, :2], both[1, :2])
    assert not alone[0, 2:].any()  # nothing is known of the map
    without, _ = ask({"depth": depth[1]}, config)
    np.testing.assert_array_equal(without[0, 2:], both[1, 2:])
    assert not without[0, :2].any()
    own = own_of(config)
    np.testing.assert_allclose(own.decode_maps(both)["depth"][:, 0], depth[:3], atol=1e-5)
    assert [one["age"] for one in own.words(both)] == [1.0, 2.0, 3.0]
    with pytest.raises(InputError, match="not equally many"):
        ask({"depth": depth[:3], "age": [1.0, 2.0]}, config)


def test_arrays_of_conditions_in_files(tmp_path: Path) -> None:
    x, y = RNG.normal(size=(20, 4, 5)), RNG.normal(size=(20, 4, 5))
    np.save(tmp_path / "x.npy", x)
    np.save(tmp_path / "y.npy", y)
    np.savez(tmp_path / "both.npz", data=x, conditions=y)
    data = load(tmp_path / "x.npy", axes="NHW", condition=str(tmp_path / "y.npy"))
    own = own_of(data.config())
    np.testing.assert_allclose(own.decode_maps(data.vector[:])["y"][:, 0], y, atol=1e-5)
    archive = load(tmp_path / "both.npz", axes="NHW")
    np.testing.assert_array_equal(archive.vector[:], data.vector[:])
    np.testing.assert_array_equal(ask(tmp_path / "y.npy", data.config())[0], data.vector[:])
    np.testing.assert_array_equal(ask(f"y={tmp_path / 'y.npy'}", data.config())[0], data.vector[:])
    assert conform(tmp_path / "x.npy", data.config()).vector is None  # it does not say
    np.save(tmp_path / "y.npy", y + 1)
    changed = load(tmp_path / "x.npy", axes="NHW", condition=str(tmp_path / "y.npy"))
    assert changed.fingerprint != data.fingerprint


def folders(path: Path, n: int = 20, colours: str = "L") -> tuple[Path, Path, np.ndarray]:
    """Images with classes and folders of conditions of the same names; (images, masks, masks)."""
    images, masks = path / "x", path / "masks"
    values = RNG.choice([0, 2, 5], (n, 6, 8)).astype(np.uint8)
    for i in range(n):
        for place in (images / "ab"[i % 2], masks / "ab"[i % 2]):
            place.mkdir(parents=True, exist_ok=True)
        pixels = RNG.integers(0, 256, (6, 8)).astype(np.uint8)
        Image.fromarray(pixels).save(images / "ab"[i % 2] / f"{i:02d}.png")
        mask = Image.fromarray(values[i])
        if colours == "P":
            mask.putpalette(RNG.integers(0, 256, 768).astype(np.uint8).tolist())
        mask.save(masks / "ab"[i % 2] / f"{i:02d}.png")
    order = sorted(range(n), key=lambda i: ("ab"[i % 2], i))
    return images, masks, values[order]


@pytest.mark.parametrize("colours", ["L", "P"])
def test_a_folder_of_images_is_a_condition_of_those_named_alike(
    tmp_path: Path, colours: str
) -> None:
    images, masks, values = folders(tmp_path, colours=colours)
    data = load(images, condition=f"{masks}/")
    assert data.conditions == {"label": 2, "maps": 3}
    assert data.describe()["conditions"] == {"masks": "6 x 8 of the classes 0, 2, 5"}
    own = own_of(data.config())
    np.testing.assert_array_equal(own.decode_maps(data.vector[:])["masks"][:, 0], values)
    np.testing.assert_array_equal(ask(masks, data.config())[0], data.vector[:])
    np.testing.assert_array_equal(ask(masks / "a" / "00.png", data.config())[0], data.vector[:1])
    assert load(images, condition=f"{masks}/").fingerprint == data.fingerprint
    assert load(images).fingerprint != data.fingerprint
    (masks / "b" / "03.png").unlink()
    fewer = load(images, condition=f"{masks}/")
    assert fewer.fingerprint != data.fingerprint
    assert any("1 of 20 images of x/ have none of this name" in note for note in fewer.notes)
    assert (~fewer.vector[:].any(1)).sum() == 1
    (masks / "a").rename(images / "masks")
    (masks / "b").rename(masks / "a")
    with pytest.raises(InputError, match="masks/: no image in it is named like one of x/"):
        load(images, condition=f"{masks}/")


@pytest.mark.parametrize("inside", [True, False], ids=["inside", "beside"])
def test_maps_that_lie_with_new_images_as_with_the_runs_own_are_their_conditions(
    tmp_path: Path, inside: bool
) -> None:
    """Whatever the folder is called, and once it has moved; but never those of another folder."""
    images, masks, values = folders(tmp_path / "one")
    if inside:
        masks = masks.rename(images / "masks")
    data = load(images, condition=f"{masks}/")
    config, own = data.config(), own_of(data.config())
    rows = conform(images, config)
    assert (len(rows), rows.fingerprint) == (20, data.fingerprint)
    (note,) = rows.notes
    assert note == f"condition masks: is taken from {masks}."

    def told(source: Path) -> np.ndarray | None:
        (batch,) = conform(source, config).batches(20)
        vector = batch.get("vector")
        return None if vector is None else own.decode_maps(vector.numpy())["masks"][:, 0]

    np.testing.assert_array_equal(told(images), values)
    (tmp_path / "one").rename(tmp_path / "two")
    moved = tmp_path / "two" / "x"
    np.testing.assert_array_equal(told(moved), values)
    other = moved.rename(tmp_path / "two" / "y")
    if inside:
        np.testing.assert_array_equal(told(other), values)
        (other / "masks").rename(tmp_path / "masks")
        assert told(other) is None
    else:  # they may be of x/, which was there
        (tmp_path / "one").mkdir()
        (tmp_path / "two" / "masks").rename(tmp_path / "one" / "masks")
        assert told(other.rename(tmp_path / "one" / "z")) is None


def test_conditions_are_resized_as_their_images_are(tmp_path: Path) -> None:
    """Classes stay classes, numbers are smoothed."""
    for name in ("x", "classes", "numbers"):
        (tmp_path / name).mkdir()
    for i in range(12):
        high = RNG.integers(0, 256, (12, 16)).astype(np.uint8)
        Image.fromarray(high).save(tmp_path / "x" / f"{i}.png")
        Image.fromarray((high > 128).astype(np.uint8) * 9).save(tmp_path / "classes" / f"{i}.png")
        Image.fromarray(high).save(tmp_path / "numbers" / f"{i}.png")
    words = {"condition": [f"{tmp_path}/classes/", f"{tmp_path}/numbers/"], "size": (6, 8)}
    data = load(tmp_path / "x", **words)
    own = own_of(data.config())
    maps = own.decode_maps(data.vector[:])
    assert set(np.unique(maps["classes"])) == {0, 9}
    rows = data.loaded.rows.take(np.arange(12))
    np.testing.assert_allclose(maps["numbers"][:, 0], rows, atol=1e-3)
    Image.fromarray(np.zeros((6, 8), np.uint8)).save(tmp_path / "numbers" / "3.png")
    with pytest.raises(InputError, match=r"numbers/3.png: is 6 x 8 .* its image 12 x 16; resize"):
        load(tmp_path / "x", **words)


def test_what_is_no_map_of_the_rows_is_refused(tmp_path: Path) -> None:
    x = RNG.normal(size=(20, 4, 5))
    for y, said in (
        (np.zeros((20, 5, 4)) + 0.5, r"conditions of shape \(20, 5, 4\); give \(N, 4, 5\) or"),
        (np.zeros((19, 4, 5)) + 0.5, "19 conditions for 20 rows; give one for each"),
        (np.full((20, 4, 5), np.inf), "condition y holds infinite values"),
        (np.full((20, 4, 5), "a"), "holds values of type <U1; give numbers"),
        (np.full((20, 4, 5), np.nan), "condition y: is not known in any training row"),
    ):
        with pytest.raises(InputError, match=said):
            load((x, y), axes="NHW")
    with pytest.raises(InputError, match=r"--condition gone\.npy: no such file or folder"):
        load(x, axes="NHW", condition="gone.npy")
    with pytest.raises(InputError, match="is a folder, and the data are an array"):
        load(x, axes="NHW", condition=f"{tmp_path}/")
    (tmp_path / "t.csv").write_text("a,b\n" + "1,2\n2,1\n" * 20)
    with pytest.raises(InputError, match="whole arrays are for images and arrays"):
        load(tmp_path / "t.csv", condition=f"{tmp_path}/")
    images = RNG.integers(0, 256, (20, 6, 6)).astype(np.uint8)
    with pytest.raises(InputError, match="not mirrored with its images; leave out"):
        load((images, images / 255.0), mirrored=True)
    config = load((x, (x > 0).astype(int)), axes="NHW").config()
    for where, said in (
        (np.zeros((5, 4)), r"its shape is \(5, 4\), and a condition of the run has \(1, 4, 5\)"),
        (np.full((4, 5), 2), "where y: 2 is no class of the run; they are 0, 1"),
        ("z=1", "where: z: no such condition"),
        ("gone.npy", r"where gone\.npy: no such file or folder"),
        (np.full((4, 5), "a"), "holds values of type <U1"),
    ):
        with pytest.raises(InputError, match=said):
            ask(where, config)
    numbers = load((x, x * 0.5), axes="NHW").config()
    assert "outside of what the training rows have" in ask(np.full((4, 5), 99.0), numbers)[1][0]


def test_a_map_is_read_in_any_layout() -> None:
    array = RNG.normal(size=(3, 4, 5, 2))
    rows = MapRows(array, -1, np.array([2, -1, 0]))
    taken = rows.take(np.arange(3))
    np.testing.assert_array_equal(taken[0], np.moveaxis(array[2], -1, 0))
    assert np.isnan(taken[1]).all()
    assert len(rows) == 3
    assert torch.as_tensor(taken).shape == (3, 2, 4, 5)
