"""The words of the command line: help, spelling mistakes, values of the wrong kind,
configuration files.
"""

from __future__ import annotations

import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from undiffuse.cli.app import VERBS
from undiffuse.cli.verb import ask, merge
from undiffuse.options import ModelOptions, TrainingDetails, TrainOptions

COMMANDS = [verb.name for verb in VERBS]
HEAVY = ("torch", "numpy", "pydantic", "PIL", "matplotlib", "sklearn", "pyarrow")


@pytest.mark.parametrize(
    "words", [["--help"], *([name, "--help"] for name in COMMANDS)], ids=" ".join
)
def test_help_needs_no_heavy_library(words: list[str]) -> None:
    """It is there at once: what takes seconds to import is not imported."""
    program = (
        f"import sys; from undiffuse.cli.main import main; main({words}); "
        "print(*sys.modules, file=sys.stderr)"
    )
    ran = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert ran.stdout.startswith("Usage: undiffuse")
    assert not set(HEAVY) & set(ran.stderr.split())


@pytest.mark.parametrize("verb", VERBS, ids=COMMANDS)
def test_a_help_page_ends_with_an_example_of_that_command(cli, verb) -> None:
    page = cli(verb.name, "--help").done().out
    assert page.startswith(f"Usage: undiffuse {verb.name} ")
    assert page.splitlines()[-1] == f"Example: {verb.example}"
    program, name, *words = shlex.split(verb.example)
    assert (program, name) == ("undiffuse", verb.name)
    for option in (word for word in words if word.startswith("-")):
        assert f" {option} " in page


def test_version_and_no_words_at_all(cli) -> None:
    import undiffuse

    assert cli("--version").done().out.strip() == undiffuse.__version__
    page = cli().done().out
    for verb in VERBS:
        assert f" {verb.name} " in page
        assert verb.command.__doc__.splitlines()[0] in page


MISSPELT = {
    "undiffuse tran: no such command. Did you mean train? (compare, distill, evaluate, export, "
    "info, push, sample, score, selfcheck, serve, train, tune)": "tran digits",
    "--preset emd: no such preset. Did you mean edm? (dae, ddpm, edm, flow, flow_matching, gan, "
    "iddpm, ncsn, ssm, subvp, vae, vdm, ve, vp)": "train digits --out r --preset emd",
    "--stepz: no such option. Did you mean --steps?": "train digits --out r --stepz 3",
    "--model.widht: no such option. Did you mean --model.width?": (
        "train digits --out r --model.widht 3"
    ),
    "--training.batsh: no such option. Did you mean --training.batch?": (
        "train digits --out r --training.batsh 3"
    ),
    "--method huen: no such method. Did you mean heun?": "sample r -n 3 --out s.png --method huen",
    "device cdua: no such device. Did you mean cuda?": "sample r -n 3 --out s.png --device cdua",
    "--model.kind unit: no such kind. Did you mean unet?": "train digits --out r --model.kind unit",
    "undiffuse train: extra was not expected": "train digits extra --out r",
    "undiffuse sample: RUN is missing": "sample -n 3",
    "undiffuse info: RUN_OR_SOURCE is missing": "info",
    "--steps: a value must follow.": "train digits --out r --steps",
    "--steps: given twice": "train digits --out r --steps 3 --steps 4",
    "--steps -3: must be a whole number of at least 1.": "train digits --out r --steps -3",
    "--steps 0: must be a whole number of at least 1.": "train digits --out r --steps 0",
    "--steps 3.5: must be a whole number of at least 1.": "train digits --out r --steps 3.5",
    "--steps many: must be a whole number of at least 1.": "train digits --out r --steps many",
    f"--seed -1: must be a whole number of at least 0 and below {2**63}.": (
        "train digits --out r --seed -1"
    ),
    "--training.lr 0: must be a number above 0.": "train digits --out r --training.lr 0",
    "--training.lr nan: must be": "train digits --out r --training.lr nan",
    "--model.multipliers 1,x: must be whole numbers, such as 1,2.": (
        "train digits --out r --model.multipliers 1,x"
    ),
    "budget soon: not a duration; write 90s, 10m or 1h30m.": "train digits --out r --budget soon",
    "budget -5m: not a duration": "train digits --out r --budget -5m",
    "--steps and --budget:": "train digits --out r --steps 3 --budget 5m",
    "--resume and --overwrite:": "train digits --out r --resume --overwrite",
    "--out: missing": "train digits --steps 3",
    "SOURCE: missing": "train --out r --steps 3",
    "-n: missing": "sample r --out s.png",
    "-n 0: must be a whole number of at least 1.": "sample r -n 0 --out s.png",
    "-n -4: must be a whole number of at least 1.": "sample r -n -4 --out s.png",
    "--steps -1: must be a whole number of at least 1 and": "sample r -n 3 --out s.png --steps -1",
    "--batch 0: must be a whole number of at least 1.": "sample r -n 3 --out s.png --batch 0",
    "--config none.toml: no such file": "train digits --out r --config none.toml",
}


