"""`cli("train", "digits", ...)`: the command line within this process, as exit code,
standard output and error.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from copy import deepcopy
from dataclasses import dataclass
from typing import Any

import pytest
import torch
from cyclopts import App

from undiffuse.cli.main import main
from undiffuse.models.likelihood import Bound


@dataclass(frozen=True)
class Outcome:
    """What a command left behind for whoever called it."""

    code: int
    out: str
    err: str

    def refused(self, *fragments: str) -> bool:
        """Whether it was refused as bad input is: code 2, one sentence on one line that
        holds these fragments.
        """
        assert self.code == 2, (self.code, self.err)
        assert self.out == ""
        assert self.err.count("\n") == 1, self.err
        assert self.err.endswith("\n")
        assert "Traceback" not in self.err
        for fragment in fragments:
            assert fragment in self.err, f"{fragment!r} is not in {self.err!r}"
        return True

    def done(self) -> Outcome:
        """Itself, having succeeded."""
        assert self.code == 0, self.err
        return self


@pytest.fixture(scope="session", autouse=True)
def _own_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Decoded images are kept in a folder of these tests."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("UNDIFFUSE_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture(scope="session", autouse=True)
def _assembled_once() -> Iterator[None]:
    """cyclopts reads the options of a command once in these tests, not in each of a thousand calls.

    A call has a copy of what was read: it is where cyclopts keeps the words of that call.
    """
    assemble, kept = App.assemble_argument_collection, {}

    def copied(app: App, **given: Any) -> Any:
        if given:
            return assemble(app, **given)
        if id(app) not in kept:
            kept[id(app)] = assemble(app)
        shared = [
            part for one in kept[id(app)] for part in (one.parameter, one.field_info, one.hint)
        ]
        return deepcopy(kept[id(app)], {id(part): part for part in shared})

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(App, "assemble_argument_collection", copied)
        yield


@pytest.fixture(scope="module", autouse=True)
def _few_evaluations() -> Iterator[None]:
    """Models draw 8 points of a bound where the command line asks for no number of them."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("undiffuse.models.diffusion.OWN", Bound(evaluations=8))
        yield


Cli = Callable[..., Outcome]


@pytest.fixture
def cli(capsys: pytest.CaptureFixture[str]) -> Cli:
    torch.set_num_threads(1)

    def call(*words: object) -> Outcome:
        capsys.readouterr()
        code = main([str(word) for word in words])
        captured = capsys.readouterr()
        return Outcome(code, captured.out, captured.err)

    return call
