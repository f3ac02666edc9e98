"""Laws of what every family inherits, on one that draws and scores what it is told to."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from model_cases import Identity, Rows
from PIL import Image
from torch import nn

from undiffuse import data, room
from undiffuse.diffusion import RowNoise
from undiffuse.diffusion.sample import one_pass
from undiffuse.errors import InputError
from undiffuse.interfaces import PartialRows, Player
from undiffuse.models import PRESETS, base
from undiffuse.models.base import GenerativeModel
from undiffuse.models.likelihood import Likelihood


class Whole(Identity):
    """Whole numbers that are encoded as a tenth of themselves, a little noise added."""

    def encode(self, row, noise):
        x = row.double() / 10 + 1e-3 * noise(row.float()).double()
        return x.float(), torch.zeros(len(row), dtype=torch.float64)

    def decode(self, x):
        return (10 * x).round().to(torch.int64).numpy()


class Told(GenerativeModel):
    """It draws its noise, and scores a row by its sum; it keeps what it was asked."""

    completes = True
    no_density = ""

    def __init__(self, transform, classes=()):
        super().__init__(shape=tuple(transform.shape))
        self.weight = nn.Parameter(torch.zeros(()))
        self.transform, self.classes, self.asked = transform, classes, []

    def prepare(self, source):
        self.asked.append(source)

    def players(self):
        return {"told": Player(self)}

    def losses(self, x, **cond):
        yield "told", x.mean()

    def diagnostics(self, x, **cond):
        return {"loss": 0.0}

    def config(self):
        return {}

    def draw(self, n, *, noise, callback=None, steps=None, **options):
        assert not self.training
        if callback is not None:
            callback(1, 1, torch.zeros(()), None)
        self.asked.append(options if steps is None else {"steps": steps, **options})
        return noise(torch.empty(n, *self.shape))

    def likelihood(self, x, *, noise, cond, how=None, cells=None):
        assert not self.training
        self.asked.append((len(x), cond))
        nats = x.flatten(1).sum(1).double()
        return Likelihood(nats, torch.zeros_like(nats), "exact", 1.0)


ROWS = np.arange(6).reshape(2, 3)
KNOWN = np.array([[True, False, True], [False, False, False]])


@pytest.mark.parametrize("dtype", ["uint16", "uint32", "uint8", "int64"])
def test_given_rows_are_completed_each_as_often_as_asked_and_kept_as_they_are(dtype):
    """All completions of the first row, then those of the next; what is known reaches `draw`."""
    model = Told(Whole((3,)))
    given = PartialRows(ROWS.astype(dtype) + 200, KNOWN)
    rows = model.sample_rows(4, given=given, seed=3, first=5, batch=3)
    assert rows.shape == (8, 3)
    assert rows.dtype == np.int64
    np.testing.assert_array_equal(rows[:4, [0, 2]], [[200, 202]] * 4)
    z = RowNoise(3, 8, 5)(torch.empty(8, 3))
    free = np.concatenate([rows[:4, 1], rows[4:].ravel()])
    drawn = (10 * z).round().to(torch.int64).numpy()
    np.testing.assert_array_equal(free, np.concatenate([drawn[:4, 1], drawn[4:].ravel()]))
    assert [len(one["known"][0]) for one in model.asked] == [3, 3, 2]
    x, mask = (torch.cat([one["known"][k] for one in model.asked]) for k in (0, 1))
    whole = torch.from_numpy(ROWS.repeat(4, 0) + 200).double() / 10
    torch.testing.assert_close(x.double(), whole, rtol=0, atol=1e-2)
    assert torch.equal(mask, torch.from_numpy(KNOWN.repeat(4, 0)))
    added = (x.double() - whole) / 1e-3
    assert len(added.unique(dim=0)) == 8  # each completion has an encoding of its own
    assert float((added - z).abs().min(1).values.max()) > 0.01  # apart from the sample's noise
    assert all("label" not in one for one in model.asked)


def test_given_rows_have_no_class_unless_one_is_asked_for():
    model = Told(Whole((3,)), ("a", "b"))
    for label, seen in ((None, -1), ("b", 1)):
        model.asked.clear()
        model.sample_rows(2, given=PartialRows(ROWS, KNOWN), label=label)
        assert [one["label"].tolist() for one in model.asked] == [[seen] * 4]
    model.asked.clear()
    labels = model.sample_conditions(5, seed=1, first=2)["label"].numpy()
    model.sample_rows(5, seed=1, first=2, batch=2)
    assert torch.cat([one["label"] for one in model.asked]).tolist() == labels.tolist()


def test_rows_in_any_form_are_read_as_the_training_data_were(monkeypatch):
    model = Told(Whole((3,)))
    model.data_config = {"name": "ours"}
    read = {("theirs", "ours"): PartialRows(ROWS, KNOWN)}
    monkeypatch.setattr(data, "complete", lambda given, config: read[given, config["name"]])
    found = model.sample_rows(2, given="theirs", seed=3)
    same = model.sample_rows(2, given=PartialRows(ROWS, KNOWN), seed=3)
    np.testing.assert_array_equal(found, same)


def test_a_family_that_completes_nothing_refuses_given_rows():
    model = Told(Whole((3,)))
    model.completes = False
    with pytest.raises(InputError, match="given: this model draws whole rows only; leave it out"):
        model.sample_rows(1, given=PartialRows(ROWS, KNOWN))


@pytest.mark.parametrize("wrong", [{"n": 0}, {"n": 1, "batch": 0}])
def test_no_samples_and_no_batch_are_refused(wrong):
    model = Told(Whole((3,)))
    with pytest.raises(InputError, match=r"n \d, batch \d+: both must be at least 1"):
        model.sample_rows(**wrong)
    assert model.sample_rows(1, batch=1).shape == (1, 3)


class Sheet:
    """A form that says how many rows it was given."""

    def sound(self, rows):
        return b"RIFF"

    def repeated(self, rows: np.ndarray) -> np.ndarray:
        return np.zeros(len(rows), dtype=bool)

    def present(self, rows):
        return {"presented": rows}

    def preview(self, rows):
        return Image.new("RGB", (len(rows), 1))


def test_samples_come_in_the_form_of_the_data_and_previews_by_their_own_options():
    model = Told(Identity((3,)))
    rows = model.sample(4, seed=2)
    np.testing.assert_array_equal(rows, model.sample_rows(4, seed=2))
    assert model.preview(4, seed=2) is None
    model.form, model.preview_options = Sheet(), {"steps": 16}
    np.testing.assert_array_equal(model.sample(4, seed=2)["presented"], rows)
    model.asked.clear()
    preview = model.preview(3, seed=2)
    assert (preview.picture.size, preview.sound) == ((3, 1), b"RIFF")
    assert model.asked == [{"steps": 16}]
    assert model.preview(3, seed=2, stop=lambda: True) is None
    assert model.training


def test_log_probabilities_are_numbered_through_and_problems_are_put_in_their_rows(monkeypatch):
    """Batches of any size; a row that cannot be scored has the number that its problem has."""
    model, rows = Told(Identity((3,))), torch.arange(30.0).reshape(10, 3)
    model.train()
    model.data_config = {"name": "ours"}
    sums = rows.sum(1).double().numpy()
    np.testing.assert_array_equal(model.log_prob(rows, batch=4), sums)
    assert [asked[0] for asked in model.asked] == [4, 4, 2]
    assert model.training
    batches = [
        {"row": rows[:6], "problems": {1: SimpleNamespace(nats=-np.inf)}},
        {"row": rows[6:], "problems": {0: SimpleNamespace(nats=np.nan)}},
    ]

    class Conformed:
        def batches(self, size):
            assert size == 6
            return iter(batches)

    monkeypatch.setattr(
        data, "conform", lambda given, config: Conformed() if config == {"name": "ours"} else None
    )
    wanted = sums.copy()
    wanted[[1, 6]] = -np.inf, np.nan
    np.testing.assert_array_equal(model.log_prob("theirs", batch=6), wanted)
    assert model.log_prob(torch.empty(0, 3)).shape == (0,)
    with pytest.raises(InputError, match="batch 0: score at least 1 row at a time"):
        model.log_prob(rows, batch=0)
    assert model.log_prob(rows, batch=1).shape == (10,)


def test_rows_are_numbered_from_the_first_when_they_are_scored():
    """What is drawn for a row depends on its number, in whichever batch it stands."""
    model, rows = Told(Whole((3,))), torch.arange(30).reshape(10, 3)
    model.classes = ("a", "b")
    whole = model.likelihood_rows(rows, draws=1, seed=4, label="b").nats.numpy()
    np.testing.assert_array_equal(model.log_prob(rows, batch=3, draws=1, seed=4), whole)
    assert model.asked[0][1]["label"].tolist() == [1] * 10
    assert model.asked[1][1]["label"].tolist() == [-1] * 3


def test_other_data_are_refused_and_what_is_met_is_kept():
    model, source = Told(Identity((3,))), Rows(torch.zeros(20, 3))
    model.transform = None
    assert model.meet(source) is source
    assert model.asked == [source]
    assert model.measured
    assert (model.transform, model.form, model.data_config) == (
        source.transform,
        None,
        source.config(),
    )
    assert (model.shape, model.classes, model.class_shares) == ((3,), (), ())
    with pytest.raises(
        InputError, match=r"rows of shape \(4,\), but the model was made for \(3,\)"
    ):
        model.meet(Rows(torch.zeros(20, 4)))


def test_a_pass_is_reported_as_one_step_at_the_data():
    seen, x = [], torch.randn(2, 3)
    assert one_pass(x, None) is x
    assert one_pass(x, lambda *step: seen.append(step)) is x
    ((i, n, t, same),) = seen
    assert (i, n, float(t), t.dtype) == (1, 1, 0.0, torch.float64)
    assert same is x


# --- what does not fit into memory is refused before it is made


def test_samples_and_batches_are_refused_where_memory_cannot_hold_them(monkeypatch):
    """A sample is 3 numbers of 8 bytes and its class; a batch holds each number twice over."""
    model = Told(Identity((3,)))
    monkeypatch.setattr(room, "memory", lambda: 10 * (3 * 8 + 8))
    assert model.sample_rows(10, batch=1).shape == (10, 3)
    with pytest.raises(InputError, match=r"^11 samples: needs .* draw fewer at a time, each with "):
        model.sample_rows(11, batch=1)
    monkeypatch.setattr(room, "memory", lambda: 5 * 3 * 2 * 8)
    assert model.sample_rows(5, batch=5).shape == (5, 3)
    assert model.sample_rows(5, batch=100).shape == (5, 3)  # a batch of all there are
    with pytest.raises(InputError, match=r"^batch 6: needs .* compute fewer samples at a time"):
        model.sample_rows(7, batch=6)
    model.form = SimpleNamespace(dtype="uint8")  # pictures: a byte a number
    monkeypatch.setattr(room, "memory", lambda: 10 * (3 + 8))
    assert model.sample_rows(10, batch=1).shape == (10, 3)
    with pytest.raises(InputError, match=r"^11 samples: needs"):
        model.sample_rows(11, batch=1)
    with pytest.raises(InputError, match=r"^12 samples: needs"):  # completions of two rows
        model.sample_rows(6, given=PartialRows(ROWS, KNOWN), batch=1)


class Sized(Told):
    """A family that makes layers of so many weights."""

    def __init__(self, count, size):
        super().__init__(Identity((3,)))
        self.count, self.size = count, size

    def prepare(self, source):
        self.layers = nn.ParameterList(torch.empty(self.size) for _ in range(self.count))


@pytest.mark.parametrize(("count", "size"), [(1, 250), (10, 25)])
def test_a_network_may_be_a_fifth_of_memory(monkeypatch, count, size):
    """1,000 bytes of weights: training holds them, their gradients, two moments and a mean."""
    monkeypatch.setattr(base, "memory", lambda: 5000)
    Sized(count, size).meet(Rows(torch.zeros(20, 3)))
    monkeypatch.setattr(base, "memory", lambda: 4999)
    with pytest.raises(
        InputError, match=r"^sized: the network needs more than a fifth of 0[.]0 GiB"
    ):
        Sized(count, size).meet(Rows(torch.zeros(20, 3)))


def test_a_network_of_too_many_parts_is_refused_at_once(monkeypatch):
    monkeypatch.setattr(base, "MOST_TENSORS", 10)
    Sized(10, 1).meet(Rows(torch.zeros(20, 3)))
    with pytest.raises(InputError, match=r"the network needs more than .*; choose smaller dimens"):
        Sized(11, 1).meet(Rows(torch.zeros(20, 3)))


def test_the_message_says_how_much_memory_there_is(monkeypatch):
    monkeypatch.setattr(base, "memory", lambda: 3 * 2**29)
    with pytest.raises(InputError, match=r"a fifth of 1.5 GiB of memory, as training takes five"):
        Sized(1, 10**8).meet(Rows(torch.zeros(20, 3)))


@pytest.mark.parametrize(
    ("shape", "most"), [((3,), 1024), ((1024,), 1024), ((1025,), 64), ((1, 3), 64), ((1, 2, 2), 64)]
)
def test_rows_that_are_computed_at_once(shape, most, monkeypatch):
    """Many short vectors, else 64, unless asked otherwise."""
    model = PRESETS["edm"](width=32)
    model.meet(torch.randn(9, *shape, generator=torch.Generator().manual_seed(0)).numpy())
    drawn: list[int] = []

    def draw(n, **options):
        drawn.append(n)
        return torch.zeros(n, *shape)

    monkeypatch.setattr(model, "draw", draw)
    model.sample_rows(most + 1)
    model.sample_rows(5, batch=4)
    assert drawn == [most, 1, 4, 1]
