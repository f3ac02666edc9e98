"""An estimate of the model's own error: how far its log-likelihoods are from the data's.

The standard error of a score says how far it is from the model's own likelihood, and nothing of how
far the model is from the data. Two differences grow with that: between the two likelihoods of one
network, density and bound, which agree where the denoiser is exact; and between the end of training
and an earlier snapshot, which agree once training gains no more. Their sum, times a factor,

    error = FACTOR (|density - bound| + |end - snapshot|)   nats, for each row,

is called an estimate: the factor is such that it holds 90 % of the true errors on half of a set of
mixtures whose density is known (`benchmarks/model_error.py`, which reports coverage and width on
the other half). Nothing guarantees it on data whose density is unknown: a model that misses the
same part of the data all along, in both ways, gives no sign of it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, final

from undiffuse.evaluation.scores.scorer import Scorer
from undiffuse.models.likelihood import Bound, Density, Likelihood

FACTOR = 1.07  # measured by benchmarks/model_error.py


@final
class WithOwnError:
    """A diffusion model whose likelihoods come with an estimate of its own error; a `Scorer`.

    Args:
        model: the model.
        earlier: the same at an earlier snapshot of its training.
    """

    def __init__(self, model: Scorer, earlier: Scorer) -> None:
        self.model, self.earlier = model, earlier

    def likelihood_rows(self, *rows: Any, **options: Any) -> Likelihood:
        """Return the likelihood of stored rows, with `model_error`."""
        found = self.model.likelihood_rows(*rows, **options)
        other = Density() if found.kind == "bound" else Bound()
        beside = self.model.likelihood_rows(*rows, **{**options, "how": other, "importance": False})
        before = self.earlier.likelihood_rows(*rows, **options)
        differences = (found.nats - beside.nats).abs() + (found.nats - before.nats).abs()
        return replace(
            found,
            model_error=FACTOR * differences,
            evaluations=found.evaluations + beside.evaluations + before.evaluations,
            products=found.products + beside.products + before.products,
        )

    def state_dict(self) -> Mapping[str, Any]:
        """Return the weights of both."""
        sides = {"": self.model, "earlier.": self.earlier}
        return {
            prefix + name: value
            for prefix, one in sides.items()
            for name, value in one.state_dict().items()
        }
