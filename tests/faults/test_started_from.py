"""Training that starts from a run: on few rows it is ahead of training from nothing."""

import time

import numpy as np
import pytest
from sklearn.datasets import load_digits

import undiffuse as ud
from undiffuse.run import Run

pytestmark = pytest.mark.faults


def test_on_200_images_weights_of_other_images_are_a_better_start(tmp_path):
    """Of digits 5 to 9, from a run on digits 0 to 4: a lower held-out loss after equal seconds.

    Both get the processor time that 60 steps from nothing take, all that `fit` does included. What
    setting up and a step take is measured for each, in turns: a start from a run reads it first.
    It never gets more steps, whatever was measured: the network is the same.
    """
    images, digits = load_digits().images.astype(np.uint8), load_digits().target
    others, own = images[digits < 5], images[digits >= 5][:200]
    sizes = {"width": 16, "blocks": 1, "multipliers": (1, 2)}
    shared = {"device": "cpu", "samples": 0, "batch": 64, "precision": "float32"}

    def trained(name, data, steps, **options):
        model = ud.edm(**sizes)
        out, began = tmp_path / name, time.process_time()
        result = ud.fit(model, data, out=out, steps=steps, overwrite=True, **shared, **options)
        return result.held_out["loss"], time.process_time() - began

    trained("before", others, 300)
    data = ud.load(own, held_out=60)
    starts = {"fresh": {}, "started": {"init": tmp_path / "before"}}
    few, many = 4, 20
    costs = {name: {few: [], many: []} for name in starts}
    for _ in range(2):
        for name, start in starts.items():
            for steps in (few, many):
                costs[name][steps].append(trained("trial", data, steps, **start)[1])
    step = {name: (min(cost[many]) - min(cost[few])) / (many - few) for name, cost in costs.items()}
    setting_up = {name: min(cost[few]) - few * step[name] for name, cost in costs.items()}
    seconds = setting_up["fresh"] + 60 * step["fresh"]
    losses, spent = {}, {}
    for name, start in starts.items():
        steps = min(60, int((seconds - setting_up[name]) / step[name]))
        losses[name], spent[name] = trained(name, data, steps, **start)
        print(
            f"{name}: {1e3 * setting_up[name]:.0f} ms to set up, {1e3 * step[name]:.1f} ms a step, "
            f"{steps} steps in {spent[name]:.2f} s, held-out loss {losses[name]:.4f}"
        )
    assert Run(tmp_path / "started").config["origin"]["steps"] == 300
    assert losses["started"] < 0.9 * losses["fresh"]
