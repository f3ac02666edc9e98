"""Training: one `fit` for every family, and the run directory that it leaves behind."""

from undiffuse.training.fit import Result, fit

__all__ = ["Result", "fit"]
