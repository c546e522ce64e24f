"""How the figures of the documentation look."""

from contextlib import contextmanager

from . import Trouble

COLOURS = ["#4c566a", "#d08770", "#5e81ac", "#a3be8c", "#b48ead", "#bf616a", "#88c0d0"]
# With a fixed salt for the names inside and without a date, output depends on input alone.
STYLE = {
    "svg.hashsalt": "upg",
    "svg.fonttype": "none",
    "font.family": "sans-serif",
    "font.size": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.color": "#e5e9f0",
    "axes.axisbelow": True,
}


@contextmanager
def pyplot():
    """matplotlib's, in this style."""
    try:
        import matplotlib
    except ImportError:
        raise Trouble("needs the Python package matplotlib: pip install matplotlib") from None
    matplotlib.use("svg")
    from matplotlib import pyplot as plt

    with plt.rc_context(STYLE):
        yield plt


def save(figure, path):
    figure.savefig(path, metadata={"Date": None, "Creator": None})
    # A line per element is enough: matplotlib leaves blanks at their ends.
    path.write_text("\n".join(line.rstrip() for line in path.read_text().splitlines()) + "\n")
    print(path)
