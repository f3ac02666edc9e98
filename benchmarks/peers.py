"""Two other libraries trained on images by their own recipes, in an environment of their own.

    diffusers    the unconditional example: UNet2DModel of 4 M parameters, noise prediction at 1,000
                 linear levels, AdamW 1e-4, warmed up for 500 steps (at most a tenth of the time),
                 then cosine decay, batches of 16, averaged weights; drawn by DPM-Solver++ in 20
    ddpm         denoising-diffusion-pytorch, as its README trains: Unet of width 64, v prediction,
                 Adam 8e-5, two batches of 32 a step, averaged weights; three resolutions, because
                 28 is no multiple of 8, and no mirrored images; drawn by DDIM in 25

The environment is made once, in `folder()`: a venv that also sees the packages of this one, so that
torch is the same. torchvision and pytorch-fid, which ddpm imports and this does not need, are
replaced by nothing. Run inside it:

    PEERS/bin/python benchmarks/peers.py train diffusers --data ROWS.npy --seconds 60 --out FOLDER
    PEERS/bin/python benchmarks/peers.py time --side 28 --channels 1
"""

from __future__ import annotations

import argparse
import json
import math
import os
import subprocess
import sys
import sysconfig
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest.mock import MagicMock

import numpy as np
import torch
from torch import Tensor, nn

PACKAGES = ["diffusers==0.42.1", "accelerate", "einops", "ema-pytorch", "tqdm"]
ALONE = ["denoising-diffusion-pytorch==2.3.4"]  # without what it depends on
REPLACED = ("torchvision", "pytorch_fid", "pytorch_fid.fid_score", "pytorch_fid.inception")
BATCH = 64  # samples drawn at a time

Draw = Callable[[int], Tensor]  # n -> images (n, c, h, w) in [-1, 1]


def folder(name: str = "peers") -> Path:
    """Return where an environment is."""
    cache = os.environ.get("UNDIFFUSE_CACHE") or Path.home() / ".cache" / "undiffuse"
    return Path(cache) / name


def python(
    name: str = "peers",
    packages: list[str] = PACKAGES,
    alone: list[str] = ALONE,
    other: tuple[str, ...] = (),
) -> str:
    """Return the interpreter of an environment, which is made if it is not there.

    Args:
        name: its folder in the cache.
        packages: what is installed with what it depends on, within constraints.txt.
        alone: what is installed without what it depends on.
        other: of which pinned packages the environment may have other versions.
    """
    made, root = folder(name), Path(__file__).parent.parent
    command, stamp = str(made / "bin" / "python"), made / "installed.json"
    if stamp.exists() and json.loads(stamp.read_text()) == [*packages, *alone]:
        return command
    print(f"Setting up {made}", file=sys.stderr)
    subprocess.run([sys.executable, "-m", "venv", "--clear", made], check=True)
    version = f"python{sys.version_info.major}.{sys.version_info.minor}"
    shared = made / "lib" / version / "site-packages" / "shared.pth"
    shared.write_text(sysconfig.get_path("purelib"))
    pins = (root / "constraints.txt").read_text().splitlines()
    pinned = made / "constraints.txt"
    pinned.write_text("\n".join(pin for pin in pins if pin.partition("==")[0] not in other))
    pip = [command, "-m", "pip", "--disable-pip-version-check", "install", "-q", "--no-compile"]
    subprocess.run([*pip, "-c", str(pinned), *packages], check=True)
    if alone:
        subprocess.run([*pip, "--no-deps", *alone], check=True)
    stamp.write_text(json.dumps([*packages, *alone]))
    return command


def environ(threads: int) -> dict[str, str]:
    """Return the environment variables that a peer is run with."""
    count = str(threads)
    return {**os.environ, "OMP_NUM_THREADS": count, "MKL_NUM_THREADS": count, "TQDM_DISABLE": "1"}


