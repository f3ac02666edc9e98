"""Processes that train together do what one does, with whole weights or in shards."""

import json

import pair
import pytest
import torch
from forked import begin

import undiffuse.rank
from undiffuse.errors import InputError
from undiffuse.models import PRESETS
from undiffuse.options import TrainingOptions
from undiffuse.run import Run
from undiffuse.training import shards
from undiffuse.training.ranks import Ranks

SECONDS = 500.0  # in which a pair ends on a busy machine


@pytest.fixture(scope="module")
def both(tmp_path_factory):
    """What two processes wrote, and what one wrote that computes a batch in as many parts."""
    two, one = (tmp_path_factory.mktemp(name) for name in ("two", "one"))
    for name in pair.RESUMED:
        pair.resumed(two / f"{name}-up", name, pair.HALF)
    children = begin(*[lambda: pair.work_together(two)] * 2)
    losses = {}
    for way in ("ddp", "parts", "single"):
        with torch.random.fork_rng(devices=[]):
            losses[way] = pair.train_all(one / way, way)
    for name in pair.RESUMED:
        pair.resumed(one / f"{name}-whole", name, pair.HALF)
        pair.resumed(one / f"{name}-whole", name, pair.STEPS)
    for child in [child.ended(SECONDS) for child in children]:
        assert child.code == 0, child.err
    told = [json.loads((two / f"{rank}.json").read_text()) for rank in (0, 1)]
    for name in pair.RESUMED:
        for way in ("down", "out"):
            pair.resumed(two / f"{name}-{way}", name, pair.STEPS)
    return one, two, losses, told


CASES = [(way, name) for way in ("ddp", "fsdp", "parts") for name in pair.WAYS[way][3]]


@pytest.mark.parametrize(("way", "preset"), CASES)
def test_two_processes_train_to_the_state_of_one(both, way, preset):
    """Weights, moments and averages after the last step, in double precision."""
    one, two = both[0] / way.replace("fsdp", "ddp"), both[1] / way
    (ours, held_out), (theirs, told) = pair.state_of(one / preset), pair.state_of(two / preset)
    assert ours.keys() == theirs.keys()
    for name in ours:
        torch.testing.assert_close(theirs[name], ours[name], rtol=0, atol=1e-10, msg=name)
    assert flat(told) == pytest.approx(flat(held_out), rel=1e-5, abs=1e-6)


def flat(tree):
    if isinstance(tree, dict):
        return [number for value in tree.values() for number in flat(value)]
    return (
        [number for value in tree for number in flat(value)] if isinstance(tree, list) else [tree]
    )


@pytest.mark.parametrize("preset", PRESETS)
def test_two_processes_have_the_losses_of_one(both, preset):
    """In single precision, each with two parts of its own."""
    one, two = (torch.tensor(losses["single"][preset]) for losses in (both[2], both[3][0]))
    assert len(one) == pair.STEPS
    assert ((one - two).abs() <= 1e-5 * one.abs().clamp(min=1)).all()


@pytest.mark.parametrize("preset", PRESETS)
@pytest.mark.parametrize("way", ["ddp", "fsdp"])
def test_a_state_is_carried_over_to_shards_and_back_bit_for_bit(both, way, preset):
    """That of whole weights, or of shards: half of the weights is here."""
    for told in both[3]:
        found = told[f"carried {way}"][preset]
        assert found["same"]
        assert sorted(found["same"]) == sorted(found["given"])
        assert 0.4 < found["share"] < 0.6


@pytest.mark.parametrize("preset", pair.RESUMED)
@pytest.mark.parametrize(
    ("way", "atol"), [("down", 0), ("up", 0), ("out", 1e-10), ("across", 1e-10)]
)
def test_a_run_goes_on_with_more_processes_or_fewer(both, preset, way, atol):
    """Two, then one; one, then two: bit for bit what one does that computes in two parts.

    Shards, then one; two, then shards: to rounding, which depends on where a part begins.
    """
    (ours, _), (theirs, _) = (
        pair.state_of(both[0] / f"{preset}-whole"),
        pair.state_of(both[1] / f"{preset}-{way}"),
    )
    assert theirs.keys() == ours.keys()
    for name in ours:
        torch.testing.assert_close(theirs[name], ours[name], rtol=0, atol=atol, msg=name)
    assert Run(both[1] / f"{preset}-{way}").config["training"]["accumulate"] == 2


