"""The options of all verbs: help, ranges, defaults, and the one sentence that each mistake gets."""

from __future__ import annotations

import dataclasses
import inspect
import math
import re
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, get_args, get_origin

import numpy as np
import pytest
from annotated_types import Ge, Gt, Le, Lt, Predicate
from typing_extensions import Doc

import undiffuse.data
from undiffuse import options
from undiffuse.cli.app import VERBS
from undiffuse.cli.verb import typed_as
from undiffuse.declared import (
    Option,
    checked,
    choices,
    conflicts,
    options_of,
    with_defaults,
    written,
)
from undiffuse.diffusion import BETAS, METHODS, target
from undiffuse.diffusion.objectives import Hybrid
from undiffuse.errors import InputError
from undiffuse.models import PRESETS, presets
from undiffuse.models.diffusion import PUBLISHED
from undiffuse.models.likelihood import HOW, Bound, Density, Weighted
from undiffuse.models.vae import DRAWS
from undiffuse.nn import FLOWS, NETWORKS
from undiffuse.options import ModelOptions, PresetOptions, TrainingOptions
from undiffuse.training.loggers import LOGGERS

Names = tuple[str, ...]
WIDEST = 12**-0.5  # a uniform average over the whole run


def leaves(kind: type, within: Names = ()) -> Iterator[tuple[Names, Option]]:
    """Every single option of a dataclass, those of its groups too."""
    for name, option in options_of(kind).items():
        if option.group is None:
            yield (*within, name), option
        else:
            yield from leaves(option.group, (*within, name))


ALL = [(verb, names, option) for verb in VERBS for names, option in leaves(verb.kind)]
IDS = [f"{verb.name} {typed_as(names)}" for verb, names, _ in ALL]


def tree(names: Names, value: Any) -> dict[str, Any]:
    """{"model": {"width": 8}} for ("model", "width")."""
    return {names[0]: value if len(names) == 1 else tree(names[1:], value)}


# --- what a help line says


def law_of_help(option: Option) -> None:
    """One sentence that stands alone and says the default that the code has."""
    said, default = option.help, option.default
    assert re.fullmatch(r"[A-Z][^{}]*\.", said), said
    assert "  " not in said
    if default is not dataclasses.MISSING and default is not None and default is not False:
        assert f"default {written(default)}" in said, said
    for number in re.findall(r"default (-?\d[\d.e-]*\b)", said):
        allowed = {written(default), "0"} if option.name == "probes" else {written(default)}
        assert default is None or number in allowed, said


@pytest.mark.parametrize(("verb", "names", "option"), ALL, ids=IDS)
def test_a_help_line_says_the_default_of_the_code(verb, names: Names, option: Option) -> None:
    law_of_help(option)


