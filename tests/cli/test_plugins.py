"""Parts of third parties: how they are given, what a run records, and what is refused."""

from __future__ import annotations

import hashlib
import json
import os
import re
import sys
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
from forked import command

import undiffuse as ud
from undiffuse import plugged, plugins
from undiffuse.cli.app import sign_again
from undiffuse.data import KINDS
from undiffuse.diffusion import METHODS, PARTS, SCHEDULES, STEPS
from undiffuse.errors import InputError
from undiffuse.models import PRESETS
from undiffuse.nn import NETWORKS
from undiffuse.training.loggers import LOGGERS, find_loggers

ROWS = np.random.default_rng(0).normal(size=(60, 2)).astype(np.float32)

FILE = '''
"""Parts of my own."""

from dataclasses import dataclass
import numpy as np
import torch
import undiffuse as ud
from undiffuse.data import KINDS
from undiffuse.diffusion.steps.moves import DDIM


@dataclass(frozen=True)
class Slow(ud.Step):
    order = 1
    formula, source = "as DDIM", "none"

    def move(self, denoiser, x_t, t, s, memory, noise):
        return DDIM().move(denoiser, x_t, t, s, memory, noise)


@dataclass(frozen=True, kw_only=True)
class Bent(ud.Schedule):
    t_min: float = 1e-3

    def marginal(self, t):
        return 1 - t, 2 * t

    def slopes(self, t):
        return -torch.ones_like(t), 2 * torch.ones_like(t)

    def inverse(self, log_snr):
        k = torch.exp(-log_snr / 2)
        return (k / (2 + k)).clamp(0, 1)


class Line(ud.SizedNetwork):
    name, axes = "line", (1,)

    def __init__(self, *, shape: tuple[int, ...], width: int = 8, classes: int = 0,
                 vector: int = 0, given: int = 0, out: int = 1, span: float = 4.0) -> None:
        super().__init__(locals())
        self.enter = torch.nn.Linear(shape[0] + 1, width)
        self.leave = torch.nn.Linear(width, out * shape[0])

    @classmethod
    def sizes(cls, shape, given):
        return {"width": 8}

    def forward(self, x, c_noise, label=None, vector=None, given=None):
        return self.leave(torch.tanh(self.enter(torch.cat([x, c_noise[:, None]], 1))))


def bent(data=None, **sizes):
    """A straight path to twice the noise (nobody 2026)."""
    sizes.setdefault("kind", "line")
    return ud.Diffusion(schedule=Bent(), target=ud.target.v, objective=ud.edm().objective,
                        step=Slow(), grid=ud.grid.Uniform(), steps=4, network=sizes)


class Lines(type(KINDS["arrays"]).__bases__[0]):
    name = "lines"
    parts = dict(KINDS["arrays"].parts)
    file_suffixes, folder_suffixes = (".lines",), ()

    def _numbers(self, source):
        return np.loadtxt(source, dtype=np.float32)

    def reads(self, source):
        return str(source).endswith(".lines")

    def read(self, source, *, reading=None, progress=None):
        from dataclasses import replace
        return replace(KINDS["arrays"].read(self._numbers(source)), kind="lines",
                       name=source.name, path=str(source))

    def conform(self, source, config, *, progress=None):
        return KINDS["arrays"].conform(self._numbers(source), config)

    def complete(self, source, config):
        return KINDS["arrays"].complete(self._numbers(source), config)


class Counter(ud.Logger):
    def start(self, folder, config):
        self.file = (folder / "count.txt").open("w")

    def numbers(self, step, values):
        self.file.write(str(step) + " ")

    def picture(self, step, name, file):
        pass

    sound = page = picture

    def close(self):
        self.file.close()


PLUGIN = {
    "steps": {"slow": Slow},
    "schedules": {"bent_path": Bent},
    "networks": {"line": Line},
    "presets": {"bent": bent},
    "kinds": {"lines": Lines},
    "loggers": {"counter": Counter},
}
'''
NAMES = {
    ("steps", "slow"),
    ("schedules", "bent_path"),
    ("networks", "line"),
    ("presets", "bent"),
    ("kinds", "lines"),
    ("loggers", "counter"),
}


