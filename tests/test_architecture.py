"""Allowed imports between modules."""

import ast
import subprocess
import sys
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

import sktriplet

PACKAGE = Path(sktriplet.__path__[0])
# From top to bottom. A component imports from lower layers only.
LAYERS = [
    {"display"},
    {"inspection", "onnx", "recognition", "_comparison_embedder"},
    {"_embedder"},
    {"_serialization"},
    {"_build", "_training_data"},
    {"training"},
    {"losses"},
    {"_multi_input"},
    {"_preprocessor"},
    {"_input_statistics", "_input_validation"},
    {"_conversion_errors", "_input_layout", "augmentation", "datasets", "mining"},
    {"_classes", "_lazy_samples", "_table_encoder", "distances", "metrics", "networks"},
    {"_integers", "_labels", "_parameters", "_warnings", "exceptions"},
]
MODULES = {
    ".".join(path.relative_to(PACKAGE).with_suffix("").parts)
    for path in PACKAGE.rglob("*.py")
    if path.name != "__init__.py"
}
COMPONENTS = {module.split(".")[0] for module in MODULES}
LAYER_OF = {name: number for number, layer in enumerate(LAYERS) for name in layer}


def imported_by(path):
    """Yield the modules of this package that a file imports, without the prefix sktriplet."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: imports are absolute"
            names = [node.module]
        elif isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        else:
            continue
        for name in names:
            package, _, module = name.partition(".")
            if package == "sktriplet" and module:
                yield module


def test_every_component_has_a_layer():
    assert set(LAYER_OF) == COMPONENTS


@pytest.mark.parametrize("component", sorted(COMPONENTS))
def test_imports_go_to_lower_layers(component):
    files = [PACKAGE / f"{component}.py", *(PACKAGE / component).rglob("*.py")]
    imported = {
        name.split(".")[0] for path in files if path.exists() for name in imported_by(path)
    } - {component}
    upward = {name for name in imported if LAYER_OF[name] <= LAYER_OF[component]}
    assert not upward


def test_no_import_cycles():
    """Also among the modules of one subpackage, which import each other by their full names."""
    graph = {
        module: set(imported_by(PACKAGE / f"{module.replace('.', '/')}.py")) & MODULES
        for module in MODULES
    }
    TopologicalSorter(graph).prepare()


def test_every_module_has_its_tests():
    tests = {path.stem.removeprefix("test_") for path in Path(__file__).parent.rglob("test_*.py")}
    assert {module.split(".")[-1].lstrip("_") for module in MODULES} <= tests


def test_import_is_cheap():
    """It loads no optional package that scikit-learn and skorch do not load themselves."""
    optional = ("matplotlib", "bokeh", "pandas", "onnx", "accelerate", "PIL")
    code = (
        "import sys, sklearn.base, skorch; before = set(sys.modules); import sktriplet; "
        f"print([name for name in {optional} if name in set(sys.modules) - before])"
    )
    loaded = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    assert loaded.stdout.strip() == "[]"
