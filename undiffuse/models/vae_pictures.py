"""Pictures of what a variational autoencoder has learned, drawn as the data's own form draws its rows.

    reconstructions   rows, and beneath them E[x | z = m(x)], m the posterior's mean
    traversal         E[x | z] along single latent units, a line for each, from -span to span about one row's m

Images stand side by side, a line of them per line; of other data each line is a picture of its own.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from undiffuse.errors import InputError
from undiffuse.models.vae import VAE

_GAP = 2  # pixels


def reconstructions(model: VAE, rows: np.ndarray, *, label: int | str | None = None) -> Any:
    """A PIL image: `rows` (n, ...) of the stored type, and beneath them what is left of them after z.

    Raises InputError for a model that has not met its data, or a label it does not know.
    """
    mean, cond = _encoded(model, rows, label)
    return _sheet(model, [np.asarray(rows), _decoded(model, mean, cond)])


def traversal(
    model: VAE,
    rows: np.ndarray,
    *,
    units: int = 8,
    points: int = 9,
    span: float = 3.0,
    label: int | str | None = None,
) -> Any:
    """A PIL image: a line for each of the `units` latent units whose posterior mean varies most over `rows` (n, ...) of
    the stored type; along it that unit takes `points` values from -span to span, the others those of the first row.

    Raises InputError for fewer than 1 unit or 2 points, and as `reconstructions`.
    """
    if units < 1 or points < 2:
        raise InputError(f"units {units}, points {points}: give at least 1 unit and 2 points.")
    mean, cond = _encoded(model, rows, label)
    chosen = mean.var(0, correction=0).argsort(descending=True)[:units]
    lines = []
    for unit in chosen.tolist():
        z = mean[:1].repeat(points, 1)
        z[:, unit] = torch.linspace(-span, span, points)
        lines.append(
            _decoded(model, z, {name: value[:1].expand(points) for name, value in cond.items()})
        )
    return _sheet(model, lines)


@torch.no_grad()
def _encoded(
    model: VAE, rows: np.ndarray, label: int | str | None
) -> tuple[Tensor, dict[str, Tensor]]:
    """M (n, latent) of rows at the centres of their bins, and their condition."""
    if model.transform is None:
        raise InputError("this model has not met its data yet; call fit, or open a run.")
    x, _ = model.transform.encode(torch.from_numpy(np.ascontiguousarray(rows)), torch.zeros_like)
    cond = {}
    if model.classes or label is not None:
        index = -1 if label is None else model.label_index(label)
        cond["label"] = torch.full((len(rows),), index, dtype=torch.int64, device=model.device)
    return model.posterior(x.to(model.device), **cond)[0], cond


@torch.no_grad()
def _decoded(model: VAE, z: Tensor, cond: dict[str, Tensor]) -> np.ndarray:
    """E[x | z] as rows (n, ...) of the stored type."""
    assert model.transform is not None
    assert model.observation is not None
    return model.transform.decode(
        model.observation.mean(model.network.decoder(z, **cond)).float().cpu()
    )


def _sheet(model: VAE, lines: Sequence[np.ndarray]) -> Any:
    """Lines of rows, one beneath the other."""
    from PIL import Image

    images = model.shape is not None and len(model.shape) == 3
    parts = [[line[i : i + 1] for i in range(len(line))] if images else [line] for line in lines]
    tiles = [[model.form.preview(part) for part in line] for line in parts]
    width, height = (max(tile.size[axis] for line in tiles for tile in line) for axis in (0, 1))
    across, down = (width + _GAP) * len(tiles[0]) - _GAP, (height + _GAP) * len(tiles) - _GAP
    sheet = Image.new("RGB", (across, down), "white")
    for i, line in enumerate(tiles):
        for j, tile in enumerate(line):
            sheet.paste(tile, (j * (width + _GAP), i * (height + _GAP)))
    return sheet
