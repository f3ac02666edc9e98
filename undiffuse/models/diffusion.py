"""Diffusion models: a denoiser, an objective and a default way to sample, for any data shape.

Training draws t from the objective's times and z ~ N(0, I), and regresses the network on its
target at x_t = alpha_t x + sigma_t z (Ho et al. 2020, Algorithm 1, for every row of choices).
Sampling starts from the prior at t = 1 and takes `steps` steps along a grid (Algorithm 2,
likewise). Conditions are dropped at random in training, so that the same network also knows the
unconditional denoiser.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import replace
from typing import Any, final

import torch
from torch import Tensor, nn
from typing_extensions import override

from undiffuse import nn as networks
from undiffuse.diffusion import (
    METHODS,
    PARTS,
    AbstractDenoiser,
    Clipped,
    Denoiser,
    Grid,
    LogSigma,
    Prior,
    RowNoise,
    Schedule,
    Step,
    sample,
)
from undiffuse.diffusion.denoiser import Condition, Conditioned, noised
from undiffuse.diffusion.guidance import (
    HIDDEN,
    Autoguided,
    ClassifierFree,
    Interval,
    Watch,
    Watched,
)
from undiffuse.diffusion.known import Conditional, as_given, replaced
from undiffuse.diffusion.likelihood.density import (
    EXACT,
)
from undiffuse.diffusion.likelihood.elbo import DRAWS
from undiffuse.diffusion.linear import LinearDenoiser
from undiffuse.diffusion.objectives import AbstractObjective
from undiffuse.diffusion.sample import Callback
from undiffuse.diffusion.schedules.learned import schedule_loss
from undiffuse.diffusion.schedules.process import Times
from undiffuse.diffusion.target import Bounded, Target
from undiffuse.errors import InputError, unknown
from undiffuse.interfaces import Noise, Player, Progress, Source, Stop
from undiffuse.models.base import GenerativeModel, unmet
from undiffuse.models.choices import check_parts, with_sigma_data
from undiffuse.models.conditions import check_network
from undiffuse.models.diffusion_likelihood import BOUND_FORMS, BoundForm, by_bound, by_density
from undiffuse.models.duel import Duel
from undiffuse.models.gan import compared
from undiffuse.models.gaps import checked_share, directions, draw_given, share_of_gaps
from undiffuse.models.likelihood import Bound, Density, How, Likelihood
from undiffuse.models.methods import SAMPLER, within
from undiffuse.models.tuning import Measured, Tuned, find_sampler, least_evaluations, rows_for
from undiffuse.nn.sized import SizedNetwork
from undiffuse.parts import describe
from undiffuse.seeds import mix

OWN = Bound()  # how the bound is computed if nothing else is asked for, and to choose its form
_HIDDEN_RATE = 2.0  # the learning rate of networks with hidden weights, relative to that of others
_MOMENT_ROWS = 4096  # rows that sigma_data, the prior's moments and the range are measured on
_LEVELS = 16  # noise levels in the diagnostics
_TOGETHER, _VALUES = 1024, 2**18  # rows and numbers of several levels in one batch, at most
_CHOSEN_ON = (
    32  # training rows that the form of the bound is chosen on; 8 of more numbers than EXACT
)
_CHOICE = 0xB0D  # the seed of that choice
_TUNING = 0x7D9E  # keeps the seeds that samplers are compared on apart from those of samples
CHEAP = 16  # coordinates up to which the exact trace costs no more than the bound
_UNFINISHED = (
    "; another form of it may be closer, which training chooses at its end if time is left: this "
    "run has not chosen (--resume goes on)"
)
_NOT_CHOSEN = -1
_SCHEDULE_SHARE = 4  # a learned schedule takes every fourth row of a batch


PUBLISHED = "published"
"""The name of a model's own way to sample: the step, grid and steps that it was made with."""

Wrap = Callable[[AbstractDenoiser], AbstractDenoiser]


