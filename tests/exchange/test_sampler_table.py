"""The table of a sampler: sums of its numbers are what the sampling loop computes."""

import numpy as np
import pytest
import torch

import undiffuse as ud
from undiffuse.errors import InputError
from undiffuse.exchange.sampler_table import sampler_table

DETERMINISTIC = ("deis", "ddim", "dpmpp", "dpmpp3", "dpmpp_2s", "heun", "unipc", "ipndm", "euler")


@pytest.fixture(scope="module")
def models():
    """Models of vectors that are met with data, with weights that are not zero."""
    rows = np.random.default_rng(0).normal(size=(60, 3)) * [1.0, 2.0, 0.1] + 1
    made = {}
    for preset in ("edm", "ddpm", "flow_matching", "ve"):
        torch.manual_seed(0)
        made[preset] = getattr(ud, preset)(width=8, depth=1)
        made[preset].meet(rows)
        for one in made[preset].network.parameters():
            torch.nn.init.normal_(one, std=0.3)
    return made


def by_table(model, table, z):
    """Samples of noise z (n, *shape), by the numbers alone, in double precision."""
    scale, n = table.scale, len(z)
    start = z * scale if scale.shape == z.shape[1:] else (z.reshape(n, -1) @ scale).reshape(z.shape)
    known = [start + table.mean]
    for i, (c_in, c_noise, c_skip, c_out) in enumerate(table.network):
        x = sum(m * one for m, one in zip(table.combine[i], known))
        asked = torch.as_tensor(c_in * x, dtype=torch.float32), torch.full((n,), float(c_noise))
        with torch.no_grad():
            x_hat = c_skip * x + c_out * model.network(*asked).numpy()
        known.append(x_hat if table.clip is None else x_hat.clip(*table.clip))
    return sum(m * one for m, one in zip(table.combine[-1], known))


@pytest.mark.parametrize("preset", ["edm", "ddpm", "flow_matching", "ve"])
@pytest.mark.parametrize("method", DETERMINISTIC)
def test_sums_are_what_the_loop_computes(models, preset, method):
    model = models[preset]
    z = torch.randn(4, 3, generator=torch.Generator().manual_seed(0))
    table = sampler_table(model, method=method, steps=5)
    mine = model.draw(4, noise=lambda _: z, method=method, steps=5).numpy()
    assert np.allclose(by_table(model, table, z.numpy()), mine, atol=1e-4 * abs(mine).max())
    assert np.allclose(np.triu(table.combine, 1), 0)
    assert table.steps == 5


@pytest.mark.parametrize(
    ("method", "said"), [("ancestral", "draws noise on its way"), ("ode", "chooses its steps")]
)
def test_methods_that_are_no_table_are_refused(models, method, said):
    with pytest.raises(InputError, match=said):
        sampler_table(models["ddpm"], method=method, steps=5)
