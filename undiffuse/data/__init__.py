"""Sources and transforms: anything a person has -> tensors at unit scale, and back.

    load(source) -> Data             rows, labels, a split, the transform, the form
    conform(source, config)          new rows in the type that a run stores its own in
    complete(source, config)         rows of which some entries are known
    ask(where, config)               the vectors of conditions that a person writes
    restore(config)                  (transform, form, classes) of a run, without its data

A `Kind` reads one kind of data into `Loaded`; `Data` makes the split and the transform from that. A
transform is how rows are modelled, a form is how they are presented and written.
"""

from undiffuse.data.conditions import Conditions as Conditions
from undiffuse.data.conformed import Conformed as Conformed
from undiffuse.data.conformed import Problem as Problem
from undiffuse.data.kind import KINDS as KINDS
from undiffuse.data.kind import Kind as Kind
from undiffuse.data.load import ask as ask
from undiffuse.data.load import complete as complete
from undiffuse.data.load import conform as conform
from undiffuse.data.load import load as load
from undiffuse.data.load import restore as restore
from undiffuse.data.source import Data as Data
from undiffuse.interfaces import PartialRows as PartialRows