PAGE = (Path(__file__).parents[2] / "docs" / "cli.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("verb", VERBS, ids=lambda verb: verb.name)
def test_the_page_on_the_command_line_says_what_the_help_says(verb) -> None:
    """And with it every default, which is decided once and published: `make docs` writes it."""
    (section,) = re.findall(rf"^## undiffuse {verb.name}\n(.*?)(?=^## |\Z)", PAGE, re.M | re.S)
    said = " ".join(section.replace("│", " ").split())
    for names, option in leaves(verb.kind):
        assert f"{typed_as(names)} " in said
        assert option.help in said, "run `make docs`"


@pytest.mark.parametrize(
    "text", ["Steps (default 3).", "Steps.", "steps (default {default}).", "Of steps (2)"]
)
def test_a_help_line_that_is_wrong_is_seen(text: str) -> None:
    @dataclass(frozen=True, kw_only=True)
    class Wrong:
        steps: int = 2

    Wrong.__annotations__["steps"] = Annotated[int, Doc(text)]
    with pytest.raises(AssertionError):
        law_of_help(options_of(Wrong)["steps"])


def test_every_option_of_a_verb_is_typed_in_a_test() -> None:
    """An option that no test types may change nothing; those of training are held below.

    How data are read is declared and read once for all commands: typed for one is typed for all.
    """
    shared = ("data", "condition")
    pages = [
        page.read_text()
        for page in Path(__file__).parent.glob("*.py")
        if page.name != Path(__file__).name
    ]
    untyped = [
        f"{verb.name} {typed_as(names)}"
        for verb, names, _ in ALL
        if names[0] not in ("training", "model") and names[0] not in options_of(PresetOptions)
        if not any(
            re.search(rf"{typed_as(names)}(?![\w-])", page)
            and (f'"{verb.name}' in page or names[0] in shared)
            for page in pages
        )
    ]
    assert not untyped


# --- ranges


def out_of_range(hint: Any) -> list[Any]:
    """Values of the right type, one beyond each of its limits."""
    if get_origin(hint) is not Annotated or choices(hint):
        return []
    base, *limits = get_args(hint)
    step: Any = 1 if base is int else 1e-3
    beyond = {
        Ge: lambda limit: limit.ge - step,
        Gt: lambda limit: limit.gt,
        Le: lambda limit: limit.le + step,
        Lt: lambda limit: limit.lt,
        Predicate: lambda limit: -1.0,
    }
    return [base(beyond[type(limit)](limit)) for limit in limits]


RANGED = [
    (verb, names, bad)
    for verb, names, option in ALL
    for bad in (*out_of_range(option.type), *(["none"] if option.type in (int, float) else []))
]


@pytest.mark.parametrize(
    ("verb", "names", "bad"), RANGED, ids=[f"{v.name} {typed_as(n)} {b}" for v, n, b in RANGED]
)
def test_out_of_range_gets_the_same_sentence_in_python_and_on_the_command_line(
    cli, verb, names: Names, bad: Any
) -> None:
    with pytest.raises(InputError) as refused:
        checked(verb.kind, tree(names, bad))
    name, said = ".".join(names), str(refused.value)
    assert said.startswith(f"{name} {written(bad)}: must be ")
    outcome = cli(verb.name, *["x", "y"][: verb.usage.count(" --") + 1], typed_as(names), bad)
    assert outcome.refused(
        said.replace(name, typed_as(names), 1).replace(written(bad), str(bad), 1)
    )


def test_the_limits_themselves_are_in_range() -> None:
    for verb, names, option in ALL:
        if get_origin(option.type) is Annotated:
            base, *limits = get_args(option.type)
            for limit in limits:
                if isinstance(limit, Ge | Le):
                    bound = base(limit.ge if isinstance(limit, Ge) else limit.le)
                    assert checked(verb.kind, tree(names, bound)) == tree(names, bound)
    for good in (0.0, 1e-3, WIDEST):
        assert checked(TrainingOptions, {"averaging": good}) == {"averaging": good}
    for bad in (9e-4, WIDEST + 1e-6, math.nan):
        with pytest.raises(InputError, match=r"averaging .*: must be 0, or a share of the run"):
            checked(TrainingOptions, {"averaging": bad})


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"stepz": 3}, "options: stepz: no such option. Did you mean steps?"),
        ({"steps": 3, "budget": "5m"}, "steps and budget: these exclude each other"),
        ({"steps": True}, "steps true: must be a whole number of at least 1."),
        ({"steps": 3.0}, "steps 3: must be a whole number of at least 1."),
        ({"lr": "0.1"}, "lr 0.1: must be a number above 0."),
        ({"compile": 1}, "compile 1: must be true or false."),
        ({"precision": "float23"}, "precision float23: no such precision. Did you mean float32"),
    ],
)
def test_what_python_gives_is_taken_as_it_is(values: dict[str, Any], said: str) -> None:
    with pytest.raises(InputError, match=re.escape(said)):
        checked(TrainingOptions, values)


@pytest.mark.parametrize(
    ("kind", "name", "value", "said"),
    [
        (
            options.DataOptions,
            "size",
            0.5,
            "size 0.5: must be a whole number of at least 1, or two whole numbers of at least 1, "
            "such as 1,2.",
        ),
        (options.CompareOptions, "presets", 3, "presets 3: must be names separated by commas."),
        (
            options.TrainOptions,
            "budget",
            True,
            "budget true: must be text, or a number.",
        ),
        (
            options.TrainOptions,
            "model",
            8,
            "model 8: must be a table of options.",
        ),
    ],
)
def test_what_is_wanted_is_said_in_words(kind: type, name: str, value: Any, said: str) -> None:
    with pytest.raises(InputError) as refused:
        checked(kind, {name: value})
    assert str(refused.value) == said


PAIRS = [(verb.kind, pair) for verb in VERBS for pair in conflicts(verb.kind)]


@pytest.mark.parametrize(("kind", "pair"), PAIRS, ids=lambda part: str(part))
def test_two_options_exclude_each_other_where_both_are_given(kind: type, pair: Names) -> None:
    """A false switch is not given; a number that is 0 is."""

    def given(name: str) -> Any:
        for value in (0.0, 0.5, 1, True, "x"):
            with suppress(InputError):
                return checked(kind, {name: value})[name]
        raise AssertionError(f"no value of {name}")

    one, other = pair
    said = f"{one} and {other}: these exclude each other; leave one of them out."
    with pytest.raises(InputError, match=f"^{re.escape(said)}$"):
        checked(kind, {one: given(one), other: given(other)})
    for name, left in ((one, other), (other, one)):
        unless = False if options_of(kind)[left].type is bool else None
        found = checked(kind, {name: given(name), left: unless})
        assert found[name] == given(name)
        assert found.get(left) in (None, False)


