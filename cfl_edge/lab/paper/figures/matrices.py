"""Figure 10: which labels have similar embeddings, and which are taken for each other."""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from matplotlib.axes import Axes
from torch import Tensor

from cfl_edge.lab import canvas
from cfl_edge.lab.data.dataset import Dataset
from cfl_edge.lab.paper.trainer import Trainer
from cfl_edge.lab.rules.labelled_network import network_for_figure


def cosine_similarities(embeddings: Tensor) -> Tensor:
    """Return the cosine of the angle between every two rows.

    Args:
        embeddings: D, (Z, C_D).

    Returns:
        (Z, Z), 1 on the diagonal.

    Example:
        >>> cosine_similarities(torch.tensor([[1., 0.], [3., 3.]]))
        tensor([[1.0000, 0.7071],
                [0.7071, 1.0000]])
    """
    rows = F.normalize(embeddings, dim=1)
    return rows @ rows.T


def confusion_percent(truth: Tensor, predicted: Tensor, classes: int) -> Tensor:
    """Return the share in % of each true class (row) that is taken for each class (column).

    Args:
        truth: Class indices, (N,).
        predicted: Class indices, (N,).
        classes: Z.

    Returns:
        (Z, Z); a class without images has a row of zeros.

    Example:
        >>> confusion_percent(torch.tensor([0, 0, 1]), torch.tensor([0, 1, 1]), 2)
        tensor([[ 50.,  50.],
                [  0., 100.]])
    """
    counts = (truth * classes + predicted).bincount(minlength=classes**2).view(classes, classes)
    return 100 * counts / counts.sum(dim=1, keepdim=True).clamp(min=1)


def check_matrices(trainer: Trainer, images: int) -> None:
    """Refuse a rule that has no label embeddings.

    Args:
        trainer: Has the rule.
        images: Any number; all test images are counted.

    Raises:
        UsageError: It has none.
    """
    network_for_figure(trainer.rule, "the similarity matrix needs")


def draw_matrices(trainer: Trainer, title: str, images: int) -> bytes:
    """Draw figure 10: similarity of the label embeddings above the confusion of the prediction.

    Args:
        trainer: Has the trained rule and its test images.
        title: The run and its accuracy.
        images: Any number; all test images are counted.
    """
    dataset, loaded = trainer.plan.dataset, trainer.images
    model = network_for_figure(trainer.rule, "the similarity matrix needs")
    order, names = class_order(dataset)
    similarity = cosine_similarities(model.rows().detach()).cpu()[order][:, order]
    predicted = [trainer.rule.predict(chunk) for chunk in loaded.plain(loaded.x_test)]
    confusion = confusion_percent(loaded.y_test, torch.cat(predicted), dataset.classes).cpu()
    confusion = confusion[order][:, order]
    if dataset.classes > canvas.MOST_NUMBERS and dataset.coarse_of is not None:
        title += "\nordered by coarse class"
    figure = canvas.new_figure(canvas.WIDTH_IN, 2 * 6.9)
    above: Axes
    below: Axes
    above, below = figure.subplots(2, 1)
    values = similarity.numpy()
    others = values[~np.eye(len(values), dtype=bool)]
    # 1 on the diagonal is known: the scale shows what is beside it.
    bound = max(float(np.abs(others).max(initial=0.0)), 1e-6)
    image = canvas.draw_matrix(
        above, values, names, colours="RdBu_r", limits=(-bound, bound),
        numbers=[[f"{v:.2f}" for v in row] for row in values.round(2) + 0.0],
    )  # fmt: skip
    above.set_title("(a) cosine similarity of the label embeddings", fontsize=canvas.TITLE_PT)
    figure.colorbar(image, ax=above, label="cosine", extend="max")
    values = confusion.numpy()
    # Among many classes the largest share is far below 100 %, and no number tells it.
    top = 100.0 if len(names) <= canvas.MOST_NUMBERS else max(float(values.max()), 1.0)
    image = canvas.draw_matrix(
        below, values, names, colours="Blues", limits=(0, top),
        numbers=[[f"{v:.0f}" if v >= 0.5 else "" for v in row] for row in values],
    )  # fmt: skip
    below.set_title("(b) confusion of the prediction", fontsize=canvas.TITLE_PT)
    below.set_xlabel("predicted")
    below.set_ylabel("true")
    figure.colorbar(image, ax=below, label="% of the true class")
    canvas.draw_title(figure, title)
    return canvas.png(figure)


def class_order(dataset: Dataset) -> tuple[Tensor, list[str]]:
    """Order classes for the rows of a matrix, and name them, or some of them where they are many.

    Returns:
        Numbers of the classes, and a name for each row; empty names are not shown. More than
        `MOST_NUMBERS` are ordered by their coarse classes, whose names stand in their middle.
    """
    order, names = torch.arange(dataset.classes), list(dataset.class_names)
    if dataset.classes <= canvas.MOST_NUMBERS:
        return order, names
    shown = [""] * dataset.classes
    if dataset.coarse_of is None:
        every = -(-dataset.classes // canvas.MOST_NUMBERS)
        shown[::every] = names[::every]
        return order, shown
    order = dataset.coarse_of.argsort(stable=True)
    sizes = dataset.coarse_of.bincount(minlength=len(dataset.coarse_names)).tolist()
    first = 0
    for name, size in zip(dataset.coarse_names, sizes, strict=True):
        if size:
            shown[first + size // 2] = name
        first += size
    return order, shown
