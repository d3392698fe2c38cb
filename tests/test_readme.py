"""The README's example prints what the README says."""

import re
from contextlib import redirect_stdout
from io import StringIO
from pathlib import Path

import pytest

README = Path(__file__).parent.parent / "README.md"


def test_first_example():
    text = README.read_text()
    code, promised = re.search(r"```python\n(.*?)```\n\n```text\n(.*?)```", text, re.S).groups()
    printed = StringIO()
    with redirect_stdout(printed):
        exec(code, {})
    number = re.compile(r"\d+\.\d+")
    assert number.sub("", printed.getvalue()) == number.sub("", promised)
    # Another processor rounds otherwise: a row or two of 178 may fall to the other side.
    assert [float(score) for score in number.findall(printed.getvalue())] == pytest.approx(
        [float(score) for score in number.findall(promised)], abs=0.015
    )
