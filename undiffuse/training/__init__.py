"""Training: one `fit` for every family, and the run directory that it leaves behind."""

from undiffuse.training.checkpoint import Record as Record
from undiffuse.training.checkpoint import save as save
from undiffuse.training.fit import Result as Result
from undiffuse.training.fit import fit as fit
