import pytest
from sklearn.preprocessing import FunctionTransformer


@pytest.fixture(autouse=True)
def plt():
    """matplotlib.pyplot; figures are rendered after the test, and closed."""
    matplotlib = pytest.importorskip("matplotlib")
    matplotlib.use("agg")
    import matplotlib.pyplot as plt

    yield plt
    for number in plt.get_fignums():
        plt.figure(number).canvas.draw()
    plt.close("all")


@pytest.fixture
def legend_texts():
    """Return a function: the texts in the legend of axes."""

    def legend_texts(ax):
        return [text.get_text() for text in ax.get_legend().get_texts()]

    return legend_texts


@pytest.fixture
def identity():
    """A transformer that returns X."""
    return FunctionTransformer()