class Diffusers:
    """See the head of this module."""

    batch, parts, warm = 16, 1, 500
    usual = "DPM-Solver++"

    def __init__(self, channels: int, side: int) -> None:
        from diffusers import DDPMScheduler, UNet2DModel
        from diffusers.training_utils import EMAModel

        self.network: nn.Module = UNet2DModel(
            sample_size=side,
            in_channels=channels,
            out_channels=channels,
            layers_per_block=2,
            block_out_channels=(64, 96, 96),
            norm_num_groups=16,
            down_block_types=("DownBlock2D", "DownBlock2D", "AttnDownBlock2D"),
            up_block_types=("AttnUpBlock2D", "UpBlock2D", "UpBlock2D"),
        )
        self.levels = DDPMScheduler(num_train_timesteps=1000)
        own = list(self.network.parameters())
        self.optimizer = torch.optim.AdamW(own, 1e-4, (0.95, 0.999), 1e-8, 1e-6)
        self.average = EMAModel(own, 0.9999, use_ema_warmup=True, inv_gamma=1.0, power=0.75)

    def loss(self, x: Tensor) -> Tensor:
        """Return the loss of images (n, c, h, w)."""
        noise, t = torch.randn_like(x), torch.randint(1000, (len(x),))
        found = self.network(self.levels.add_noise(x, noise, t), t).sample
        return nn.functional.mse_loss(found, noise)

    def rate(self, step: int, share: float) -> float:
        """Return the factor of the learning rate, `share` of the time being over."""
        warm = min(max((step + 1) / self.warm, share / 0.1), 1.0)
        return warm * 0.5 * (1 + math.cos(math.pi * min(share, 1.0)))

    def averaged(self) -> None:
        """Take a step's weights into the average."""
        self.average.step(self.network.parameters())

    def finish(self) -> None:
        """Sample the averaged weights from now on."""
        self.average.copy_to(self.network.parameters())

    def samplers(self) -> dict[str, tuple[int, Draw]]:
        """Return the evaluations of each sampler, and the sampler."""
        from diffusers import DDIMPipeline, DDIMScheduler, DPMSolverMultistepScheduler

        def piped(n: int) -> Tensor:
            pipeline = DDIMPipeline(self.network, DDIMScheduler.from_config(self.levels.config))
            pipeline.set_progress_bar_config(disable=True)
            images = pipeline(n, num_inference_steps=20, output_type="np").images
            return torch.from_numpy(images).permute(0, 3, 1, 2) * 2 - 1

        def solved(n: int) -> Tensor:
            solver = DPMSolverMultistepScheduler.from_config(self.levels.config)
            solver.set_timesteps(20)
            size = self.network.config.sample_size
            x = torch.randn(n, self.network.config.in_channels, size, size)
            for t in solver.timesteps:
                x = solver.step(self.network(x, t).sample, t, x).prev_sample
            return x

        return {"DDIMPipeline": (20, piped), "DPM-Solver++": (20, solved)}


class DenoisingDiffusion:
    """See the head of this module."""

    batch, parts = 32, 2
    usual = "DDIM"

    def __init__(self, channels: int, side: int) -> None:
        for name in REPLACED:
            sys.modules[name] = MagicMock()
        from denoising_diffusion_pytorch import GaussianDiffusion, Unet
        from ema_pytorch import EMA

        for name in REPLACED:
            del sys.modules[name]
        self.network: nn.Module = Unet(dim=64, dim_mults=(1, 2, 4), channels=channels)
        self.process = GaussianDiffusion(
            self.network, image_size=side, timesteps=1000, sampling_timesteps=25
        )
        self.optimizer = torch.optim.Adam(self.network.parameters(), lr=8e-5, betas=(0.9, 0.99))
        self.average = EMA(self.process, beta=0.995, update_every=10)

    def loss(self, x: Tensor) -> Tensor:
        """Return the loss of images (n, c, h, w)."""
        return self.process((x + 1) / 2)

    def rate(self, step: int, share: float) -> float:
        """Return the factor of the learning rate."""
        return 1.0

    def averaged(self) -> None:
        """Take a step's weights into the average."""
        self.average.update()

    def finish(self) -> None:
        """Sample the averaged weights from now on."""
        self.process = self.average.ema_model

    def samplers(self) -> dict[str, tuple[int, Draw]]:
        """Return the evaluations of each sampler, and the sampler."""
        return {"DDIM": (25, lambda n: self.process.sample(batch_size=n) * 2 - 1)}


