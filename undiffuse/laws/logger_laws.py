"""The laws of loggers: each takes a run from start to end, and is told what `fit` tells it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from PIL import Image

from undiffuse.data.recordings.form import RecordingForm
from undiffuse.laws.broken import hold
from undiffuse.training.loggers import Logger, Relay

CONFIG = {"preset": "edm", "steps": 2, "lr": 1e-3, "batch": None}
_STEP = {"event": "step", "loss": 0.5, "rate": 10.0, "lr": 1e-3, "skipped": 0}
_VOICE: dict[str, Any] = {"rate": 8000, "channels": 1, "dtype": "float32"}
_CURVE = {"log_snr": [1.0, -1.0], "loss": [0.25, 0.75]}


def takes_a_run(logger: Logger) -> None:
    """All that there is to be told, by the relay that training and evaluation use."""
    said: list[str] = []

    def listen(event: dict[str, Any]) -> None:
        if event["event"] == "logger":
            said.append(event["said"])

    with TemporaryDirectory() as place:
        folder = Path(place)
        Image.new("RGB", (8, 8)).save(folder / "sample.png")
        (folder / "sample.wav").write_bytes(RecordingForm(**_VOICE).sound(np.zeros((2, 80))))
        (folder / "report.html").write_text("<!doctype html><title>Report</title>")
        relay = Relay([logger], listen, folder=folder, config=CONFIG, every=1)
        for event in (
            {"event": "start", "step": 0},
            {**_STEP, "step": 1},
            {"event": "held_out", "step": 1, "loss": 0.5, "levels": _CURVE},
            {"event": "samples", "step": 1, "path": str(folder / "sample.png")},
            {**_STEP, "step": 2, "loss": None},
            {"event": "end", "step": 2, "reason": "done"},
        ):
            relay(event)
        relay.close()
        relay = Relay([logger], listen, folder=folder, config=CONFIG, every=1)
        page = {"path": str(folder / "report.html"), "figures": {"quality": {"frechet": 2.5}}}
        for event in ({"event": "start", "step": 2}, {"event": "report", "step": 2, **page}):
            relay(event)
        relay.close()
    hold(not said, "; ".join(said))


LOGGER_LAWS: Mapping[str, Callable[[Logger], None]] = {
    "a logger takes a run, its samples and its report": takes_a_run,
}
"""What a logger is held to, in a sentence -> the law."""
