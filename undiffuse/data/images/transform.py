"""Images: whole numbers 0 ... K - 1 at each of d places fill the cube [-1, 1]^d.

    x = 2 (k + u) / K - 1,   u ~ U[0, 1),       log P(k) >= E_u[log p(x)] + d log(2 / K)

This is the transform of arrays with mean = std = K / 2: nothing is measured on the data.
"""

from __future__ import annotations

from undiffuse.data.arrays.transform import ArrayTransform


def image_transform(
    *, row_shape: tuple[int, ...], channel_axis: int | None, levels: int, dtype: str
) -> ArrayTransform:
    """Return the transform of images.

    Args:
        row_shape: the shape of one image.
        channel_axis: -1 for (H, W, C), 0 for (C, H, W), None for (H, W).
        levels: the number of values K; they are 0 ... K - 1.
        dtype: the stored type, uint8 or uint16.

    >>> import torch
    >>> transform = image_transform(row_shape=(2, 2, 3), channel_axis=-1, levels=256, dtype="uint8")
    >>> black = torch.zeros(1, 2, 2, 3, dtype=torch.uint8)
    >>> x, log_correction = transform.encode(black, torch.zeros_like)
    >>> x.shape, round(float(log_correction[0]), 3)
    (torch.Size([1, 3, 2, 2]), -58.224)
    """
    sides = list(row_shape)
    channels = 1 if channel_axis is None else sides.pop(channel_axis)
    return ArrayTransform(
        row_shape=row_shape,
        layout=(channels, *sides),
        channels_last=channel_axis == -1,
        dtype=dtype,
        mean=(levels / 2,) * channels,
        std=(levels / 2,) * channels,
        low=(0,) * channels,
        high=(levels - 1,) * channels,
        levels=levels,
    )
