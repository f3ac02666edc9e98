"""diffusers' pipelines as models: the truth is diffusers' own network and its own loops."""

import json
import shutil

import numpy as np
import pytest
import torch

import undiffuse as ud
from undiffuse.diffusion.schedules.process import as_times
from undiffuse.diffusion.steps import METHODS
from undiffuse.errors import InputError
from undiffuse.models.diffusion import guided
from undiffuse.run import Run

diffusers = pytest.importorskip("diffusers")
pytestmark = pytest.mark.filterwarnings("ignore")  # theirs
CHAIN = {"num_train_timesteps": 1000, "clip_sample": False}


def network(channels=1, size=8, **more):
    torch.manual_seed(0)
    return diffusers.UNet2DModel(
        sample_size=size,
        in_channels=channels,
        out_channels=channels,
        layers_per_block=1,
        block_out_channels=(8,),
        norm_num_groups=4,
        down_block_types=("AttnDownBlock2D",),
        up_block_types=("AttnUpBlock2D",),
        **more,
    ).eval()


@pytest.fixture(scope="module")
def unet():
    return network()


def model_of(unet, scheduler):
    return ud.from_diffusers(diffusers.DDPMPipeline(unet=unet, scheduler=scheduler))


@pytest.fixture(scope="module")
def folder(unet, tmp_path_factory):
    out = tmp_path_factory.mktemp("pipeline") / "ddpm"
    diffusers.DDPMPipeline(unet, diffusers.DDPMScheduler()).save_pretrained(out)
    return out


@pytest.fixture
def untuned(monkeypatch):
    """Training ends with its last step."""
    monkeypatch.setattr(ud.Diffusion, "conclude", lambda *_, **__: True)
    monkeypatch.setattr(ud.Diffusion, "tuning", 0)


def rows(n=3, channels=1, size=8):
    return torch.randn(n, channels, size, size, generator=torch.Generator().manual_seed(1))


class Recorded:
    """The noise of a loop of theirs, handed to one of ours in the same order."""

    def __init__(self, seed=2):
        self.generator = torch.Generator().manual_seed(seed)

    def __call__(self, like):
        return torch.randn(like.shape, generator=self.generator, dtype=like.dtype)


@pytest.mark.parametrize("timestep", [0, 1, 500, 999])
def test_the_call_of_the_network_is_theirs_to_the_last_bit(folder, unet, timestep):
    model = ud.from_diffusers(folder)
    x, t = rows(), as_times((timestep + 1) / 1000)
    with torch.no_grad():
        assert torch.equal(model.trained().noise(x, t), unet(x, timestep).sample)


@pytest.mark.parametrize("prediction", ["epsilon", "sample", "v_prediction"])
@pytest.mark.parametrize("betas", ["linear", "scaled_linear", "squaredcos_cap_v2"])
def test_x_hat_is_what_their_scheduler_makes_of_the_output(unet, prediction, betas):
    scheduler = diffusers.DDPMScheduler(**CHAIN, prediction_type=prediction, beta_schedule=betas)
    denoiser = model_of(unet, scheduler).trained()
    x, noise = rows(), torch.Generator().manual_seed(0)
    with torch.no_grad():
        for n in (10, 400, 900):
            theirs = scheduler.step(unet(x, n).sample, n, x, generator=noise).pred_original_sample
            ours = denoiser(x, as_times((n + 1) / 1000))
            assert torch.allclose(ours, theirs, atol=1e-5 * float(theirs.abs().max()))


SPACINGS = [{"timestep_spacing": spacing} for spacing in ("leading", "trailing", "linspace")]


@pytest.mark.parametrize(
    "options",
    [
        *SPACINGS,
        {"clip_sample": True},
        {"prediction_type": "sample"},
        {"variance_type": "fixed_large"},
        {"steps_offset": 1, "clip_sample": True},
    ],
)
def test_published_is_the_loop_of_their_ddpm(unet, options):
    """Given the noise of their loop, samples are equal to 1e-5 of their scale.

    Where the last timestep is not 0 and the variance large, theirs adds noise to the result.
    """
    scheduler = diffusers.DDPMScheduler(**{**CHAIN, **options})
    model = model_of(unet, scheduler)
    scheduler.set_timesteps(10)
    x = rows()
    noise = torch.Generator().manual_seed(2)
    y = x.clone()
    with torch.no_grad():
        for n in scheduler.timesteps:
            y = scheduler.step(unet(y, n).sample, n, y, generator=noise).prev_sample
        ours = drawn(model, x, steps=10)
    assert torch.allclose(ours, y, atol=1e-5 * float(y.abs().max()))


