"""At eye level: wrong calls get a sentence, objects show themselves, work shows progress."""

from __future__ import annotations

import base64
import inspect
import io
import re
import sys
import types
from html.parser import HTMLParser

import numpy as np
import pytest
from PIL import Image

import undiffuse as ud
from undiffuse.called import called
from undiffuse.diffusion import METHODS
from undiffuse.errors import InputError
from undiffuse.models import PRESETS
from undiffuse.notebook import NotebookBar, progress_bar
from undiffuse.run import Run
from undiffuse.shown import Table, card

ROWS = np.random.default_rng(0).normal(size=(200, 3))


@pytest.fixture(scope="module")
def model():
    return ud.edm(width=8).fit(ROWS, steps=3)


@pytest.fixture(scope="module")
def run(model, tmp_path_factory):
    return Run(model.save(tmp_path_factory.mktemp("run") / "r"))


WRONG = {
    "m.sample('3')": "sample: n 3: must be a whole number",
    "m.sample(3, seed='a')": "seed a: must be a whole number",
    "m.sample(3, random_state=1)": "random_state: no such option. Did you mean seed?",
    "m.sample(n_samples=3)": "n_samples: no such argument",
    "m.sample()": "sample: missing n; give it",
    "m.sample(3, 4, 5)": "2 arguments|3 arguments",
    "m.log_prob(ROWS[:2], hwo=1)": "hwo: no such argument. Did you mean how?",
    "m.log_prob(ROWS[:2], batch=1.5)": "batch 1.5: must be a whole number",
    "m.complete(ROWS[:1], n=True)": "n true: must be a whole number",
    "m.fit(ROWS, step=3)": "step: no such option. Did you mean steps?",
    "ud.edm(widht=3)": "widht: no such option. Did you mean width?",
    "ud.edm(width='a')": "edm: width a: must be a whole number",
    "ud.edm(dropout='a')": "edm: dropout a: must be a number",
    "ud.load(ROWS, axis='NC')": "axis: no such argument. Did you mean axes?",
    "ud.load(ROWS, seed='a')": "seed a: must be a whole number",
    "ud.load()": "load: missing source; give it",
    "ud.open()": "open: missing path",
    "ud.compare(ROWS, ['edm'], 'x')": "3 arguments without a name",
    "ud.compare(ROWS, ['emd'])": "emd: no such preset. Did you mean edm?",
    "ud.evaluate(m, ROWS, stepz=3)": "stepz: no such option. Did you mean steps?",
    "ud.score(m, ROWS, alram=0.1)": "alram: no such option. Did you mean alarm?",
    "ud.score(m, ROWS, held_out=ROWS, no_calibration=True)": "leave one of them out",
    "ud.sample(m)": "sample: missing n",
    "ud.sample(3, 4)": "an int is no model",
    "ud.load(source=ROWS, held_out='x')": "held_out x: must be a number or a whole number",
}


@pytest.mark.parametrize("call", WRONG)
def test_a_wrong_call_is_refused_in_a_sentence(model, call):
    with pytest.raises(InputError) as caught:
        eval(call, {"m": model, "ud": ud, "ROWS": ROWS})
    assert re.search(WRONG[call], str(caught.value))


def test_numpy_numbers_are_numbers(model):
    assert model.sample(np.int64(2), seed=np.uint8(3)).shape == (2, 3)
    width = ud.edm(width=np.int64(8)).sizes["width"]
    assert width == 8
    assert type(width) is int  # as config.json has it


def test_a_checked_call_is_the_function_with_its_signature():
    def draw(n: int, *rest: int, seed: int | None = None, **more: float) -> tuple[object, ...]:
        """Draw."""
        return n, rest, seed, more

    checked = called(draw)
    assert checked(1, 2, 3, seed=None, x=0.5) == (1, (2, 3), None, {"x": 0.5})
    assert inspect.signature(checked) == inspect.signature(draw)
    assert checked.__doc__ == "Draw."
    with pytest.raises(InputError, match="n is given twice"):
        called(lambda n, m=0: n)(1, 2, n=3)


class Balanced(HTMLParser):
    """Raises AssertionError for tags that do not match; counts pictures."""

    def __init__(self) -> None:
        super().__init__()
        self.open, self.pictures, self.text = [], [], ""

    def handle_starttag(self, tag, attrs):
        if tag == "img":
            data = dict(attrs)["src"].partition("base64,")[2]
            self.pictures.append(Image.open(io.BytesIO(base64.b64decode(data))))
        else:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text += data


def read_html(shown):
    parser = Balanced()
    parser.feed(shown._repr_html_())
    assert not parser.open
    return parser


def test_each_object_shows_itself_in_a_line_and_in_a_notebook(model, run):
    data = ud.load("digits")
    report = ud.evaluate(model, ROWS, n=50, rows=20)
    report.facts["verdict"]["sentence"] += " <b>&"  # whatever text there is, it is escaped
    scores = ud.score(model, ROWS[:20])
    size = f"{model.parameter_count:,} parameters"
    mean = f"mean {scores['log_likelihood'].mean():.4g} nats"
    shown = [
        (data, ["1,617 rows to train on", "180 held out", "8 x 8", "10 classes"]),
        (model, ["edm", "rows of 3", size, "trained"]),
        (ud.edm(), ["edm", "no data yet", "not trained"]),
        (run, ["edm on data", "3 steps", str(run.path)]),
        (report, ["the model", "50 samples"]),
        (scores, ["20 rows", mean]),
    ]
    for one, words in shown:
        assert "\n" not in repr(one)
        for word in words:
            assert word in repr(one)
        assert repr(one).split("(")[0] in read_html(one).text
    assert " <b>&" in read_html(report).text
    assert len(read_html(report).pictures) == 2
    least = np.argsort(scores["log_likelihood"])[:10]
    for i in least:
        assert f"{scores['log_likelihood'][i].item():.6g}" in read_html(scores).text
    (picture,) = read_html(data).pictures
    assert np.array(picture).std() > 10  # digits, and not an empty canvas


