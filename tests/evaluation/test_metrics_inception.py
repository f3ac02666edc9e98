"""The network of FID: its published size, its names, its pooling; which files may be called FID."""

from __future__ import annotations

import hashlib

import pytest
import torch
from torch import nn

from undiffuse.errors import InputError
from undiffuse.evaluation.features import choose_features
from undiffuse.evaluation.features import inception as features_inception
from undiffuse.evaluation.features.inception import FID_SHA256, Inception, InceptionV3


@pytest.fixture(scope="module")
def network():
    """Random weights that keep activations of size 1."""
    torch.manual_seed(0)
    made = InceptionV3()
    for part in made.modules():
        if isinstance(part, nn.BatchNorm2d):
            nn.init.uniform_(part.weight, 0.8, 1.2)
            nn.init.uniform_(part.bias, 0.0, 0.4)
        if isinstance(part, nn.Conv2d):
            nn.init.kaiming_normal_(part.weight)
    return made.eval()


@pytest.fixture(scope="module")
def file(network, tmp_path_factory):
    """As old programs wrote them: without the counters of batches."""
    path = tmp_path_factory.mktemp("weights") / "inception.pth"
    torch.save(
        {name: value for name, value in network.state_dict().items() if "tracked" not in name}, path
    )
    return path


def test_the_network_has_the_published_size(network):
    """That of torchvision's, less its auxiliary classifier, with 1,008 classes instead of 1,000.

    torchvision's has 27,161,264 parameters, 3,326,696 of them in the auxiliary classifier.
    Normalizations have 17,216 channels.
    """
    assert sum(value.numel() for value in network.parameters()) == 27_161_264 - 3_326_696 + 8 * 2049
    assert (
        sum(part.num_features for part in network.modules() if isinstance(part, nn.BatchNorm2d))
        == 17_216
    )
    assert sum(isinstance(part, nn.Conv2d) for part in network.modules()) == 94


@pytest.mark.parametrize(
    ("name", "shape"),
    [
        ("Conv2d_1a_3x3.conv.weight", (32, 3, 3, 3)),
        ("Conv2d_4a_3x3.bn.running_var", (192,)),
        ("Mixed_5b.branch5x5_2.conv.weight", (64, 48, 5, 5)),
        ("Mixed_5d.branch_pool.conv.weight", (64, 288, 1, 1)),
        ("Mixed_6a.branch3x3.conv.weight", (384, 288, 3, 3)),
        ("Mixed_6b.branch7x7_2.conv.weight", (128, 128, 1, 7)),
        ("Mixed_6e.branch7x7dbl_5.conv.weight", (192, 192, 1, 7)),
        ("Mixed_7a.branch7x7x3_4.conv.weight", (192, 192, 3, 3)),
        ("Mixed_7b.branch3x3_2a.conv.weight", (384, 384, 1, 3)),
        ("Mixed_7c.branch3x3dbl_3b.conv.weight", (384, 384, 3, 1)),
        ("Mixed_7c.branch1x1.conv.weight", (320, 2048, 1, 1)),
        ("fc.weight", (1008, 2048)),
    ],
)
def test_weights_have_the_published_names_and_shapes(network, name, shape):
    assert tuple(network.state_dict()[name].shape) == shape


def test_sizes_and_channels_are_those_of_the_paper(network):
    """Szegedy et al. 2016, table 1: 35 x 35 x 288, 17 x 17 x 768, 8 x 8 x 1280, 8 x 8 x 2048."""
    sizes = {}
    hooks = [
        part.register_forward_hook(
            lambda _, __, out, name=name: sizes.update({name: tuple(out.shape[1:])})
        )
        for name, part in network.named_children()
    ]
    with torch.no_grad():
        assert network(torch.zeros(1, 3, 299, 299)).shape == (1, 2048)
    for hook in hooks:
        hook.remove()
    expected = {
        "Conv2d_1a_3x3": (32, 149, 149),
        "Conv2d_2a_3x3": (32, 147, 147),
        "Conv2d_2b_3x3": (64, 147, 147),
        "Conv2d_4a_3x3": (192, 71, 71),
        "Mixed_5b": (256, 35, 35),
        "Mixed_5d": (288, 35, 35),
        "Mixed_6a": (768, 17, 17),
        "Mixed_6e": (768, 17, 17),
        "Mixed_7a": (1280, 8, 8),
        "Mixed_7c": (2048, 8, 8),
    }
    assert {name: sizes[name] for name in expected} == expected