@final
class Diffusion(GenerativeModel):
    """A diffusion model as a row of choices; `presets` holds the published rows.

    Args:
        schedule: the forward process.
        target: what the network is asked to predict.
        objective: what is minimized.
        step: its own way to sample, `sample(method="published")`.
        grid: the times of that way.
        steps: the number of its steps.
        method: how it is sampled unless asked otherwise, a name in METHODS or "published".
        network: a network, called as network(x, c_noise) and, if the data have classes or
            conditions, with label= or vector=; or sizes that override those chosen from the data.
        condition: what the network is told about the noise level.
        sigma_data: standard deviation of the data at unit scale; measured if None. It is handed to
            every part that has a field of this name.
        clip: keep x_hat inside `data_range` when sampling.
        drop_condition: share of training rows whose conditions are hidden.
        gaps: share of training rows of which a random part is known to the network, so that it
            completes rows (see `models.gaps`); 0: none, and `Conditional` completes; None: a
            quarter, but of images, if the network and the objective are made for it.
        linear: directions of the best linear denoiser of which the network learns what is missing;
            0: it learns all; None: as `models.gaps.directions` says.
        shape: of a row at unit scale; taken from the data if None.
        data_range: lowest and highest value at unit scale; taken from the data if None.
        class_shares: share of each class; measured if empty.
        condition_widths: the numbers of each column of a condition vector; taken from the data.
        condition_rows: training rows whose conditions are kept; likewise.
        teacher: the run that a student is distilled from, of whose network it keeps a copy to learn
            from (see `student_of`); None for a model that learns from data.

    Raises:
        InputError: for an unknown method, and gaps that are no share or do not fit the objective.
    """

    def __init__(
        self,
        *,
        schedule: Schedule,
        target: Target,
        objective: AbstractObjective,
        step: Step,
        grid: Grid,
        steps: int,
        method: str = PUBLISHED,
        network: nn.Module | Mapping[str, Any] | None = None,
        condition: Condition = LogSigma(),  # noqa: B008 - immutable
        sigma_data: float | None = None,
        clip: bool = False,
        drop_condition: float = 0.1,
        gaps: float | None = None,
        linear: int | None = None,
        shape: tuple[int, ...] | None = None,
        data_range: tuple[float, float] | None = None,
        class_shares: tuple[float, ...] = (),
        condition_widths: tuple[int, ...] = (),
        condition_rows: int = 0,
        teacher: str | None = None,
    ) -> None:
        super().__init__(
            shape=shape,
            class_shares=class_shares,
            drop_condition=drop_condition,
            condition_widths=condition_widths,
            condition_rows=condition_rows,
        )
        check_parts(schedule, target, objective, step)
        self.schedule, self.target, self.objective = schedule, target, objective
        self.step, self.grid, self.steps = step, grid, steps
        self.gaps, self.linear = checked_share(gaps, objective), linear
        if method not in (*METHODS, PUBLISHED):
            raise unknown("diffusion:", "method", method, (*METHODS, PUBLISHED))
        self.method: str = method  # pyright: ignore[reportIncompatibleVariableOverride]
        self.condition, self.sigma_data, self.clip = condition, sigma_data, clip
        self.data_range, self.teacher = data_range, teacher
        self.tuned: Tuned | None = None
        self.register_buffer("bound_form", torch.tensor(_NOT_CHOSEN))
        self.learned = (
            schedule.module
        )  # None but for a learned schedule: its weights are the model's
        self.sizes: Mapping[str, Any] = network if isinstance(network, Mapping) else {}
        self.denoiser: Denoiser | None = None
        self.duel: Duel | None = None
        if isinstance(network, nn.Module):
            self._assemble(network)
            if shape is not None:
                self.prior = Prior.standard(schedule, tuple(shape))  # until measured or loaded
        self.one_level = schedule.levels == 1  # a denoising autoencoder
        if self.learned is not None and objective.flow:
            self.learned.requires_grad_(False)
        self.only_own = self.one_level or objective.flow  # one way to sample, and no density
        self.completes = not objective.flow
        if self.only_own:
            self.preview_options = {"steps": 16} if self.one_level else {}

    called = "a diffusion model"
    takes_vectors = True
    bound_form: Tensor
    scored_by = (Density, Bound)
    preview_options = {"method": "dpmpp", "steps": 16}  # noqa: RUF012 - read only

    def _assemble(self, network: nn.Module, law: AbstractDenoiser | None = None) -> None:
        """Put the parts together around the network, with sigma_data as far as it is known.

        `law` is the linear denoiser; None: the one that is there, or one to load into.
        """
        sigma_data = self.sigma_data or 1.0
        if law is None and self.linear and self.shape is not None:
            there = self.denoiser and self.denoiser.linear
            law = there or LinearDenoiser.standard(self.schedule, self.shape, self.linear)
        self.target, self.objective = (
            with_sigma_data(part, sigma_data) for part in (self.target, self.objective)
        )
        self.denoiser = Denoiser(
            network,
            self.schedule,
            self.target,
            sigma_data=sigma_data,
            condition=self.condition,
            learned_variance=self.objective.learned_variance,
            linear=law,
        )
        if isinstance(self.target, Bounded) and self.teacher is not None:
            self.denoiser.teacher = self._frozen(network, self.target.of)
        share = getattr(self.objective, "adversarial", 0.0)
        if share and self.duel is None and self.shape is not None:
            self.duel = Duel(self.shape, classes=int(getattr(network, "classes", 0)), share=share)

    def _frozen(self, network: nn.Module, target: Target) -> Denoiser:
        """The denoiser that a student learns from: the same network, as its weights were."""
        return Denoiser(
            copy.deepcopy(network).requires_grad_(False),
            self.schedule,
            target,
            sigma_data=self.sigma_data or 1.0,
            condition=self.condition,
            learned_variance=self.objective.learned_variance,
            linear=copy.deepcopy(self.denoiser and self.denoiser.linear),
        ).eval()

    @property
    def network(self) -> nn.Module:
        """The trained network. Raises InputError before the model has met its data."""
        return self.trained().network

    def trained(self) -> Denoiser:
        """Return the denoiser. Raises InputError before the model has met its data."""
        if self.denoiser is None:
            raise unmet()
        return self.denoiser

    def with_network(self, network: nn.Module) -> Diffusion:
        """Return this model with another module in place of its network; all else is shared."""
        model, denoiser = copy.copy(self), copy.copy(self.trained())
        for part, own in ((denoiser, {"network": network}), (model, {"denoiser": denoiser})):
            part._modules = {**part._modules, **own}  # pyright: ignore[reportPrivateUsage] torch has no other way
        return model

    def prepare(self, source: Source) -> None:
        """Measure sigma_data, the prior's moments and the range; choose the network's size.

        A model that has met its
        data, or has loaded its weights, only checks that these data fit: InputError for another
        shape or classes.
        """
        shape, conditions = tuple(source.transform.shape), source.conditions
        if self.denoiser is not None:
            check_network(self.denoiser.network, conditions)
        if self.measured:
            return
        batch = source.sample_batch(_MOMENT_ROWS)
        x, _ = source.transform.encode(batch["row"], RowNoise(0, len(batch["row"])))
        self.shape = shape
        if self.data_range is None:
            self.data_range = (float(x.min()), float(x.max()))
        self.schedule, before = self.schedule.for_data(x), self.schedule
        if self.schedule is not before and self.schedule.levels:
            self.steps = min(self.steps, self.schedule.levels)
        self.objective = self.objective.for_data(x)
        if self.sigma_data is None:
            self.sigma_data = float(x.double().std(correction=0))
        there = self.denoiser and self.network
        self.gaps = share_of_gaps(self.gaps, shape, there, self.objective)
        if self.denoiser is None:
            network = self._sized(conditions, **self.sizes)
            if isinstance(network, SizedNetwork) and not set(self.sizes) - {"kind"}:
                self.widths = network.ladder(shape)
        else:
            network = self.denoiser.network
        self._assemble(network, self._law(x))
        self.prior = Prior.measured(self.schedule, x)

    def _law(self, x: Tensor) -> LinearDenoiser | None:
        """The linear denoiser of rows of which the network learns what is missing, if it does."""
        if self.linear is None:
            self.linear = directions(tuple(x.shape[1:]), self.gaps)
        if not self.linear:
            return None
        law = LinearDenoiser.measured(self.schedule, x, self.linear)
        self.linear = len(law.variance)
        return law if self.linear else None

    def _sized(self, conditions: Mapping[str, int], **sizes: Any) -> nn.Module:
        """A network for rows of the data's shape and these conditions."""
        decided = {"classes": conditions.get("label", 0)}
        decided |= {name: conditions.get(name, 0) for name in ("vector", "maps")}
        out = 2 if self.objective.learned_variance else 1
        given = 2 * self.shape[0] if self.shape and self.gaps else 0
        decided |= {"given": given, "out": out}
        return networks.for_shape(self.shape or (), **decided, span=self.condition.span, **sizes)

    @property
    def width(self) -> int:  # pyright: ignore[reportIncompatibleVariableOverride]
        """The width of the network, where there are `widths`."""
        return int(getattr(self.network, "width", 0))

    def take_width(self, width: int) -> None:
        """Build the network anew, of this width: one of `widths`."""
        conditions = {name: getattr(self.network, name, 0) for name in ("vector", "maps")}
        conditions["label"] = len(self.classes)
        network = self._sized(conditions, **self.sizes, width=width)
        self._assemble(network.to(self.device))

    def players(self) -> dict[str, Player]:
        """The network, and the schedule if it is learned here."""
        sloped = self.objective.sloped
        if self.objective.flow:  # by AdamW alone, from weights that are there: measured with that
            own = {"denoiser": Player(self.network, sloped=sloped)}
            return own | ({} if self.duel is None else {"discriminator": self.duel.player()})
        weights = self.network.named_parameters()
        inner = getattr(self.network, "hidden", ())
        hidden = [
            name
            for name, w in weights
            if w.ndim >= 2 and name.split(".")[0] in inner and "modulation" not in name
        ]
        rate = _HIDDEN_RATE if hidden else 1.0
        denoiser = Player(self.network, lr_scale=rate, hidden=frozenset(hidden), sloped=sloped)
        players = {"denoiser": denoiser}
        if self.learned is not None:
            players["schedule"] = Player(self.learned)
        return players

    def losses(self, x: Tensor, **cond: Tensor) -> Iterator[tuple[str, Tensor]]:
        """Yield the objective at random times and noise (Ho et al. 2020, Algorithm 1).

        Then that of a learned schedule.
        """
        denoiser, objective = self.trained(), self.objective.at(self.progress)
        if self.duel is not None and self.duel.on(self.progress):
            yield from self.duel.losses(
                denoiser,
                x,
                self.hidden(cond),
                progress=self.progress,
                prior=self.prior,
                grid=self.grid,
                steps=self.steps,
                step=self.step,
            )
            return
        t = objective.sample_times(self.schedule, len(x))
        cond = self.hidden(cond)
        part = {"given": draw_given(x, self.gaps, self.transform)} if self.gaps else {}
        z = torch.randn_like(x)
        yield "denoiser", objective.losses(denoiser, x, z, t, **cond, **part).mean()
        if self.learned is not None and not objective.flow:
            x, cond = (
                x[::_SCHEDULE_SHARE],
                {name: value[::_SCHEDULE_SHARE] for name, value in cond.items()},
            )
            t = self.objective.sample_times(self.schedule, len(x))
            yield (
                "schedule",
                schedule_loss(
                    denoiser, self.objective, self.prior, x, torch.randn_like(x), t, **cond
                ),
            )

    def diagnostics(self, x: Tensor, **cond: Tensor) -> dict[str, Any]:
        """Return the objective on `x` with fixed noise: its mean, and at each of 16 levels.

        Of a student that a discriminator teaches, how its samples compare with `x` (see
        `gan.compared`).
        """
        if self.duel is not None:
            return self.diagnosed(self._samples_beside(x, 0, **cond))
        return self.diagnosed({"losses": self._level_losses(x, 0, **cond)})

    @override
    def row_terms(self, x: Tensor, *, first: int = 0, **cond: Tensor) -> dict[str, Tensor] | None:
        """Return what `diagnostics` are made of; slopes are along directions of all rows."""
        if self.duel is not None:
            return self._samples_beside(x, first, **cond)
        if self.objective.sloped:
            return None
        return {"losses": self._level_losses(x, first, **cond)}

    @override
    def diagnosed(self, terms: Mapping[str, Tensor]) -> dict[str, Any]:
        """Return the numbers of `diagnostics`."""
        if "y" in terms:
            return compared(terms["x"], terms["y"])
        curve = [float(loss) for loss in terms["losses"].mean(0).unbind()]
        log_snr = [float(level) for level in self.schedule.log_snr(self._level_times()).unbind()]
        return {"loss": sum(curve) / _LEVELS, "levels": {"log_snr": log_snr, "loss": curve}}

    @torch.no_grad()
    def _samples_beside(self, x: Tensor, first: int, **cond: Tensor) -> dict[str, Tensor]:
        """Rows, and a sample of each condition, drawn with fixed noise."""
        own: dict[str, Any] = {"noise": RowNoise(0, len(x), first), **cond}
        return {"x": x, "y": self.draw(len(x), **own)}

    @torch.no_grad()
    def _level_losses(self, x: Tensor, first: int, **cond: Tensor) -> Tensor:
        denoiser = self.trained()
        z = RowNoise(0, len(x), first)(x)
        times = self._level_times()
        found: list[Tensor] = []
        together = max(1, min(_TOGETHER // max(len(x), 1), _VALUES // max(x.numel(), 1)))
        for start in range(0, _LEVELS, together):
            levels = times[start : start + together]
            t = levels.repeat_interleave(len(x))
            again = {name: _repeated(value, len(levels)) for name, value in cond.items()}
            pairs = _repeated(x, len(levels)), _repeated(z, len(levels))
            losses = self.objective.losses(denoiser, *pairs, t, **again)
            found.append(losses.reshape(len(levels), -1))
        return torch.cat(found).mT

    @override
    @torch.no_grad()
    def against_linear(self, x: Tensor, training: Tensor, **cond: Tensor) -> Tensor | None:
        """Return |x_hat - x|^2 of the model, and of the best linear denoiser (2, levels, B).

        None for a model of where paths end, which is no denoiser.
        """
        if self.objective.flow:
            return None
        z, schedule = RowNoise(0, len(x))(x), self.schedule
        linear = LinearDenoiser.measured(schedule, training).to(x.device)
        errors: list[Tensor] = []
        for t in self._level_times().unbind():
            x_t = noised(schedule, x, z, t)
            pair = self.trained()(x_t, t, **cond), linear(x_t, t)
            errors.append(torch.stack([(x_hat - x).square().flatten(1).sum(1) for x_hat in pair]))
        return torch.stack(errors, 1)

    def _level_times(self) -> Times:
        """The times (16,) at which the loss is measured."""
        return self.objective.times.quantile(
            self.schedule, (torch.arange(_LEVELS, dtype=torch.float64) + 0.5) / _LEVELS
        )

    @torch.no_grad()
    def draw(
        self,
        n: int,
        *,
        noise: Noise,
        steps: int | None = None,
        method: str | None = None,
        wrap: Wrap | None = None,
        known: tuple[Tensor, Tensor] | None = None,
        callback: Callback | None = None,
        watch: Watch | None = None,
        **cond: Tensor,
    ) -> Tensor:
        """Return `n` samples (n, *shape), by `method`, a name in METHODS, in `steps` steps.

        Without a method, as `tune` has found it, for so many steps; where it has not, and for given
        values, in the preset's default way. "published" is that of its paper.

        `wrap` changes the denoiser that is sampled, before its prediction is kept in range:
        guidance. `known` is (x_known, mask), each (n, *shape): what is true in the mask is given,
        and the rest drawn by the network if it was trained with `gaps`, else by `Conditional`.
        `watch` is called with each x_hat on the way.
        Raises InputError for an unknown method or an impossible number of steps.
        """
        self.trained()
        if self.shape is None or (self.clip and self.data_range is None):
            raise InputError(
                "this model has not met its data yet; call fit, or give its shape and data_range."
            )
        self.check_sampler(method=method, steps=steps)
        step, times = self.course(method=method, steps=steps, tuned=known is None)
        tuned = self.tuned.guidance if self.tuned and method is None and known is None else None
        if tuned and wrap is None and "label" in cond:
            wrap = guided(self, tuned.scale, low=tuned.low, high=tuned.high)
        shared: dict[str, Any] = {"noise": noise, "callback": callback, "watch": watch, **cond}
        return self._along(step, times, n, wrap=wrap, known=known, **shared)

    def _along(
        self,
        step: Step,
        times: Times,
        n: int,
        *,
        noise: Noise,
        wrap: Wrap | None = None,
        known: tuple[Tensor, Tensor] | None = None,
        callback: Callback | None = None,
        watch: Watch | None = None,
        **cond: Tensor,
    ) -> Tensor:
        """Draw `n` samples (n, *shape) by a step along given times."""
        assert self.shape is not None
        if known is not None and self.gaps:
            cond["given"] = as_given(*known)
        denoiser: AbstractDenoiser = self.trained().given(**cond)
        if wrap is not None:
            denoiser = wrap(denoiser)
        if known is not None and not self.gaps:
            denoiser = Conditional(denoiser, *known)
        if self.clip and self.data_range is not None:
            denoiser = Clipped(denoiser, *self.data_range)
        if watch is not None:
            denoiser = Watched(denoiser, watch)
        z = noise(torch.empty(n, *self.shape, device=self.device))
        x = self.prior.draw(z)
        if known is not None:
            x = replaced(x, *known, self.schedule, times[0], noise)
        return sample(denoiser, x, times, step, noise=noise, callback=callback)

    def _sampler(
        self, method: str | None, steps: int | None = None, *, tuned: bool = True
    ) -> tuple[Step, Grid, int]:
        """The step, its grid and how many there are of it by a method; None: the default one."""
        if method is None and tuned and self.tuned is not None:
            return self.tuned.sampler(steps)
        method = method or self.method
        if method == PUBLISHED:
            return self.step, self.grid, self.steps
        step = METHODS[method]
        return step, step.grid or self.grid, step.steps or self.steps

    def course(
        self, *, method: str | None = None, steps: int | None = None, tuned: bool = True
    ) -> tuple[Step, Times]:
        """Return the step that `draw` takes and the times that it takes it along.

        Args:
            method: the sampling method; None: the default one.
            steps: how many; None: as many as that takes by default.
            tuned: whether the default is as `tune` has found it, if it has.
        """
        step, grid, own = self._sampler(method, steps, tuned=tuned)
        return step, grid(self.schedule, own if steps is None else steps)

    @property
    def methods(self) -> Collection[str]:  # pyright: ignore[reportIncompatibleVariableOverride]
        """The names in METHODS, and "published"."""
        return (*METHODS, PUBLISHED)

    @property
    def usual_method(self) -> str | None:
        """See `GenerativeModel`."""
        return self.method if self.tuned is None else self.tuned.best.method

    def steps_of(self, method: str | None) -> int:
        """Return how many steps `draw` takes by `method` unless told."""
        return self._sampler(method)[2]

    def most_steps(self, method: str | None) -> int | float:
        """Return the most steps that `draw` can take: as many as there are levels, on such a grid.

        Args:
            method: the sampling method; None: the default one.
        """
        return self._sampler(method)[1].most_steps(self.schedule)

    def check_sampler(self, *, method: str | None = None, steps: int | None = None) -> None:
        """Raise InputError for a sampling method or a number of steps that `draw` cannot take."""
        super().check_sampler(method=method, steps=steps)
        if method not in (None, PUBLISHED) and self.only_own:
            why = "knows one level of noise" if self.one_level else "knows where paths end"
            raise InputError(
                f"method {method}: goes from noise to data, and this model {why}; leave it out."
            )
        if steps is not None:
            self._sampler(method)[1].check(self.schedule, steps)

    def within(self, evaluations: int) -> dict[str, Any]:
        """Return options of `draw` that take at most so many evaluations; see `methods.within`."""
        if (tuned := self.tuned) is not None:
            if tuned.evaluations(self.schedule) <= evaluations:
                return {}
            costs = {tuned.evaluations(self.schedule, one): one.steps for one in tuned.candidates}
            few = [steps for cost, steps in costs.items() if cost <= evaluations]
            return {"steps": max(few)} if few else {"method": SAMPLER, "steps": evaluations}
        return within(
            evaluations, *self._sampler(None), self.schedule, replaceable=not self.only_own
        )

    @property
    def tuning(self) -> int:  # pyright: ignore[reportIncompatibleVariableOverride]
        """See `Trainable`."""
        return 0 if self.only_own else least_evaluations()

    @override
    def tune(
        self,
        source: Source,
        *,
        seed: int = 0,
        seconds: float | None = None,
        progress: Progress | None = None,
        stop: Stop = lambda: False,
    ) -> str:
        """Choose how to sample; see `tuning`."""
        self.tuned = None
        transform = self.trained() and self.transform
        if self.only_own or transform is None or self.sigma_data is None:
            return super().tune(source)
        seed = mix(seed, _TUNING)

        def drawn(step: Step, times: Times, first: int, n: int) -> Tensor:
            found = self.sample_conditions(n, seed=seed, first=first)
            cond: dict[str, Any] = {name: value.to(self.device) for name, value in found.items()}
            return self._along(step, times, n, noise=RowNoise(seed, n, first), **cond)

        rows = source.held_out_batch(rows_for(transform.shape))["row"]
        real = transform.encode(rows, RowNoise(seed, len(rows)))[0]
        data = Measured(self.schedule, self.sigma_data, real)
        with self._evaluating(), torch.no_grad():  # in the precision around it
            self.tuned, said = find_sampler(
                drawn, data, seconds=seconds, progress=progress, stop=stop
            )
        return said

    @property
    def tuned_tree(self) -> dict[str, Any] | None:
        """See `Trainable`."""
        return None if self.tuned is None else self.tuned.tree()

    @override
    def take_tuned(self, tree: Mapping[str, Any] | None) -> None:
        self.tuned = None if tree is None else Tuned.read(tree)

    @property
    def no_density(self) -> str:  # pyright: ignore[reportIncompatibleVariableOverride]
        """Why there is no likelihood, in a sentence: a model of one noise level has none.

        Nor has one of where paths end.
        """
        if not self.only_own:
            return ""
        if self.objective.flow:
            whose = f"its teacher {self.teacher}" if self.teacher else "a model of preset edm"
            return (
                "a student knows where noise leads, not how likely rows are, and has no alarms; "
                f"score with {whose}."
            )
        return (
            "a model of one noise level knows the slope of the density there, and not the density; "
            "score with a model of another preset, such as edm."
        )

    def likelihood(
        self,
        x: Tensor,
        *,
        noise: Noise,
        cond: Mapping[str, Tensor],
        how: How | None = None,
        cells: tuple[Tensor, Tensor] | None = None,
    ) -> Likelihood:
        """Return log p(x | cond) of rows (B, *shape) at unit scale, in nats.

        Args:
            x: rows (B, *shape).
            noise: supplies what is random.
            cond: the condition of each row.
            how: `Density` (the default up to 16 coordinates) or `Bound`.
            cells: the edges (low, high) of each value's bin, which `Bound` takes.

        Raises:
            InputError: for a model of one noise level.
        """
        if self.no_density:
            raise InputError(self.no_density)
        denoiser, how = self.trained().given(**cond), how or self._own_way()
        if isinstance(how, Bound):
            kept = (
                Clipped(denoiser, *self.data_range) if self.clip and self.data_range else denoiser
            )
            variance, form = self.step.reverse_variance, self.tight
            found = by_bound(kept, x, self.prior, how, form, variance, cells, noise)
            default = int(self.bound_form) == _NOT_CHOSEN
            return replace(found, meaning=found.meaning + _UNFINISHED) if default else found
        assert isinstance(how, Density)
        return by_density(denoiser, x, self.prior, how, noise)

    def _own_way(self) -> Bound | Density:
        return Density() if math.prod(self.shape or ()) <= CHEAP else OWN

    def takes_cells(self, how: How | None) -> bool:
        """Return whether `how` is a bound, and the model's own one is of whole numbers."""
        return self.tight.cells and isinstance(how or self._own_way(), Bound)

    @property
    def tight(self) -> BoundForm:
        """The form of the bound: as `conclude` chose it, the first until then."""
        return dict(enumerate(BOUND_FORMS)).get(int(self.bound_form), BOUND_FORMS[0])

    def conclude(self, source: Source, *, stop: Stop = lambda: False) -> bool:
        """Choose the form of the bound: the one that is best on training rows.

        One form serves all rows that are scored later. The best one for each of these would be no
        bound.
        """
        transform = self.transform
        if self.no_density or transform is None:
            return True
        rows = source.sample_batch(self._chosen_on)["row"]
        means: dict[int, float] = {}
        fitting = self._forms(binned=transform.cells(rows[:1]) is not None)
        for i in fitting if len(fitting) > 1 else ():
            if stop():
                self.bound_form.fill_(_NOT_CHOSEN)
                return False
            self.bound_form.fill_(i)
            found = self.likelihood_rows(rows, how=OWN, draws=1, seed=_CHOICE).nats
            means[i] = float(found.nan_to_num(-math.inf, neginf=-1e30).mean())
        self.bound_form.fill_(max(means, key=means.__getitem__, default=0))
        return True

    @property
    def conclusion(self) -> int:
        """See `Trainable`."""
        if self.no_density or self.transform is None:
            return 0
        evaluations = OWN.evaluations + DRAWS
        return len(self._forms(binned=True)) * evaluations * self._chosen_on

    @property
    def _chosen_on(self) -> int:
        """On how many training rows the form of the bound is chosen."""
        assert self.transform is not None
        return _CHOSEN_ON if math.prod(self.transform.shape) <= EXACT else 8

    def _forms(self, *, binned: bool) -> list[int]:
        """The forms that the bound can have, of values in bins or of others."""
        return [
            i
            for i, form in enumerate(BOUND_FORMS)
            if (self.schedule.levels or not form.levels) and (binned or not form.binned)
        ]

    def config(self) -> dict[str, Any]:
        """The tree of parts, `kind` and arguments, as a run's config.json keeps it."""
        known = {**networks.NETWORKS, **networks.FOREIGN}
        return describe(self, {**PARTS, **known, "diffusion": Diffusion})


def _repeated(rows: Tensor, times: int) -> Tensor:
    """All rows (B, *) so many times, one after the other."""
    return rows.repeat(times, *[1] * (rows.ndim - 1))


def guided(
    model: GenerativeModel,
    weight: float,
    *,
    weaker: GenerativeModel | None = None,
    low: float = 0.0,
    high: float = math.inf,
) -> Wrap:
    """Return guidance of a trained diffusion model, as `draw` takes it: `wrap=guided(model, 3.0)`.

    Args:
        model: a diffusion model.
        weight: the guidance scale: 1 is off.
        weaker: a weaker model of the same run, for autoguidance; None is classifier-free guidance,
            each row by its own class and conditions.
        low: the lowest sigma/alpha that is guided.
        high: the highest.

    Raises:
        InputError: for a model that is no diffusion model, for a student, for an empty range, and
            without `weaker` for a model that has neither classes nor conditions, or was never
            trained with them hidden.
    """
    if not isinstance(model, Diffusion) or not (weaker is None or isinstance(weaker, Diffusion)):
        family = type(model).__name__.lower()
        raise InputError(f"guidance: {family} models cannot be guided; leave it out.")
    if model.objective.flow:
        raise InputError(
            "guidance: a student is guided as its teacher was when it was distilled; distill "
            f"another with --guidance {weight:g}."
        )
    if not low < high:
        raise InputError(
            f"guidance from {low:g} to {high:g}: no noise level is between them; "
            "give a range that rises."
        )
    if weaker is None and not (model.classes or model.kept):
        raise InputError(
            "guidance: this model was trained without labels, so there is no class to guide it to."
        )
    if weaker is None and model.drop_condition == 0:
        raise InputError(
            "guidance: this model never saw a row without its label (drop_condition 0); "
            "leave it out."
        )
    has = {"label": bool(model.classes), "vector": model.kept is not None}
    hidden = {name: value for name, value in HIDDEN.items() if has[name]}

    def wrap(denoiser: AbstractDenoiser) -> AbstractDenoiser:
        if weaker is None:
            moved: AbstractDenoiser = ClassifierFree(denoiser, weight, **hidden)
        else:
            cond = denoiser.cond if isinstance(denoiser, Conditioned) else {}
            moved = Autoguided(denoiser, weaker.trained().given(**cond), weight)
        return Interval(moved, denoiser, low, high)

    return wrap