@pytest.mark.parametrize("options", [{}, {"steps_offset": 1}, {"clip_sample": True}])
def test_published_is_the_loop_of_their_ddim(unet, options):
    """Where x_hat is clipped, with the noise that belongs to it: use_clipped_model_output."""
    scheduler = diffusers.DDIMScheduler(**{**CHAIN, **options})
    model = model_of(unet, scheduler)
    scheduler.set_timesteps(10)
    x, clips = rows(), {"use_clipped_model_output": scheduler.config.clip_sample}
    y = x.clone()
    with torch.no_grad():
        for n in scheduler.timesteps:
            y = scheduler.step(unet(y, n).sample, n, y, **clips).prev_sample
        ours = drawn(model, x, steps=10)
    assert torch.allclose(ours, y, atol=1e-5 * float(y.abs().max()))


def test_published_is_the_loop_of_their_edm(unet):
    scheduler = diffusers.EDMEulerScheduler()
    model = model_of(unet, scheduler)
    scheduler.set_timesteps(10)
    y = rows() * scheduler.init_noise_sigma
    with torch.no_grad():
        for n in scheduler.timesteps:
            z = unet(scheduler.scale_model_input(y, n), n).sample
            y = scheduler.step(z, n, y).prev_sample
        ours = drawn(model, rows(), steps=10)
    assert torch.allclose(ours, y, atol=1e-4 * float(y.abs().max()))  # their sigmas are float32


def drawn(model, z, **options):
    """Samples by the published way from noise z, then the noise of generator 2."""
    recorded, first = Recorded(), [z]

    def noise(like):
        return first.pop() if first else recorded(like)

    return model.draw(len(z), noise=noise, method="published", **options)


@pytest.mark.parametrize("method", [name for name in METHODS if name != "ode"])
def test_every_method_samples_it_in_the_form_of_images(folder, method):
    model = ud.from_diffusers(folder)
    images = model.sample(2, method=method, steps=3)
    assert images.shape == (2, 8, 8)
    assert images.dtype == np.uint8


def test_pixels_are_those_of_their_pipeline(folder):
    """x = 2 k/255 - 1, and back as theirs: (x/2 + 1/2) clamped, times 255, rounded."""
    model = ud.from_diffusers(folder)
    k = torch.arange(64, dtype=torch.uint8).reshape(1, 8, 8) * 4
    x, _ = model.transform.encode(k, torch.zeros_like)
    assert torch.allclose(x[:, 0], 2 * k.float() / 255 - 1, atol=1e-6)
    y = 1.5 * rows(1)
    theirs = (((y / 2 + 0.5).clamp(0, 1).numpy()) * 255).round().astype("uint8")
    assert np.array_equal(model.transform.decode(y), theirs[:, 0])


def test_it_scores_and_completes(folder):
    """The density takes the trace probe by probe: the network cannot be batched over probes."""
    model = ud.from_diffusers(folder)
    images = np.random.default_rng(0).integers(0, 255, (2, 8, 8), dtype=np.uint8)
    assert np.isfinite(model.log_prob(images, how=ud.Bound(evaluations=4), draws=1)).all()
    x, solver = rows(2), ud.RungeKutta(steps=1)
    found = ud.log_density(model.trained(), x, model.prior, solver=solver, probes=2)
    assert torch.isfinite(found.nats).all()
    given = images.astype(float)
    given[:, 4:] = np.nan
    completed = model.complete(given, steps=3)
    assert np.array_equal(completed[:, :4], images[:, :4])


