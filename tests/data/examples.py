"""Small real sources of every kind of data, by the name of the kind and by their own."""

import datetime
import decimal
import gzip
import math

import numpy as np
import pandas as pd
import polars
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from image_files import folder_of, pixels

from undiffuse.data.tables.modelled import UnorderedColumn
from undiffuse.data.tables.transform import TableTransform


def frame(rows=60, seed=0):
    """A table with a column of every sort: see `undiffuse.data.tables`."""
    rng = np.random.default_rng(seed)
    data = {
        "age": rng.integers(18, 90, rows) * 2,
        "price": np.round(rng.gamma(2, 30, rows), 2),
        "height": rng.normal(1.7, 0.1, rows),
        "colour": rng.choice(["red", "green", "blue"], rows),
        "kind": pd.Categorical(rng.choice(["a", "b"], rows)),
        "when": pd.Timestamp("2024-01-01") + pd.to_timedelta(rng.integers(0, 500, rows), "h"),
        "flag": rng.random(rows) < 0.5,
        "debt": np.where(rng.random(rows) < 0.3, np.nan, rng.normal(size=rows)),
        "same": 7,
    }
    return pd.DataFrame(data)


def encoded(column, codes, z):
    """x (B, width) and log correction (B,) of the codes (B,) of one modelled column."""
    return TableTransform(columns=[column]).encode(codes[:, None], lambda like: z)


def decoded(column, x):
    """The codes (B,) of one modelled column."""
    return TableTransform(columns=[column]).decode(x)[:, 0]


def law_of(column, x):
    """log m(x) (B,) of levels without an order: each of its share, about its point in its cell.

    Points are where zero noise leads.
    """
    codes = torch.tensor([*column.values, *[math.nan] * column.missing], dtype=torch.float64)
    points = encoded(column, codes, torch.zeros(len(codes), column.width).double())[0].double()
    names = [str(code) for code in codes.tolist()]

    def level(x):
        return torch.tensor([names.index(str(one)) for one in decoded(column, x)])

    share = shares_of(column)
    return law_in_cells(x.double(), level, points, std_of(points, share)) + share.log()[level(x)]


def std_of(points, share):
    """The deviation of the noise that leaves coordinates a variance of one on average."""
    spread = share @ (points - share @ points).square().sum(1)
    return (1 - spread / points.shape[1]).sqrt()


def law_in_cells(x, level, points, std):
    """log q(x) (B,) of points in the cells of a point each, which `level` says of any x.

    Where a cell ends is found by it. What lies beyond is moved to R^2/t.
    """
    own, width = level(x), x.shape[1]
    z = (x - points[own]) / std
    ends = torch.stack([torch.ones(len(x)), torch.full((len(x),), 1e6)]).double()
    for _ in range(60):  # R/t, between 1 and a million, by bisection
        middle = ends.prod(0).sqrt()
        same = level(points[own] + std * z * middle[:, None]) == own
        ends = torch.stack([torch.where(same, middle, ends[0]), torch.where(same, ends[1], middle)])
    log = 2 * ends[0].log()
    moved = width * log - (log.exp() * z.norm(dim=1)).square() / 2
    moved[ends[0] > 1e5] = -math.inf  # at the point itself, or in a cell without an end there
    normal = torch.logaddexp(-z.square().sum(1) / 2, moved)
    return normal - width * (std.log() + 0.5 * math.log(2 * math.pi))


def shares_of(column):
    """The shares of the points of levels, of which one is that of unseen values too."""
    share = torch.tensor(np.delete(column.masses, column.unseen)).double()
    share[min(column.unseen, len(column.values) - 1)] += column.masses[column.unseen]
    return share / share.sum()


def own_law(transform, x):
    """log-density (B,) of x if no coordinate depended on those of another column."""
    plain = [transform.columns[i] for i in transform._plain]
    own, rest = x[:, : sum(transform._widths)], x[:, sum(transform._widths) :]
    log_p = normal_law(rest)
    for column, part in zip(plain, own.split(transform._widths, 1)):
        unordered = isinstance(column, UnorderedColumn)
        log_p = log_p + (law_of(column, part) if unordered else normal_law(part))
    return log_p


def normal_law(x):
    """log-density (B,) of a standard normal."""
    return -(x.double().square() / 2 + math.log(2 * math.pi) / 2).sum(1)


