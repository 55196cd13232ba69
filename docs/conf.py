# SPDX-License-Identifier: MIT
"""The documentation as a site: `scripts/docs` builds it with Sphinx.

The root of the repository is the source folder, so that a relative link on a page leads to the same
file on the site. Folders with names in `.gitignore` hold what is generated.
"""

import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]
sys.path[:0] = [str(ROOT / "docs" / "site"), str(ROOT / "tests")]

import bptt  # noqa: E402
import gallery  # noqa: E402
import links  # noqa: E402
import reference  # noqa: E402

project = "bptt"
copyright = "the bptt developers, MIT licence"
release = bptt.__version__

root_doc = "docs/index"
include_patterns = [
    "docs/**",
    "*.md",
    "benchmarks/**.md",
    "cpp/src/cells/README.md",
    "tests/zoo/README.md",
    "python/bptt/data/README.md",
]
# Pages that the site has in another form.
exclude_patterns = [".*", "build", "README.md", "docs/api.md", "docs/site"]

extensions = [
    "myst_parser",
    "numpydoc",
    "sphinx.ext.autodoc",
    "sphinx.ext.autosummary",
    "sphinx_gallery.gen_gallery",
]
myst_heading_anchors = 4  # as GitHub names them
default_role = "py:obj"
smartquotes = False  # quotes in a sentence are often those of code
add_module_names = False
numpydoc_show_class_members = False  # autosummary's template lists them
autodoc_typehints = "none"  # the sections of a docstring have the types

templates_path = ["site/templates"]
html_theme = "furo"
html_title = "bptt"
html_static_path = ["site/static"]
html_css_files = ["site.css"]
html_extra_path = ["site/index.html"]
html_copy_source = False
html_show_sphinx = False

sphinx_gallery_conf = gallery.SETTINGS


def setup(app):
    app.connect("config-inited", reference.write)
    app.connect("source-read", links.rewrite)
    app.connect("doctree-read", reference.link_names)
    app.add_transform(links.Plain)
    app.add_transform(reference.Bars)
