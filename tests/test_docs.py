"""The site: every public name is in the reference, and links that the code makes lead there."""

import ast
import inspect
import re
from importlib import import_module
from pathlib import Path

import pytest

import sktriplet
from sktriplet import TripletEmbedder

ROOT = Path(__file__).parent.parent
REFERENCE = ROOT / "docs" / "api.rst"
INTERNAL = {
    *("assembly", "callbacks", "constraints", "distributed", "folders", "holdout"),
    *("persistence", "search", "validation"),
}
MODULES = {path.stem for path in Path(sktriplet.__path__[0]).glob("*.py")} - {"__init__"}


def names_in_reference():
    """Yield what the autosummaries of the reference list, with the module that they are in."""
    module = ""
    for line in REFERENCE.read_text().splitlines():
        if found := re.match(r"\.\. currentmodule:: (\S+)", line):
            module = found[1]
        elif found := re.match(r"   (\w+)$", line):
            yield f"{module}.{found[1]}"


def public_names():
    for name in sktriplet.__all__:
        yield f"sktriplet.{name}"
    estimators = {"embedder", "identification", "verification"}
    for module in sorted(MODULES - INTERNAL - estimators):
        tree = ast.parse((Path(sktriplet.__path__[0]) / f"{module}.py").read_text())
        for node in tree.body:
            if isinstance(node, ast.ClassDef | ast.FunctionDef) and not node.name.startswith("_"):
                yield f"sktriplet.{module}.{node.name}"
    yield "sktriplet.datasets.load_image_folder"


def test_reference_is_all_that_is_public():
    listed = list(names_in_reference())
    assert len(listed) == len(set(listed))
    assert set(listed) == set(public_names())


@pytest.mark.parametrize("name", list(names_in_reference()))
def test_reference_exists_and_is_documented(name):
    module, _, attribute = name.rpartition(".")
    assert inspect.getdoc(getattr(import_module(module), attribute))


@pytest.mark.parametrize("name", ["OpenSetClassifier", "PairVerifier", "TripletEmbedder"])
def test_link_of_an_estimator_leads_to_its_page(name):
    """autosummary makes a page ``generated/<module>.<name>.html`` beside the reference."""
    template = TripletEmbedder._doc_link_template
    _, _, page = template.partition("/stable/")
    assert page.format(estimator_name=name) == f"generated/sktriplet.{name}.html"
    assert f"sktriplet.{name}" in set(names_in_reference())
    assert ":toctree: generated/" in REFERENCE.read_text()


def test_internal_modules_are_called_so():
    page = (ROOT / "docs" / "architecture.md").read_text()
    assert set(re.findall(r"`(\w+)\.py` \*\(internal\)\*", page)) == INTERNAL
    assert {name for name in MODULES if f"`{name}.py`" in page} == MODULES


def pages_with_links():
    return [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]


@pytest.mark.parametrize("page", pages_with_links(), ids=lambda page: page.name)
def test_links_lead_to_files(page):
    """As they are read without the site."""
    text = re.sub(r"```.*?```", "", page.read_text(), flags=re.S)
    for link in re.findall(r"\]\((?!https?:)([^)#]+)", text):
        built = link.startswith("auto_examples/")
        assert built or (page.parent / link).exists(), f"{link} in {page.name}"


def test_every_page_is_listed():
    toctrees = "".join((ROOT / "docs" / name).read_text() for name in ("guide.md", "index.md"))
    listed = set(re.findall(r"^(?:.+ <)?([a-z_]+)>?$", toctrees, re.M))
    assert {path.stem for path in (ROOT / "docs").glob("*.md")} - {"index"} <= listed


def test_examples_are_under_a_heading_of_their_own():
    """Titles that sphinx-gallery takes from them, each once."""
    titles = [
        ast.get_docstring(ast.parse(path.read_text())).splitlines()[0]
        for path in (ROOT / "examples").glob("plot_*.py")
    ]
    assert len(titles) == len(set(titles)) > 0


@pytest.mark.parametrize("page", pages_with_links(), ids=lambda page: page.name)
def test_marks_of_pictures_name_an_example(page):
    """``docs/conf.py`` puts the picture in the place of the mark."""
    for mark in re.findall(r"<!-- picture(.*?)-->", page.read_text()):
        name = re.fullmatch(r": (plot_\w+) \d+: .+ ", mark)[1]
        assert (ROOT / "examples" / f"{name}.py").exists()
