"""The part of a model that scoring needs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol, runtime_checkable

from undiffuse.models.likelihood import Likelihood


@runtime_checkable
class Scorer(Protocol):
    """The part of `GenerativeModel` that scoring needs."""

    def likelihood_rows(self, *rows: Any, **options: Any) -> Likelihood:
        """Return the likelihood of stored rows; see `GenerativeModel.likelihood_rows`."""
        ...

    def state_dict(self) -> Mapping[str, Any]:
        """Return the weights."""
        ...
