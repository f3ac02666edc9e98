"""The names of the presets' choices: the same on the command line and in the library, and none that leads nowhere."""

from __future__ import annotations

from typing import get_args

import pytest

from undiffuse.cli import options
from undiffuse.cli.choices import CHOICES, NAMES, keywords, taken
from undiffuse.errors import InputError
from undiffuse.models import PRESETS


@pytest.mark.parametrize("name", CHOICES)
def test_every_name_that_can_be_typed_stands_for_something(name: str) -> None:
    assert set(get_args(getattr(options, name.capitalize()))) == set(CHOICES[name])


def test_every_option_is_taken_by_some_preset_and_every_preset_s_can_be_typed() -> None:
    assert set(NAMES) == {name for preset in PRESETS for name in taken(preset)}


@pytest.mark.parametrize("name", CHOICES)
def test_every_choice_makes_a_model(name: str) -> None:
    preset = next(preset for preset in PRESETS if name in taken(preset))
    for word in CHOICES[name]:
        also = (
            {"variance": "learned"}
            if word == "hybrid"
            else {"loss": "vlb"}
            if name == "variance"
            else {}
        )
        assert PRESETS[preset](**keywords(preset, {name: word, **also})) is not None


def test_an_option_that_a_preset_does_not_take_is_refused() -> None:
    with pytest.raises(
        InputError,
        match=r"--path: the preset ddpm has no such choice; it takes --prediction, --var",
    ):
        keywords("ddpm", {"path": "linear"})
    with pytest.raises(
        InputError,
        match="--levels: the preset edm has no such choice; it has no options of its own",
    ):
        keywords("edm", {"levels": 10})


def test_choices_reach_the_run_and_resuming_keeps_them(cli, tmp_path) -> None:
    words = (
        "--preset ddpm --levels 10 --prediction v --betas cosine --loss hybrid --variance learned"
    )
    small = "--model.width 8 --model.depth 1 --quiet"
    cli(*f"train moons --out {tmp_path}/r --steps 2 {words} {small}".split()).done()
    cli(*f"train moons --out {tmp_path}/r --resume --steps 3 --quiet".split()).done()
    import undiffuse as ud

    model = ud.open(tmp_path / "r")
    assert (type(model.target).__name__, type(model.objective).__name__) == ("V", "Hybrid")
    assert (len(model.schedule.betas), model.network.out) == (10, 2)