PEERS: dict[str, Any] = {"diffusers": Diffusers, "ddpm": DenoisingDiffusion}


def train(peer: Any, rows: np.ndarray, seconds: float) -> int:
    """Train on stored rows (n, h, w[, 3]) uint8 for a time; return the images seen."""
    draw, step, began = torch.Generator().manual_seed(0), 0, time.perf_counter()
    order = torch.randperm(len(rows), generator=draw)
    while (spent := time.perf_counter() - began) < seconds:
        for group in peer.optimizer.param_groups:
            group.setdefault("whole", group["lr"])
            group["lr"] = group["whole"] * peer.rate(step, spent / seconds)
        peer.optimizer.zero_grad()
        for _ in range(peer.parts):
            if len(order) < peer.batch:
                order = torch.cat([order, torch.randperm(len(rows), generator=draw)])
            batch, order = order[: peer.batch], order[peer.batch :]
            x = torch.from_numpy(rows[batch.numpy()])
            x = x[:, None] if x.ndim == 3 else x.permute(0, 3, 1, 2)
            (peer.loss(x.float() / 127.5 - 1) / peer.parts).backward()
        nn.utils.clip_grad_norm_(peer.network.parameters(), 1.0)
        peer.optimizer.step()
        peer.averaged()
        step += 1
    peer.finish()
    return step * peer.batch * peer.parts


@torch.no_grad()
def drawn(draw: Draw, n: int) -> np.ndarray:
    """Return n samples as stored rows (n, h, w[, 3]) uint8."""
    x = torch.cat([draw(min(BATCH, n - i)) for i in range(0, n, BATCH)])
    rows = ((x.clamp(-1, 1) + 1) * 127.5).round().to(torch.uint8).permute(0, 2, 3, 1).numpy()
    return rows[..., 0] if rows.shape[-1] == 1 else rows


def size(network: nn.Module) -> int:
    """Return the number of parameters."""
    return sum(parameter.numel() for parameter in network.parameters())


def _train(asked: argparse.Namespace) -> None:
    rows = np.load(asked.data, mmap_mode="r", allow_pickle=False)
    peer = PEERS[asked.peer](1 if rows.ndim == 3 else rows.shape[-1], rows.shape[1])
    images = train(peer, rows, asked.seconds)
    peer.network.eval()
    evaluations, draw = peer.samplers()[peer.usual]
    drawn(draw, 2)
    began = time.perf_counter()
    samples = drawn(draw, asked.n)
    each = (time.perf_counter() - began) / asked.n * 1e3
    np.save(asked.out / "samples.npy", samples)
    facts = {
        "images": images,
        "parameters": size(peer.network),
        "sampler": f"{peer.usual}, {evaluations}",
        "milliseconds": each,
    }
    (asked.out / "facts.json").write_text(json.dumps(facts))


def _time(asked: argparse.Namespace) -> None:
    found = []
    for name, make in PEERS.items():
        peer = make(asked.channels, asked.side)
        peer.network.eval()
        for sampler, (evaluations, draw) in peer.samplers().items():
            drawn(draw, 2)
            began = time.perf_counter()
            drawn(draw, asked.n)
            each = (time.perf_counter() - began) / asked.n * 1e3
            found.append([name, sampler, evaluations, size(peer.network), each])
    print(json.dumps(found))


def main() -> None:
    """Train a peer and draw from it, or time all samplers of untrained networks."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--threads", type=int, default=1)
    verbs = parser.add_subparsers(dest="verb", required=True)
    trained, timed = verbs.add_parser("train"), verbs.add_parser("time")
    trained.add_argument("peer", choices=PEERS)
    trained.add_argument("--data", type=Path, required=True)
    trained.add_argument("--seconds", type=float, required=True)
    trained.add_argument("--out", type=Path, required=True)
    trained.add_argument("--n", type=int, default=5000)
    timed.add_argument("--side", type=int, required=True)
    timed.add_argument("--channels", type=int, required=True)
    timed.add_argument("--n", type=int, default=BATCH)
    asked = parser.parse_args()
    torch.set_num_threads(asked.threads)
    torch.manual_seed(0)
    _train(asked) if asked.verb == "train" else _time(asked)


if __name__ == "__main__":
    main()
