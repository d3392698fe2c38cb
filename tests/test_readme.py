import re
from contextlib import redirect_stdout
from io import StringIO
from pathlib import Path

import pytest

README = Path(__file__).parent.parent / "README.md"


@pytest.mark.slow
def test_readme_example():
    """The first example prints the output that is shown."""
    text = README.read_text()
    code, expected = re.search(r"```python\n(.*?)```\n\n```text\n(.*?)```", text, re.S).groups()
    printed = StringIO()
    with redirect_stdout(printed):
        exec(code, {})
    number = re.compile(r"\d+\.\d+")
    assert number.sub("", printed.getvalue()) == number.sub("", expected)
    # Rounding differs between processors, and changes the prediction of a sample or two of 178.
    assert [float(score) for score in number.findall(printed.getvalue())] == pytest.approx(
        [float(score) for score in number.findall(expected)], abs=0.015
    )
