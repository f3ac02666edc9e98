"""What each of two processes does in the tests of `ranks`; `train_all` works alone, too."""

import json
import os
from contextlib import contextmanager

import torch
from safetensors.torch import load_file
from torch.nn.modules.module import register_module_forward_pre_hook

from undiffuse.errors import InputError
from undiffuse.laws.preset_laws import Briefly, plain_rows
from undiffuse.models import PRESETS
from undiffuse.models.diffusion import Diffusion
from undiffuse.options import TrainingOptions
from undiffuse.training import fit, loading, shards
from undiffuse.training.checkpoint import RunFolder
from undiffuse.training.ranks import joined
from undiffuse.training.state import TrainingState

STEPS, BATCH = 8, 8  # the rows are met for the second time from the sixth step on
SHAPES = ((2,), (8, 8))
FEW = ("edm", "vdm", "gan")  # one player, a learned schedule, two players
WAYS = {  # name -> (type, parallel, parts that a batch is computed in, presets)
    "ddp": (torch.float64, "ddp", 2, tuple(PRESETS)),
    "fsdp": (torch.float64, "fsdp", 2, tuple(PRESETS)),
    "parts": (torch.float64, "fsdp", 4, FEW),
    "single": (torch.float32, "ddp", 4, tuple(PRESETS)),
}


def train_all(folder, way):
    """Train the presets into FOLDER/PRESET, and return their losses."""
    dtype, parallel, parts, names = WAYS[way]
    losses = {}
    with in_type(dtype):
        for name in names:
            torch.manual_seed(int(os.environ.get("RANK", 0)))  # what is the same is not by chance
            model, source = made(name)
            found = losses[name] = []
            options = {"parallel": parallel, "accumulate": parts, "log_every": 1}
            train(model, source, out=folder / name, on_loss=found.append, **options)
    return losses


def train(model, source, *, steps=STEPS, on_loss=None, **options):
    options = {"batch": BATCH, "seed": 3, "precision": "float32", "samples": 0, **options}

    def on_event(event):
        if on_loss is not None and event["event"] == "step":
            on_loss(event["loss"])

    options = {"evaluate_every": STEPS + 1, "device": "cpu", **options}
    return fit(model, source, steps=steps, on_event=on_event, **options)


@contextmanager
def in_type(dtype):
    """Inside, what a network takes is in its own precision: of coefficients it makes float32."""
    torch.set_num_threads(1)
    before, encoded = torch.get_default_dtype(), loading.encoded
    conclude = Diffusion.conclude
    Diffusion.conclude = lambda model, source, *, stop: True  # it takes many evaluations
    torch.set_default_dtype(dtype)
    loading.encoded = lambda *given: cast(encoded(*given), dtype)
    hook = register_module_forward_pre_hook(lambda module, given: cast(given, kind_of(module)))
    try:
        yield
    finally:
        torch.set_default_dtype(before)
        loading.encoded, Diffusion.conclude = encoded, conclude
        hook.remove()


def cast(tree, dtype):
    if isinstance(tree, torch.Tensor) and tree.is_floating_point():
        return tree.to(dtype)
    if isinstance(tree, dict):
        return {key: cast(value, dtype) for key, value in tree.items()}
    return tuple(cast(value, dtype) for value in tree) if isinstance(tree, tuple) else tree


def kind_of(module):
    return next((p.dtype for p in module.parameters(recurse=False)), torch.get_default_dtype())


def made(name):
    for shape in SHAPES:
        model = Briefly(PRESETS[name], shape)._made()
        try:
            return model, model.meet(plain_rows(shape))
        except InputError:
            continue
    raise AssertionError(name)


def carried(folder):
    """What becomes of each preset's state in shards: its names if it is the same, bit for bit.

    And the share of the weights that is here.
    """
    found = {}
    with in_type(torch.float64):
        for name in PRESETS:
            model, _ = made(name)
            state = TrainingState(model, TrainingOptions(), sharded=True)
            run = RunFolder(folder / name)
            tensors = run.tensors()
            state.restore(tensors, run.counters(), name)
            again = state.tensors()
            weights = list(state.trained.parameters())
            share = sum(shards.here(p).numel() for p in weights) / sum(p.numel() for p in weights)
            same = [n for n, v in again.items() if n in tensors and torch.equal(v, tensors[n])]
            found[name] = {"same": same, "given": list(tensors), "share": share}
    return found


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


def evaluated(run, parallel):
    """The numbers of the held-out rows that this process measured; and the model's last state.

    It chooses a form of its bound at the end.
    """
    found, inner = [], Diffusion.row_terms

    def counted(model, x, *, first=0, **cond):
        found.extend(range(first, first + len(x)))
        return inner(model, x, first=first, **cond)

    Diffusion.row_terms = counted
    torch.manual_seed(0)
    model = PRESETS["edm"](width=8, depth=1)
    try:
        train(model, plain_rows((2,)), steps=3, out=run, parallel=parallel)
    finally:
        Diffusion.row_terms = inner
    state = {name: value.tolist() for name, value in model.state_dict().items()}
    return found, state


RESUMED = ("edm", "gan")
HALF = STEPS // 2  # as far as a first sitting goes


def goes_on(folder):
    """Runs of one preset each, begun or continued by two processes: see the law."""
    for name in RESUMED:
        resumed(folder / f"{name}-down", name, HALF, parallel="ddp")
        resumed(folder / f"{name}-out", name, HALF, parallel="fsdp")
        resumed(folder / f"{name}-across", name, HALF, parallel="ddp")
        resumed(folder / f"{name}-across", name, STEPS, parallel="fsdp")
        resumed(folder / f"{name}-up", name, STEPS, parallel="ddp")


def resumed(run, name, steps, **options):
    """Train to so many steps in double precision, on from what there is."""
    there = run.exists()
    with in_type(torch.float64):
        torch.manual_seed(0)
        model, source = made(name)
        train(model, source, out=run, resume=there, steps=steps, **{"accumulate": 2, **options})


def work_together(folder):
    """What each process of a pair does: it writes to FOLDER/WAY, and FOLDER/RANK.json."""
    with joined() as ranks:
        goes_on(folder)
        told = {way: train_all(folder / way, way) for way in WAYS}
        told |= {
            "refused": refused(ranks),
        }
        for parallel in ("ddp", "fsdp"):
            told[f"evaluated {parallel}"] = evaluated(folder / f"chosen-{parallel}", parallel)
        told |= {f"carried {way}": carried(folder / way) for way in ("ddp", "fsdp")}
        (folder / f"{ranks.rank}.json").write_text(json.dumps(told))
    return 0


def state_of(run):
    """All tensors of a run, and what its last evaluation found."""
    (folder,) = (run / "state").glob("step-*")
    weights = load_file(run / "weights.safetensors").items()
    tensors = load_file(folder / "state.safetensors")
    tensors |= {f"weights/{name}": value for name, value in weights}
    return tensors, json.loads((folder / "state.json").read_text())["held_out"]
