"""Loggers: a CSV file in the run, and the local dashboard of trackio."""

import csv
from collections.abc import Mapping
from importlib import import_module
from pathlib import Path
from typing import Any

import undiffuse as ud


class CSV(ud.Logger):
    """Writes numbers.csv into the run: step, name, value."""

    def start(self, folder: Path | None, config: Mapping[str, Any]) -> None:
        """Open the file."""
        self.file = ((folder or Path()) / "numbers.csv").open("a", newline="")
        self.rows = csv.writer(self.file)
        if not self.file.tell():  # a run that is gone on with has it
            self.rows.writerow(["step", "name", "value"])

    def numbers(self, step: int, values: Mapping[str, float]) -> None:
        """Write a line for each number."""
        self.rows.writerows([step, name, value] for name, value in values.items())

    def picture(self, step: int, name: str, file: Path) -> None:
        """Write where the picture is."""
        self.rows.writerow([step, name, file])

    sound = page = picture  # likewise

    def close(self) -> None:
        """Close the file."""
        self.file.close()


class Trackio(ud.Logger):
    """Logs to trackio, project "undiffuse"; `trackio show` opens the dashboard."""

    package = "trackio"

    def start(self, folder: Path | None, config: Mapping[str, Any]) -> None:
        """Begin a run of the folder's name."""
        self.trackio: Any = import_module("trackio")
        name = None if folder is None else folder.name
        self.trackio.init(project="undiffuse", name=name, config=dict(config))

    def numbers(self, step: int, values: Mapping[str, float]) -> None:
        """Log numbers."""
        self.trackio.log(dict(values), step=step)

    def picture(self, step: int, name: str, file: Path) -> None:
        """Log an image."""
        self.trackio.log({name: self.trackio.Image(str(file))}, step=step)

    def sound(self, step: int, name: str, file: Path) -> None:
        """Log a recording."""
        self.trackio.log({name: self.trackio.Audio(str(file))}, step=step)

    def page(self, step: int, name: str, file: Path) -> None:
        """Log a page."""
        self.trackio.log({name: self.trackio.Html(file)}, step=step)

    def close(self) -> None:
        """Finish the run."""
        self.trackio.finish()
