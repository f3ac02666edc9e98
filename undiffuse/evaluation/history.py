"""The loss of a model at each noise level: of held-out and training rows, and of a linear one."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

from undiffuse.data.rows import as_tensor
from undiffuse.diffusion import RowNoise
from undiffuse.evaluation.references import Reference, Side
from undiffuse.models import GenerativeModel

LOOKED_AT, BLOCKS = 256, 8  # rows of each side, and in how many blocks
FITTED = 2000  # training rows whose covariance makes the best linear denoiser


def loss_by_level(model: GenerativeModel, reference: Reference) -> dict[str, Any] | None:
    """Return the loss of equally many rows of each side at each noise level.

    Returns:
        {"log_snr", "held_out", "training", "stderr"}, lists with an entry per level; "stderr" is
        the standard error of the difference, from blocks of rows. None for a family without noise
        levels, and without training rows.
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


def against_linear(model: GenerativeModel, reference: Reference) -> dict[str, float] | None:
    """Return the model's squared error on held-out rows over that of the best linear denoiser.

    At the quarter of the noise levels where it is smallest: at the ends no denoiser beats a linear
    one.

    Returns:
        {"share", "stderr"}, "stderr" by leaving out each row in turn; None for a family without
        noise levels, and without training rows.
    """
    if reference.training is None:
        return None
    rows = np.arange(min(LOOKED_AT, len(reference.held_out)))
    x, given = _encoded(model, reference, reference.held_out, rows)
    known = np.arange(min(FITTED, len(reference.training)))
    training, _ = _encoded(model, reference, reference.training, known)
    found = model.against_linear(x, training, **given)
    if found is None:
        return None
    ours, theirs = found.double().cpu().numpy()
    total, base = ours.sum(1, keepdims=True), theirs.sum(1, keepdims=True)
    least = np.argsort((total / base)[:, 0])[: max(1, len(total) // 4)]
    without = ((total - ours) / (base - theirs))[least].mean(0)  # each row in turn
    stderr = float(np.sqrt((len(rows) - 1) * without.var()))
    return {"share": float((total / base)[least].mean()), "stderr": stderr}


def _levels(model: GenerativeModel, reference: Reference, side: Side, rows: np.ndarray) -> Any:
    """The model's loss per noise level on these rows: {"log_snr", "loss"}, or None."""
    x, given = _encoded(model, reference, side, rows)
    with torch.no_grad():
        return model.diagnostics(x, **given).get("levels")


def _encoded(
    model: GenerativeModel, reference: Reference, side: Side, rows: np.ndarray
) -> tuple[Tensor, dict[str, Tensor]]:
    """These rows at unit scale on the model's device, and their conditions."""
    x, _ = reference.transform.encode(
        as_tensor(side.rows[rows]), RowNoise(0, len(rows), int(rows[0]))
    )
    given = {}
    if side.labels is not None and model.classes:
        given["label"] = side.labels[torch.from_numpy(rows)].to(model.device)
    if side.vector is not None and model.kept is not None:
        given["vector"] = side.vector[torch.from_numpy(rows)].to(model.device)
    return x.to(model.device), given
