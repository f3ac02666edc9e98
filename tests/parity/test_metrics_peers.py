"""The yardsticks beside torchmetrics and prdc, on random features; FID's network
beside torch-fidelity's.
"""

import warnings

import pytest
import torch
from torch import nn

from undiffuse.evaluation.features.inception import InceptionV3
from undiffuse.evaluation.metrics import (
    density_coverage,
    frechet,
    kernel_distance,
    precision_recall,
)

SIZES = [(300, 300, 16), (200, 350, 7), (400, 150, 64)]


def features(n, m, d, seed=0):
    """Correlated, of unequal scales, not centred."""
    generator = torch.Generator().manual_seed(seed)
    mix = torch.randn(d, d, generator=generator).double() / d**0.5
    a, b = (torch.randn(size, d, generator=generator).double() for size in (n, m))
    return a @ mix + 1, 1.2 * b @ mix + 1.1


class Same(torch.nn.Module):
    """Features as they are, for metrics that insist on a network."""

    num_features = 0

    def __init__(self, d):
        super().__init__()
        self.num_features = d

    def forward(self, x):
        return x


def theirs(metric, a, b):
    metric.set_dtype(torch.float64)
    metric.update(a, real=True)
    metric.update(b, real=False)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return metric.compute()


@pytest.mark.parametrize(("n", "m", "d"), SIZES)
def test_frechet_distance_is_that_of_torchmetrics(n, m, d):
    fid = pytest.importorskip("torchmetrics.image.fid")
    a, b = features(n, m, d)
    peer = theirs(
        fid.FrechetInceptionDistance(feature=Same(d), normalize=True, input_img_size=(1, 1, d)),
        a,
        b,
    )
    assert frechet(a, b) == pytest.approx(float(peer), rel=1e-6)


@pytest.mark.parametrize("d", [5, 64])
def test_kernel_distance_is_that_of_torchmetrics_on_one_subset_of_full_size(d):
    kid = pytest.importorskip("torchmetrics.image.kid")
    a, b = features(250, 250, d)
    metric = kid.KernelInceptionDistance(
        feature=Same(d), subsets=1, subset_size=250, normalize=True
    )
    value, _ = kernel_distance(a, b, block=64)
    assert value == pytest.approx(float(theirs(metric, a, b)[0]), rel=1e-6)


@pytest.mark.parametrize("k", [1, 3, 5])
@pytest.mark.parametrize(("n", "m", "d"), SIZES)
def test_precision_recall_density_and_coverage_are_those_of_prdc(n, m, d, k):
    prdc = pytest.importorskip("prdc")
    a, b = features(n, m, d, seed=k)
    peer = prdc.compute_prdc(a.numpy(), b.numpy(), nearest_k=k)
    assert precision_recall(a, b, k) == pytest.approx((peer["precision"], peer["recall"]), abs=1e-9)
    assert density_coverage(a, b, k) == pytest.approx((peer["density"], peer["coverage"]), abs=1e-9)


def test_fids_network_is_that_of_torch_fidelity(tmp_path):
    """By the same random weights, on images that need no resizing; there, bytes b
    become (b - 128)/128.
    """
    peer = pytest.importorskip("torch_fidelity.feature_extractor_inceptionv3")
    torch.manual_seed(0)
    network = InceptionV3().eval()
    for part in network.modules():
        if isinstance(part, nn.BatchNorm2d):
            nn.init.uniform_(part.running_mean, -0.1, 0.1)
            nn.init.uniform_(part.running_var, 0.5, 1.5)
    torch.save(network.state_dict(), tmp_path / "weights.pth")
    theirs = peer.FeatureExtractorInceptionV3(
        "inception", ["2048"], feature_extractor_weights_path=str(tmp_path / "weights.pth")
    )
    bytes_ = torch.randint(256, (2, 3, 299, 299), dtype=torch.uint8)
    with torch.no_grad():
        assert network((bytes_.float() - 128) / 128).allclose(theirs(bytes_)[0], rtol=1e-5)
