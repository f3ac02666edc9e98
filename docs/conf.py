"""How Sphinx builds the site: `make docs`.

The source folder is the repository itself, so that each link between pages is the same on the site
and on a code host. Formulas are code, so no page needs MathJax; nothing is fetched when a page is
opened.
"""

import sys
from pathlib import Path

ROOT = Path(__file__).parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "docs")]

import undiffuse  # noqa: E402 - found by the line above

project = "undiffuse"
author = "The undiffuse authors"
copyright = author
release = version = undiffuse.__version__

root_doc = "docs/index"
include_patterns = [
    "docs/**",
    "benchmarks/README.md",
    "examples/plugin/README.md",
    "README.md",
    "CONTRIBUTING.md",
    "CHANGELOG.md",
    "SECURITY.md",
]
exclude_patterns = [
    ".*",
    "docs/_build",
    "docs/tasks",
    "docs/gallery/**.ipynb",
    "docs/gallery/**.py",
    "docs/gallery/sg_execution_times.rst",
    "runs",
    "demo",
    "dist",
    "tests",
    "undiffuse",
]
extensions = [
    "myst_parser",
    "sphinx.ext.autodoc",
    "sphinx.ext.napoleon",
    "sphinx.ext.viewcode",
    "sphinx_gallery.gen_gallery",
    "building.docstrings",
    "building.executed",
    "building.links",
]
source_suffix = {".md": "markdown", ".rst": "restructuredtext"}
default_role = "code"
nitpicky = False  # annotations name torch's and numpy's types, whose pages are elsewhere

myst_heading_anchors = 6
myst_links_external_new_tab = False

autodoc_member_order = "bysource"
autodoc_typehints = "description"
autodoc_typehints_description_target = "documented"
autodoc_preserve_defaults = True
napoleon_numpy_docstring = False
napoleon_use_rtype = False

sphinx_gallery_conf = {
    "examples_dirs": str(ROOT / "docs" / "tasks"),
    "gallery_dirs": str(ROOT / "docs" / "gallery"),
    "filename_pattern": r"\.py$",
    "capture_repr": ("_repr_html_", "__repr__"),
    "abort_on_example_error": True,
    "show_memory": False,
    "show_signature": False,
    "min_reported_time": 1e9,
    "write_computation_times": False,
    "remove_config_comments": True,
    "within_subsection_order": "FileNameSortKey",
}

html_theme = "furo"
html_title = f"undiffuse {release}"
html_static_path = ["static"]
html_css_files = ["site.css"]
html_extra_path = ["extra"]
html_copy_source = False
html_show_sourcelink = False
html_show_copyright = False
html_show_search_summary = False  # it is fetched, which a browser refuses for files
templates_path = []
pygments_style = "friendly"
pygments_dark_style = "github-dark"
suppress_warnings = ["config.cache"]
