"""How the documentation is built: `make docs`, strictly, into docs/_build."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

import generated

project, author = "ssr_exp", "the authors of ssr_exp"
extensions = [
    "myst_parser",
    "sphinx.ext.autodoc",
    "sphinx.ext.napoleon",
    "sphinx.ext.viewcode",
]
myst_enable_extensions = ["colon_fence", "html_image"]
myst_heading_anchors = 3
html_theme = "furo"
html_title = "ssr_exp"
html_theme_options = {"sidebar_hide_name": False}
exclude_patterns = ["_build"]
autodoc_member_order = "bysource"
autodoc_typehints = "description"
autodoc_typehints_description_target = "documented"
nitpicky = False  # types of other projects have no page here


def setup(app: object) -> None:
    """Write the pages that are made of the code."""
    generated.write()
