"""The folder of a comparison: what it keeps, so that it can be interrupted at any time and resumed.

comparison-settings.json     the data, the budget and the seed: what the runs depend on
features.safetensors         what rows are compared by, fitted once
runs/PRESET/                 a run like any other, with its own report in it
evaluated/PRESET.json, .png  the settings of an evaluation, and the facts it gave with a checksum;
                             its samples
problems/PRESET.txt          the traceback of a preset that failed
comparison.html, .json       the comparison
"""

from __future__ import annotations

import hashlib
import io
import json
import os
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, final

from PIL import Image

from undiffuse.atomic import atomic_file, contents, remove, write_json
from undiffuse.comparison.facts import comparison_facts
from undiffuse.duration import format_duration
from undiffuse.errors import InputError
from undiffuse.evaluation.features import Features, save_features
from undiffuse.evaluation.report import render_comparison
from undiffuse.lock import holder
from undiffuse.reading import MOST_BYTES, open_regular, read_json, said

SETTINGS = "comparison-settings.json"
FEATURES = "features.safetensors"
OURS = (SETTINGS, FEATURES, "runs", "evaluated", "problems", "comparison.html", "comparison.json")
REAL = "real.png"
RECORDED = {
    "source": str,
    "fingerprint": str,
    "data": dict,
    "budget": int | float,
    "seed": int,
    "features": str | None,
}  # of the settings
Kept = tuple[dict[str, Any], bytes | None, bytes | None]
"""Facts, a picture of samples, one of real rows."""


