"""The laws of loggers: each takes a run from start to end, and is told what `fit` tells it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from PIL import Image

from undiffuse.laws.broken import hold
from undiffuse.training.loggers import Logger, Relay

CONFIG = {"preset": "edm", "steps": 2, "lr": 1e-3, "batch": None}
_STEP = {"event": "step", "loss": 0.5, "rate": 10.0, "lr": 1e-3, "skipped": 0}
_CURVE = {"log_snr": [1.0, -1.0], "loss": [0.25, 0.75]}


def takes_a_run(logger: Logger) -> None:
    """start, numbers, a picture and close in a folder, by the relay that training uses."""
    said: list[str] = []

    def listen(event: dict[str, Any]) -> None:
        if event["event"] == "logger":
            said.append(event["said"])

    with TemporaryDirectory() as place:
        folder = Path(place)
        Image.new("RGB", (8, 8)).save(folder / "sample.png")
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
    hold(not said, "; ".join(said))


LOGGER_LAWS: Mapping[str, Callable[[Logger], None]] = {
    "a logger takes start, numbers, a picture and close": takes_a_run,
}
"""What a logger is held to, in a sentence -> the law."""
