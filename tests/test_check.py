"""`ud.check`: our own parts keep the laws that plug-ins are held to, and wrong parts are caught."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import wraps
from typing import ClassVar

import numpy as np
import pytest
import torch
from torch import nn

import undiffuse as ud
from undiffuse.data import KINDS
from undiffuse.data.arrays.kind import ArrayKind
from undiffuse.data.arrays.transform import ArrayTransform
from undiffuse.diffusion import SCHEDULES, STEPS
from undiffuse.errors import InputError
from undiffuse.laws.broken import BrokenLaw
from undiffuse.laws.kind_laws import KIND_LAWS
from undiffuse.laws.logger_laws import LOGGER_LAWS
from undiffuse.laws.network_laws import NETWORK_LAWS
from undiffuse.laws.preset_laws import PRESET_LAWS
from undiffuse.laws.schedule_laws import SCHEDULE_LAWS
from undiffuse.laws.step_laws import STEP_LAWS
from undiffuse.models import PRESETS
from undiffuse.nn import NETWORKS
from undiffuse.training.loggers import LOGGERS

VECTORS = np.random.default_rng(0).normal(size=(30, 3))
LAWS = {
    "step": STEP_LAWS,
    "schedule": SCHEDULE_LAWS,
    "network": NETWORK_LAWS,
    "preset": PRESET_LAWS,
    "kind": KIND_LAWS,
    "logger": LOGGER_LAWS,
}


# --- our own


OWN = {**SCHEDULES, **NETWORKS, **STEPS, **PRESETS}


@pytest.mark.parametrize("name", OWN)
def test_our_own_parts_keep_the_laws(name):
    ud.check(OWN[name])


def wav_folder(folder):
    soundfile = pytest.importorskip("soundfile")
    for i in range(4):
        soundfile.write(folder / f"{i}.wav", 0.1 * np.sin(np.arange(64) * (i + 1) / 9), 8000)
    return folder


def table_file(folder):
    lines = "".join(f"{i / 7:.3f},{'ab'[i % 2]}\n" for i in range(30))
    (folder / "t.csv").write_text("x,kind\n" + lines)
    return folder / "t.csv"


def picture_folder(folder):
    from PIL import Image

    for i in range(6):
        values = np.random.default_rng(i).integers(0, 256, (6, 9), dtype=np.uint8)
        Image.fromarray(values).save(folder / f"{i}.png")
    return folder


SOURCES = {
    "images": picture_folder,
    "recordings": wav_folder,
    "tables": table_file,
    "arrays": lambda _: VECTORS,
}


@pytest.mark.parametrize("name", KINDS)
def test_our_own_kinds_keep_the_laws(name, tmp_path):
    ud.check(KINDS[name], SOURCES[name](tmp_path))


@pytest.mark.parametrize("name", LOGGERS)
def test_our_own_loggers_keep_the_laws(name, tmp_path, monkeypatch):
    pytest.importorskip(LOGGERS[name].package)
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("WANDB_SILENT", "true")
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"file://{tmp_path}/store")
    monkeypatch.chdir(tmp_path)
    ud.check(LOGGERS[name])


# --- wrong steps


@dataclass(frozen=True)
class Straight(ud.Step):
    """Euler's step in sigma/alpha: right, and of order 1."""

    order = 1
    formula, source = "x_s", "none"

    def move(self, denoiser, x_t, t, s, memory, noise):
        x_hat, z_hat = denoiser.split(x_t, t)
        alpha, sigma = denoiser.schedule(s)
        return alpha * x_hat + sigma * z_hat, None


class Boasting(Straight):
    order = 2


class Undecided(Straight):
    weak_order = 1


class Gathering(Straight):
    """Rows are moved a little to the mean of the batch."""

    def move(self, denoiser, x_t, t, s, memory, noise):
        x, _ = super().move(denoiser, x_t, t, s, memory, noise)
        return x + 1e-6 * (x.mean(0) - x), None


class Doubling(Straight):
    def end(self, denoiser, x_t, t, s, memory, noise):
        return super().end(denoiser, x_t, t, s, memory, noise)[0].double(), None


class Short(Straight):
    """It keeps a thousandth of the noise at the end."""

    def end(self, denoiser, x_t, t, s, memory, noise):
        return denoiser(x_t, t) + 1e-3 * x_t, None