@final
class ComparisonFolder:
    """The folder of a comparison. Making one changes nothing on the disk; `begin` writes first.

    Raises:
        InputError: for a place that is a file, or that holds other things.
    """

    def __init__(self, out: str | Path, *, overwrite: bool = False) -> None:
        self.given, self.path, self.overwrite = str(out), Path(os.path.expanduser(out)), overwrite
        self.features = self.path / FEATURES
        if self.path.exists() and not self.path.is_dir():
            raise InputError(f"{out}: this is a file; give a folder for the comparison.")
        for name in OURS:
            if (self.path / name).is_symlink():
                raise InputError(f"{out}: its {name} is a link, which is not followed; remove it.")
        if self.path.is_dir() and contents(self.path) and not (self.path / SETTINGS).exists():
            raise InputError(
                f"{out}: the folder holds other files and no comparison; choose another folder."
            )

    def begin(self, settings: Mapping[str, Any], features: str | None) -> None:
        """Record the settings the runs depend on; a change of features discards cached evaluations.

        Args:
            settings: name -> value; a comparison with others is refused, or replaced if allowed.
            features: the name of the features asked for.

        Raises:
            InputError: a comparison with other settings is there, and may not be replaced; one of
                the runs to be replaced is being trained.
        """
        recorded = self._recorded()
        if recorded and self.overwrite:
            for run in (self.path / "runs").glob("*"):
                if who := holder(run):
                    raise InputError(f"{run}: is being trained by {who}; wait for it, or stop it.")
            for name in reversed(OURS):  # the settings last: without them it is no comparison
                remove(self.path / name)
            recorded = {}
        for name, value in settings.items() if recorded else ():
            if recorded.get(name) != value:
                raise InputError(_contradiction(self.given, name, recorded.get(name), value))
        if recorded.get("features") != features:
            self.features.unlink(missing_ok=True)
            remove(self.path / "evaluated")
        write_json(self.path / SETTINGS, {"format": 1, **settings, "features": features})

    def _recorded(self) -> dict[str, Any]:
        file = self.path / SETTINGS
        if not file.exists():
            return {}
        try:
            tree = read_json(file)
            if isinstance(tree, dict):
                tree.setdefault("data", {})  # of comparisons before these options were there
            for name, kind in RECORDED.items():
                if not isinstance(tree, dict) or not isinstance(tree.get(name), kind):
                    raise ValueError(f"its {name} is missing or damaged")
            return tree
        except (OSError, ValueError) as problem:
            raise InputError(
                f"{file}: cannot be read ({said(problem)}); restore it, or choose another folder."
            ) from problem

    def run(self, preset: str) -> Path:
        """Return the folder of this preset's run."""
        return self.path / "runs" / preset

    def begun(self, preset: str) -> bool:
        """Return whether this preset has a run, finished or not."""
        return (self.run(preset) / "config.json").exists()

    def kept(self, preset: str, asked: Mapping[str, Any]) -> Kept | None:
        """Return what an evaluation of this preset with these settings left, if there is one.

        A damaged report or picture is none: the evaluation is done anew.
        """
        with suppress(Exception):  # whatever the comparison makes of a report that is damaged
            tree = read_json(self.path / "evaluated" / f"{preset}.json")
            report = tree["report"]
            if tree["asked"] == dict(asked) and tree["checksum"] == _checksum(report):
                facts = comparison_facts({preset: {"report": report}}, source="", data={})
                render_comparison(facts, {})
                return report, self._picture(f"{preset}.png"), self._picture(REAL)
        return None

    def keep(
        self,
        preset: str,
        asked: Mapping[str, Any],
        facts: Mapping[str, Any],
        samples: bytes | None,
        real: bytes | None,
    ) -> None:
        """Keep the results of an evaluation.

        The facts are written last, so they mean that all is there.
        """
        for name, png in ((f"{preset}.png", samples), (REAL, real)):
            if png is not None:
                with atomic_file(self.path / "evaluated" / name) as temporary:
                    temporary.write_bytes(png)
        tree = {"asked": dict(asked), "checksum": _checksum(facts), "report": dict(facts)}
        write_json(self.path / "evaluated" / f"{preset}.json", tree)
        (self.path / "problems" / f"{preset}.txt").unlink(missing_ok=True)

    def _picture(self, name: str) -> bytes | None:
        file = self.path / "evaluated" / name
        if not file.exists():
            return None
        with os.fdopen(open_regular(file), "rb") as stream:
            content = stream.read(MOST_BYTES)
        with Image.open(io.BytesIO(content)) as picture:
            picture.verify()
        return content

    def keep_features(self, features: Features) -> None:
        """Keep the features, unless they are a function, which no file can hold."""
        with suppress(InputError):
            save_features(features, self.features)

    def note(self, preset: str, text: str) -> str:
        """Write the traceback of a preset that failed; return the file's name in the folder."""
        name = f"problems/{preset}.txt"
        with suppress(InputError), atomic_file(self.path / name) as temporary:
            temporary.write_text(text, encoding="utf-8")
        return name

    def write(self, facts: Mapping[str, Any], pictures: Mapping[str, bytes]) -> None:
        """Write comparison.html and comparison.json."""
        with atomic_file(self.path / "comparison.html") as temporary:
            temporary.write_text(render_comparison(dict(facts), dict(pictures)), encoding="utf-8")
        write_json(self.path / "comparison.json", facts)


def _checksum(report: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(report, sort_keys=True).encode()).hexdigest()


def _contradiction(where: str, name: str, recorded: Any, asked: Any) -> str:
    """The sentence on a comparison that was started with other settings."""
    advice = "choose another folder, or --overwrite to start anew"
    if name == "fingerprint":
        return f"{where}: was started with other data, or they have changed since; {advice}."
    if name == "data":
        return (
            f"{where}: was started with {_said(recorded)} for the data, not {_said(asked)}; give "
            f"the same, {advice}."
        )
    if name == "budget":
        recorded, asked = format_duration(recorded or 0), format_duration(asked)
    return f"{where}: was started with {name} {recorded}, not {asked}; give the same, {advice}."


def _said(reading: Mapping[str, Any]) -> str:
    """How data are read, in words."""
    return ", ".join(f"{name} {value}" for name, value in reading.items()) or "no options"
