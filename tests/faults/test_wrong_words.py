"""Wrong command lines: exit code 2 and one sentence, whatever the words are."""

from __future__ import annotations

import random
from collections import Counter
from pathlib import Path

import pytest
from damage import run_words
from forked import GIB, QUICK, fork

from undiffuse.cli.app import VERBS

NAMES = (*(verb.name for verb in VERBS), "nope", "")
SLOW = ("compare", "distill", "selfcheck", "tune")  # which would take minutes, were they right
WORDS = (
    "run", "data.npy", "moons", "--out", "o", "-n", "--seed", "--steps", "--budget", "--preset",
    "--model.width", "--training.lr", "--config", "--given", "--alarm", "--label", "--method",
    "0", "-1", "1e400", "nan", "inf", "[/s]", "$", "%s", "{}", "--", "-", "---", "=", "--out=",
    "caf\udce9", "a" * 300, "/dev/zero", "/dev/null", "/proc/self/mem", "../..", "~x", "1" * 5000,
    "--json", "--quiet", "--n", "--batch", "cuda:9", "--device", "edm", "2", "\u202e", "\x00",
)  # fmt: skip


@pytest.mark.parametrize(
    ("total", "seed"), [(20, 1), pytest.param(200, 0, marks=pytest.mark.faults)]
)
def test_wrong_command_lines(total: int, seed: int, place: Path) -> None:
    rng, codes = random.Random(seed), Counter()
    lines = [[rng.choice(NAMES), *rng.choices(WORDS, k=rng.randint(0, 6))] for _ in range(total)]

    def work() -> int:
        for line in lines:
            print("!", ascii(line), flush=True)
            if line[0] == "train" and "--steps" not in line:
                line = [*line, *QUICK]
            if line[0] in SLOW:
                line = [*line, "--nonsense"]
            code, err = run_words(line)
            assert code in (0, 2), err
            assert "Traceback" not in err
            assert code == 0 or (err.count("\n") == 1 and len(err) > 20), err
            print(code, flush=True)
        return 0

    ended = fork(work, seconds=20 + 2 * total, memory=4 * GIB)
    assert ended.code == 0, (ended.out.split("!")[-1], ended.code, ended.err[-2500:])
    codes.update(line for line in ended.out.splitlines() if line in ("0", "2"))
    assert codes.total() == total
    assert codes["2"] > total / 2
    print(f"command lines: {dict(codes)}")
