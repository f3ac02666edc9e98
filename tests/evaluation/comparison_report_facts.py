"""Facts and pictures like those of a comparison of six presets, for the tests of the report."""

from __future__ import annotations

from typing import Any

from report_facts import figure, png, report_facts, table_facts

PRESETS = {
    "edm": 0.0,
    "ddpm": 1.0,
    "ncsn": 2.0,
    "vae": 3.0,
    "gan": 4.0,
    "flow": 5.0,
}  # each worse than the one before


def comparison_facts() -> dict[str, Any]:
    """Facts of six runs, one of which failed and one of which has no density."""
    done = [name for name in PRESETS if name != "ncsn"]
    runs = {
        name: {"folder": name, "status": "done", "problem": "", "report": report_facts()}
        for name in PRESETS
    }
    runs["ncsn"] |= {
        "status": "failed",
        "problem": "the loss is not finite after 212 steps",
        "report": None,
    }
    runs["gan"]["report"] = table_facts()
    table = [_row(name, PRESETS[name]) for name in done]
    return {
        "format": 1,
        "kind": "comparison",
        "undiffuse": "0.1.0",
        "source": "digits",
        "budget": 60.0,
        "evaluations": 50,
        "samples": 1000,
        "data": report_facts()["data"],
        "features": report_facts()["features"],
        "runs": runs,
        "table": table,
        "best": {"frechet": ["edm"], "recall": ["edm", "ddpm"], "samples_per_second": ["flow"]},
        "triangle": [
            {
                "preset": name,
                "quality": corner(0.93 - 0.11 * PRESETS[name], 0.04),
                "coverage": corner(0.91 - 0.13 * abs(PRESETS[name] - 2.5), 0.05),
                "speed": corner(0.15 + 0.16 * PRESETS[name], 0.02),
            }
            for name in done
        ],
        "triangle_words": "1 is the floor of the precision and of the recall; "
        "speed is on a log scale, 1 the fastest",
        "textbook": [
            {
                "preset": "edm",
                "claim": "Diffusion models: samples of high quality that cover the data, "
                "drawn slowly.",
                "measured": "Best precision and recall of all, 60 times slower than the GAN.",
                "agrees": True,
                "axes": {"quality": True, "coverage": True, "speed": True},
            },
            {
                "preset": "vae",
                "claim": "Autoencoders: fast, and they cover the data; their samples are blurred.",
                "measured": "Fast, and its recall is the lowest but one.",
                "agrees": False,
            },
            {
                "preset": "gan",
                "claim": "Adversarial networks: fast and sharp, and they lose modes.",
                "measured": "The recall ties with that of the VAE.",
                "agrees": None,
                "axes": {"quality": True, "coverage": None, "speed": True},
            },
        ],
        "words": [
            "edm gives the best samples, and is the slowest but one",
            "edm and ddpm tie in recall: their difference is within its error",
            "ncsn failed, and the others were finished",
        ],
    }


def corner(value: float, half: float) -> dict[str, float]:
    """A corner of the triangle, scaled to [0, 1]."""
    return {"value": value, "low": value - half, "high": value + half}


def _row(preset: str, worse: float) -> dict[str, Any]:
    bits = None if preset == "gan" else figure(2.15 + 0.31 * worse, 0.029, better="lower")
    return {
        "preset": preset,
        "family": "diffusion" if worse < 3 else preset,
        "likelihood_kind": "" if bits is None else "bound",
        "nats": bits and figure(-95.4 - 13.1 * worse, 1.27, better="higher"),
        "frechet": figure(12.34 + 9.1 * worse, 0.61 + 0.2 * worse, floor=1.23, better="lower"),
        "kernel": figure(0.0123 + 0.011 * worse, 0.0021, floor=-0.0004, better="lower"),
        "precision": figure(0.876 - 0.071 * worse, 0.021, floor=0.943, better="higher"),
        "density": figure(1.057 - 0.13 * worse, 0.044, floor=0.988, better="floor"),
        "recall": figure(0.732 - 0.052 * worse, 0.032, floor=0.922, better="higher"),
        "coverage": figure(0.864 - 0.067 * worse, 0.027, floor=0.969, better="higher"),
        "modes": figure(10.0 - (worse > 3), floor=10.0, better="higher"),
        "bits_per_dim": bits,
        "likelihood_none": "a GAN gives samples and no density" if bits is None else "",
        "samples_per_second": figure(412.7 * 2.1**worse, 11.3, better="higher"),
        "evaluations_per_sample": 35.0 if worse < 3 else 1.0,
        "latency": figure(0.2134 / 2.1**worse, 0.0082, better="lower"),
        "caught": preset == "gan",
        "training_seconds": 60.4,
        "parameters": 1_234_567 + 11_111 * int(worse),
        "peak_memory": 843_000_000 - 17_000_000 * int(worse),
    }


def comparison_pictures() -> dict[str, bytes]:
    """Samples of each run that has any."""
    return {name: png(seed=int(worse)) for name, worse in PRESETS.items() if name != "ncsn"}
