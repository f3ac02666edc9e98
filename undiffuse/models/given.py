"""Rows of which some entries are known, in the stored type; the rest is for a model to draw."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, final

import numpy as np
import torch

from undiffuse.diffusion.sample import RowNoise

_KNOWN = (
    0x6B0317  # keeps the stream that encodes what is known apart from the one that draws the rest
)


@final
@dataclass(frozen=True, eq=False)
class Given:
    """`rows` (m, ...) in a model's stored type, `known` (m, ...) true where an entry is known.

    What `rows` holds elsewhere is not used, but has to be something that can be encoded. `data.complete` makes
    one from a file.
    """

    rows: np.ndarray
    known: np.ndarray

    def __len__(self) -> int:
        return len(self.rows)

    def condition(
        self, places: np.ndarray, transform: Any, seed: int, first: int, device: torch.device
    ) -> dict[str, Any]:
        """{"known": (x_known (B, *shape) float32, mask (B, *shape) bool)} of the rows at these places, for the samples
        number `first`, ...; what the transform draws is drawn for each of them.
        """
        rows = self.rows[places]
        wider = {"uint16": np.int32, "uint32": np.int64, "uint64": np.int64}.get(
            rows.dtype.name, rows.dtype
        )
        noise = RowNoise(seed ^ _KNOWN, len(rows), first)
        x, _ = transform.encode(torch.from_numpy(np.ascontiguousarray(rows, dtype=wider)), noise)
        mask = transform.known(torch.from_numpy(np.ascontiguousarray(self.known[places])))
        return {"known": (x.to(device), mask.to(device))}

    def put_back(self, rows: np.ndarray, places: np.ndarray) -> np.ndarray:
        """`rows` (B, ...) with what is known at these places exactly as it was given."""
        return np.where(self.known[places], self.rows[places], rows).astype(rows.dtype)
