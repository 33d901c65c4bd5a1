"""How the documentation is built: `make docs`, strictly, into docs/_build."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

import generated
from sphinx.application import Sphinx

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


def setup(app: Sphinx) -> None:
    """Write the pages that are made of the code, and lead links to them."""
    generated.write()
    app.connect("source-read", _link)


def _link(app: Sphinx, name: str, text: list[str]) -> None:
    page = generated.DOCS / f"{name}.md"
    text[0] = generated.linked(text[0], page, page)