def pooled(block, x):
    """What reaches the projection after a block's pooling."""
    seen = []
    hook = block.branch_pool.register_forward_pre_hook(lambda _, given: seen.append(given[0]))
    with torch.no_grad():
        block(x)
    hook.remove()
    return seen[0]


@pytest.mark.parametrize("name", ["Mixed_5b", "Mixed_6b", "Mixed_7b", "Mixed_7c"])
def test_pooling_is_that_of_the_published_graph(network, name):
    """Averages of ones are ones up to the edge; the last block takes the largest."""
    block = getattr(network, name)
    channels = block.branch1x1.conv.in_channels
    assert pooled(block, torch.ones(1, channels, 5, 5)).allclose(torch.ones(1))
    spike = torch.zeros(1, channels, 5, 5)
    spike[:, :, 2, 2] = 9.0
    assert pooled(block, spike).amax() == pytest.approx(9.0 if name == "Mixed_7c" else 1.0)


def test_any_other_file_is_not_fid(file):
    found = hashlib.sha256(file.read_bytes()).hexdigest()
    with pytest.raises(
        InputError, match=f"its SHA-256 is {found[:8]}..., that of FID's weights 6726825d"
    ):
        Inception(file)
    with pytest.raises(InputError, match="give the file with that checksum"):
        Inception(file, "6726825d")
    with pytest.raises(InputError, match="give the file with that checksum"):
        Inception(file, found[:4])
    assert Inception(file, found[:8]).name == f"inception-{found[:8]}"


def test_the_published_checksum_alone_is_called_fid(file, monkeypatch):
    assert FID_SHA256.startswith("6726825d")  # pytorch-fid's file carries it in its name
    monkeypatch.setattr(
        features_inception, "FID_SHA256", hashlib.sha256(file.read_bytes()).hexdigest()
    )
    assert Inception(file).name == "FID(inception)"


def test_features_are_the_networks_whatever_the_file(network, file, tmp_path):
    """By name; grey images are repeated; a safetensors file has the same weights."""
    from safetensors.torch import save_file

    rows = torch.rand(2, 1, 20, 30, generator=torch.Generator().manual_seed(0)) * 2 - 1
    digits = hashlib.sha256(file.read_bytes()).hexdigest()[:8]
    features = choose_features(rows, None, chosen=f"inception:{file}#{digits}")
    with torch.no_grad():
        expected = network(Inception.prepared(rows[:1].expand(-1, 3, -1, -1)))
    assert features(rows[:1]).allclose(expected.double(), rtol=1e-4, atol=1e-4)
    assert float(expected.std()) > 0.01
    other = tmp_path / "weights.safetensors"
    save_file({name: value.contiguous() for name, value in network.state_dict().items()}, other)
    same = Inception(other, hashlib.sha256(other.read_bytes()).hexdigest())
    assert same(rows[:1]).equal(features(rows[:1]))
    with pytest.raises(InputError, match="not images of 1 or 3 channels"):
        features(torch.zeros(2, 5))


def test_images_are_resized_without_a_shift():
    """A ramp stays a ramp, edge to edge: pixels are areas, not points."""
    ramp = torch.linspace(-1, 1, 23).expand(1, 1, 23, 23)
    found = Inception.prepared(ramp)
    assert found.shape == (1, 3, 299, 299)
    expected = (torch.arange(299) + 0.5) * 23 / 299 - 0.5
    expected = (expected.clamp(0, 22) / 11 - 1).expand(1, 3, 299, 299)
    assert found.allclose(expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize("content", [b"text", b""])
def test_files_that_hold_no_such_weights_are_refused(content, tmp_path):
    for name, words in [
        ("a.pth", "holds no weights that can be read"),
        ("b.safetensors", "holds no weights"),
    ]:
        (tmp_path / name).write_bytes(content)
        with pytest.raises(InputError, match=words):
            Inception(tmp_path / name, hashlib.sha256(content).hexdigest())


def test_weights_of_another_network_are_refused(tmp_path):
    for value, words in [
        ({"fc.weight": torch.zeros(3)}, "not the weights of FID's Inception v3"),
        ([1, 2], "does not hold weights by name"),
    ]:
        torch.save(value, tmp_path / "other.pth")
        with pytest.raises(InputError, match=words):
            Inception(
                tmp_path / "other.pth",
                hashlib.sha256((tmp_path / "other.pth").read_bytes()).hexdigest(),
            )
