"""What a folder of images becomes: one size, one kind of pixels, and a sentence about each thing changed."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from undiffuse.data.images.decode import Header, Target, Unreadable, is_transparent
from undiffuse.errors import InputError

LONGEST_SIDE = 64  # pixels, unless a size is asked for


def plan(
    name: str,
    files: Sequence[Path],
    headers: Mapping[int, Header],
    size: int | tuple[int, int] | None,
) -> tuple[Target, list[str]]:
    """What every image becomes, and notes on what that changes.

    The size is the one that at least half of the images have, or else the median height and width; reduced so that
    the longer side is at most 64, or to `size`. The pixels are the richest met: colour if any image has colour, alpha
    if any is truly transparent somewhere, 16 bits if all are grey and some have them.
    """
    height, width, notes = _choose_size(name, headers, size)
    colour = any(header.colour for header in headers.values())
    alpha, deep = False, any(header.deep for header in headers.values())
    if with_alpha := [files[i] for i, header in headers.items() if header.alpha]:
        alpha = any(map(_is_transparent, with_alpha))
        if not alpha:
            notes.append(
                f"{name}: no pixel of any image is transparent; the alpha channel is left out."
            )
    if deep and (colour or alpha):
        notes.append(
            f"{name}: 16-bit images are reduced to 8 bits, as others have colour or transparency."
        )
    grey = sum(not header.colour for header in headers.values())
    if colour and grey:
        notes.append(
            f"{name}: {grey:,} of {len(headers):,} images are grey and are turned into RGB."
        )
    channels = (3 if colour else 1) + alpha
    return Target(height=height, width=width, channels=channels, deep=deep and channels == 1), notes


def _choose_size(
    name: str, headers: Mapping[int, Header], size: int | tuple[int, int] | None
) -> tuple[int, int, list[str]]:
    sizes = Counter((header.height, header.width) for header in headers.values())
    (height, width), count = sizes.most_common(1)[0]
    if 2 * count < len(headers):
        height, width = (
            int(np.median([header[side] for header in sizes.elements()])) for side in (0, 1)
        )
    sides = (size,) if isinstance(size, int) else size or (LONGEST_SIDE,)
    if len(sides) > 2 or min(sides) < 1:
        raise InputError(
            f"size {size}: give the longer side, or height and width, as whole numbers of pixels."
        )
    if len(sides) == 2:
        chosen = tuple(sides)
    else:
        scale = sides[0] / max(height, width)
        scale = min(scale, 1.0) if size is None else scale
        chosen = (max(1, round(height * scale)), max(1, round(width * scale)))
    target = f"{chosen[0]} x {chosen[1]} (height x width)"
    choice = "" if size is not None else "; give a size to choose another"
    if len(sizes) > 1:
        notes = [
            f"{name}: the images come in {len(sizes):,} sizes; each is resized and centre-cropped to {target}{choice}."
        ]
    elif chosen != (height, width):
        notes = [f"{name}: the images of {height} x {width} are resized to {target}{choice}."]
    else:
        notes = []
    return chosen[0], chosen[1], notes


def _is_transparent(path: Path) -> bool:
    try:
        return is_transparent(path)
    except Unreadable:  # told of when it is decoded
        return False
