"""Rows are read and encoded a step ahead, as the step itself would have done it."""

import itertools
import threading
import time

import numpy as np
import pandas as pd
import pytest
import torch
from training_fakes import Gaussian, Points

import undiffuse as ud
from undiffuse.errors import InputError
from undiffuse.training import fit
from undiffuse.training.loading import Loader, encoded, split
from undiffuse.training.randomness import Randomness

CPU = {"precision": "float32", "device": "cpu"}
CPU_DEVICE = torch.device("cpu")


def pictures():
    return np.random.default_rng(0).integers(0, 256, (60, 6, 6), dtype=np.uint8)


def recordings():
    return np.random.default_rng(0).standard_normal((60, 3, 8)).astype(np.float32)


def table():
    numbers = np.random.default_rng(0).standard_normal(60).round(1)
    numbers[::7] = np.nan
    return pd.DataFrame({"a": numbers, "b": ["x", "y", "z"] * 20, "c": range(60)})


@pytest.mark.parametrize("rows", [pictures, recordings, table])
@pytest.mark.parametrize("accumulate", [1, 3])
def test_what_a_thread_draws_is_what_the_step_would_have_drawn(rows, accumulate):
    """And the step goes on drawing where it would have: bit for bit."""
    data, randomness = ud.load(rows()), Randomness(CPU_DEVICE, 5)
    shared = {"device": CPU_DEVICE, "randomness": randomness, "start_step": 4}
    batches = data.batches(9, seed=1, start_step=4)
    loader = Loader(batches, transform=data.transform, accumulate=accumulate, **shared)
    plain = data.batches(9, seed=1, start_step=4)
    with randomness.put_back():
        for step in (4, 5):
            parts, expected = loader.take(), split(next(plain), accumulate)
            for part, (row, share, batch) in zip(parts, expected, strict=True):
                assert (part.row, part.share) == (row, share)
                randomness.at(step, row, 0)
                x, conditions = encoded(batch, data.transform, CPU_DEVICE)
                after = torch.randn(5)
                ours, given, drawn = part.encoded
                randomness.go_on(drawn)
                assert torch.equal(ours, x)
                assert conditions.keys() == given.keys()
                assert torch.equal(torch.randn(5), after)
    loader.close()


class Watched(Points):
    """Says which batch is being read, and by whom."""

    def __init__(self, fails_at=None, seconds=0.0):
        super().__init__()
        self.seconds, self.fails_at, self.reading, self.began = seconds, fails_at, None, {}

    def batches(self, size, **where):
        for number, batch in enumerate(super().batches(size, **where)):
            self.reading = number
            self.began.setdefault(number, threading.Event()).set()
            if number == self.fails_at:
                raise InputError("part-7.parquet: is damaged.")
            time.sleep(self.seconds)
            self.reading = None
            yield batch


def test_rows_are_read_while_a_step_computes_and_not_while_it_is_evaluated():
    steps = itertools.count(1)
    data, seen = Watched(seconds=0.05), []

    class Slow(Gaussian):
        def losses(self, x, **cond):
            read = data.began.setdefault(next(steps), threading.Event())
            seen.append(read.wait(5))
            yield from super().losses(x, **cond)

        def diagnostics(self, x, **cond):
            seen.append(data.reading is None)
            return super().diagnostics(x, **cond)

        def conclude(self, source, *, stop):
            seen.append(not any(t.name.startswith("undiffuse-rows") for t in threading.enumerate()))
            return True

    fit(Slow(), data, steps=3, batch=8, evaluate_every=2, samples=0, **CPU)
    assert seen == [True] * 6  # three steps, an evaluation after the second, one and a choice


@pytest.mark.parametrize("number", [0, 2])
def test_what_cannot_be_read_is_said_where_the_rows_are_asked_for(number):
    with pytest.raises(InputError, match=r"^part-7.parquet: is damaged.$"):
        fit(Gaussian(), Watched(number), steps=9, batch=8, samples=0, **CPU)
    names = [thread.name for thread in threading.enumerate()]
    assert not any(name.startswith("undiffuse-rows") for name in names)


def test_rows_beyond_the_last_step_are_not_missed():
    """One that cannot be read, but would have been read ahead, ends nothing."""
    assert fit(Gaussian(), Watched(5), steps=5, batch=8, samples=0, **CPU).step == 5
