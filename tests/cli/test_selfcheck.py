"""`undiffuse selfcheck`: every law holds here, a law that fails is seen, and the report is a
table or one object.
"""

from __future__ import annotations

import json
import math

import pytest

from undiffuse import selfcheck
from undiffuse.cli.main import main


@pytest.mark.slow
def test_every_law_holds_and_is_reported(capsys):
    assert main(["selfcheck", "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert report["holds"] is True
    assert [law["law"] for law in report["laws"]] == list(selfcheck.LAWS)
    assert all(law["error"] <= law["bound"] for law in report["laws"])


@pytest.mark.parametrize("error", [2.0, math.inf, math.nan])
def test_a_law_that_fails_is_seen(monkeypatch, capsys, error):
    monkeypatch.setattr(
        selfcheck, "LAWS", {"one is two": (1.0, lambda: error), "one is one": (1.0, lambda: 0.0)}
    )
    assert main(["selfcheck", "--quiet"]) == 1
    assert capsys.readouterr().out == ""
    assert main(["selfcheck"]) == 1
    titles, failing, holding = capsys.readouterr().out.splitlines()
    assert titles.split() == ["law", "error", "bound"]
    assert failing.startswith("one is two")
    assert failing.rstrip().endswith("FAILS")
    assert holding.split() == ["one", "is", "one", "0.0e+00", "1.0e+00", "holds"]
