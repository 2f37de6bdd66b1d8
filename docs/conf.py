"""Sphinx configuration. API, plugin and command pages are written by `generate.py` from the package itself."""

from __future__ import annotations

import importlib.util
import os
import re
import sys
import sysconfig
from pathlib import Path

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE))
# Tutorials run `avse` as a command, and draw no progress bars.
os.environ["PATH"] = os.pathsep.join([sysconfig.get_path("scripts"), os.environ.get("PATH", "")])
os.environ.update(TERM="dumb", NO_COLOR="1", COLUMNS="110", OMP_NUM_THREADS="1")

import docstrings  # noqa: E402
import generate  # noqa: E402
import kind_pages  # noqa: E402

import avse  # noqa: E402

project = "avse"
author = "the avse developers"
copyright = author
release = version = avse.__version__

extensions = ["myst_nb", "sphinx.ext.autodoc", "sphinx.ext.napoleon", "sphinx.ext.viewcode"]
exclude_patterns = ["_build", "README.md"]
html_theme = "furo"
html_title = f"avse {release}"
# MathJax comes with the pages: equations need nothing from the network.
_mathjax = importlib.util.find_spec("sphinx-mathjax-offline")
assert _mathjax is not None and _mathjax.origin, "pip install -e '.[docs]'"
html_static_path = ["_static", str(Path(_mathjax.origin).parent / "static")]
mathjax_path = "mathjax/tex-chtml.js"
html_css_files = ["wrap.css"]

autodoc_member_order = "bysource"
autodoc_typehints = "signature"
autodoc_typehints_format = "short"
autodoc_preserve_defaults = True
napoleon_google_docstring = False
napoleon_numpy_docstring = True
napoleon_use_rtype = False
default_role = "literal"  # docstrings write `code` in single quotes
napoleon_custom_sections = [("Hyper-parameters", "params_style")]

myst_enable_extensions = ["colon_fence", "deflist", "dollarmath"]
myst_heading_anchors = 3
nb_execution_mode = "force"
# For a quick look: AVSE_DOCS_RUN=report runs this tutorial only, AVSE_DOCS_RUN=none runs none.
if chosen := os.environ.get("AVSE_DOCS_RUN"):
    nb_execution_excludepatterns = [one.name for one in HERE.glob("*.md") if one.stem not in chosen.split(",")]
nb_execution_timeout = 900  # seconds a cell; a machine may be busy
nb_execution_show_tb = True  # a page that fails is a warning that says where, and `make docs` stops at warnings
nb_merge_streams = True


def link_recipes(app, docname: str, source: list[str]) -> None:
    """READMEs of recipes are no pages: a link to one, as it works in the repository, gives the file."""
    source[0] = re.sub(r"\]\(((?:\.\./)+recipes/[^)#\s]*\.md)\)", r"](<path:\1>)", source[0])


def setup(app) -> None:
    app.connect("source-read", link_recipes)
    app.connect("autodoc-process-docstring", lambda app, *found: docstrings.move_prose(found[-1]), priority=400)
    app.connect("autodoc-process-docstring", lambda app, *found: docstrings.escape_bars(found[-1]))
    app.connect("builder-inited", lambda app: generate.write_all(HERE / "api"))
    app.connect("builder-inited", lambda app: kind_pages.write_kind_pages(HERE / "plugins"))