def every_arrow_type(seed=0):
    """One column of each type that can be modelled, most with missing values."""
    rng, n = np.random.default_rng(seed), 40
    gone = rng.random(n) < 0.25
    days = rng.integers(0, 1000, n)
    base = datetime.datetime(2020, 3, 1, 12, 0, 5)
    return pa.table(
        {
            **{
                name: pa.array(rng.integers(0, 100, n), getattr(pa, name)(), mask=gone)
                for name in (
                    "int8",
                    "int16",
                    "int32",
                    "int64",
                    "uint8",
                    "uint16",
                    "uint32",
                    "uint64",
                )
            },
            "negative": pa.array(-(2**63) + rng.integers(0, 9, n), pa.int64()),
            "yyyymmdd": pa.array([20200101 + int(d) % 28 + 100 * (int(d) % 12) for d in days]),
            "huge": pa.array([2**64 - 1 - int(d) for d in days], pa.uint64()),
            "half": pa.array(rng.normal(size=n).astype(np.float16), pa.float16(), mask=gone),
            "single": pa.array(rng.normal(size=n), pa.float32(), mask=gone),
            "double": pa.array(rng.normal(size=n), pa.float64()),
            "nan": pa.array(np.where(gone, np.nan, rng.normal(size=n)), pa.float64()),
            "price": pa.array(np.round(rng.random(n) * 100, 2), pa.float64()),
            "money": pa.array(
                [None if g else decimal.Decimal(int(d)) / 100 for g, d in zip(gone, days)],
                pa.decimal128(9, 2),
            ),
            "flag": pa.array(rng.random(n) < 0.5, pa.bool_(), mask=gone),
            "word": pa.array(rng.choice(["b", "a", "ü"], n), pa.string(), mask=gone),
            "large": pa.array(rng.choice(["b", "a"], n), pa.large_string()),
            "coded": pa.DictionaryArray.from_arrays(
                pa.array(rng.integers(0, 2, n), pa.int8(), mask=gone),
                pa.array(["z", "y", "unused"]),
            ),
            "numbers": pa.DictionaryArray.from_arrays(
                pa.array(rng.integers(0, 2, n), pa.int32()),
                pa.array([7, 3], pa.int16()),
                ordered=True,
            ),
            "date": pa.array(
                [datetime.date(2020, 1, 1) + datetime.timedelta(int(d)) for d in days],
                pa.date32(),
                mask=gone,
            ),
            "date64": pa.array(
                [datetime.date(2020, 1, 1) + datetime.timedelta(int(d)) for d in days], pa.date64()
            ),
            "stamp": pa.array(
                [base + datetime.timedelta(int(d)) for d in days],
                pa.timestamp("ns", "Europe/Berlin"),
                mask=gone,
            ),
            "clock": pa.array([datetime.time(int(d) % 24, 5) for d in days], pa.time32("s")),
            "clock64": pa.array([datetime.time(int(d) % 24, 5) for d in days], pa.time64("us")),
            "span": pa.array(
                [datetime.timedelta(int(d)) for d in days], pa.duration("us"), mask=gone
            ),
        }
    )


def csv(folder):
    frame().to_csv(folder / "t.csv", index=False)
    return folder / "t.csv"


def parquet(folder):
    pq.write_table(pa.Table.from_pandas(frame()), folder / "t.parquet")
    return folder / "t.parquet"


def npy(folder):
    np.save(folder / "x.npy", normal(40, 5).astype(np.float32))
    return folder / "x.npy"


def idx(folder):
    head = b"\0\0\x0b\x02" + np.array([30, 6], ">u4").tobytes()  # 16-bit integers, two axes
    values = np.random.default_rng(0).integers(-99, 99, (30, 6)).astype(">i2")
    (folder / "x.idx.gz").write_bytes(gzip.compress(head + values.tobytes()))
    return folder / "x.idx.gz"


def tones(folder, rates=(8000,) * 6, name="tones", seconds=0.6, channels=1, subtype="PCM_16"):
    import soundfile

    (folder / name).mkdir()
    for i, rate in enumerate(rates):
        wave = 0.5 * np.sin(2 * np.pi * (200 + 20 * i) * np.arange(int(rate * seconds)) / rate)
        columns = np.stack([wave] + [wave[::-1]] * (channels - 1), 1)
        soundfile.write(folder / name / f"tone_{i}.wav", columns, rate, subtype)
    return folder / name


def normal(*shape):
    return np.random.default_rng(0).normal(size=shape)


def whole(low, high, shape, dtype):
    return np.random.default_rng(0).integers(low, high, shape).astype(dtype)


def photos(*size, dtype=np.uint8):
    return lambda folder: folder_of(folder, [pixels(*size, seed=i, dtype=dtype) for i in range(7)])


def scans(dtype):
    """TIFF files of signed whole numbers, or of real ones."""

    def folder(folder):
        fixed = np.random.default_rng(0).normal(0, 400, (9, 6, 9)).astype(dtype)
        return folder_of(folder, fixed, ".tif")

    return folder


def classes_of_photos(folder):
    for i in range(8):
        folder_of(folder / "all" / "ab"[i % 2] / str(i), [pixels(6, 9, seed=i)])
    return folder / "all"


EXAMPLES = {
    "images": {
        "digits": lambda _: "digits",
        "grey": photos(6, 9),
        "colour": photos(6, 9, 3),
        "16 bits": photos(6, 9, dtype=np.uint16),
        "signed": scans(np.int32),
        "real": scans(np.float32),
        "classes": classes_of_photos,
        "channels first": lambda _: whole(0, 256, (20, 3, 6, 5), np.uint8),
    },
    "recordings": {
        "mono": tones,
        "stereo": lambda folder: tones(folder, channels=2, subtype="FLOAT", seconds=0.1),
    },
    "tables": {
        "csv": csv,
        "parquet": parquet,
        "pandas": lambda _: frame(),
        "polars": lambda _: polars.from_pandas(frame()),
    },
    "arrays": {
        "moons": lambda _: "moons",
        "vectors": lambda _: np.column_stack([normal(30, 3), np.full(30, 2.0)]),
        "series": lambda _: whole(-5, 900, (30, 3, 40), np.int16),
        "grid": lambda _: normal(12, 8, 9, 3),
        "labelled": lambda _: (normal(30, 4), whole(0, 3, 30, np.int64)),
        "npy": npy,
        "idx": idx,
    },
}
CASES = [(kind, name) for kind, sources in EXAMPLES.items() for name in sources]
