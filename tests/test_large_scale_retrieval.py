"""The pages on retrieval do what they say."""

import re
from pathlib import Path

import numpy as np
import pytest

PAGE = Path(__file__).parent.parent / "docs" / "large_scale_retrieval.md"


@pytest.mark.slow
def test_approximate_neighbours_behind_an_embedder():
    """As the page writes it; pynndescent takes a minute to compile itself."""
    pytest.importorskip("pynndescent")
    (code,) = re.findall(r"```python\n(from pynndescent.*?)```", PAGE.read_text(), re.S)
    names: dict = {}
    exec(code, names)
    exact, approximate, X_test = (names[name] for name in ("exact", "approximate", "X_test"))
    assert np.mean(approximate.predict(X_test) == exact.predict(X_test)) > 0.95
