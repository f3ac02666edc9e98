"""What a reader gets: a report of one run, or of several side by side, as one HTML document that needs nothing else.

render(facts, pictures)               facts as in report.json; pictures: name -> PNG
render_comparison(facts, pictures)    facts as in comparison.json; pictures: preset -> PNG of its samples

Both are pure functions of plain data. A section shows what the facts hold: none knows models or kinds of data.
"""

from undiffuse.evaluation.report.comparison import render_comparison
from undiffuse.evaluation.report.single import render

__all__ = ["render", "render_comparison"]
