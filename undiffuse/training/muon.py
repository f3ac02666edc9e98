"""Muon (Jordan et al. 2024): steps along the semi-orthogonal matrix nearest to the momentum.

With G the gradient of a weight of r rows and c columns (of a kernel: inputs times positions),

    B <- mu B + (1 - mu) G
    W <- (1 - lr lambda) W - lr 0.2 max(r, c)^(1/2) orthogonal(mu B + (1 - mu) G)

so that all singular directions move alike. Such an update has the root mean square of one of AdamW
(Liu et al. 2025, "Muon is scalable for LLM training", Eq. 4), and one rate serves both.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from typing import Any, final

import torch
from torch import Tensor

from undiffuse.training.shards import part, whole

MOMENTUM = 0.95
_STEPS = 5
_COEFFICIENTS = 3.4445, -4.7750, 2.0315  # of the odd polynomial, by Jordan et al.


def orthogonal(x: Tensor) -> Tensor:
    """Return U S' V^T for matrices x = U S V^T (n, r, c), the numbers in S' about 1.

    A singular value s, over the norm of all, goes five times through 3.4445 s - 4.7750 s^3 +
    2.0315 s^5: what is above 0.002 ends between 0.68 and 1.21. As U S' V^T = q(x x^T) x with a
    polynomial q, the steps are taken on the r x r matrices, the smaller side first.

    >>> orthogonal(torch.diag(torch.tensor([2.0, -1.0]))[None]).diagonal(dim1=1, dim2=2).sign()
    tensor([[ 1., -1.]])
    """
    if x.shape[1] > x.shape[2]:
        return orthogonal(x.mT).mT
    x = x / x.flatten(1).norm(dim=1).clamp(min=1e-30)[:, None, None]
    a, b, c = _COEFFICIENTS
    gram = x @ x.mT
    whole = None
    for step in range(_STEPS):
        factor = torch.baddbmm(gram, gram, gram, beta=b, alpha=c)
        factor.diagonal(dim1=1, dim2=2).add_(a)
        whole = factor if whole is None else factor @ whole
        if step < _STEPS - 1:
            gram = factor @ gram @ factor
    return x if whole is None else whole @ x


@final
class Muon(torch.optim.Optimizer):
    """Muon for weights (r, ...), whose axes after the first are taken for one; float32.

    Args:
        weights: what is optimized, each of two axes or more.
        lr: the learning rate.
        weight_decay: lambda.
        parts: of which parameter each weight is a part, where other processes hold the others: they
            are put together for the time of a step.
    """

    def __init__(
        self,
        weights: Iterable[Tensor],
        *,
        lr: float,
        weight_decay: float,
        parts: Mapping[Tensor, Tensor] | None = None,
    ) -> None:
        super().__init__(weights, {"lr": lr, "weight_decay": weight_decay})
        self.parts = parts or {}

    def _of(self, weight: Tensor) -> Tensor:
        """The parameter that a weight is, or is a part of."""
        return self.parts.get(weight, weight)

    @torch.no_grad()
    def step(self, closure: Any = None) -> None:  # pyright: ignore[reportIncompatibleMethodOverride]
        """Take a step on the gradients; weights of one shape are orthogonalized together."""
        for group in self.param_groups:
            alike: defaultdict[torch.Size, list[Tensor]] = defaultdict(list)
            for weight in group["params"]:
                if weight.grad is not None:
                    alike[self._of(weight).shape].append(weight)
            lr, decay = group["lr"], 1 - group["lr"] * group["weight_decay"]
            for weights in alike.values():
                self._step(weights, lr, decay)

    def _step(self, weights: list[Tensor], lr: float, decay: float) -> None:
        ahead: list[Tensor] = []
        for weight in weights:
            state, slope = self.state[weight], weight.grad
            assert slope is not None
            if not state:
                state["momentum"] = torch.zeros_like(weight)
            step = state["momentum"].lerp_(slope, 1 - MOMENTUM).lerp(slope, 1 - MOMENTUM)
            ahead.append(whole(step, self._of(weight)))
        updates = orthogonal(torch.stack(ahead).flatten(2))
        size = 0.2 * max(updates.shape[1:]) ** 0.5
        for weight, update in zip(weights, updates):
            own = part(update, self._of(weight)).view_as(weight)
            weight.mul_(decay).sub_(own, alpha=lr * size)
