"""Facts and pictures like those of a trained model, for the tests of the report; hardly two
numbers are equal.
"""

from __future__ import annotations

import io
import math
from functools import cache
from typing import Any

import numpy as np
from PIL import Image

MARKS = '<b>&"bold"</b>'  # must come out as it is, and never as an element


def figure(value: float | None, half: float = 0.0, **given: Any) -> dict[str, Any]:
    """A figure as it stands in report.json."""
    low, high = (None, None) if value is None else (value - half, value + half)
    made = {
        "value": value,
        "low": low,
        "high": high,
        "stderr": half / 1.96,
        "n": 1797,
        "floor": None,
    }
    return {**made, "warning": "", "better": "", **given}


@cache
def png(lines: int = 8, columns: int = 8, seed: int = 0) -> bytes:
    """A picture of small grey cells, as of digits."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[0 : lines * 30, 0 : columns * 30]
    phase = rng.uniform(0, 6.3, (lines, columns)).repeat(30, 0).repeat(30, 1)
    pixels = 127 + 120 * np.sin(((x % 30 - 15) ** 2 + (y % 30 - 15) ** 2) / 30 + phase)
    stream = io.BytesIO()
    Image.fromarray(pixels.astype(np.uint8)).save(stream, format="png")
    return stream.getvalue()


def report_facts() -> dict[str, Any]:
    """Facts of a run on labelled images."""
    return {
        "format": 1,
        "kind": "report",
        "undiffuse": "0.1.0",
        "run": "runs/digits",
        "preset": "edm",
        "family": "diffusion",
        "data": {
            "name": "digits",
            "training_rows": 1617,
            "held_out_rows": 180,
            "shape": [1, 8, 8],
            "classes": [str(c) for c in range(10)],
        },
        "samples": 1000,
        "seed": 3,
        "sampler": {"method": "heun", "steps": 18, "evaluations": 35.0},
        "features": {
            "name": "classifier fitted on the training rows",
            "hash": "9f3c61ab",
            "dimensions": 64,
            "accuracy": 0.972,
        },
        "verdict": {
            "state": "improving",
            "sentence": "The model is good and still getting better: "
            "its held-out loss falls at every noise level.",
            "evidence": [
                "the held-out loss fell by 3.1 % over the last quarter of the training, "
                "and its error is 0.4 %",
                "held-out and training loss agree at all 12 noise levels",
                "samples are no nearer to training rows than held-out rows are (p = 0.41)",
            ],
            "advice": "Train on with --resume; "
            "at this rate another 10 minutes halve the distance to the floor.",
        },
        **yardsticks(),
        "speed": {
            "samples_per_second": figure(412.7, 11.3, better="higher", n=5),
            "evaluations_per_sample": 35.0,
            "latency": figure(0.2134, 0.0082, better="lower", n=5),
            "training_seconds": 150.4,
            "steps": 5230,
            "parameters": 1_234_567,
            "peak_memory": 843_000_000,
        },
        "table": None,
        "curves": curves(),
        "warnings": [
            "only 180 held-out rows: intervals of the coverage are wide; hold more rows out"
        ],
    }


def yardsticks() -> dict[str, Any]:
    """Quality, coverage, memorization and likelihood of that run."""
    return {
        "quality": {
            "frechet": figure(
                12.345,
                0.61,
                floor=1.234,
                better="lower",
                warning="about 8% of it is due to there being only 1,797 rows; look at the floor",
            ),
            "kernel": figure(0.01234, 0.0021, floor=-0.00045, better="lower"),
            "precision": figure(0.8765, 0.021, floor=0.9432, better="higher"),
            "density": figure(1.0567, 0.044, floor=0.9876, better="floor"),
        },
        "coverage": {
            "recall": figure(0.7321, 0.032, floor=0.9218, better="higher"),
            "coverage": figure(0.8642, 0.027, floor=0.9689, better="higher"),
            "modes": figure(10.0, floor=10.0, better="higher"),
            "class_variation": figure(0.0456, 0.012, floor=0.0213, better="lower"),
        },
        "classes": [
            {
                "name": str(c),
                "share": figure(0.1 + 0.021 * math.sin(c), 0.017),
                "real": 0.1 + 0.004 * math.cos(3 * c),
            }
            for c in range(10)
        ],
        "memorization": {
            "caught": False,
            "p": 0.4123,
            "z": 0.5234,
            "closer": figure(0.4932, 0.024, better="floor"),
            "copies": figure(0.0061, 0.0042, floor=0.0055, better="lower"),
            "pairs": [
                {
                    "sample": 7 * i + 3,
                    "training": 113 * i + 19,
                    "distance": 0.4 + 0.06 * i,
                    "ratio": 0.31 + 0.03 * i,
                }
                for i in range(8)
            ],
        },
        "likelihood": {
            "nats": figure(-95.43, 1.27, better="higher", n=180),
            "bits_per_dim": figure(2.1511, 0.0286, better="lower", n=180),
            "gap": figure(3.27, 1.61, better="lower", n=180),
            "meaning": "A lower bound of the log-probability of the whole-number pixels of a row, "
            "by the ELBO.",
            "kind": "bound",
            "rows": 180,
        },
    }


def curves() -> dict[str, Any]:
    """Losses that fall, with noise, and quality against evaluations."""
    rng = np.random.default_rng(0)
    steps = np.arange(10, 5230, 10)
    loss = 0.12 + 0.9 * np.exp(-steps / 300.0) + 0.1 * np.exp(-steps / 2500.0)
    log_snr = np.linspace(-8.0, 9.0, 12)
    level = 0.9 / (1 + np.exp((log_snr + 1) / 1.5)) + 0.02
    return {
        "training": [
            {"step": int(s), "elapsed": float(s) / 35, "loss": float(v * rng.normal(1, 0.09))}
            for s, v in zip(steps, loss)
        ],
        "held_out": [
            {"step": int(s), "elapsed": float(s) / 35, "loss": float(v * 1.04)}
            for s, v in list(zip(steps, loss))[25::25]
        ],
        "levels": {
            "log_snr": log_snr.tolist(),
            "held_out": (level * 1.05).tolist(),
            "stderr": (level * 0.03).tolist(),
            "training": level.tolist(),
        },
        "by_evaluations": [
            {
                "evaluations": n,
                "frechet": figure(12.0 + 160.0 / n**1.1, 0.7 + 3.0 / n, better="lower"),
                "precision": figure(0.88 - 1.1 / n, 0.022, better="higher"),
            }
            for n in (5, 9, 17, 35, 71)
        ],
    }


def table_facts() -> dict[str, Any]:
    """Facts of a run on a table: no classes, no likelihood, names that must be escaped."""
    facts = report_facts()
    facts["data"] = {
        "name": MARKS,
        "training_rows": 900,
        "held_out_rows": 100,
        "shape": [4],
        "classes": [],
    }
    facts["classes"] = []
    facts["preset"] = "gan"
    facts["likelihood"] = {"none": "a GAN gives samples and no density"}
    facts["verdict"] = {
        "state": "memorizing",
        "sentence": "The model copies its training rows.",
        "evidence": ["samples are nearer to training rows than held-out rows are (p = 2e-9)"],
        "advice": "Train on more rows, or stop earlier.",
    }
    facts["memorization"] |= {"caught": True, "p": 2.3e-9, "z": -6.1}
    facts["quality"]["frechet"] |= {
        "value": None,
        "low": None,
        "high": None,
        "floor": None,
        "warning": "",
    }
    facts["table"] = {
        "columns": {
            "age": figure(0.9432, 0.011, floor=0.9712, better="higher"),
            MARKS: figure(0.8123, 0.015, floor=0.9633, better="higher"),
        },
        "associations": figure(0.9121, 0.013, floor=0.9812, better="higher"),
        "usefulness": {"income": figure(-0.1234, 0.051, floor=0.4321, better="higher")},
    }
    facts["curves"] |= {"levels": None, "by_evaluations": []}
    return facts


def long_facts() -> dict[str, Any]:
    """Facts with names that no line holds, 60 classes, and numbers very large and very small."""
    facts, long = table_facts(), "unbroken" * 12
    facts |= {"run": f"/somewhere/{long}", "preset": long}
    facts["data"]["name"] = long
    facts["features"]["name"] = long
    facts["table"]["columns"] = {
        f"{long}{i}": figure(0.9 - i / 100, 0.01, floor=0.95, better="higher") for i in range(20)
    }
    facts["classes"] = [
        {"name": f"{long}{i}", "share": figure(1 / 60, 0.005), "real": 1 / 60} for i in range(60)
    ]
    facts["quality"]["frechet"] = figure(4.2e11, 3.1e9, floor=1.1e-9, better="lower", warning=long)
    facts["quality"]["kernel"] = figure(4.2e-11, 3.1e-13, floor=-1.1e-14, better="lower")
    facts["verdict"] |= {"sentence": long, "evidence": [long], "advice": long}
    facts["likelihood"] = {"none": long}
    return facts
