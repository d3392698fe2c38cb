"""Test the code on the page about large-scale retrieval."""

import re
from pathlib import Path

import numpy as np
import pytest

PAGE = Path(__file__).parent.parent / "docs" / "large_scale_retrieval.md"


@pytest.mark.slow
def test_approximate_neighbors():
    # pynndescent takes a minute to compile.
    pytest.importorskip("pynndescent")
    (code,) = re.findall(r"```python\n(from pynndescent.*?)```", PAGE.read_text(), re.DOTALL)
    namespace = {}
    exec(code, namespace)
    exact, approximate, X_test = (namespace[name] for name in ("exact", "approximate", "X_test"))
    assert np.mean(approximate.predict(X_test) == exact.predict(X_test)) > 0.95
