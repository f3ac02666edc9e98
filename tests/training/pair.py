"""What a process that `torchrun` starts does in the tests of `ranks`; `train_all` works alone, too.

    torchrun --nproc-per-node 2 tests/training/pair.py FOLDER

Rank 0 writes the weights in training and the losses of each preset to FOLDER/TYPE/PRESET, and each
rank what was refused, and in which words, to FOLDER/refused-RANK.json.
"""

import json
import sys
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch.nn.modules.module import register_module_forward_pre_hook

from undiffuse.errors import InputError
from undiffuse.laws.preset_laws import Briefly, plain_rows
from undiffuse.models import PRESETS
from undiffuse.training import fit, step
from undiffuse.training.ranks import joined

STEPS, BATCH = 20, 8
SHAPES = ((2,), (8, 8))
PARTS = {torch.float64: 1, torch.float32: 4}  # that a batch is computed in, at least


def train_all(folder, dtype, accumulate):
    torch.set_num_threads(1)
    before = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    encoded, step.encoded = step.encoded, lambda *given: cast(encoded(*given), dtype)
    hook = register_module_forward_pre_hook(lambda module, given: cast(given, kind_of(module)))
    try:
        with joined() as ranks:
            for name in PRESETS:
                state = trained(name, accumulate, ranks)
                if ranks.first:
                    save_file(state, Path(folder) / name)
    finally:
        torch.set_default_dtype(before)
        step.encoded = encoded
        hook.remove()


def cast(tree, dtype):
    """Whatever a network takes, in its own precision: of coefficients it makes float32."""
    if isinstance(tree, torch.Tensor) and tree.is_floating_point():
        return tree.to(dtype)
    if isinstance(tree, dict):
        return {key: cast(value, dtype) for key, value in tree.items()}
    return tuple(cast(value, dtype) for value in tree) if isinstance(tree, tuple) else tree


def kind_of(module):
    return next((p.dtype for p in module.parameters(recurse=False)), torch.get_default_dtype())


def trained(name, accumulate, ranks):
    torch.manual_seed(ranks.rank)  # what is to be the same is not the same by chance
    model, source = made(name)
    losses, options = [], {"steps": STEPS, "batch": BATCH, "accumulate": accumulate, "seed": 3}
    fit(
        model,
        source,
        precision="float32",
        samples=0,
        averaging=0,
        evaluate_every=STEPS + 1,
        on_event=lambda event: losses.append(event["loss"]) if event["event"] == "step" else None,
        **options,
    )
    named = model.state_dict().items()
    state = {key: value.double().contiguous() for key, value in named}
    return {**state, "losses": torch.tensor(losses, dtype=torch.float64)}


def made(name):
    for shape in SHAPES:
        model = Briefly(PRESETS[name], shape)._made()
        try:
            return model, model.meet(plain_rows(shape))
        except InputError:
            continue
    raise AssertionError(name)


def refused(ranks):
    """What is refused on all ranks, though only one of them, or all together, are at fault."""
    rows = plain_rows((2,))

    def other_data():
        fit(PRESETS["edm"](width=8, depth=1), rows + ranks.rank, steps=2, samples=0)

    def no_share():
        fit(PRESETS["edm"](width=8, depth=1), rows, steps=2, batch=5, samples=0)

    def one_fails():
        def fails():
            if ranks.rank == 1:
                raise InputError("disk: is full.")

        ranks.together(fails)

    said = {}
    for work in (other_data, no_share, one_fails):
        try:
            work()
        except InputError as problem:
            said[work.__name__] = str(problem)
    return said


if __name__ == "__main__":
    folder = Path(sys.argv[1])
    with joined() as ranks:
        for dtype, parts in PARTS.items():
            place = folder / str(dtype)
            place.mkdir(exist_ok=True)
            train_all(place, dtype, parts)
        (folder / f"refused-{ranks.rank}.json").write_text(json.dumps(refused(ranks)))
