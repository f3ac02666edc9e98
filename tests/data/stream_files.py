"""Files of rows for the tests of streams: row i holds the number i, whatever the format."""

import io
import tarfile

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

FORMATS = ("npy", "parquet", "cells", "tar")
"""`cells` is Parquet with an image in each row, as Hugging Face has them."""


def numbers_in(rows, form):
    """Which rows these are."""
    rows = np.asarray(rows)
    if form in ("tar", "cells"):
        return (rows[:, 0, 0].astype(int) * 256 + rows[:, 0, 1]).tolist()
    return rows[:, 0].round().astype(int).tolist()


def suffix(form):
    """That of its files."""
    return {"cells": "parquet"}.get(form, form)


def write_files(folder, form, sizes=(30, 50, 20, 40, 25), group=10):
    """Write files of so many rows each, row groups of `group`."""
    folder.mkdir(parents=True, exist_ok=True)
    first, rng = 0, np.random.default_rng(0)
    for i, size in enumerate(sizes):
        number = np.arange(first, first + size)
        write_file(folder / f"part-{i:03d}.{suffix(form)}", form, number, rng, group)
        first += size
    return folder


def write_file(path, form, number, rng, group=10):
    if form == "npy":
        rows = np.stack([number, rng.normal(size=len(number))], 1).astype(np.float32)
        np.save(path, rows)
    elif form == "parquet":
        columns = {"number": number + 0.0, "size": rng.normal(size=len(number))}
        columns["kind"] = rng.choice(["a", "b"], len(number))
        pq.write_table(pa.table(columns), path, row_group_size=group)
    elif form == "cells":
        images = [{"bytes": image_of(n), "path": None} for n in number]
        kind = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
        table = pa.table({"image": pa.array(images, kind), "label": number % 3})
        pq.write_table(table, path, row_group_size=group)
    else:
        write_tar(
            path, [(f"{n:06d}", {".png": image_of(n), ".cls": b"%d" % (n % 3)}) for n in number]
        )


def image_of(number):
    pixels = np.full((4, 4), 128, np.uint8)
    pixels[0, :2] = divmod(int(number), 256)
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, "PNG")
    return stream.getvalue()


def write_tar(path, samples):
    with tarfile.open(path, "w") as archive:
        for name, members in samples:
            for suffix, content in members.items():
                about = tarfile.TarInfo(f"{name}{suffix}")
                about.size = len(content)
                archive.addfile(about, io.BytesIO(content))
