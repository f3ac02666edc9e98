"""The variational autoencoder (Kingma and Welling 2014; Kim and Lee 2024, Eq. 8-13).

    p(x) = int p(x | z) p(z) dz,   p(z) = N(0, I)                                   (Eq. 8)
    q(z | x) = N(m, diag(v)),      (m, v) the encoder's                             (Eq. 10)
    log p(x) >= E_q[log p(x | z)] - KL(q(z | x) | p(z))                             (Eq. 11)
    log p(x) >= E log 1/K sum_k p(x | z_k) p(z_k) / q(z_k | x),   z_k ~ q,
                closer than Eq. 11                                 (Burda et al. 2016, Eq. 8)

Training minimizes the negative of the bound in Eq. 11 by one draw of z = m + sqrt(v) e (Eq. 12),
the divergence in closed form, in nats per coordinate. p(x | z) is an `Observation` with the
decoder's output. Sampling draws z from p(z) and then x from p(x | z), so that samples and
likelihoods belong to one distribution; `method="mean"` leaves out the noise of p(x | z), as
pictures in papers do, which is not the distribution that was trained.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, final

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor, nn

from undiffuse.diffusion.gaussian import kl
from undiffuse.diffusion.noise import RowNoise
from undiffuse.diffusion.sample import Callback, one_pass
from undiffuse.errors import InputError
from undiffuse.interfaces import Noise, Player, Source
from undiffuse.models.base import GenerativeModel, unmet
from undiffuse.models.conditions import check_network
from undiffuse.models.likelihood import Bound, Density, How, Likelihood, Weighted, log_mean_exp
from undiffuse.models.observation import (
    OBSERVATIONS,
    Cells,
    GaussianObservation,
    LogisticObservation,
    Observation,
    cells_of,
)
from undiffuse.nn import NETWORKS
from undiffuse.nn.autoencoder import AUTOENCODERS, Autoencoder, autoencoder
from undiffuse.parts import describe

_ACTIVE = 0.01  # least variance of m of a unit that is used (Burda et al. 2016, section 5.2)
_GAP = 2  # pixels between pictures


def _drawn(observation: Observation, output: Tensor, log_scale: Tensor, noise: Noise) -> Tensor:
    return observation.draw(output, log_scale, noise(output))


def _mean(observation: Observation, output: Tensor, log_scale: Tensor, noise: Noise) -> Tensor:
    return observation.mean(output)


DRAWS: dict[str, Callable[[Observation, Tensor, Tensor, Noise], Tensor]] = {
    "likelihood": _drawn,
    "mean": _mean,
}
"""Methods of sampling by name."""


@final
class VAE(GenerativeModel):
    """A variational autoencoder.

    Args:
        observation: p(x | z); None: logistic for images of whole numbers, Gaussian otherwise.
        latent: coordinates of z, at least 1; None: as many as a row has, up to 32 (64 and 128 for
            rows of more than 256 and 4096).
        network: an `Autoencoder`, or dimensions that override those chosen from the data. Its
            encoder returns m, then numbers whose softplus is sqrt(v): (B, 2 latent).
        drop_condition: share of training rows whose conditions are hidden.
        shape: of a row at unit scale; None: taken from the data, as are the levels.
        levels: how many whole numbers fill [-1, 1]; None: it is other data.
        class_shares: how often each class is drawn; empty: counted on the data.

    Raises:
        InputError: for a latent below 1.
    """

    called, methods = "a variational autoencoder", DRAWS
    scored_by = (Weighted, Bound)
    no_density = ""

    def __init__(
        self,
        *,
        observation: Observation | None = None,
        latent: int | None = None,
        network: nn.Module | Mapping[str, Any] | None = None,
        drop_condition: float = 0.1,
        shape: tuple[int, ...] | None = None,
        levels: int | None = None,
        class_shares: tuple[float, ...] = (),
    ) -> None:
        super().__init__(shape=shape, class_shares=class_shares, drop_condition=drop_condition)
        if latent is not None and latent < 1:
            raise InputError(f"latent {latent}: give a whole number of at least 1.")
        self.observation, self.latent, self.levels = observation, latent, levels
        self.sizes = network if isinstance(network, Mapping) else {}
        self.autoencoder = network if isinstance(network, nn.Module) else None

    @property
    def network(self) -> Autoencoder:
        """The trained network. Raises InputError before the model has met its data."""
        return self._ready()[0]

    def _ready(self) -> tuple[Autoencoder, Observation, int]:
        if self.autoencoder is None or self.observation is None or self.latent is None:
            raise unmet()
        assert isinstance(self.autoencoder, Autoencoder)
        return self.autoencoder, self.observation, self.latent

    def prepare(self, source: Source) -> None:
        """Choose the observation and the network's size, once."""
        shape, classes = tuple(source.transform.shape), source.conditions.get("label", 0)
        if self.shape is None:
            self.levels = source.transform.levels
        if self.observation is None:
            whole = self.levels is not None
            self.observation = LogisticObservation() if whole else GaussianObservation()
        self.observation.check(self.levels)
        coordinates = math.prod(shape)
        most = 32 if coordinates <= 256 else 64 if coordinates <= 4096 else 128
        self.latent = self.latent or min(coordinates, most)
        if self.autoencoder is None:
            scales = self.observation.scales(shape[0])
            decided = {"latent": self.latent, "classes": classes, "scales": scales}
            self.autoencoder = autoencoder(shape, **decided, **self.sizes)
        for part in (self.network.encoder, self.network.decoder):
            check_network(part, {"label": classes})

    def players(self) -> dict[str, Player]:
        """Return encoder, decoder and scales as one player: they have one loss."""
        return {"autoencoder": Player(self.network)}

    def posterior(self, x: Tensor, **cond: Tensor) -> tuple[Tensor, Tensor]:
        """Return (m, sqrt(v)) of q(z | x), each (B, latent), of rows (B, *shape)."""
        mean, width = self.network.encoder(x, **cond).to(x.dtype).chunk(2, dim=1)
        return mean, F.softplus(width.clamp(min=-20.0))  # float32 resolves no less beside the mean

    def log_prob_given(self, x: Tensor, cells: Cells | None, z: Tensor, **cond: Tensor) -> Tensor:
        """Return log p(x | z) of each row, in nats (B,).

        Args:
            x: rows (B, *shape).
            cells: the edges of the bins of the rows' whole numbers; None where they are not.
            z: (B, latent).
            cond: the condition of each row.
        """
        network, observation, _ = self._ready()
        dtype = x.dtype if cells is None else cells[0].dtype
        output = network.decoder(z, **cond).to(dtype)
        return observation.log_prob(x, cells, output, network.log_scale.to(dtype))

    def _seen(self, x: Tensor) -> tuple[Tensor, Cells | None]:
        """What the encoder sees, and the edges of the bins: points of bins go to the centres."""
        _, observation, _ = self._ready()
        return cells_of(x, self.levels) if observation.discrete and self.levels else (x, None)

    def terms(self, x: Tensor, e: Tensor, **cond: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return (log p(x | z), KL(q | p), m) for z = m + sqrt(v) e.

        Args:
            x: rows (B, *shape).
            e: standard normals (B, latent).
            cond: the condition of each row.
        """
        x, cells = self._seen(x)
        mean, std = self.posterior(x, **cond)
        return self.log_prob_given(x, cells, mean + std * e, **cond), _divergence(mean, std), mean

    def losses(self, x: Tensor, **cond: Tensor) -> Iterator[tuple[str, Tensor]]:
        """Yield the negative bound, in nats per coordinate."""
        _, _, latent = self._ready()
        cond = self.hidden(cond)
        log_p, divergence, _ = self.terms(x, torch.randn(len(x), latent, device=x.device), **cond)
        yield "autoencoder", (divergence - log_p).mean() / x[0].numel()

    def diagnostics(self, x: Tensor, **cond: Tensor) -> dict[str, Any]:
        """Return the loss on `x`, its two terms in nats per row, and how many units are used."""
        return self.diagnosed(self.row_terms(x, first=0, **cond))

    @torch.no_grad()
    def row_terms(self, x: Tensor, *, first: int = 0, **cond: Tensor) -> dict[str, Tensor]:
        """Return log p(x | z), KL(q | p) and the mean of z of each row."""
        _, _, latent = self._ready()
        e = RowNoise(0, len(x), first)(x.new_empty(len(x), latent))
        log_p, divergence, mean = self.terms(x, e, **cond)
        return {"log_p": log_p, "divergence": divergence, "mean": mean}

    def diagnosed(self, terms: Mapping[str, Tensor]) -> dict[str, Any]:
        """Return the loss, its two terms in nats per row, and how many units are used."""
        log_p, divergence, mean = terms["log_p"], terms["divergence"], terms["mean"]
        return {
            "loss": float((divergence - log_p).mean()) / math.prod(self.shape or ()),
            "reconstruction": float(log_p.mean()),
            "kl": float(divergence.mean()),
            "active_units": int((mean.var(0, correction=0) > _ACTIVE).sum()),
        }

    @torch.no_grad()
    def draw(
        self,
        n: int,
        *,
        noise: Noise,
        method: str | None = None,
        steps: int | None = None,
        callback: Callback | None = None,
        **cond: Tensor,
    ) -> Tensor:
        """Return `n` samples (n, *shape), in one pass.

        Args:
            n: how many.
            noise: supplies z, and then the noise of p(x | z).
            method: "likelihood" draws from p(x | z), the default; "mean" returns its mean.
            steps: refused: there is one.
            callback: called once.
            cond: the condition of each sample.

        Raises:
            InputError: for another method, and for a number of steps.
        """
        network, observation, latent = self._ready()
        self.check_sampler(method=method, steps=steps)
        z = noise(torch.empty(n, latent, device=self.device))
        output, log_scale = network.decoder(z, **cond).to(z.dtype), network.log_scale.to(z.dtype)
        return one_pass(
            DRAWS[method or "likelihood"](observation, output, log_scale, noise), callback
        )

    @torch.no_grad()
    def likelihood(
        self,
        x: Tensor,
        *,
        noise: Noise,
        cond: Mapping[str, Tensor],
        how: How | None = None,
        cells: Cells | None = None,
    ) -> Likelihood:
        """Return a bound on log p(x | cond) of each row, in nats.

        Whole numbers without `cells` count as densities that are constant within each bin.

        Args:
            x: rows (B, *shape).
            noise: supplies the draws of z.
            cond: the condition of each row.
            how: `Weighted` weights the draws by importance, the default; `Bound` has the
                divergence in closed form.
            cells: the edges of the bins of the rows' whole numbers.
        """
        how = how or Weighted()
        assert not isinstance(how, Density)
        draws = how.evaluations if isinstance(how, Bound) else how.draws
        seen, own = self._seen(x)
        low, high = cells or own or (None, None)
        edges = None if low is None or high is None else (low.double(), high.double())
        mean, std = self.posterior(seen, **cond)
        log_p: list[Tensor] = []
        log_ratio: list[Tensor] = []
        for _ in range(draws):
            e = noise(mean)
            z = mean + std * e
            log_p.append(self.log_prob_given(seen, edges, z, **cond).double())
            squares = e.double().square() - z.double().square()
            log_ratio.append(squares.sum(1) / 2 + std.double().log().sum(1))
        divergence = _divergence(mean.double(), std.double())
        nats, stderr = BOUNDS[type(how)](torch.stack(log_p), torch.stack(log_ratio), divergence)
        if own is not None and cells is None and self.levels is not None:
            nats = nats + x[0].numel() * math.log(self.levels / 2)
        return Likelihood(nats, stderr, "bound", float(draws + 1))

    def takes_cells(self, how: How | None) -> bool:
        """Return whether the observation is one of whole numbers."""
        return self.observation is not None and self.observation.discrete

    def config(self) -> dict[str, Any]:
        """Return the tree of parts, `kind` and arguments, as a run's config.json keeps it."""
        return describe(self, {**NETWORKS, **AUTOENCODERS, **OBSERVATIONS, "vae": VAE})

    # --- pictures of what was learned, drawn as the data's own form draws its rows

    def pictures(self, rows: np.ndarray) -> dict[str, Image.Image]:
        """Return the reconstructions of sixteen rows, and the traversal of latent units."""
        return {
            "reconstructions": self.reconstructions(rows[:16]),
            "traversal": self.traversal(rows),
        }

    def reconstructions(self, rows: np.ndarray, *, label: int | str | None = None) -> Image.Image:
        """Return a picture of rows, and beneath them E[x | z = m(x)].

        Args:
            rows: (n, ...) of the stored type.
            label: the class that the model is told; None: hidden.

        Raises:
            InputError: for a model that has not met its data, or a class that it does not know.
        """
        mean, cond = self._means(rows, label)
        return self._sheet([np.asarray(rows), self._decoded(mean, cond)])

    def traversal(
        self,
        rows: np.ndarray,
        *,
        units: int = 8,
        points: int = 9,
        span: float = 3.0,
        label: int | str | None = None,
    ) -> Image.Image:
        """Return a picture of E[x | z] along single latent units, a line for each.

        Args:
            rows: (n, ...) of the stored type; z starts from m of the first one.
            units: how many units: those whose m varies most over the rows.
            points: values of the unit along its line.
            span: the values go from -span to span.
            label: the class that the model is told; None: hidden.

        Raises:
            InputError: for fewer than 1 unit or 2 points, and as `reconstructions`.
        """
        if units < 1 or points < 2:
            raise InputError(f"units {units}, points {points}: give at least 1 unit and 2 points.")
        mean, cond = self._means(rows, label)
        cond = {name: value[:1].expand(points) for name, value in cond.items()}
        lines: list[np.ndarray] = []
        for unit in mean.var(0, correction=0).argsort(descending=True)[:units]:
            z = mean[:1].repeat(points, 1)
            z[:, unit] = torch.linspace(-span, span, points)
            lines.append(self._decoded(z, cond))
        return self._sheet(lines)

    @torch.no_grad()
    def _means(self, rows: np.ndarray, label: int | str | None) -> tuple[Tensor, dict[str, Tensor]]:
        """M (n, latent) of rows at the centres of their bins, and their condition."""
        if self.transform is None:
            raise unmet()
        cond = self.label_condition(len(rows), label)
        x, _ = self.transform.encode(torch.as_tensor(rows), torch.zeros_like)
        return self.posterior(x.to(self.device), **cond)[0], cond

    @torch.no_grad()
    def _decoded(self, z: Tensor, cond: dict[str, Tensor]) -> np.ndarray:
        """E[x | z] as rows (n, ...) of the stored type."""
        network, observation, _ = self._ready()
        assert self.transform is not None
        return self.transform.decode(observation.mean(network.decoder(z, **cond)).float().cpu())

    def _sheet(self, lines: Sequence[np.ndarray]) -> Image.Image:
        """Lines of rows beneath each other: images side by side, else a picture for each line."""
        form = self.form
        assert form is not None
        apart = self.shape is not None and len(self.shape) == 3
        parts = [[line[i : i + 1] for i in range(len(line))] if apart else [line] for line in lines]
        tiles = [[form.preview(part) for part in line] for line in parts]
        width = max(tile.width for line in tiles for tile in line) + _GAP
        height = max(tile.height for line in tiles for tile in line) + _GAP
        size = (width * len(tiles[0]) - _GAP, height * len(tiles) - _GAP)
        sheet = Image.new("RGB", size, "white")
        for i, line in enumerate(tiles):
            for j, tile in enumerate(line):
                sheet.paste(tile, (j * width, i * height))
        return sheet


def closed_bound(log_p: Tensor, log_ratio: Tensor, divergence: Tensor) -> tuple[Tensor, Tensor]:
    """Return the bound of Eq. 11, its divergence in closed form.

    Args:
        log_p: log p(x | z_k), (K, B) for K draws z_k of B rows.
        log_ratio: log p(z_k) / q(z_k | x), (K, B).
        divergence: KL(q(z | x) | p(z)), (B,).

    Returns:
        The bound and its standard error, each (B,); the latter is nan for one draw.
    """
    return log_p.mean(0) - divergence, _standard_error(log_p)


def weighted_bound(log_p: Tensor, log_ratio: Tensor, divergence: Tensor) -> tuple[Tensor, Tensor]:
    """Return the bound of Burda et al. (2016), Eq. 8; arguments as for `closed_bound`.

    With K = 1 it is the bound of Eq. 11 with the divergence by the same draw.
    """
    return log_mean_exp(log_p + log_ratio)


BOUNDS: dict[type[How], Callable[[Tensor, Tensor, Tensor], tuple[Tensor, Tensor]]] = {
    Bound: closed_bound,
    Weighted: weighted_bound,
}
"""The bound of each way of scoring."""


def _divergence(mean: Tensor, std: Tensor) -> Tensor:
    """KL(N(mean, std^2) | N(0, I)) of each row, (B,)."""
    return kl(mean, std.square(), torch.zeros_like(mean), torch.ones_like(std))


def _standard_error(values: Tensor) -> Tensor:
    """Of the mean over the first axis; nan for one value."""
    if len(values) == 1:
        return torch.full_like(values[0], math.nan)
    return values.std(0) / math.sqrt(len(values))
