"""Samples that `undiffuse sample` wrote, in every form, are the ones that are evaluated."""

from __future__ import annotations

import wave
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import undiffuse as ud
from undiffuse.data.writing import FOLDER
from undiffuse.errors import InputError
from undiffuse.evaluation.given_samples import given_samples

N = 12


def photos(folder: Path) -> Path:
    folder.mkdir()
    for i, image in enumerate(whole(256, 8, 8, 3)):
        Image.fromarray(image).save(folder / f"{i}.png")
    return folder


def heights(folder: Path) -> Path:
    folder.mkdir()
    for i, image in enumerate(np.random.default_rng(0).normal(size=(N, 8, 8))):
        Image.fromarray(image.astype(np.float32)).save(folder / f"{i}.tif")
    return folder


def tones(folder: Path) -> Path:
    folder.mkdir()
    for i, samples in enumerate(whole(3000, 64)):
        with wave.open(str(folder / f"{i}.wav"), "wb") as file:
            file.setnchannels(1)
            file.setsampwidth(2)
            file.setframerate(8000)
            file.writeframes(samples.astype("<i2").tobytes())
    return folder


def whole(levels: int, *shape: int) -> np.ndarray:
    """Whole numbers, the greatest of them among them."""
    found = np.random.default_rng(0).integers(0, levels, (N, *shape))
    found.flat[0] = levels - 1
    return found.astype(np.uint8 if levels <= 256 else np.uint16)


SOURCES = {
    "photos": photos,
    "heights": heights,
    "tones": tones,
    "bytes": lambda _: whole(256, 8, 8),
    "channels first": lambda _: whole(256, 3, 8, 8),
    "17 levels": lambda _: whole(17, 8, 8),
    "12 bits": lambda _: whole(4096, 8, 8),
    "16 bits": lambda _: whole(65536, 8, 8),
    "16-bit colour": lambda _: whole(65536, 8, 8, 3),
    "classes": lambda _: (whole(256, 8, 8), list("ab") * (N // 2)),
    "vectors": lambda _: np.random.default_rng(0).normal(size=(N, 3)),
    "series": lambda _: np.random.default_rng(0).normal(size=(N, 16, 2)),
    "masks": lambda _: whole(2, 8, 8).astype(bool),
}


@pytest.mark.parametrize("kind", SOURCES)
def test_samples_are_read_as_they_were_written_whatever_they_were_written_to(
    tmp_path: Path, kind: str
) -> None:
    """Rows of the data are written as samples are, by every form of file that there is."""
    data = ud.load(SOURCES[kind](tmp_path / "data"), held_out=2)
    form: Any = data.form
    transform: Any = data.transform
    config = data.config()
    rows = data.loaded.rows.take(np.arange(N)).astype(transform.dtype)
    labels = None if not data.classes else np.array(["a/b", "c"] * (N // 2))

    def check(place: Path) -> None:
        found, notes = given_samples(place, config, N - 1, batch=5)
        assert found.dtype == rows.dtype
        np.testing.assert_array_equal(found, rows[: N - 1], strict=True)
        assert f"{place.name}: {N - 1} of {N} samples that were drawn before" in notes[0]

    for suffix in form.writers():
        place = tmp_path / ("folder" if suffix == FOLDER else f"one{suffix}")
        form.save(rows, place, labels=labels)
        if suffix == ".png":
            with pytest.raises(InputError, match=r"one\.png: is one picture, from which samples"):
                check(place)
        else:
            check(place)
    for suffix in form.parts:
        folder = tmp_path / f"parts{suffix}"
        folder.mkdir()
        for number, first in enumerate(range(0, N, 8)):
            some = slice(first, first + 8)
            count = len(rows[some])
            shared: dict[str, Any] = {"number": number, "first": first, "total": N}
            with form.part(folder, suffix, count=count, **shared) as write:
                write(rows[some], None if labels is None else labels[some])
        check(folder)


def test_samples_that_cannot_be_are_left_out_and_that_is_said(tmp_path: Path) -> None:
    """A file that is damaged, and one with a value that no training row can have."""
    config = ud.load(photos(tmp_path / "data"), held_out=2).config()
    config["form"] = {**config["form"], "levels": 200}
    new = tmp_path / "new"
    new.mkdir()
    for i, value in enumerate((7, 250, 9, 199)):
        Image.fromarray(np.full((8, 8, 3), value, np.uint8)).save(new / f"{i}.png")
    content = (new / "2.png").read_bytes()
    (new / "2.png").write_bytes(content[:50])
    rows, notes = given_samples(new, config, 9, batch=3)
    assert rows[:, 0, 0, 0].tolist() == [7, 199]
    assert "2 samples could not be read, or hold what training rows cannot" in notes[1]
