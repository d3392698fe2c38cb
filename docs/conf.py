"""How the site is built: ``python -m sphinx -W --keep-going -b html docs docs/_build/html``."""

import os
import re
import warnings

from sphinx.application import Sphinx

import sktriplet

project = "sktriplet"
author = "The sktriplet developers"
copyright = f"2026, {author}"
release = version = sktriplet.__version__

extensions = [
    "myst_parser",
    "numpydoc",
    "sphinx.ext.autodoc",
    "sphinx.ext.autosummary",
    "sphinx.ext.mathjax",
    "sphinx_copybutton",
    "sphinx_gallery.gen_gallery",
]
exclude_patterns = ["_build", "_templates"]
templates_path = ["_templates"]
trim_doctest_flags = True

myst_enable_extensions = ["colon_fence", "dollarmath"]
myst_heading_anchors = 3

# What a class inherits is for its own project to explain; see the templates.
numpydoc_show_class_members = False
autosummary_generate = True
autosummary_ignore_module_all = True
autodoc_typehints = "none"

copybutton_prompt_text = r">>> |\.\.\. |\$ "
copybutton_prompt_is_regexp = True

if os.environ.get("READTHEDOCS"):
    # Only where there is surely a network: without one, -W ends the build.
    extensions.append("sphinx.ext.intersphinx")
    intersphinx_mapping = {
        "python": ("https://docs.python.org/3", None),
        "numpy": ("https://numpy.org/doc/stable", None),
        "pandas": ("https://pandas.pydata.org/docs", None),
        "sklearn": ("https://scikit-learn.org/stable", None),
        "skorch": ("https://skorch.readthedocs.io/en/stable", None),
        "torch": ("https://docs.pytorch.org/docs/stable", None),
    }

sphinx_gallery_conf = {
    "examples_dirs": "../examples",
    "gallery_dirs": "auto_examples",
    "within_subsection_order": "FileNameSortKey",
    "download_all_examples": False,
    "remove_config_comments": True,
    "show_memory": False,
    "capture_repr": (),
    "parallel": 2,
    "min_reported_time": 60,
    "doc_module": ("sktriplet",),
    "reference_url": {"sktriplet": None},
    "backreferences_dir": "generated/backreferences",
}
warnings.filterwarnings("ignore", message="FigureCanvasAgg is non-interactive")

html_theme = "pydata_sphinx_theme"
html_title = "sktriplet"
html_static_path = ["_static"]
html_css_files = ["site.css"]
html_show_sourcelink = False
html_theme_options = {
    "navbar_align": "left",
    "show_prev_next": True,
    "show_toc_level": 2,
    "footer_start": ["copyright"],
    "footer_end": [],
    "secondary_sidebar_items": {"**": ["page-toc"], "index": []},
}
html_sidebars = {"index": [], "changelog": [], "contributing": [], "architecture": []}

EXAMPLE = re.compile(r"\]\(\.\./examples/(plot_\w+)\.py\)")
PICTURE = re.compile(r"<!-- picture: (plot_\w+) (\d+): (.+?) -->")


def link_gallery(app: Sphinx, docname: str, source: list[str]) -> None:
    """Turn links to examples into links to their pages, and marked places into pictures.

    The pages are Markdown that is also read where there is no gallery: there, a link goes to the
    file, and the mark of a picture is a comment.
    """
    if app.env.doc2path(docname).suffix != ".md":
        return
    text = EXAMPLE.sub(r"](auto_examples/\1.rst)", source[0])
    text = text.replace("](../README.md#", "](index.md#")  # which includes what is linked to

    def picture(match: re.Match) -> str:
        name, number, words = match.groups()
        path = f"auto_examples/images/sphx_glr_{name}_{int(number):03}.png"
        is_drawn = str(app.config.plot_gallery) not in ("0", "False")
        return f"![{words}]({path})" if is_drawn else ""

    source[0] = PICTURE.sub(picture, text)


def setup(app: Sphinx) -> None:
    """Connect what is above."""
    app.connect("source-read", link_gallery)
