"""Sources and transforms: anything a person has -> tensors at unit scale, and back.

    load(source) -> Data             rows, labels, a split, the transform, the form
    conform(source, config)          new rows in the type that a run stores its own in
    complete(source, config)         rows of which some entries are known
    restore(config)                  (transform, form, classes) of a run, without its data

A `Kind` reads one kind of data into `Loaded`; `Data` makes the split and the transform from that. A
transform is how rows are modelled, a form is how they are presented and written.
"""

from undiffuse.data.conformed import Conformed, Problem
from undiffuse.data.kind import KINDS, Kind
from undiffuse.data.load import complete, conform, load, restore
from undiffuse.data.rows import Loaded
from undiffuse.data.source import Data
from undiffuse.interfaces import PartialRows, Progress, Rows

__all__ = [
    "KINDS",
    "Conformed",
    "Data",
    "Kind",
    "Loaded",
    "PartialRows",
    "Problem",
    "Progress",
    "Rows",
    "complete",
    "conform",
    "load",
    "restore",
]
