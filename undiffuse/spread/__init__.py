"""Rows by the million: cut into ranges, each made by whoever is free, and put together.

    rows 0 ... n - 1 -> ranges of whole batches -> one process, torchrun's ranks or Ray's actors
                     -> OUT.part/ (a range is there whole or not at all) -> OUT

A row depends on the seed and its number alone, and the ranges on n and the batch alone: who made
which, and how often the work was interrupted, changes nothing.
"""

from undiffuse.spread.ranges import ResumableFolder, RowRange, ranges_of
from undiffuse.spread.together import Task, make_ranges