def test_trained_here_it_is_a_run_that_says_where_it_began_and_goes_back(
    folder, unet, tmp_path, untuned
):
    """from -> fit -> run -> open: the same weights; to_diffusers: the same network, their class."""
    images = np.random.default_rng(0).integers(0, 255, (40, 8, 8), dtype=np.uint8)
    model = ud.from_diffusers(folder)
    model.fit(images, steps=2, out=tmp_path / "run", samples=0)
    opened = ud.open(tmp_path / "run")
    assert opened.origin["from"] == f"diffusers: {folder}"
    assert len(opened.origin["weights"]) == 16
    x = rows()
    with torch.no_grad():
        inside = opened.network.unet(x, 10).sample
        assert not torch.equal(inside, unet(x, 10).sample)
        out = ud.to_diffusers(tmp_path / "run", tmp_path / "pipeline")
        pipeline = diffusers.DDPMPipeline.from_pretrained(out)
        assert torch.equal(pipeline.unet(x, 10).sample, inside)
        assert not list(out.rglob("*.bin"))
        again = ud.from_diffusers(out)
        assert torch.equal(again.network.unet(x, 10).sample, inside)
    assert again.schedule.betas == pytest.approx(opened.schedule.betas, rel=1e-6)
    assert (again.step, again.clip) == (opened.step, opened.clip)
    pipeline.set_progress_bar_config(disable=True)
    assert pipeline(num_inference_steps=2, output_type="np").images.shape == (1, 8, 8, 1)
    with pytest.raises(InputError, match="holds other files"):
        ud.to_diffusers(tmp_path / "run", tmp_path / "pipeline")


@pytest.mark.slow
def test_a_model_that_was_not_trained_here_is_saved_and_evaluated(folder, tmp_path):
    model = ud.from_diffusers(folder)
    model.save(tmp_path / "run")
    opened = ud.open(tmp_path / "run")
    assert np.array_equal(opened.sample(2, steps=2, seed=3), model.sample(2, steps=2, seed=3))
    assert Run(tmp_path / "run").summary()["origin"] == model.origin
    images = np.random.default_rng(0).integers(0, 255, (16, 8, 8), dtype=np.uint8)
    report = ud.evaluate(model, images, n=16, steps=2, rows=2, features="raw")
    assert report.facts["quality"]


def test_the_command_starts_from_a_pipeline_and_from_a_run_of_one(
    folder, tmp_path, capsys, untuned
):
    from undiffuse.cli.main import main

    np.save(tmp_path / "x.npy", np.random.default_rng(0).integers(0, 255, (40, 8, 8), np.uint8))
    short = ["--steps", "1", "--training.samples", "0", "--device", "cpu"]
    first, second = str(tmp_path / "first"), str(tmp_path / "second")
    data = str(tmp_path / "x.npy")
    assert main(["train", data, "--from", str(folder), "--out", first, *short]) == 0
    assert main(["train", data, "--from", first, "--out", second, *short]) == 0
    assert Run(first).config["origin"]["from"] == f"diffusers: {folder}"
    origin = Run(second).config["origin"]
    assert (origin["from"], origin["steps"]) == (first, 1)
    capsys.readouterr()
    assert main(["info", second]) == 0
    assert first in capsys.readouterr().out
    wrong = ["--preset", "ddpm"]
    assert main(["train", data, "--from", str(folder), "--out", f"{second}b", *wrong]) == 2
    assert "is made by diffusers" in capsys.readouterr().err


def damaged(folder, tmp_path, change):
    copy = tmp_path / "copy"
    shutil.copytree(folder, copy)
    change(copy)
    return copy


def pickled(copy):
    weights = copy / "unet" / "diffusion_pytorch_model.safetensors"
    weights.rename(weights.with_suffix(".bin"))


def edited(file, **changes):
    def change(copy):
        tree = json.loads((copy / file).read_text())
        (copy / file).write_text(json.dumps({**tree, **changes}))

    return change


WRONG = {
    "pickled": (pickled, "pickles are never read"),
    "no index": (lambda copy: (copy / "model_index.json").unlink(), "holds no model_index.json"),
    "unknown scheduler": (
        edited("model_index.json", scheduler=["diffusers", "PNDMScheduler"]),
        "",
    ),
    "another network": (
        edited("model_index.json", unet=["diffusers", "UNet2DConditionModel"]),
        "its unet is UNet2DConditionModel",
    ),
    "thresholding": (
        edited("scheduler/scheduler_config.json", thresholding=True),
        "dynamic thresholding",
    ),
    "learned variance": (
        edited("scheduler/scheduler_config.json", variance_type="learned_range"),
        "no such variance here",
    ),
    "betas of no kind": (
        edited("scheduler/scheduler_config.json", beta_schedule="triangle"),
        "cannot be made",
    ),
    "other sizes": (edited("unet/config.json", block_out_channels=[12]), "holds another model"),
    "no size": (edited("unet/config.json", sample_size=None), "sample_size"),
    "larger": (
        edited("unet/config.json", block_out_channels=[256]),
        "describes a larger network than its weights",
    ),
    "sizes in words": (edited("unet/config.json", sample_size="wide"), "sample_size"),
    "three sizes": (edited("unet/config.json", sample_size=[8, 8, 8]), "sample_size"),
    "classes in words": (edited("unet/config.json", num_class_embeds="many"), "num_class_embeds"),
    "levels without end": (
        edited("scheduler/scheduler_config.json", num_train_timesteps=200_000),
        "num_train_timesteps",
    ),
    "levels in words": (
        edited("scheduler/scheduler_config.json", num_train_timesteps="many"),
        "num_train_timesteps",
    ),
    "another prediction": (
        edited("scheduler/scheduler_config.json", prediction_type="flow"),
        "no such prediction here",
    ),
    "another spacing": (
        edited("scheduler/scheduler_config.json", timestep_spacing="wide"),
        "no such spacing here",
    ),
    "a range in words": (
        edited("scheduler/scheduler_config.json", clip_sample_range="wide"),
        "cannot be used",
    ),
    "an offset in words": (
        edited("scheduler/scheduler_config.json", steps_offset="one"),
        "cannot be used",
    ),
    "cut": (
        lambda copy: (copy / "unet" / "diffusion_pytorch_model.safetensors").write_bytes(b"12"),
        "is damaged",
    ),
}


