"""What a run's log and its loss say of its training: curves over time, and the loss at each noise level.

The loss of one step is that of a batch at random times; so steps are put together in bins. Held-out losses are those
of the averaged weights, always at the same rows and noise, and are not smoothed.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch

from undiffuse.data.rows import as_tensor
from undiffuse.diffusion import RowNoise
from undiffuse.evaluation.references import Reference, Side
from undiffuse.models import GenerativeModel
from undiffuse.seeds import mix
from undiffuse.training.folder import LOG
from undiffuse.training.log import read_log

POINTS = 200  # of the training curve
LOOKED_AT, BLOCKS = 256, 8  # rows of each side, and in how many blocks


def curves(run: str | Path) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """(training, held-out) looks {"step", "elapsed" (seconds), "loss"} from the log of the run; empty without one."""
    events = read_log(Path(os.path.expanduser(run)) / LOG)
    timed = [e for e in events if e.get("event") == "step" and e.get("elapsed") is not None]
    known = [(e["step"], e["elapsed"], e["loss"]) for e in timed if e.get("loss") is not None]
    looks = [e for e in events if e.get("event") == "held_out" and e.get("loss") is not None]
    bins = np.array_split(
        np.array(known, dtype=float).reshape(-1, 3), min(POINTS, max(len(known), 1))
    )
    training: list[dict[str, Any]] = [
        {"step": int(part[-1, 0]), "elapsed": float(part[-1, 1]), "loss": float(part[:, 2].mean())}
        for part in bins
        if len(part)
    ]
    steps, elapsed = [e["step"] for e in timed], [e["elapsed"] for e in timed]
    held_out = [
        {
            "step": e["step"],
            "elapsed": float(np.interp(e["step"], steps, elapsed)) if timed else None,
            "loss": e["loss"],
        }
        for e in looks
    ]
    return training, held_out


def loss_by_level(model: GenerativeModel, reference: Reference) -> dict[str, Any] | None:
    """{"log_snr", "held_out", "training", "stderr"}: the loss of as many rows of either side, and the standard error of
    its difference, from blocks of rows; None for a family without noise levels, or without training rows.
    """
    if reference.training is None:
        return None
    n = min(LOOKED_AT, len(reference.held_out), len(reference.training))
    log_snr, losses = None, []
    for side in (reference.held_out, reference.training):
        blocks = [
            _levels(model, reference, side, rows)
            for rows in np.array_split(np.arange(n), min(BLOCKS, n))
        ]
        if not all(isinstance(block, Mapping) for block in blocks):
            return None
        log_snr = blocks[0]["log_snr"]
        losses.append(np.array([block["loss"] for block in blocks], dtype=float))
    variance = sum(loss.var(0, ddof=1) / len(loss) for loss in losses)
    held_out, training = (loss.mean(0).tolist() for loss in losses)
    stderr = np.sqrt(variance).tolist()
    return {"log_snr": log_snr, "held_out": held_out, "training": training, "stderr": stderr}


def _levels(model: GenerativeModel, reference: Reference, side: Side, rows: np.ndarray) -> Any:
    """What the model says of its loss per noise level on these rows: {"log_snr", "loss"}, or nothing."""
    x, _ = reference.transform.encode(
        as_tensor(side.rows[rows]), RowNoise(mix(*rows[:1].tolist()), len(rows))
    )
    given = {}
    if side.labels is not None and model.classes:
        given["label"] = side.labels[torch.from_numpy(rows)].to(model.device)
    with torch.no_grad():
        return model.diagnostics(x.to(model.device), **given).get("levels")
