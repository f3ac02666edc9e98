"""The report of one run, or of several side by side, as one HTML document that needs nothing else.

Both functions are pure: they see plain data, as report.json and comparison.json hold it, and PNGs.
A section shows what the data hold; none knows families or kinds of data.
"""

from undiffuse.evaluation.report.page import render, render_comparison

__all__ = ["render", "render_comparison"]