@pytest.mark.parametrize("case", WRONG)
def test_what_is_wrong_with_a_pipeline_is_said_in_a_sentence(folder, tmp_path, case):
    change, said = WRONG[case]
    if case == "unknown scheduler":
        edited("scheduler/scheduler_config.json", _class_name="PNDMScheduler")(
            damaged(folder, tmp_path, change)
        )
        copy, said = tmp_path / "copy", "no such scheduler that can be read"
    else:
        copy = damaged(folder, tmp_path, change)
    with pytest.raises(InputError, match=said) as refused:
        ud.from_diffusers(copy)
    assert str(refused.value).count("\n") == 0


def test_a_run_that_describes_a_larger_network_than_its_weights_is_refused(folder, tmp_path):
    """Before the memory is taken: a description that somebody sent is not trusted."""
    out = ud.from_diffusers(folder).save(tmp_path / "run")
    tree = json.loads((out / "config.json").read_text())
    tree["model"]["network"]["config"]["block_out_channels"] = [2**15]
    (out / "config.json").write_text(json.dumps(tree))
    with pytest.raises(InputError, match="larger model than its weights"):
        ud.open(out)


def test_models_that_are_no_pipelines_are_refused(tmp_path):
    with pytest.raises(InputError, match="is no pipeline"):
        ud.from_diffusers(3)
    model = ud.edm(width=8).fit(np.random.default_rng(0).normal(size=(40, 2)), steps=1)
    with pytest.raises(InputError, match="its network is none of diffusers"):
        ud.to_diffusers(model, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_classes_are_theirs_and_a_hidden_one_is_refused():
    unet = network(num_class_embeds=3)
    model = model_of(unet, diffusers.DDPMScheduler())
    assert model.classes == ("0", "1", "2")
    x, t, label = rows(), as_times(0.5), torch.tensor([2, 0, 1])
    with torch.no_grad():
        theirs = unet(x, 499, class_labels=label).sample
        assert torch.equal(model.trained().noise(x, t, label=label), theirs)
    assert model.sample(2, label=1, steps=2).shape == (2, 8, 8)
    with pytest.raises(InputError, match="never trained without a class"):
        model.log_prob(np.zeros((1, 8, 8), np.uint8))
    with pytest.raises(InputError, match="never saw a row without its label"):
        guided(model, 2.0)


def test_other_channels_are_arrays():
    model = model_of(network(channels=4), diffusers.DDPMScheduler(clip_sample=False))
    assert model.sample(2, steps=2).shape == (2, 4, 8, 8)
    assert model.sample(2, steps=2).dtype == np.float32


def test_a_wrong_network_of_another_library_is_caught(monkeypatch, folder, unet):
    """The law of the last bit, over FOREIGN: a network that rounds its timesteps fails it."""
    from undiffuse.nn.foreign import FOREIGN, DiffusersUNet

    right = FOREIGN["diffusers_unet"].forward
    monkeypatch.setattr(
        DiffusersUNet, "forward", lambda self, x, c_noise, label=None: right(self, x, c_noise + 1)
    )
    x = rows()
    with torch.no_grad():
        ours = ud.from_diffusers(folder).trained().noise(x, as_times(0.5))
        assert not torch.equal(ours, unet(x, 499).sample)
