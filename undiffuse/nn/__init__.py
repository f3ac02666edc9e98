"""Networks: x, noise level, conditions -> F, for images (U-Net), images and sequences (transformer), vectors (MLP)."""

from undiffuse.nn.mlp import MLP
from undiffuse.nn.size import NETWORKS, dimensions, for_shape
from undiffuse.nn.transformer import Transformer
from undiffuse.nn.unet import UNet

__all__ = ["MLP", "NETWORKS", "Transformer", "UNet", "dimensions", "for_shape"]
