"""The arrows of the house: who may import whom."""

import ast
import pkgutil
from pathlib import Path

import pytest

import sktriplet

ALLOWED = {
    "onnx": {"embedder"},
    "verification": {"constraints", "embedder", "holdout", "search", "validation"},
    "identification": {"constraints", "embedder", "holdout", "search", "validation"},
    "holdout": {"search"},
    "embedder": {
        *("assembly", "callbacks", "constraints", "data", "exceptions", "metrics", "net"),
        *("persistence", "validation"),
    },
    "persistence": {"assembly", "constraints", "exceptions", "net"},
    "assembly": {"augmentation", "data", "exceptions", "members", "modules", "net"},
    "constraints": {"augmentation", "criterion", "distances", "exceptions", "losses", "net"},
    "validation": {"exceptions"},
    "callbacks": {"data", "distributed", "exceptions"},
    "net": {"callbacks", "criterion", "data", "distributed", "exceptions", "sampling"},
    "distributed": set(),
    "criterion": {"distances", "losses", "mining", "nca"},
    "distances": set(),
    "mining": set(),
    "losses": set(),
    "nca": set(),
    "sampling": set(),
    "augmentation": set(),
    "data": {"folders"},
    "folders": {"exceptions"},
    "members": {"modules"},
    "modules": set(),
    "metrics": {"search"},
    "search": set(),
    "display": set(),
    "checkpoint": {"data", "distributed", "persistence"},
    "exceptions": set(),
}
MODULES = [module.name for module in pkgutil.iter_modules(sktriplet.__path__)]


def imported_by(module):
    tree = ast.parse((Path(sktriplet.__path__[0]) / f"{module}.py").read_text())
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom):
            assert node.level == 0, "imports are absolute"
            yield from ([node.module, *(f"{node.module}.{alias.name}" for alias in node.names)])
        elif isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)


@pytest.mark.parametrize("module", MODULES)
def test_imports_follow_the_arrows(module):
    imported = {
        name.split(".")[1] for name in imported_by(module) if name.startswith("sktriplet.")
    } & set(MODULES)
    assert imported <= ALLOWED[module]


def test_arrows_run_one_way():
    """There is an order of the modules in which each imports earlier ones only."""
    remaining = dict(ALLOWED)
    while remaining:
        leaves = {name for name, below in remaining.items() if not below & set(remaining)}
        assert leaves, f"a circle among {sorted(remaining)}"
        remaining = {name: below for name, below in remaining.items() if name not in leaves}


def test_every_module_has_its_tests():
    tests = {path.stem.removeprefix("test_") for path in Path(__file__).parent.glob("test_*.py")}
    assert set(MODULES) <= tests