@pytest.fixture(autouse=True)
def _as_before():
    """What a test plugs in is gone after it."""
    registries = (METHODS, PARTS, SCHEDULES, STEPS, PRESETS, NETWORKS, LOGGERS, KINDS.more)
    registries += (plugged.PLUGGED, plugged.FAILED)
    before = [dict(registry) for registry in registries]
    yield
    for registry, kept in zip(registries, before):
        registry.clear()
        registry.update(kept)
    sign_again()


@pytest.fixture(scope="module")
def mine(tmp_path_factory):
    """The file, and rows of its kind of data."""
    folder = tmp_path_factory.mktemp("mine")
    (folder / "my_parts.py").write_text(FILE)
    np.savetxt(folder / "t.lines", ROWS)
    return folder


@pytest.fixture(scope="module")
def run(mine):
    """A run whose parts all come from the file."""
    words = (
        "train t.lines --out r --plugin my_parts.py --preset bent --log counter --steps 3 --quiet"
    )
    done = command(*words.split(), before=lambda: os.chdir(mine))
    assert done.code == 0, done.err
    return mine / "r"


def forget():
    for group, name in NAMES:
        plugged.PLUGGED.pop((group, name), None)
    for registry in (METHODS, PARTS, SCHEDULES, STEPS, PRESETS, NETWORKS, LOGGERS, KINDS.more):
        for _, name in NAMES:
            registry.pop(name, None)


# --- what works


def test_a_run_records_each_part_with_the_file_and_its_hash(run, mine):
    own = json.loads((run / "config.json").read_text())
    sha256 = hashlib.sha256((mine / "my_parts.py").read_bytes()).hexdigest()
    of_file = {"file": "my_parts.py", "sha256": sha256}
    recorded = {(one["group"], one["name"]): one for one in own["plugins"]}
    assert recorded.keys() == NAMES - {("loggers", "counter")}
    for (group, name), one in recorded.items():
        assert one == {"group": group, "name": name, **of_file}
    assert own["preset"] == "bent"
    assert (run / "count.txt").read_text().split()


def test_it_is_opened_once_the_file_is_given_and_never_before(run, mine, cli, tmp_path):
    words = ("sample", run, "-n", 3, "--seed", 1, "--method", "published")
    refused = cli(*words, "--out", tmp_path / "a.npy")
    assert refused.refused(
        "is from the file my_parts.py, which is not there; give it: --plugin my_parts.py, or "
        'ud.plug_in("my_parts.py").'
    )
    assert cli("info", run).done()  # which reads what is written, and builds nothing
    cli(*words, "--out", tmp_path / "b.npy", "--plugin", mine / "my_parts.py").done()
    model = ud.open(run)
    drawn = model.sample(3, seed=1, method="published")
    np.testing.assert_array_equal(np.load(tmp_path / "b.npy"), drawn)
    assert np.isfinite(model.sample(3, method="slow", steps=2)).all()
    assert "slow" in model.methods
    forget()
    with pytest.raises(InputError, match="which is not there"):
        ud.open(run)
    ud.plug_in(mine / "my_parts.py")
    np.testing.assert_array_equal(ud.open(run).sample(3, seed=1, method="published"), drawn)
    assert (
        ud.Run(run).data().fingerprint
        == json.loads((run / "config.json").read_text())["data"]["fingerprint"]
    )


def test_another_text_of_the_file_is_said(run, tmp_path):
    (tmp_path / "my_parts.py").write_text(FILE + "\n# changed\n")
    ud.plug_in(tmp_path / "my_parts.py")
    opened = ud.Run(run)
    opened.model()
    assert any("which is another version now" in note for note in opened.notes)


def test_resuming_needs_the_file_too(run, mine, cli):
    assert cli("train", "--out", run, "--resume", "--steps", 4).refused("which is not there")
    words = ("--resume", "--steps", 4, "--plugin", mine / "my_parts.py", "--quiet")
    cli("train", "--out", run, *words).done()
    assert ud.Run(run).state["step"] == 4
    forget()
    refused = cli("train", mine / "t.lines", "--out", mine / "r2", "--init", run)
    assert refused.refused("its preset bent is from the file my_parts.py")


