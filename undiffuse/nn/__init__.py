"""Networks for images (U-Net), images and sequences (transformer), vectors (MLP), and flows."""

from undiffuse.nn.foreign import FOREIGN as FOREIGN
from undiffuse.nn.mlp import MLP as MLP
from undiffuse.nn.size import FLOWS as FLOWS
from undiffuse.nn.size import NETWORKS as NETWORKS
from undiffuse.nn.size import flow_for_shape as flow_for_shape
from undiffuse.nn.size import for_shape as for_shape
from undiffuse.nn.unet import UNet as UNet
