"""Images: whole numbers 0 ... K - 1 at each of d places fill the cube [-1, 1]^d.

    x = 2 (k + u) / K - 1,   u ~ U[0, 1),       log P(k) >= E_u[log p(x)] + d log(2 / K)

This is the transform of arrays with mean = std = K / 2: nothing is measured on the data.
"""

from __future__ import annotations

from undiffuse.data.arrays.transform import ArrayTransform
from undiffuse.data.images.form import ImageForm


def image_transform(form: ImageForm) -> ArrayTransform:
    """Return the transform of images of a form.

    >>> import torch
    >>> form = ImageForm(row_shape=(2, 2, 3), channel_axis=-1, levels=256, dtype="uint8")
    >>> black = torch.zeros(1, 2, 2, 3, dtype=torch.uint8)
    >>> x, log_correction = image_transform(form).encode(black, torch.zeros_like)
    >>> x.shape, round(float(log_correction[0]), 3)
    (torch.Size([1, 3, 2, 2]), -58.224)
    """
    height, width, channels = form.size
    return ArrayTransform(
        row_shape=form.row_shape,
        layout=(channels, height, width),
        channels_last=form.channel_axis == -1,
        dtype=form.dtype,
        mean=(form.levels / 2,) * channels,
        std=(form.levels / 2,) * channels,
        low=(0,) * channels,
        high=(form.levels - 1,) * channels,
        levels=form.levels,
    )