def test_parts_are_in_tables_and_in_help(mine, cli):
    assert "bent" not in ud.presets.names
    outcome = cli("train", "--help", "--plugin", mine / "my_parts.py").done()
    page = " ".join(outcome.out.replace("│", " ").split())
    for choice in ("flow, bent]", "autoregressive, line]", "mlflow, counter, e.g."):
        assert choice in page
    assert "mean, slow]" in " ".join(cli("sample", "--help").done().out.replace("│", " ").split())
    assert ud.presets["bent"]["what"] == "A straight path to twice the noise (nobody 2026)"
    assert ud.methods["slow"]["order"] == 1


def test_every_command_that_opens_or_trains_takes_a_plugin(cli):
    from undiffuse.cli.app import VERBS
    from undiffuse.declared import options_of

    taking = {verb.name for verb in VERBS if "plugin" in options_of(verb.kind)}
    assert taking == {verb.name for verb in VERBS} - {"selfcheck"}
    sources = {"train": ("x", "--out", "y"), "sample": ("x", "-n", 1, "--out", "y.npy")}
    sources |= {"score": ("x", "z", "--out", "y"), "compare": sources["train"]}
    sources |= {"export": sources["train"], "push": ("x", "me/r")}
    sources |= {"distill": sources["train"], "evaluate": ("x",), "tune": ("x",), "info": ("x",)}
    sources |= {"serve": (".",)}
    for name in taking:
        given = sources[name]
        refused = cli(name, *given, "--plugin", "no_such.py")
        assert refused.refused("plugin no_such.py: no such file; check the path."), name


def test_a_configuration_file_names_plugins(mine, cli, tmp_path):
    text = f'plugin = ["{mine / "my_parts.py"}"]\npreset = "bent"\n'
    (tmp_path / "c.toml").write_text(text)
    words = ("--config", tmp_path / "c.toml", "--steps", 2, "--quiet")
    cli("train", mine / "t.lines", "--out", tmp_path / "r", *words).done()
    assert ud.Run(tmp_path / "r").config["preset"] == "bent"


def test_parts_given_in_python_are_recorded_by_their_module(tmp_path):
    made = PRESETS["edm"]

    def own(data=None, **sizes):
        return made(data, **sizes)

    ud.plug_in({"presets": {"own": own}})
    ud.plug_in({"presets": {"own": own}})  # a cell of a notebook is run again
    torch.manual_seed(0)
    model = PRESETS["own"](width=8)
    ud.fit(model, ROWS, steps=2, out=tmp_path / "r")
    (recorded,) = ud.Run(tmp_path / "r").config["plugins"]
    assert recorded == {"group": "presets", "name": "own", "module": __name__}
    plugged.PLUGGED.clear()
    assert ud.open(tmp_path / "r")  # what it is made of is ours


def test_a_preset_that_cannot_be_made_does_not_hide_the_others():
    def broken(data=None, **options):
        raise InputError("not today.")

    ud.plug_in({"presets": {"broken": broken}})
    assert ud.presets["broken"]["what"] == "cannot be made: not today."
    assert "edm" in ud.presets.names


def test_a_file_is_run_once_and_again_when_it_has_changed(tmp_path):
    file = tmp_path / "parts.py"
    text = "import sys\nsys.ran = getattr(sys, 'ran', 0) + 1\nimport undiffuse as ud\n"
    text += "PLUGIN = {'presets': {'counted': lambda data=None, **o: ud.edm(data, **o)}}\n"
    file.write_text(text)
    for ran, more in ((1, ""), (1, ""), (2, "\n")):
        file.write_text(text + more)
        ud.plug_in(str(file))
        assert sys.ran == ran
    del sys.ran


# --- what is refused


