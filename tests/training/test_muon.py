"""Muon against the singular value decomposition in float64; its momentum in a resumed run."""

from __future__ import annotations

import pytest
import torch
from torch import nn

import undiffuse as ud
from undiffuse.interfaces import Player
from undiffuse.nn import NETWORKS, for_shape
from undiffuse.options import TrainingOptions
from undiffuse.training.learner import Learner
from undiffuse.training.muon import MOMENTUM, Muon, orthogonal

SHAPES = [(1, 1), (1, 9), (9, 1), (16, 16), (8, 72), (72, 8)]


def exact(x):
    """U S' V^T with Jordan's polynomial, five times, on the singular values of a matrix."""
    u, s, v = torch.linalg.svd(x.double(), full_matrices=False)
    s = s / s.norm()
    for _ in range(5):
        s = 3.4445 * s - 4.7750 * s**3 + 2.0315 * s**5
    return u @ torch.diag(s) @ v, s


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("rank", [1, 5, 1000])
def test_singular_values_become_about_one_and_vectors_stay(shape, rank):
    generator = torch.Generator().manual_seed(0)
    rank = min(rank, *shape)
    parts = (torch.randn(3, shape[0], rank, generator=generator),
             torch.randn(3, rank, shape[1], generator=generator))  # fmt: skip
    x = 1e-4 * parts[0] @ parts[1]
    for one, found in zip(x, orthogonal(x)):
        expected, values = exact(one)
        assert float((found.double() - expected).norm()) < 0.02 * rank**0.5
        large = values[:rank][torch.linalg.svdvals(one.double())[:rank] > 2e-3 * one.norm()]
        assert bool(((large > 0.68) & (large < 1.21)).all())


def test_no_gradient_is_no_step_and_no_nan():
    assert bool((orthogonal(torch.zeros(2, 3, 4)) == 0).all())


def test_steps_are_those_of_the_formula():
    """Two weights of one shape and a kernel, over three steps, with decay."""
    torch.manual_seed(0)
    weights = [nn.Parameter(torch.randn(shape)) for shape in ((4, 6), (4, 6), (3, 2, 3, 3))]
    slopes = [[torch.randn_like(w) for w in weights] for _ in range(3)]
    expected = [w.detach().double().flatten(1).clone() for w in weights]
    momenta = [torch.zeros_like(e) for e in expected]
    optimizer = Muon(weights, lr=0.1, weight_decay=0.5)
    for gradients in slopes:
        for w, g in zip(weights, gradients):
            w.grad = g.clone()
        optimizer.step()
        for i, g in enumerate(gradients):
            g = g.double().flatten(1)
            momenta[i] = MOMENTUM * momenta[i] + (1 - MOMENTUM) * g
            update, _ = exact(MOMENTUM * momenta[i] + (1 - MOMENTUM) * g)
            size = 0.2 * max(update.shape) ** 0.5
            expected[i] = (1 - 0.1 * 0.5) * expected[i] - 0.1 * size * update
    for w, e in zip(weights, expected):
        torch.testing.assert_close(w.detach().double().flatten(1), e, rtol=0.01, atol=0.01)


@pytest.mark.parametrize("hidden", [(), ("0.weight",), ("0.weight", "2.weight")])
def test_a_learner_goes_on_from_its_tensors(hidden):
    def begin():
        torch.manual_seed(0)
        module = nn.Sequential(nn.Linear(3, 5, bias=False), nn.Tanh(), nn.Linear(5, 2, bias=False))
        return module, Learner(Player(module, hidden=hidden), TrainingOptions())

    def train(module, learner, steps):
        for step in steps:
            x = torch.randn(8, 3, generator=torch.Generator().manual_seed(step))
            (loss := module(x).square().mean()).backward()
            learner.update(loss, 0.01)
            learner.forget_gradients()

    whole, learner = begin()
    train(whole, learner, range(6))
    half, learner = begin()
    train(half, learner, range(3))
    kept = {name: value.clone() for name, value in learner.tensors()}
    momenta = {f"optimizer.momentum/{name}" for name in hidden}
    assert momenta == {name for name in kept if "momentum" in name}
    resumed, learner = begin()
    resumed.load_state_dict(half.state_dict())
    learner.load(kept, 3)
    train(resumed, learner, range(3, 6))
    assert all(torch.equal(a, b) for a, b in zip(whole.parameters(), resumed.parameters()))
    for name in momenta:
        damaged = kept | {name: kept[name] * float("nan")}
        with pytest.raises(ValueError, match=r"momentum of .* not possible"):
            learner.load(damaged, 3)


@pytest.mark.parametrize("kind", NETWORKS)
def test_what_is_hidden_are_inner_matrices(kind):
    """All matrices and kernels of inner modules; not the first, the last, and of conditions."""
    network = NETWORKS[kind]
    shape = {1: (6,), 2: (1, 16), 3: (1, 8, 8)}[network.axes[-1]]
    model = ud.edm(kind=kind, width=32)
    model.meet(torch.randn(9, *shape, generator=torch.Generator().manual_seed(0)).numpy())
    hidden = model.players()["denoiser"].hidden
    weights = dict(for_shape(shape, kind=kind, width=32).named_parameters())
    inner = {name for name, w in weights.items() if w.ndim >= 2 and "." in name}
    outer = ("enter", "leave", "condition", "straight")
    expected = {n for n in inner if not n.startswith(outer) and "modulation" not in n}
    assert hidden == (set() if kind == "mlp" else expected)
