"""Networks for images (U-Net), images and sequences (transformer), vectors (MLP), and flows."""

from undiffuse.nn.mlp import MLP
from undiffuse.nn.size import FLOWS, NETWORKS, flow_for_shape, for_shape
from undiffuse.nn.transformer import Transformer
from undiffuse.nn.unet import UNet

__all__ = [
    "FLOWS",
    "MLP",
    "NETWORKS",
    "Transformer",
    "UNet",
    "flow_for_shape",
    "for_shape",
]