@pytest.mark.parametrize("parallel", ["ddp", "fsdp"])
def test_held_out_rows_are_shared_and_what_is_chosen_at_the_end_is_not(both, parallel):
    (first, ours), (second, theirs) = (told[f"evaluated {parallel}"] for told in both[3])
    assert first
    assert not {*first} & {*second}
    assert abs(len(first) - len(second)) <= 3
    assert ours == theirs
    saved, _ = pair.state_of(both[1] / f"chosen-{parallel}")
    for name in ours:
        kept = saved[f"weights/{name}"]
        assert torch.equal(torch.tensor(ours[name], dtype=kept.dtype), kept)
        if name.endswith("bound_form"):
            assert torch.equal(saved[f"model/{name}"], kept)


def test_what_is_refused_on_one_process_is_refused_on_all_in_the_same_words(both):
    first, second = (told["refused"] for told in both[3])
    assert first == second
    assert first["one_fails"] == "disk: is full."
    assert first["no_share"] == "batch 5: cannot be shared by 2 processes; take 4 or 6."
    assert "process 1 of 2 is not like process 0: data." in first["other_data"]


@pytest.mark.parametrize(
    ("parallel", "size", "parameters", "expected"),
    [
        ("auto", 2, 999, False),  # 20 bytes each, of a third of 60,000
        ("auto", 2, 1001, True),
        ("auto", 1, 1001, False),
        ("ddp", 2, 1001, False),
        ("fsdp", 1, 1001, False),  # there is nobody to share with
    ],
)
def test_weights_are_shared_out_where_they_take_over_a_third_of_the_memory(
    monkeypatch, parallel, size, parameters, expected
):
    monkeypatch.setattr(shards, "memory", lambda: 120_000)
    monkeypatch.setenv("LOCAL_RANK", "1")
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "2")
    ranks = Ranks(0, size)
    assert shards.decide(parallel, parameters, torch.device("cpu"), ranks) is expected
    assert TrainingOptions().parallel == "auto"


@pytest.mark.parametrize(
    ("environment", "place"),
    [
        ({}, None),
        ({"RANK": "0", "WORLD_SIZE": "1"}, None),
        ({"RANK": "1", "WORLD_SIZE": "4"}, (1, 4)),
        ({"SLURM_PROCID": "2", "SLURM_STEP_NUM_TASKS": "3"}, (2, 3)),
        ({"RANK": "x", "WORLD_SIZE": "4"}, None),
    ],
)
def test_a_launcher_is_known_by_the_environment(environment, place):
    assert undiffuse.rank.launched(environment) is None
    assert undiffuse.rank.launched({**environment, "MASTER_ADDR": "localhost"}) == place


@pytest.mark.parametrize(
    ("said", "lost"),
    [
        ("[/x/third_party/gloo/gloo/transport/tcp/pair.cc:534] Connection closed by peer", True),
        ("mat1 and mat2 shapes cannot be multiplied", False),
    ],
)
def test_a_connection_that_breaks_as_weights_are_gathered_is_a_sentence(monkeypatch, said, lost):
    """PyTorch raises it inside of the network; what else goes wrong there is raised as it is."""
    from undiffuse.training import ranks

    monkeypatch.setattr(ranks, "launched", lambda: (0, 2))
    for name in ("init_process_group", "destroy_process_group"):
        monkeypatch.setattr(ranks.dist, name, lambda *given, **options: None)
    with pytest.raises(InputError if lost else RuntimeError) as caught, ranks.joined():
        raise RuntimeError(said)
    assert ("cannot be reached" in str(caught.value)) == lost