NOT_A_STEP = "import undiffuse as ud\nPLUGIN = {'steps': {'mine': %s}}\n"
BAD = {
    "no file": (None, "plugin bad.py: no such file; check the path."),
    "no text": (b"\xff\xfe\x00", "plugin bad.py: could not be read: it is not text; give a Python"),
    "no Python": ("x = \n", "plugin bad.py, line 1: is not valid Python (invalid syntax); correct"),
    "raises": ("y = 1\nx = 1 / 0\n", "plugin bad.py, line 2: failed (ZeroDivisionError: division"),
    "imports": ("import no_such_package", "line 1: failed (ModuleNotFoundError: No module named"),
    "exits": ("import sys\nsys.exit(0)\n", "plugin bad.py, line 2: failed (SystemExit: 0); corr"),
    "nested": ("x = " + "-" * 100_000 + "1\n", "plugin bad.py: is not valid Python (it is nested"),
    "no PLUGIN": ("x = 1\n", "plugin bad.py: it holds no PLUGIN; add one, such as PLUGIN = {"),
    "no table": ("PLUGIN = 3\n", "plugin bad.py: PLUGIN is not a table; write it as PLUGIN = {"),
    "no tables": ("PLUGIN = {'steps': 3}\n", "plugin bad.py: steps is not a table of names and"),
    "group": ("PLUGIN = {'step': {}}\n", "plugin bad.py: step: no such group. Did you mean steps?"),
    "type": (NOT_A_STEP % "ud.Linear", "step mine: is the class Linear; give a class derived from"),
    "number": (NOT_A_STEP % "3", "plugin bad.py: step mine: is int; give a class derived from ud"),
    "abstract": (NOT_A_STEP % "ud.Step", "step mine: is the class Step; give a class derived from "
                 "ud.Step, with all of its abstract methods."),
    "name": ("PLUGIN = {'presets': {'my one': print}}", "preset my one: a name is letters, digits"),
    "taken": ("PLUGIN = {'presets': {'edm': print}}\n", "plugin bad.py: preset edm: this name is "
              "taken by undiffuse; choose another name."),
    "method": (NOT_A_STEP.replace("mine", "dpmpp3") % "ud.Heun", "this name is taken by undiffuse"),
    "kind": (NOT_A_STEP.replace("mine", "mlp") % "ud.Heun", "step mlp: this name is taken by undi"),
    "twice": ("import undiffuse as ud\nPLUGIN = {'steps': {'a': ud.Heun}, 'schedules': {'a': "
              "ud.Linear}}", "plugin bad.py: a is given twice; choose another name."),
    "arguments": ("import undiffuse as ud\nclass A(ud.Heun.__mro__[1]):\n  def __init__(self, n): "
                  "pass\n  move = ud.Heun.move\nPLUGIN = {'steps': {'a': A}}",
                  "step a: cannot be made without arguments (TypeError:"),
    "exit": ("import undiffuse as ud\nclass A(ud.Heun.__mro__[1]):\n  def __init__(self): "
             "raise SystemExit(0)\n  move = ud.Heun.move\nPLUGIN = {'steps': {'a': A}}",
             "step a: cannot be made without arguments (SystemExit: 0)"),
}  # fmt: skip


@pytest.mark.parametrize("case", BAD)
def test_a_plugin_that_cannot_be_used_is_refused_in_one_sentence(case, cli, tmp_path, monkeypatch):
    content, said = BAD[case]
    monkeypatch.chdir(tmp_path)
    if content is not None:
        Path("bad.py").write_bytes(content if isinstance(content, bytes) else content.encode())
    before = dict(METHODS), dict(PRESETS), dict(plugged.PLUGGED)
    assert cli("train", "moons", "--out", "r", "--plugin", "bad.py").refused(said)
    with pytest.raises(InputError) as refused:
        ud.plug_in("bad.py")
    assert said in str(refused.value)
    assert (dict(METHODS), dict(PRESETS), dict(plugged.PLUGGED)) == before
    assert not Path("r").exists()


def test_a_kind_bears_its_own_name(mine):
    ud.plug_in(mine / "my_parts.py")
    kind = type(KINDS["lines"])
    with pytest.raises(InputError, match='attribute name has to be the same; write name = "other"'):
        ud.plug_in({"kinds": {"other": kind}})


def test_a_name_of_another_plugin_is_taken(mine):
    ud.plug_in(mine / "my_parts.py")
    with pytest.raises(InputError, match=r"preset bent: this name is taken by the file my_parts"):
        ud.plug_in({"presets": {"bent": lambda data=None: ud.edm(data)}})


def test_a_logger_of_a_plugin_names_the_package_that_it_needs():
    class Needy(LOGGERS["tensorboard"].__bases__[0]):
        package = "no_such_package"
        start = numbers = picture = sound = page = close = lambda self, *rest: None

    ud.plug_in({"loggers": {"needy": Needy}})
    with pytest.raises(InputError, match="needs the package no_such_package; pip install no_such"):
        find_loggers(["needy"])


# --- entry points


