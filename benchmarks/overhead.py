"""What the library costs beyond the bare computation: in time per training step, per sample, per
import, in memory.

    fit       a training step through `fit`    over  the same step written by hand   at most 1.05
              its wait for its rows            over  the step                        at most 0.05
    sample    a 20-step `sample`               over  20 bare forward passes          at most 1.03
    import    `import undiffuse`               over  `import torch`                  at most 1.2
              `undiffuse train --help`         over  `import torch`                  at most 0.3
    memory    training from an array of 4 GB   less  training from one of 4 MB       at most 100 MB

The network is a U-Net whose forward pass on 16 x 1 x 28 x 28 in float32 on one thread takes about
10 ms here: its width is searched for, since the smaller the network, the more an overhead shows.
What is compared alternates (A B A B ...), step by step; the ratio is that of the medians, and the
quartiles of the ratios of neighbours stand beside it. Memory is anonymous memory alone (RssAnon, so
Linux only): pages of the mapped file are the kernel's to drop.

    python benchmarks/overhead.py [fit] [sample] [import] [memory]
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import peak_memory

BATCH, SHAPE = 16, (28, 28)
ROWS = 4096
WARM_UP, PAIRS = 20, 300
SAMPLE_STEPS, SAMPLES = 20, 25
IMPORTS = 9
SMALL, LARGE = 4 * 10**6, 4 * 10**9


@dataclass(frozen=True)
class Row:
    """One line of the table."""

    what: str
    measured: str
    bound: str
    ok: bool


def compare(what: str, ours: Sequence[float], bare: Sequence[float], bound: float) -> Row:
    """The row for two lists of seconds, in the order in which they alternated."""
    ratio = statistics.median(ours) / statistics.median(bare)
    low, _, high = statistics.quantiles([a / b for a, b in zip(ours, bare, strict=True)], n=4)
    milliseconds = (
        f"{1e3 * statistics.median(ours):.1f} against {1e3 * statistics.median(bare):.1f} ms"
    )
    return Row(
        what,
        f"{ratio:.3f} ({low:.3f} to {high:.3f}), {milliseconds}",
        f"at most {bound}",
        ratio <= bound,
    )


def seconds(work: Callable[[], object]) -> float:
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


# --- the network and the data that the first two are measured with


def forward_time(network: Any, repeats: int = 15) -> float:
    """Seconds of one forward pass without gradients: the fastest of several."""
    import torch

    x, c_noise = torch.randn(BATCH, 1, *SHAPE), torch.zeros(BATCH)
    with torch.no_grad():
        network(x, c_noise)
        return min(seconds(lambda: network(x, c_noise)) for _ in range(repeats))


def random_images(rows: int) -> np.ndarray:
    """Bytes shaped like images; what a step costs does not depend on what they show."""
    return np.random.default_rng(0).integers(0, 256, (rows, *SHAPE), dtype=np.uint8)


@cache
def trained() -> tuple[Any, Any, np.ndarray]:
    """A model of the default preset whose forward pass is nearest to 10 ms, its data, and the same
    rows bare.
    """
    import torch

    import undiffuse as ud

    torch.set_num_threads(1)
    rows = random_images(ROWS)
    data = ud.load(rows)
    models = [ud.edm(data, width=width) for width in range(8, 65, 8)]
    times = [forward_time(model.network) for model in models]
    best = min(range(len(models)), key=lambda i: abs(times[i] - 10e-3))
    parameters = sum(p.numel() for p in models[best].network.parameters())
    width = models[best].network.width
    print(
        f"U-Net of width {width}, {parameters:,} parameters: forward pass "
        f"{1e3 * times[best]:.1f} ms",
        flush=True,
    )
    return models[best], data, rows


# --- fit


class HandWritten:
    """The loop that one would write for this one model (Karras et al. 2022,
    Algorithm and Table 1, EDM column).
    """

    def __init__(self, model: Any, rows: np.ndarray) -> None:
        import copy

        import torch

        from undiffuse.training.muon import Muon

        self.network, self.rows, self.sigma_data = (
            copy.deepcopy(model.network).train(),
            rows,
            model.sigma_data,
        )
        self.parameters = list(self.network.parameters())
        self.averages = [p.detach().clone() for p in self.parameters]
        names = model.players()["denoiser"].hidden
        named = dict(self.network.named_parameters())
        hidden = [p for name, p in named.items() if name in names]
        others = [p for name, p in named.items() if name not in names]
        self.optimizers = [
            torch.optim.AdamW(others, lr=1e-3, betas=(0.9, 0.99), fused=True),
            Muon(hidden, lr=1e-3, weight_decay=0.01),
        ]
        self.batches = self.shuffled()

    def shuffled(self) -> Iterator[np.ndarray]:
        rng = np.random.default_rng(0)
        while True:
            yield from rng.permutation(len(self.rows)).reshape(-1, BATCH)

    def step(self) -> None:
        import torch

        rows = torch.from_numpy(self.rows[next(self.batches)]).unsqueeze(1).float()
        x = (rows + torch.rand_like(rows)) / 128 - 1
        sigma = torch.exp(1.2 * torch.randn(BATCH, 1, 1, 1) - 1.2)
        x_t = x + sigma * torch.randn_like(x)
        scale = (sigma**2 + self.sigma_data**2).sqrt()
        output = self.network(x_t / scale, sigma.log().flatten() / 4)
        x_hat = self.sigma_data**2 / scale**2 * x_t + sigma * self.sigma_data / scale * output
        loss = ((scale / (sigma * self.sigma_data)) ** 2 * (x_hat - x) ** 2).mean()
        for optimizer in self.optimizers:
            optimizer.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.parameters, 1.0)
        for optimizer in self.optimizers:
            optimizer.step()
        torch._foreach_lerp_(self.averages, [p.detach() for p in self.parameters], 1e-3)


def bench_fit() -> list[Row]:
    """A step by hand is taken whenever `fit` reports one of its own.

    A step of `fit` is what lies between.
    """
    from undiffuse.training import fit
    from undiffuse.training.loading import Loader

    model, data, rows = trained()
    by_hand = HandWritten(model, rows)
    ours, bare, latest = [], [], {"event": "", "left": 0.0}

    def step_by_hand(event: dict) -> None:
        between = time.perf_counter() - latest["left"]
        if (
            event["event"] == latest["event"] == "step"
        ):  # nothing else, such as an evaluation, came between
            ours.append(between)
            bare.append(seconds(by_hand.step))
        latest.update(event=event["event"], left=time.perf_counter())

    waits: list[float] = []
    take = Loader.take

    def timed(loader: Loader) -> list:
        start = time.perf_counter()
        parts = take(loader)
        waits.append(time.perf_counter() - start)
        return parts

    steps = {"steps": WARM_UP + PAIRS, "batch": BATCH, "samples": 0, "evaluate_every": 10**9}
    Loader.take = timed
    try:
        fit(model, data, **steps, precision="float32", device="cpu", on_event=step_by_hand)
    finally:
        Loader.take = take
    wait, step = statistics.median(waits[WARM_UP:]), statistics.median(ours[WARM_UP:])
    waiting = f"{wait / step:.3f}, {1e3 * wait:.2f} of {1e3 * step:.1f} ms"
    return [
        compare("a training step: fit / by hand", ours[WARM_UP:], bare[WARM_UP:], 1.05),
        Row("its wait for its rows / the step", waiting, "at most 0.05", wait <= 0.05 * step),
    ]


# --- sample


def bench_sample() -> list[Row]:
    """`model.sample`, from the seed to bytes, against its network on a fixed input once in every
    callback.
    """
    import torch

    model, _, _ = trained()
    model.eval()
    calls: list[int] = []
    counting = model.network.register_forward_hook(lambda *_: calls.append(1))
    x, c_noise = torch.randn(BATCH, 1, *SHAPE), torch.zeros(BATCH)
    ours, bare, forward = [], [], []

    def forward_pass(*_: object) -> None:
        with torch.no_grad():
            forward.append(seconds(lambda: model.network(x, c_noise)))

    def sample(callback: Callable[..., None]) -> None:
        model.sample(
            BATCH, steps=SAMPLE_STEPS, method="ddim", seed=0, batch=BATCH, callback=callback
        )

    sample(lambda *_: None)
    assert len(calls) == SAMPLE_STEPS, f"{len(calls)} evaluations are not {SAMPLE_STEPS}"
    counting.remove()
    for _ in range(SAMPLES):
        forward.clear()
        both = seconds(lambda: sample(forward_pass))
        bare.append(sum(forward))
        ours.append(both - bare[-1])
    return [compare(f"{SAMPLE_STEPS}-step sample / forward passes", ours, bare, 1.03)]


# --- import


def bench_import() -> list[Row]:
    """Each in a process of its own, timed inside it.

    The second also reaches for a name, which imports torch.
    """
    statements = {
        "torch": "import torch",
        "bare": "import undiffuse",
        "full": "import undiffuse; undiffuse.Denoiser; undiffuse.edm; undiffuse.load",
        "help": "from undiffuse.cli.main import main; main(['train', '--help'])",
    }
    times: dict[str, list[float]] = {name: [] for name in statements}
    for turn in range(IMPORTS + 1):
        for name, statement in statements.items():
            clock = "time.perf_counter()"
            code = f"import time; start = {clock}; {statement}; print({clock} - start)"
            done = subprocess.run(
                [sys.executable, "-c", code], capture_output=True, text=True, check=True
            )
            if turn:  # the first turn compiles and reads everything from disk
                times[name].append(float(done.stdout.splitlines()[-1]))
    return [
        compare("import undiffuse / import torch", times["bare"], times["torch"], 1.2),
        compare(
            "... and its Denoiser, edm, load / import torch", times["full"], times["torch"], 1.2
        ),
        compare("undiffuse train --help / import torch", times["help"], times["torch"], 0.3),
    ]


# --- memory


def bench_memory() -> list[Row]:
    """Both trainings in processes of their own, on files that are written for it and removed after
    it.
    """
    peaks = {}
    with tempfile.TemporaryDirectory() as folder:
        for size in (SMALL, LARGE):
            path = Path(folder) / f"{size}.npy"
            peak_memory.write_images(path, size)
            command = [sys.executable, peak_memory.__file__, str(path)]
            done = subprocess.run(command, capture_output=True, text=True, check=False)
            if done.returncode:
                sys.exit(done.stderr)
            peaks[size] = int(done.stdout.split()[-1])
            path.unlink()
    more = (peaks[LARGE] - peaks[SMALL]) / 1e6
    text = f"{more:.0f} MB more: {peaks[LARGE] / 1e6:.0f} against {peaks[SMALL] / 1e6:.0f} MB"
    return [
        Row("anonymous memory, 4 GB array less 4 MB array", text, "at most 100 MB", more <= 100)
    ]


BENCHES = {"fit": bench_fit, "sample": bench_sample, "import": bench_import, "memory": bench_memory}


def main(names: Sequence[str]) -> int:
    """Run the benches of these names and print the table; 1 if a bound is missed."""
    rows: list[Row] = []
    for name in names:
        print(f"measuring: {name}", flush=True)
        rows += BENCHES[name]()
    lines = [("what", "measured", "bound", "ok")]
    lines += [(row.what, row.measured, row.bound, "yes" if row.ok else "NO") for row in rows]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    for line in lines:
        print(
            "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip()
        )
    return 0 if all(row.ok for row in rows) else 1


if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "names", nargs="*", metavar="name", default=list(BENCHES), help=", ".join(BENCHES)
    )
    wanted = parser.parse_args().names
    if unknown := set(wanted) - set(BENCHES):
        parser.error(f"{', '.join(sorted(unknown))}: not among {', '.join(BENCHES)}")
    sys.exit(main(wanted))
