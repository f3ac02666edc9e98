"""Sources and transforms: anything a person has -> tensors at unit scale, and back.

    load(source) -> Data          rows, labels, a held-out split, the transform, the form that samples come back in
    restore(config) -> (transform, form, classes)     from a run's config.json, without the data
    conform(source, config) -> Conformed              new rows in the type that a run stores its own in

A reader turns one kind of source into `Loaded`; `Data` makes the split and the transform from that. A transform is
how rows are modelled, a form is how they are shown and written.
"""

from undiffuse.data.conform import conform
from undiffuse.data.conformed import Conformed
from undiffuse.data.load import load, restore
from undiffuse.data.loaded import Loaded, Progress, Rows
from undiffuse.data.source import Data

__all__ = ["Conformed", "Data", "Loaded", "Progress", "Rows", "conform", "load", "restore"]