def test_scores_in_memory_are_those_of_log_prob_and_of_a_file(model, run, tmp_path):
    scores = ud.score(model, ROWS[:20])
    assert scores["log_likelihood"] == pytest.approx(model.log_prob(ROWS[:20]), rel=1e-12)
    assert "quantile" not in scores.columns  # its training rows are not kept
    own = ud.score(run, ROWS[:20], held_out=ROWS, alarm=0.1, out=tmp_path / "s.csv")
    assert (own["log_likelihood"] == scores["log_likelihood"]).all()
    ranks = np.array([(model.log_prob(ROWS) <= nats).mean() for nats in own["log_likelihood"]])
    assert np.abs(own["quantile"] - ranks).max() < 0.15  # noise of their own
    assert own.summary.alarms == own["alarm"].sum()
    assert ((own["quantile"] <= 0.1) == own["alarm"]).all()
    assert len((tmp_path / "s.csv").read_text().splitlines()) == 21
    with pytest.raises(InputError, match="already exists"):
        ud.score(run, ROWS[:20], held_out=ROWS, out=tmp_path / "s.csv")


def test_a_comparison_in_memory_gives_the_models(tmp_path):
    found = ud.compare(ROWS, ["vae", "gan"], budget=0.3, n=50, rows=20, seed=1)
    assert set(found.models) == {"vae", "gan"}
    assert found.models["gan"].sample(4).shape == (4, 3)
    page = read_html(found)
    assert "vae done, gan done" in repr(found)
    value = next(row for row in found.facts["table"] if row["preset"] == "gan")["frechet"]["value"]
    assert f"{value:.6g}" in page.text
    assert {f"{name}" for name in found.pictures} >= {"vae", "gan"}


def test_samples_of_a_run_a_folder_and_a_model_are_the_same(model, run):
    expected = model.sample(4, seed=2)
    for what in (model, run, run.path, str(run.path)):
        assert (ud.sample(what, 4, seed=2) == expected).all()


def test_the_tables_name_each_preset_and_each_method_once():
    assert ud.presets.names == tuple(PRESETS)
    assert ud.methods.names == tuple(METHODS)
    for name, make in PRESETS.items():
        assert (ud.presets[name]["likelihood"] == "none") == bool(make().no_density)
    for name, step in METHODS.items():
        assert ud.methods[name]["random"] == (step.order is None)
    lines = repr(ud.methods).splitlines()
    assert len(lines) == 1 + len(METHODS)
    assert read_html(ud.methods).text.count("Heun") == 1
    with pytest.raises(KeyError, match="there are"):
        ud.presets["emd"]
    assert Table(lambda: [{"a": 1, "b": None}])[0]["b"] is None


def test_a_card_leaves_out_what_is_empty_and_escapes_the_rest():
    text = card("<t>", {"kept": 1000, "gone": "", "none": None}, tables=[[{"x": "<y>"}]])
    assert "1,000" in text
    assert "gone" not in text
    assert "none" not in text
    assert "&lt;t&gt;" in text
    assert "&lt;y&gt;" in text


class Handle:
    def __init__(self) -> None:
        self.shown = []

    def update(self, html):
        self.shown.append(html)


def test_a_notebook_shows_progress_and_what_is_said(monkeypatch):
    """In a stand-in for IPython: one line that is updated, at most twice a second."""
    assert progress_bar() is None  # these tests are no notebook
    handles, said = [], []

    def display(shown, display_id=False):
        if not display_id:
            said.append(shown._repr_html_())
            return None
        handles.append(Handle())
        handles[-1].update(shown)
        return handles[-1]

    shell = type("ZMQInteractiveShell", (), {})()
    python = types.SimpleNamespace(get_ipython=lambda: shell)
    monkeypatch.setitem(sys.modules, "IPython", python)
    monkeypatch.setitem(sys.modules, "IPython.display", types.SimpleNamespace(display=display))
    monkeypatch.setattr("undiffuse.notebook.PATIENCE", 0.0)
    monkeypatch.setattr("undiffuse.notebook.EVERY", 0.0)
    made = progress_bar()
    assert isinstance(made, NotebookBar)
    for done in range(5):
        made(done + 1, 5, "drawing")
    assert len(handles) == 1
    assert "value='1.0000'" in handles[0].shown[-1]._repr_html_()
    assert "drawing: 5 of 5" in handles[0].shown[-1]._repr_html_()
    ud.edm(width=8).fit(ROWS, steps=4)
    assert "step 4" in handles[-1].shown[-1]._repr_html_()
    made.event({"event": "end", "said": "1 < 2"})
    assert said[-1] == "1 &lt; 2"