def test_a_list_becomes_a_tuple_none_is_not_given_and_the_rest_is_the_default() -> None:
    given = checked(options.TrainOptions, {"out": "r", "seed": None, "model": {"attention": [1]}})
    assert given == {"out": "r", "model": {"attention": (1,)}}
    whole = with_defaults(options.TrainOptions, given)
    assert (whole.seed, whole.preset, whole.model) == (0, "edm", ModelOptions(attention=(1,)))
    with pytest.raises(InputError, match="out: missing; file to write"):
        with_defaults(options.ScoreOptions, {})


@pytest.mark.parametrize("verb", VERBS, ids=lambda verb: verb.name)
def test_an_object_of_options_has_the_same_defaults_however_it_is_made(verb) -> None:
    needed = {name: "x" for name, option in options_of(verb.kind).items() if option.required}
    assert verb.kind(**needed) == with_defaults(verb.kind, needed)


# --- the names, words and defaults of the library


def words(option: Option) -> set[str]:
    """The words of an option that is one of several."""
    assert choices(option.type)
    return set(choices(option.type))


def test_the_words_are_those_of_the_library() -> None:
    sample, train = options_of(options.SampleOptions), options_of(options.TrainOptions)
    assert words(sample["method"]) == {PUBLISHED, *METHODS, *DRAWS}
    assert words(options_of(options.ScoreOptions)["method"]) == set(HOW)
    assert words(train["preset"]) == set(PRESETS)
    assert words(options_of(ModelOptions)["kind"]) == {*NETWORKS, *FLOWS}
    assert all(name in train["log"].help for name in LOGGERS)
    for name, parts in presets.WORDS.items():
        assert words(train[name]) == set(parts)


def test_the_defaults_are_those_of_the_library() -> None:
    score = options_of(options.ScoreOptions)
    assert score["evaluations"].default == Bound().evaluations == Weighted().draws
    assert (score["tolerance"].default, score["probes"].default) == (
        Density().tolerance,
        Density().probes,
    )
    load = inspect.signature(undiffuse.data.load).parameters
    reading = {*options_of(options.DataOptions), *options_of(options.ConditionOptions)}
    assert reading == set(load) - {"source", "seed", "progress"}
    for name, option in options_of(PresetOptions).items():
        for preset in PRESETS:
            own = inspect.signature(PRESETS[preset]).parameters.get(name)
            if own is not None and (preset, name) != ("vdm", "levels"):  # continuous, as it says
                default = presets.WORDS.get(name, {}).get(option.default, option.default)
                assert own.default == default, f"{preset}({name}={own.default})"


# --- presets and networks


ROWS = {"vector": (40, 3), "image": (40, 8, 8)}


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """Rows of each shape, read once."""
    rng = np.random.default_rng(0)
    return {name: undiffuse.data.load(rng.normal(size=shape)) for name, shape in ROWS.items()}