@pytest.fixture
def installed(tmp_path, monkeypatch):
    """`installed(points, module)`: a package lab 1.0 is on the path, with the text of a module."""

    def install(points: str, module: str) -> None:
        info = tmp_path / "lab-1.0.dist-info"
        info.mkdir()
        (info / "METADATA").write_text("Metadata-Version: 2.1\nName: lab\nVersion: 1.0\n")
        (info / "entry_points.txt").write_text(points)
        (tmp_path / "lab.py").write_text(module)
        plugged.installed.cache_clear()

    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(plugins, "_done", set())
    yield install
    sys.modules.pop("lab", None)
    plugged.installed.cache_clear()


HEAVY = "import undiffuse as ud\nclass Other(ud.Step):\n    order = 1\n    def move(self, d, x, t, s, m, n):\n        return x, None\n"  # noqa: E501
POINTS = "[undiffuse.steps]\nother = lab:Other\ngone = lab:Gone\nheun = lab:Other\n"


def test_what_does_not_load_or_clashes_is_said_once_and_others_go_on(installed, cli):
    installed(POINTS, HEAVY)
    assert set(plugged.names("steps")) >= {"other", "gone"}
    assert "lab" not in sys.modules  # names are read without importing
    said = []
    plugins.load_installed(said.append)
    assert said == [
        "the package lab 1.0: step gone: could not be loaded (AttributeError: module 'lab' has no "
        "attribute 'Gone'); it is left out.",
        "the package lab 1.0: step heun: this name is taken by undiffuse; choose another name; "
        "it is left out.",
    ]
    plugins.load_installed(said.append)
    assert len(said) == 2
    assert METHODS["other"].order == 1
    assert METHODS["heun"] == ud.Heun()
    assert plugged.names("steps") == ("other",)
    assert plugged.PLUGGED["steps", "other"].tree == {"package": "lab", "version": "1.0"}


def test_python_warns_of_what_is_left_out(installed):
    installed(POINTS, HEAVY)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        for _ in range(2):
            assert ud.__getattr__("methods")["other"]["order"] == 1
    assert [str(one.message).endswith("it is left out.") for one in caught] == [True, True]


def test_the_command_line_says_what_is_left_out(installed, cli, tmp_path):
    installed(POINTS, HEAVY)
    refused = cli("sample", "no_run", "-n", 1, "--out", tmp_path / "x.npy", "--method", "gone")
    assert refused.refused("no such method", "step gone: could not be loaded")


def test_a_package_that_is_being_imported_is_loaded_later(installed):
    installed("[undiffuse.steps]\nother = lab:Other\n", HEAVY)
    import lab  # which asks for ud.Step before it is whole

    assert ud.__getattr__("methods")["other"]["order"] == 1
    assert METHODS["other"].__class__ is lab.Other


def test_an_entry_point_that_is_no_text_is_passed_over(installed):
    installed("[undiffuse.steps\nother", HEAVY)
    assert "other" not in plugged.names("steps")


def test_a_damaged_record_of_plugins_is_refused(run, cli, tmp_path):
    import shutil

    shutil.copytree(run, tmp_path / "r")
    config = json.loads((tmp_path / "r" / "config.json").read_text())
    config["plugins"] = "my_parts.py"
    (tmp_path / "r" / "config.json").write_text(json.dumps(config))
    assert cli("sample", tmp_path / "r", "-n", 1, "--out", tmp_path / "x.npy").refused(
        "config.json is damaged (plugins"
    )


PAGE = Path(__file__).parents[2] / "docs" / "plugins.md"


def test_the_examples_of_the_page_run(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    file, python, laws = re.findall(r"^```python\n(.*?)^```", PAGE.read_text(), re.M | re.S)
    Path("my_parts.py").write_text(file)
    there: dict[str, object] = {}
    exec(python, there)
    assert there["ud"].presets["small_edm"]["what"] == "The preset edm with a narrow network"
    assert f"# {there['ud'].presets['small_edm']['what']!r}" in python
    module = sys.modules[METHODS["midpoint"].__module__]
    exec(laws, vars(module))


def test_the_page_names_every_group():
    groups = re.findall(r"^\| `(\w+)` \|", PAGE.read_text(), re.M)
    assert set(groups) == set(plugged.GROUPS)
