"""The paper's figures as images; what they show is computed elsewhere."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from torch import Tensor

from cfl_edge.lab.paper.figures.attention import Attention
from cfl_edge.lab.paper.figures.canvas import (
    MOST_NUMBERS,
    TEXT_PT,
    TITLE_PT,
    WIDTH_IN,
    class_colours,
    draw_matrix,
    draw_title,
    literal,
    new_figure,
    png,
)
from cfl_edge.lab.paper.figures.correlation import NETWORKS, Line, Point
from cfl_edge.lab.paper.figures.features import Panel

NETWORK_COLOURS = {
    network: f"tab:{colour}"
    for network, colour in zip(NETWORKS, ("blue", "orange", "green", "gray"), strict=True)
}
SHORT_NAME = 12  # characters, of which five fit beside each other
BAR_HEIGHT = 0.12  # of a colour bar, in heights of an image
MARKERS = {"cfl": "o", "bp": "s"}  # by the first part of a recipe's name; others are triangles


def correlation_png(points: Sequence[Point], line: Line, title: str) -> bytes:
    """Draw figure 1: a point for each run, and the line through them.

    Args:
        points: Of `correlation.points`.
        line: Of `correlation.correlate`.
        title: What the runs are.
    """
    figure = new_figure(WIDTH_IN, 5.5)
    axes = figure.subplots()
    groups: dict[tuple[str, str], list[Point]] = {}
    for point in points:
        system = point.config.recipe.partition("-")[0]
        groups.setdefault((point.network, system), []).append(point)
    for (network, system), members in sorted(groups.items()):
        axes.scatter(
            [p.zero_shot for p in members], [p.fine for p in members], s=45,
            color=NETWORK_COLOURS[network], marker=MARKERS.get(system, "^"),
            edgecolors="black", linewidths=0.5, zorder=3,
            label=f"{literal(system).upper()} {network}",
        )  # fmt: skip
    if line.slope is not None and line.intercept is not None:
        ends = np.array([min(p.zero_shot for p in points), max(p.zero_shot for p in points)])
        label = f"least squares: {line.slope:.2f} x {line.intercept:+.1f}"
        axes.plot(ends, line.slope * ends + line.intercept, "--", color="0.4", label=label)
    r = "undefined" if line.r is None else f"{line.r:.3f}"
    axes.set_title(f"{title}\nPearson's r = {r} over {len(points)} runs", fontsize=TITLE_PT)
    axes.set_xlabel("zero-shot accuracy on coarse classes, last layer (%)")
    axes.set_ylabel("accuracy on fine classes, prediction (%)")
    axes.grid(color="0.9")
    axes.legend(fontsize=TEXT_PT)
    return png(figure)


def attention_png(found: Attention, names: Sequence[str], title: str) -> bytes:
    """Draw figure 2: an image a row, and for each layer its maps for two labels.

    Args:
        found: Of `attention.attention`.
        names: Of the classes.
        title: What the run is.
    """
    count, layers, ranks = len(found.images), len(found.maps), found.labels.shape[1]
    columns = 1 + ranks * layers
    side = max(1.15, WIDTH_IN / columns)
    figure = new_figure(side * columns + 0.3, (side + 0.25) * count + 1.6)
    ratios = [1.0] * count + [BAR_HEIGHT]
    spec = figure.add_gridspec(count + 1, columns, height_ratios=ratios)
    grid = [[figure.add_subplot(spec[r, c]) for c in range(columns)] for r in range(count)]
    for axes in itertools.chain.from_iterable(grid):
        axes.set_axis_off()
    for row in range(count):
        picture = found.images[row].permute(1, 2, 0).squeeze(2).numpy()
        grid[row][0].imshow(picture, cmap="gray", vmin=0, vmax=255)
        truth = int(found.truth[row])
        right = truth == int(found.labels[row, 0])
        grid[row][0].set_title(
            literal(names[truth], 14), fontsize=TEXT_PT, color="black" if right else "tab:red",
            fontweight="bold",
        )  # fmt: skip
    height, width = found.images.shape[2:]
    for layer, maps in enumerate(found.maps):
        # One scale for a layer: its maps can be compared. It leaves out the last 2 % on each side.
        low, high = (float(v) for v in np.percentile(maps.numpy(), (2, 98)))
        first = 1 + ranks * layer
        for row in range(count):
            for rank in range(ranks):
                axes, values = grid[row][first + rank], maps[row, rank].numpy()
                image = axes.imshow(
                    values, cmap="turbo", vmin=low, vmax=high, interpolation="bilinear",
                    extent=(0, width, height, 0),
                )  # fmt: skip
                name = literal(names[int(found.labels[row, rank])], 10)
                axes.set_title(f"{name}: {values.mean():.1f}", fontsize=8)
        below = figure.add_subplot(spec[count, first : first + ranks])
        bar = figure.colorbar(image, cax=below, orientation="horizontal", extend="both")
        bar.set_label(f"layer {layer + 1}, {found.channels[layer]} channels", fontsize=TEXT_PT)
        bar.ax.tick_params(labelsize=8)
    draw_title(
        figure,
        f"{title}\nDot product of label embedding and features at each position: for each layer, "
        "the two best classes of the prediction, with the map's mean (Eq. 1). Left: true class, "
        "red where another was predicted.",
    )
    return png(figure)


def features_png(
    panels: Sequence[Panel], labels: Tensor, names: Sequence[str], title: str
) -> bytes:
    """Draw figure 6 or 7: t-SNE of each layer's features, coloured by class.

    Args:
        panels: Of `features.panel`, a layer each.
        labels: Class numbers, (N,).
        names: Of the classes.
        title: What the run is.
    """
    columns = min(3, len(panels))
    rows = math.ceil(len(panels) / columns)
    figure = new_figure(max(WIDTH_IN, 3.2 * columns), 3.4 * rows + 1.2)
    grid = figure.subplots(rows, columns, squeeze=False)
    colours = class_colours(len(names))
    for axes in grid.flat[len(panels) :]:
        axes.set_axis_off()
    for number, (axes, panel) in enumerate(zip(grid.flat, panels, strict=False), 1):
        for label, name in enumerate(names):
            x, y = panel.places[(labels == label).numpy()].T
            axes.scatter(x, y, s=5, color=colours[label], linewidths=0, label=literal(name))
        score = "" if panel.silhouette is None else f"\nsilhouette {panel.silhouette:.3f}"
        axes.set_title(f"layer {number}, {panel.channels} features{score}", fontsize=TITLE_PT)
        axes.set_xlabel("t-SNE 1", fontsize=TEXT_PT)
        axes.set_ylabel("t-SNE 2", fontsize=TEXT_PT)
        axes.set_xticks([])
        axes.set_yticks([])
    if len(names) <= MOST_NUMBERS:
        handles, texts = grid.flat[0].get_legend_handles_labels()
        across = 5 if max(map(len, texts)) <= SHORT_NAME else 4
        figure.legend(
            handles, texts, loc="outside lower center", ncols=across, markerscale=3,
            handletextpad=0.2, columnspacing=1.5, fontsize=TEXT_PT,
        )  # fmt: skip
    draw_title(figure, title)
    return png(figure)


def matrices_png(
    similarity: Tensor,
    confusion: Tensor,
    names: Sequence[str],
    title: str,
) -> bytes:
    """Draw figure 10: similarity of the label embeddings above the confusion of the prediction.

    Args:
        similarity: Of `matrices.cosine_similarities`, (Z, Z).
        confusion: Of `matrices.confusion_percent`, (Z, Z).
        names: Of the classes, (Z,); empty for those that get no label.
        title: What the run is.
    """
    figure = new_figure(WIDTH_IN, 2 * 6.9)
    above: Axes
    below: Axes
    above, below = figure.subplots(2, 1)
    values = similarity.numpy()
    others = values[~np.eye(len(values), dtype=bool)]
    # 1 on the diagonal is known: the scale shows what is beside it.
    bound = max(float(np.abs(others).max(initial=0.0)), 1e-6)
    image = draw_matrix(
        above, values, names, colours="RdBu_r", limits=(-bound, bound),
        numbers=[[f"{v:.2f}" for v in row] for row in values.round(2) + 0.0],
    )  # fmt: skip
    above.set_title("(a) cosine similarity of the label embeddings", fontsize=TITLE_PT)
    figure.colorbar(image, ax=above, label="cosine", extend="max")
    values = confusion.numpy()
    # Among many classes the largest share is far below 100 %, and no number tells it.
    top = 100.0 if len(names) <= MOST_NUMBERS else max(float(values.max()), 1.0)
    image = draw_matrix(
        below, values, names, colours="Blues", limits=(0, top),
        numbers=[[f"{v:.0f}" if v >= 0.5 else "" for v in row] for row in values],
    )  # fmt: skip
    below.set_title("(b) confusion of the prediction", fontsize=TITLE_PT)
    below.set_xlabel("predicted")
    below.set_ylabel("true")
    figure.colorbar(image, ax=below, label="% of the true class")
    draw_title(figure, title)
    return png(figure)