@pytest.fixture
def train(cli, data: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """`train(rows, *words)`: what was refused, or the model that would have been trained."""
    made: list[Any] = []

    def fit(model: Any, *_: Any, **__: Any) -> None:
        made.append(model)
        raise KeyboardInterrupt

    monkeypatch.setattr("undiffuse.training.fit", fit)
    monkeypatch.setattr("undiffuse.data.load", lambda source, **_: data[source])

    def call(rows: str, *typed: Any) -> Any:
        outcome = cli("train", rows, "--out", tmp_path / "r", "--quiet", *typed)
        if outcome.code != 130:
            return outcome.err.strip()
        assert made, "interrupted from outside, before it had a model"
        return made.pop()

    return call


def in_python(preset: str, rows: Any, **keywords: Any) -> Any:
    """The model, or what was refused."""
    try:
        return PRESETS[preset](rows, **keywords)
    except InputError as refused:
        return str(refused)


def law_of_dimensions() -> None:
    """The dimensions on the command line are those of all networks of all presets."""
    sized = {
        name for preset in PRESETS for own in presets.dimensions(preset).values() for name in own
    }
    assert set(options_of(ModelOptions)) == {"kind"} | sized


def test_every_dimension_of_every_network_can_be_typed() -> None:
    law_of_dimensions()
    kinds = {kind for preset in ("edm", "flow") for kind in presets.dimensions(preset)}
    assert words(options_of(ModelOptions)["kind"]) == kinds


def test_a_dimension_that_cannot_be_typed_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    from undiffuse.nn import MLP, NETWORKS

    class Wider(MLP):
        def __init__(self, *, shape: Any, girth: int = 3, **more: Any) -> None:
            super().__init__(shape=shape, **more)

    monkeypatch.setitem(NETWORKS, "mlp", Wider)
    with pytest.raises(AssertionError):
        law_of_dimensions()


IMAGE_NETWORKS = ("unet", "transformer", "coupling", "conv_encoder", "discriminator")
# each dimension of each network, by the first preset that has it; one of each preset
DIMENSIONS = {
    (kind, name): preset
    for preset in reversed(PRESETS)
    for kind, own in presets.dimensions(preset).items()
    for name in own
}
WIDTHS = [(preset, next(iter(presets.dimensions(preset))), "width") for preset in PRESETS]
CANDIDATES = (2, (1, 2), (0,), 0.5, 0, -1, (-1,), 2.0)  # some are good, some are bad


@pytest.mark.parametrize(
    ("preset", "kind", "name"),
    dict.fromkeys([(preset, *names) for names, preset in DIMENSIONS.items()] + WIDTHS),
)
def test_a_dimension_is_taken_and_refused_alike_in_python_and_on_the_command_line(
    train, data: dict[str, Any], preset: str, kind: str, name: str
) -> None:
    rows = "image" if kind in IMAGE_NETWORKS else "vector"
    chosen = {"kind": kind} if kind in words(options_of(ModelOptions)["kind"]) else {}
    took = refused = 0
    for candidate in CANDIDATES:
        try:
            value = checked(ModelOptions, {name: candidate})[name]
        except InputError:
            continue  # of another type
        if refused and took:
            return
        expected = in_python(preset, data[rows], **chosen, **{name: value})
        typed = ["--preset", preset, typed_as(("model", name)), written(value)]
        found = train(rows, *typed, *(["--model.kind", kind] if chosen else []))
        if isinstance(expected, str):
            refused += 1
            assert found == expected
        else:
            took += 1
            assert found.config() == expected.config(), found
    assert (took > 0, refused > 0) == (True, True), f"{took} taken, {refused} refused"


OTHER = {"levels": 7, "latent": 3, "sigma": 0.5, "gaps": 0.3}


KEYWORDS = {preset: presets.options(preset) for preset in PRESETS}
TAKEN = [(preset, name) for preset, names in KEYWORDS.items() for name in names]
FOREIGN = {
    preset: sorted({*options_of(PresetOptions)} - {*own}) for preset, own in KEYWORDS.items()
}
REFUSED = {  # one by each preset, and each by one
    *((preset, names[i % len(names)]) for i, (preset, names) in enumerate(FOREIGN.items())),
    *(
        (next(preset for preset, names in FOREIGN.items() if name in names), name)
        for name in options_of(PresetOptions)
    ),
}


@pytest.mark.parametrize(("preset", "name"), [*TAKEN, *sorted(REFUSED)])
def test_a_keyword_is_taken_and_refused_alike_in_python_and_on_the_command_line(
    train, data: dict[str, Any], preset: str, name: str
) -> None:
    option, mine = options_of(PresetOptions)[name], name in presets.options(preset)
    some = dict.fromkeys(get_args(option.type)[i] for i in (0, -1)) if name not in OTHER else ()
    values = [OTHER[name], -OTHER[name]] if name in OTHER else [*some, "none"]
    for value in values if mine else values[:1]:
        expected = in_python(preset, data["vector"], width=8, **{name: value})
        found = train("vector", "--preset", preset, typed_as((name,)), value, "--model.width", 8)
        if isinstance(expected, str):
            assert found.removeprefix("--") == expected
        else:
            assert mine
            assert found.config() == expected.config()


def test_keywords_reach_the_run_and_resuming_keeps_them(cli, tmp_path: Path) -> None:
    typed = "--preset ddpm --levels 10 --prediction v --betas cosine --loss hybrid"
    small = "--variance learned --model.width 8 --model.depth 1 --device cpu --quiet"
    run = tmp_path / "r"
    cli(*f"train moons --out {run} --steps 2 {typed} {small}".split()).done()
    cli(*f"train moons --out {run} --resume --steps 3 --quiet".split()).done()
    model = undiffuse.open(run)
    assert (model.target, type(model.objective)) == (target.v, Hybrid)
    assert (model.schedule.betas, model.network.out) == (BETAS["cosine"](10), 2)
