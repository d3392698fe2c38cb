"""Sphinx configuration: ``python -m sphinx -W --keep-going -b html docs docs/_build/html``."""

import os
import re
import warnings
from pathlib import Path

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

# Inherited members are documented by their own projects; see the templates.
numpydoc_show_class_members = False
autosummary_generate = True
autosummary_ignore_module_all = True
autodoc_typehints = "none"

copybutton_prompt_text = r">>> |\.\.\. |\$ "
copybutton_prompt_is_regexp = True

if os.environ.get("READTHEDOCS"):
    # Needs network access: without it, the build fails because of -W.
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
    "subsection_order": [
        f"../examples/{folder}"
        for folder in (
            "tables",
            "images",
            "sequences",
            "recognition",
            "supervision",
            "training",
            "extending",
        )
    ],
    "within_subsection_order": "FileNameSortKey",
    "download_all_examples": False,
    "remove_config_comments": True,
    "show_signature": False,
    "thumbnail_size": (640, 320),  # most figures are wider than high
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
html_title = f"sktriplet {release}"
html_favicon = "_static/logo.svg"
html_static_path = ["_static"]
html_css_files = ["site.css"]
html_show_sourcelink = False
html_theme_options = {
    "logo": {
        "image_light": "_static/logo.svg",
        "image_dark": "_static/logo.svg",
        "text": "sktriplet",
    },
    "navbar_start": ["navbar-logo", "version"],
    "navbar_align": "left",
    "show_prev_next": True,
    "navbar_end": ["version-switcher", "theme-switcher", "navbar-icon-links"],
    # The file of the latest version is used by all of them. Read the Docs builds "latest" from the
    # main branch, and "stable" from the last release.
    "switcher": {
        "json_url": "https://sktriplet.readthedocs.io/en/latest/_static/switcher.json",
        "version_match": os.environ.get("READTHEDOCS_VERSION", "latest"),
    },
    "check_switcher": False,  # needs network access
    "show_version_warning_banner": True,
    "show_toc_level": 2,
    "footer_start": ["copyright"],
    "footer_end": [],
    "secondary_sidebar_items": {"**": ["page-toc"], "index": []},
}
# Pages of the top level have no siblings to list.
html_sidebars = {
    name: []
    for name in ("index", "getting_started", "changelog", "contributing", "genindex", "search")
}

# Relative links to files outside docs, from a page at any depth.
EXAMPLE = re.compile(r"\]\(((?:\.\./)*)\.\./examples/((?:\w+/)?plot_\w+)\.py\)")
README = re.compile(r"\]\(((?:\.\./)*)\.\./README\.md#")
PICTURE = re.compile(r"<!-- picture: (\w+)/(plot_\w+) (\d+): (.+?) -->")


# Links of files that are included from the root of the repository.
ROOT_EXAMPLE = re.compile(r"\]\(examples/((?:\w+/)?plot_\w+)\.py\)")
ROOT_PAGES = {"](benchmarks/README.md)": "](benchmarks/index.md)"}


def link_gallery(app: Sphinx, docname: str, source: list[str]) -> None:
    """Replace links to example scripts by links to their gallery pages, and comments by figures.

    The Markdown sources can also be read without the gallery, for example on GitHub. There, links
    to examples lead to the scripts, and figures are comments.
    """
    if app.env.doc2path(docname).suffix != ".md":
        return
    text = EXAMPLE.sub(r"](\1auto_examples/\2.rst)", source[0])
    text = README.sub(r"](\1index.md#", text)  # index.md includes the linked section
    text = text.replace("](../CONTRIBUTING.md", "](contributing.md")

    def picture(match: re.Match) -> str:
        folder, name, number, alt_text = match.groups()
        path = f"auto_examples/{folder}/images/sphx_glr_{name}_{int(number):03}.png"
        is_drawn = str(app.config.plot_gallery) not in ("0", "False")
        return f"![{alt_text}]({path})" if is_drawn else ""

    source[0] = PICTURE.sub(picture, text)


def link_included(app: Sphinx, path: Path, docname: str, source: list[str]) -> None:
    """Replace links of included files, which are relative to the root of the repository."""
    text = ROOT_EXAMPLE.sub(r"](auto_examples/\1.rst)", source[0])
    for link, page in ROOT_PAGES.items():
        text = text.replace(link, page)
    source[0] = text


def remove_empty_sidebar(
    app: Sphinx, pagename: str, templatename: str, context: dict, doctree: object
) -> None:
    """Remove the list of sections from pages that have none, such as that of a function."""
    if app.env.toc_num_entries.get(pagename, 0) <= 2:  # the title and the function
        context["secondary_sidebar_items"] = []


def setup(app: Sphinx) -> None:
    """Register the hooks."""
    app.connect("html-page-context", remove_empty_sidebar, priority=900)
    app.connect("source-read", link_gallery)
    app.connect("include-read", link_included)