class Loud(Straight):
    """Too far off in so few steps."""

    steps = 1
    grid = ud.grid.Uniform()

    def end(self, denoiser, x_t, t, s, memory, noise):
        return 0.5 * (denoiser(x_t, t) + denoiser(x_t * 0, t)), None


# --- wrong schedules


@dataclass(frozen=True)
class Noisy(ud.Schedule):
    """There is noise at t = 0."""

    t_min: float = 1e-3
    least: ClassVar[float] = 0.01

    def marginal(self, t):
        return 1 - t, self.least + t

    def slopes(self, t):
        return -torch.ones_like(t), torch.ones_like(t)

    def inverse(self, log_snr):
        k = torch.exp(-log_snr / 2)
        return ((k - self.least) / (1 + k)).clamp(0, 1)


class Rising(Noisy):
    def marginal(self, t):
        return torch.ones_like(t), torch.sin(3 * t)


class Lost(Noisy):
    least = 0.0

    def inverse(self, log_snr):
        return super().inverse(log_snr + 1e-9)


class Steep(Noisy):
    least = 0.0

    def slopes(self, t):
        return -torch.ones_like(t), 1.000001 * torch.ones_like(t)


# --- wrong networks


class Small(ud.SizedNetwork):
    """A right network of one hidden layer, for vectors."""

    name, axes = "small", (1,)

    def __init__(
        self,
        *,
        shape: tuple[int, ...],
        width: int = 8,
        classes: int = 0,
        vector: int = 0,
        given: int = 0,
        out: int = 1,
        span: float = 4.0,
    ) -> None:
        super().__init__(locals())
        self.enter = nn.Linear(shape[0] + 1, width)
        self.label = nn.Embedding(classes + 1, width)
        self.leave = nn.Linear(width, out * shape[0])
        self.more()

    def more(self):
        """Nothing more."""

    @classmethod
    def sizes(cls, shape, given):
        return {"width": 8}

    def forward(self, x, c_noise, label=None):
        label = torch.full_like(c_noise, -1).long() if label is None else label
        h = self.enter(torch.cat([x, c_noise[:, None]], 1)) + self.label(label + 1)
        return self.leave(torch.tanh(h))


class Wide(Small):
    def forward(self, x, c_noise, label=None):
        return super().forward(x, c_noise, label).repeat(1, 2)


class Meeting(Small):
    def forward(self, x, c_noise, label=None):
        return super().forward(x - 1e-3 * x.mean(0), c_noise, label)


class Deaf(Small):
    def forward(self, x, c_noise, label=None):
        return super().forward(x, c_noise * 0, label)


class Idle(Small):
    def more(self):
        self.unused = nn.Parameter(torch.zeros(3))


class Forgetful(Small):
    """Each one that is made computes something else."""

    made = 0

    def more(self):
        Forgetful.made += 1
        self.factor = Forgetful.made

    def forward(self, x, c_noise, label=None):
        return super().forward(x, c_noise, label) * self.factor


# --- wrong presets


def refusing(data=None, **sizes):
    """It takes no data."""
    model = ud.edm(**sizes)

    def meet(data):
        raise InputError("no: give other data.")

    model.meet = meet
    return model


def unsteady(data=None, **sizes):
    """Each model that is drawn from differs: the weights are not what it samples by."""
    model = ud.edm(**sizes)
    draw = model.draw
    model.draw = lambda n, **options: draw(n, **options) * 1.01
    return model


def endless(data=None, **sizes):
    """Its density is not a number."""
    model = ud.edm(**sizes)
    likelihood = model.likelihood

    def wrong(x, **options):
        found = likelihood(x, **options)
        found.nats.fill_(torch.nan)
        return found

    model.likelihood = wrong
    return model


def stubborn(data=None, **sizes):
    """By other methods than its own it draws nothing."""
    model = ud.edm(**sizes)
    draw = model.draw

    @wraps(draw)
    def drawn(n, method=None, **options):
        return draw(n, method=method, **options) * (torch.nan if method == "ddim" else 1)

    model.draw = drawn
    return model


# --- wrong kinds


