"""Sphinx configuration. `make docs` builds with -W: a warning is an error."""

import sys
from importlib.metadata import version as version_of
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent / "_ext"))

project = "Vallis"
author = "The Vallis authors"
release = version = version_of("vallis")

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon", "parts", "modules"]
exclude_patterns = ["_build", "_ext"]
myst_enable_extensions = ["deflist", "fieldlist"]
myst_heading_anchors = 3

# Single backticks in our docstrings are code, not links, so that they also read well in a terminal.
default_role = "code"
# A prime stays a prime, and what is copied from a page runs.
smartquotes = False
autodoc_member_order = "bysource"
autodoc_preserve_defaults = True
# Fields are described once, under "Attributes:" of their class.
napoleon_use_ivar = True
# The only Python cross-references are those that autodoc makes of annotations, and most of those lead to other
# projects, which an offline build cannot look up. Strictness (-n) is for the links that people write.
nitpick_ignore_regex = [("py:.*", ".*")]

html_theme = "furo"
html_title = f"Vallis {release}"
