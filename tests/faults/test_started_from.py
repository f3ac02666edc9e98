"""Training that starts from a run: on few rows it is ahead of training from nothing."""

import numpy as np
import pytest
from sklearn.datasets import load_digits

import undiffuse as ud
from undiffuse.run import Run

pytestmark = pytest.mark.faults


def test_on_200_images_weights_of_other_images_are_a_better_start(tmp_path):
    """Of digits 5 to 9, from a run on digits 0 to 4: a lower held-out loss after as many steps."""
    images, digits = load_digits().images.astype(np.uint8), load_digits().target
    others, own = images[digits < 5], images[digits >= 5][:200]
    sizes = {"width": 16, "blocks": 1, "multipliers": (1, 2)}
    shared = {"device": "cpu", "samples": 0, "batch": 64, "precision": "float32"}

    def trained(name, data, steps, **options):
        model = ud.edm(**sizes)
        out = tmp_path / name
        return ud.fit(model, data, out=out, steps=steps, **shared, **options).held_out["loss"]

    trained("before", others, 300)
    data = ud.load(own, held_out=60)
    fresh = trained("fresh", data, 60)
    started = trained("started", data, 60, init=tmp_path / "before")
    assert Run(tmp_path / "started").config["origin"]["steps"] == 300
    print(f"held-out loss {started:.4f} from the run, {fresh:.4f} from nothing")
    assert started < 0.9 * fresh