class Own(ArrayKind.__bases__[0]):
    """Arrays under another name, by our own kind."""

    name = "own"
    parts: ClassVar = dict(ArrayKind.parts)
    file_suffixes, folder_suffixes = (), ()

    def reads(self, source):
        return isinstance(source, np.ndarray)

    def read(self, source, *, reading=None, progress=None):
        from dataclasses import replace

        loaded = KINDS["arrays"].read(source)
        make = loaded.make_transform
        return replace(loaded, kind="own", make_transform=lambda c: self.changed(make(c)))

    def changed(self, transform):
        return transform

    def conform(self, source, config, *, progress=None):
        return KINDS["arrays"].conform(source, config, progress=progress)

    def complete(self, source, config):
        return KINDS["arrays"].complete(source, config)


class Shifted:
    """Decodes what it did not encode."""

    shift = 1e-3

    def __init__(self, *, inner: ArrayTransform) -> None:
        self.inner = inner

    def __getattr__(self, name):
        return getattr(self.__dict__["inner"], name)

    def decode(self, x):
        return self.inner.decode(x) + self.shift


class Restless(Shifted):
    """Another one each time that it is made."""

    shift, count = 0.0, 0

    def __init__(self, *, inner: ArrayTransform) -> None:
        super().__init__(inner=inner)
        Restless.count += 1
        self.own = Restless.count

    def encode(self, row, noise):
        x, correction = self.inner.encode(row, noise)
        return x + 1e-9 * self.own, correction


class Astray(Own):
    parts: ClassVar = {**ArrayKind.parts, "transform": Shifted, "inner": ArrayTransform}

    def changed(self, transform):
        return Shifted(inner=transform)


class Unrestored(Own):
    parts: ClassVar = {**ArrayKind.parts, "transform": Restless, "inner": ArrayTransform}

    def changed(self, transform):
        Restless.count = 0
        made = Restless(inner=transform)
        Restless.count = 10**6
        made.own = 0
        return made


class Mistaken(Own):
    def conform(self, source, config, *, progress=None):
        return KINDS["arrays"].conform(VECTORS[::-1].copy(), config, progress=progress)


class Unwilling(Own):
    def reads(self, source):
        return False


# --- a wrong logger


class Quiet(ud.Logger):
    """A right logger."""

    def start(self, folder, config):
        self.file = (folder / "log.txt").open("w")

    def numbers(self, step, values):
        self.file.write(f"{step} {dict(values)}\n")

    def picture(self, step, name, file):
        self.file.write(f"{step} {name}\n")

    sound = page = picture

    def close(self):
        self.file.close()


class Closed(Quiet):
    def close(self):
        raise OSError("the server is gone")


WRONG = {
    "a step has an order or a weak order": Undecided,
    "converges at the order that it declares": Boasting,
    "depends on its own noise alone": Gathering,
    "keeps the shape and the type": Doubling,
    "reproduces a single point": Short,
    "reaches the mean and spread": Loud,
    "alpha_0 is 1": Noisy,
    "the log-SNR falls": Rising,
    "inverse undoes": Lost,
    "slopes are the derivatives": Steep,
    "out times the channels": Wide,
    "depends on that row alone": Meeting,
    "noise level and label matter": Deaf,
    "every parameter gets a gradient": Idle,
    "arguments rebuild it": Forgetful,
    "trains on vectors or on images": refusing,
    "opens to the same samples": unsteady,
    "log_prob is finite": endless,
    "sampled by other methods": stubborn,
    "a kind reads its source": Unwilling,
    "decode undoes encode": Astray,
    "restores transform and form": Unrestored,
    "conform to a run": Mistaken,
    "takes a run, its samples": Closed,
}
"""A part of each law that a wrong part breaks, and that part."""


@pytest.mark.parametrize("law", WRONG)
def test_a_wrong_part_is_caught_by_its_law(law):
    with pytest.raises(BrokenLaw) as broken:
        ud.check(WRONG[law], VECTORS)
    said = str(broken.value)
    assert f"{law}" in said.partition(" (")[0]
    assert said.count("\n") == 0
    assert said.endswith(").")


def test_every_law_has_a_wrong_part():
    for law in [law for laws in LAWS.values() for law in laws]:
        assert any(part in law for part in WRONG), law


@pytest.mark.parametrize("part", [Straight, Straight(), Small, Quiet, Quiet()])
def test_right_parts_of_third_parties_pass(part):
    ud.check(part)
    ud.check(Own, VECTORS)


def test_what_is_no_part_is_refused():
    with pytest.raises(InputError, match=r"^check: a int is no part; give a step, schedule"):
        ud.check(3)
    with pytest.raises(InputError, match=re.escape("needs something to read; give a source")):
        ud.check(Own)
