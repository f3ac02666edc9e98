"""What can be done with a model in memory: saved, evaluated, asked for classes, moved."""

from __future__ import annotations

import numpy as np
import pytest
import torch

import undiffuse as ud
from undiffuse.evaluation import evaluate as evaluation
from undiffuse.models.conditions import KeptConditions
from undiffuse.training import log


@pytest.fixture(scope="module")
def trained() -> tuple[ud.Diffusion, np.ndarray]:
    rows = np.random.default_rng(0).normal(size=(200, 3))
    model = ud.edm(width=8, depth=1)
    model.fit(rows, steps=40, seed=2)
    return model, rows


def test_a_saved_model_is_a_run_of_the_same_model(trained, tmp_path):
    model, rows = trained
    folder = model.save(tmp_path / "run")
    again = ud.open(folder)
    assert np.array_equal(again.sample(4, seed=3), model.sample(4, seed=3))
    run = ud.Run(folder)
    assert (run.config["preset"], run.state["step"], run.state["finished"]) == ("edm", 40, True)
    assert next(event["event"] for event in run.log) == "start"
    assert {10, 20, 30, 40} <= {event["step"] for event in run.log if event["event"] == "step"}
    again.save(tmp_path / "copy")
    for name in ("config.json", "weights.safetensors", "log.jsonl"):
        assert (tmp_path / "copy" / name).read_bytes() == (folder / name).read_bytes()
    with pytest.raises(ud.InputError, match="already holds a run"):
        model.save(folder)
    assert model.save(folder, overwrite=True) == folder
    with pytest.raises(ud.InputError, match="has not met its data"):
        ud.edm(width=8).save(tmp_path / "new")
    with pytest.raises(ud.InputError, match="has not been trained"):
        ud.edm(rows, width=8).save(tmp_path / "new")
    assert not (tmp_path / "new").exists()


def test_a_model_in_memory_is_evaluated_as_its_run_is(trained, tmp_path, monkeypatch):
    """By the same call, of a run that holds what the model is, and is gone afterwards."""
    model, rows = trained
    met = {}

    def instead(self):
        met.update(given=self.run.given, there=self.run.path.exists(), path=self.run.path)
        met["same"] = np.array_equal(self.model.sample(2), model.sample(2))
        return evaluation.Report({"run": self.run.given}, {})

    monkeypatch.setattr(evaluation._Evaluation, "report", instead)
    assert ud.evaluate(model, rows, n=50, rows=20).facts == {"run": "the model"}
    assert (met["given"], met["there"], met["same"]) == ("the model", True, True)
    assert not met["path"].exists()


def test_samples_can_each_be_of_a_class_of_their_own():
    rows = np.random.default_rng(0).normal(size=(90, 4))
    labels = np.repeat(["a", "b", "c"], 30)
    model = ud.edm(width=8, depth=1).fit(ud.load((rows, labels)), steps=1)
    asked = ["c", "a", "a", "b"]
    mixed = model.sample(4, label=asked, seed=5)
    for i, one in enumerate(asked):
        assert np.allclose(mixed[i], model.sample(4, label=one, seed=5)[i], atol=1e-5)
    with pytest.raises(ud.InputError, match="label: 2 classes for 4 samples; give one, or one"):
        model.sample(4, label=["a", "b"])
    with pytest.raises(ud.InputError, match="label d: no such class"):
        model.sample(2, label=["a", "d"])


def test_the_conditions_of_samples_of_several_classes_are_those_of_their_own():
    kept = KeptConditions((2,), 6)
    labels = torch.tensor([0, 1, 1, 2, 2, 2])
    kept.take({"vector": torch.arange(12.0).reshape(6, 2), "label": labels})
    u, asked = torch.tensor([0.1, 0.9, 0.4, 0.6]), torch.tensor([2, 0, 1, 2])
    drawn = kept.draw(u, asked)
    assert torch.equal(drawn["label"], asked)
    for i, label in enumerate(asked.tolist()):
        assert torch.equal(drawn["vector"][i], kept.draw(u, label)["vector"][i])


def test_a_log_in_memory_stays_bounded_and_drops_steps_alone(monkeypatch):
    monkeypatch.setattr(log, "MOST_KEPT", 40)
    kept: list = []
    events = log.Log(None, None, every=10, resumed_at=0, kept=kept)
    events("start", 0)
    for step in range(1, 5001):
        events("step", step)
        assert min(20, step // 10) <= len(kept) <= 41
    events("end", 5000)
    assert (kept[0]["event"], kept[-1]["event"]) == ("start", "end")
    steps = [event["step"] for event in kept if event["event"] == "step"]
    assert set(np.diff(steps)) == {steps[0]}  # as far apart in the beginning as in the end
    assert steps[-1] > 4800


def test_what_is_known_of_completed_rows_is_kept(trained):
    model, rows = trained
    gaps = rows[:2].copy()
    gaps[0, 1] = gaps[1, 0] = np.nan
    whole = model.complete(gaps, n=3)
    assert whole.shape == (6, 3)
    assert np.isfinite(whole).all()
    known = np.isfinite(gaps).repeat(3, 0)
    assert np.array_equal(whole[known], gaps.repeat(3, 0)[known])


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has such a device")
def test_a_device_that_is_not_there_is_refused_in_a_sentence(trained):
    for where in (("cuda",), (torch.device("cuda:1"),)):
        with pytest.raises(ud.InputError, match="there is none on this machine"):
            trained[0].to(*where)
    assert trained[0].to("cpu", torch.float32) is trained[0]
