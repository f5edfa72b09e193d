"""Drawing with matplotlib without a screen: a canvas, text that others wrote, matrices."""

from __future__ import annotations

import io
import textwrap
import warnings
from collections.abc import Sequence
from typing import Any

import matplotlib
import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.image import AxesImage
from matplotlib.layout_engine import ConstrainedLayoutEngine

from cfl_edge.text import visible

DPI = 130
WIDTH_IN = 8.0  # 1,040 pixels: about the width of a README
TEXT_PT, TITLE_PT = 9, 10
MOST_NUMBERS = 20  # classes whose cells have room for a number
LONGEST_NAME = 18
TITLE_CHARACTERS_PER_IN = 13  # of TITLE_PT, as wide as they usually are


def new_figure(width_in: float, height_in: float) -> Figure:
    """Return an empty white figure that makes room for its labels."""
    padded = ConstrainedLayoutEngine(w_pad=0.08, h_pad=0.06)  # inches: labels clear of the edge
    figure = Figure(figsize=(width_in, height_in), layout=padded, facecolor="white")
    FigureCanvasAgg(figure)
    return figure


def png(figure: Figure) -> bytes:
    """Return a figure as the bytes of a PNG."""
    buffer = io.BytesIO()
    with warnings.catch_warnings():
        # A class name in a script that the font lacks is drawn as boxes, which says enough.
        warnings.filterwarnings("ignore", message="Glyph .* missing from font")
        figure.savefig(buffer, format="png", dpi=DPI)
    return buffer.getvalue()


def draw_title(figure: Figure, text: str) -> None:
    """Write a title above a figure, on as many lines as its width asks for."""
    most = int(figure.get_figwidth() * TITLE_CHARACTERS_PER_IN)
    lines = [part for line in text.split("\n") for part in textwrap.wrap(line, most)]
    figure.suptitle("\n".join(lines), fontsize=TITLE_PT)


def literal(text: str, longest: int = LONGEST_NAME) -> str:
    r"""Return text of others so that matplotlib draws it as it is, on one line, not as a formula.

    Args:
        text: Such as a class name.
        longest: Characters; more are cut off.

    Example:
        >>> print(literal("5$ and 10$ bills\n"), literal("an aardvark", 6))
        5\$ and 10\$ bills\n an aa…
    """
    text = visible(text)
    if len(text) > longest:
        text = text[: longest - 1] + "…"
    return text.replace("$", r"\$")


def draw_matrix(
    axes: Axes,
    values: npt.NDArray[Any],
    names: Sequence[str],
    *,
    colours: str,
    limits: tuple[float, float],
    numbers: Sequence[Sequence[str]] | None = None,
) -> AxesImage:
    """Draw a square matrix, a class for each row and column.

    Args:
        axes: Where.
        values: (Z, Z), what the colours show.
        names: Z of them, empty ones for rows without a label.
        colours: Name of a colour map.
        limits: Values of its ends.
        numbers: Z lists of Z texts for the cells; left out for more than `MOST_NUMBERS` classes.
    """
    image = axes.imshow(values, cmap=colours, vmin=limits[0], vmax=limits[1])
    ticks = [i for i, name in enumerate(names) if name]
    labels = [literal(names[i]) for i in ticks]
    rotation = 90 if max(map(len, labels), default=0) > 2 else 0
    axes.set_xticks(ticks, labels, rotation=rotation, fontsize=TEXT_PT)
    axes.set_yticks(ticks, labels, fontsize=TEXT_PT)
    if numbers is not None and len(names) <= MOST_NUMBERS:
        for (i, j), value in np.ndenumerate(values):
            red, green, blue, _ = image.to_rgba(value)
            dark = 0.299 * red + 0.587 * green + 0.114 * blue < 0.5  # luma of ITU-R BT.601
            axes.text(
                j, i, numbers[i][j],
                ha="center", va="center", color="white" if dark else "black", fontsize=8,
            )  # fmt: skip
    return image


def class_colours(classes: int) -> list[tuple[float, ...]]:
    """Return a colour for each class that can be told from the others, for up to 20 of them."""
    name = "tab10" if classes <= 10 else "tab20" if classes <= 20 else "turbo"
    chosen = matplotlib.colormaps[name]
    if classes > MOST_NUMBERS:
        chosen = chosen.resampled(classes)
    return [tuple(chosen(i)) for i in range(classes)]