@pytest.mark.parametrize("sentence", MISSPELT)
def test_a_mistake_gets_one_sentence(
    cli, sentence: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert cli(*MISSPELT[sentence].split()).refused(sentence)
    assert not list(tmp_path.iterdir())


FILES = {
    "line 2: steps -1: must be a whole number of at least 1.": "# options\nsteps = -1\n",
    "line 2: stesp: no such option. Did you mean steps?": "\nstesp = 3\n",
    "line 2: model.widht: no such option. Did you mean model.width?": "[model]\nwidht = 8\n",
    "line 3: model.width wide: must be a whole number.": '[model]\n# of level 0\nwidth = "wide"\n',
    "line 1: model.width wide: must be a whole number.": 'model.width = "wide"\n',
    "line 1: preset emd: no such preset. Did you mean edm?": 'preset = "emd"\n',
    "line 1: model 3: must be a table of options.": "model = 3\n",
    "line 2: checkpoint_every 0: must be a whole number of at least 1.": (
        "seed = 1\ncheckpoint-every = 0\n"
    ),
    "not valid TOML": "steps = = 3\n",
    "line 1, column 9": "steps = = 3\n",
    "steps and": 'steps = 3\nbudget = "1m"\n',
}


@pytest.mark.parametrize("sentence", FILES)
def test_a_mistake_in_a_file_is_shown_where_it_is(cli, sentence: str, tmp_path: Path) -> None:
    file = tmp_path / "run.toml"
    file.write_text(FILES[sentence])
    assert cli("train", "digits", "--out", tmp_path / "r", "--config", file).refused(
        str(file), sentence
    )
    assert sorted(tmp_path.iterdir()) == [file]


def test_what_is_typed_goes_before_what_is_in_the_file(tmp_path: Path) -> None:
    file = tmp_path / "run.toml"
    file.write_text(
        "steps = 3\nseed = 4\ncheckpoint-every = 7\n[model]\nwidth = 8\nmultipliers = [1, 2]\n"
    )
    typed = {"config": str(file), "out": "r", "seed": 5, "model": {"width": 16}}
    asked = ask(TrainOptions, typed | {"training": {"compile": False, "lr": 2e-3}})
    chosen = asked.options
    assert (chosen.steps, chosen.seed, chosen.checkpoint_every) == (3, 5, 7)
    assert chosen.model == ModelOptions(width=16, multipliers=(1, 2))
    assert chosen.training == TrainingDetails(compile=False, lr=2e-3)
    assert asked.given["training"] == {"compile": False, "lr": 2e-3}
    assert ask(TrainOptions, typed | {"budget": "5s"}).options.steps is None, "5 s, not 3 steps"
    assert merge({"a": {"b": 1}}, {"a": {"c": 2}}) == {"a": {"b": 1, "c": 2}}


def test_what_a_preset_does_not_take_is_refused_before_the_data_is_looked_for(
    cli, tmp_path: Path
) -> None:
    words = ("train", tmp_path / "none.npy", "--out", tmp_path / "r")
    assert cli(*words, "--preset", "gan", "--betas", "cosine").refused("betas")
    assert cli(*words, "--preset", "gan").refused("no such file or folder")
    assert not list(tmp_path.iterdir())
