"""The documentation: the API reference is complete, and links lead to files."""

import ast
import re
from pathlib import Path

import pytest

from sktriplet import TripletEmbedder, __version__

ROOT = Path(__file__).parent.parent
DOCS = ROOT / "docs"
REFERENCE = DOCS / "api.rst"
PAGES = [*sorted(DOCS.glob("*.md")), *sorted((DOCS / "benchmarks").glob("*.md"))]
GUIDE_PAGES = re.findall(r"^(?!architecture)[a-z_]+$", (DOCS / "guide.md").read_text(), re.M)
PAGES_WITH_LINKS = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *PAGES]


@pytest.fixture(scope="module")
def listed_names():
    """The names in the autosummaries of the API reference."""
    module, names = "", []
    for line in REFERENCE.read_text().splitlines():
        if found := re.match(r"\.\. currentmodule:: (\S+)", line):
            module = found[1]
        elif found := re.match(r"   (\w+)$", line):
            names.append(f"{module}.{found[1]}")
    return names


def test_reference_lists_public_names(public_names, listed_names):
    assert sorted(listed_names) == public_names


@pytest.mark.parametrize(
    "name", ["ComparisonEmbedder", "OpenSetClassifier", "PairVerifier", "TripletEmbedder"]
)
def test_doc_link_of_estimator(name, listed_names):
    """autosummary writes the page ``generated/<module>.<name>.html`` next to the reference."""
    template = TripletEmbedder._doc_link_template
    _, _, page = template.partition("/stable/")
    assert page.format(estimator_name=name) == f"generated/sktriplet.{name}.html"
    assert f"sktriplet.{name}" in listed_names
    assert ":toctree: generated/" in REFERENCE.read_text()


@pytest.mark.parametrize("page", PAGES_WITH_LINKS, ids=lambda page: page.name)
def test_links_lead_to_files(page):
    """Also when the page is read without the site."""
    text = re.sub(r"```.*?```", "", page.read_text(), flags=re.S)
    for link in re.findall(r"\]\((?!https?:)([^)#]+)", text):
        is_generated = "auto_examples/" in link
        assert is_generated or (page.parent / link).exists(), f"{link} in {page.name}"


def test_every_page_is_in_toctree():
    toctrees = "".join(
        "".join(re.findall(r"```\{toctree\}(.*?)```", page.read_text(), re.S)) for page in PAGES
    )
    listed = {Path(entry).name for entry in re.findall(r"^(?:.+ <)?([\w/]+)>?$", toctrees, re.M)}
    assert {page.stem for page in PAGES} - {"index"} <= listed


def test_examples_have_different_titles():
    titles = [
        ast.get_docstring(ast.parse(path.read_text())).splitlines()[0]
        for path in (ROOT / "examples").rglob("plot_*.py")
    ]
    assert len(titles) == len(set(titles)) > 0


@pytest.mark.parametrize("page", PAGES_WITH_LINKS, ids=lambda page: page.name)
def test_picture_marks_name_an_example(page):
    """``docs/conf.py`` replaces the mark by a figure of the example."""
    for mark in re.findall(r"<!-- picture(.*?)-->", page.read_text()):
        name = re.fullmatch(r": (\w+/plot_\w+) \d+: .+ ", mark)[1]
        assert (ROOT / "examples" / f"{name}.py").exists()


def test_files_have_the_current_version():
    assert f"\nversion: {__version__}\n" in (ROOT / "CITATION.cff").read_text()
    released = re.search(r"^## \[(\d.+)\]", (ROOT / "CHANGELOG.md").read_text(), re.M)[1]
    assert "dev" in __version__ or released == __version__


@pytest.mark.parametrize("name", GUIDE_PAGES)
def test_first_code_of_guide_page_runs(name):
    """Blocks of ``>>>`` are run as doctests."""
    page = (DOCS / f"{name}.md").read_text()
    language, code = re.search(r"^```(python|bash|text)\n(.*?)```", page, re.S | re.M).groups()
    assert language == "python"
    assert code.startswith(">>> ")
