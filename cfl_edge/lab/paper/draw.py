"""Draw a figure of the paper, from a run that is done or is trained for it."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Sequence
from pathlib import Path

import safetensors
import safetensors.torch
import torch
from torch import Tensor

from cfl_edge.errors import DataError, ModelDamagedError, UsageError
from cfl_edge.lab.data.dataset import Dataset, Split, fingerprint, split
from cfl_edge.lab.paper.figures.attention import attention, check_attention
from cfl_edge.lab.paper.figures.correlation import correlate, points
from cfl_edge.lab.paper.figures.features import check_features, layer_features, panel
from cfl_edge.lab.paper.figures.matrices import (
    check_embeddings,
    confusion_percent,
    cosine_similarities,
    predict_all,
)
from cfl_edge.lab.paper.reproduce import (
    RUNS,
    DataSets,
    append_result,
    paper_name,
    read_results,
)
from cfl_edge.lab.paper.run import RunConfig, RunResult
from cfl_edge.lab.paper.table import chosen
from cfl_edge.lab.paper.train import TrainOptions, TrainProgress, new_trainer, plan_run, train
from cfl_edge.lab.paper.trainer import Trainer
from cfl_edge.lab.paper.training_files import MODEL
from cfl_edge.model.writing import replace_files
from cfl_edge.stream.source import Notice, log_notice

FIGURES = "figures"  # in the folder of a reproduction
DATA_OF = {
    "figure1": "cifar100",
    "figure2": "cifar10",
    "figure6": "mnist",
    "figure7": "cifar10",
    "figure10": "cifar10",
}
IMAGES = {"figure2": 6, "figure6": 2000, "figure7": 2000}  # the paper does not say for t-SNE
MOST_CLASSES = 20  # that get a label of their own


def figures(
    what: str,
    sources: Sequence[str],
    out: Path,
    *,
    recipe: str = "cfl-conv512",
    options: TrainOptions | None = None,
    images: int | None = None,
    on_progress: Callable[[TrainProgress], None] = lambda _: None,
    on_notice: Notice = log_notice,
) -> list[Path]:
    """Draw a figure into `out/figures`; its run is one of those that `reproduce` keeps in `out`.

    | figure | shows | of |
    |---|---|---|
    | `figure1` | zero-shot against fine accuracy | all finished runs on CIFAR-100 in `out` |
    | `figure2` | where in an image each layer finds a label (and the paper's 3 to 5) | CIFAR-10 |
    | `figure6` | t-SNE of each layer's features | MNIST |
    | `figure7` | the same (and the paper's 8 and 9, with another recipe) | CIFAR-10 |
    | `figure10` | similarity of the label embeddings, confusion of the prediction | CIFAR-10 |

    Args:
        what: One of these.
        sources: Data set, as `open_dataset` reads it; none for torchvision's. Any other data may
            stand in for the figure's own.
        out: Folder of the runs and results.
        recipe: The system that is shown; `figure1` shows all.
        options: The budget of its training.
        images: Images in `figure2` (6), test images in `figure6` and `figure7` (2,000).
        on_progress: Called after every step of the training.
        on_notice: Called with what happens on the way.

    Returns:
        What was written; nothing after Ctrl-C or SIGTERM, and the same call goes on then.

    Raises:
        UsageError: No such figure, a wrong option, a recipe that has nothing to show there, or
            matplotlib or scikit-learn is not installed.
        DataError: A source cannot be read; too few runs for `figure1`.
        ModelDamagedError: The weights of the run are damaged.
        ModelWriteError: Disk full, no permission.
    """
    if what not in DATA_OF:
        raise UsageError(f"{what!r} is none of {', '.join(DATA_OF)}", hint="reproduce figure2")
    if images is not None and images < 1:
        raise UsageError(f"--images is {images}, expected 1 or more", hint="leave --images out")
    _require("matplotlib.figure", "matplotlib", what)
    if what in ("figure6", "figure7"):
        _require("sklearn.manifold", "scikit-learn", what)
    if what == "figure1":
        return _figure1(sources, out, on_notice)
    dataset = DataSets(sources, [DATA_OF[what]], on_notice).get(DATA_OF[what])
    assert dataset is not None  # or else DataSets has raised
    config, parts = plan_run(recipe, dataset, options or TrainOptions(), kind=paper_name(dataset))
    trainer = new_trainer(config, dataset, parts)
    _check(what, trainer, images)  # before hours of training
    result = _result(config, dataset, parts, out, on_progress, on_notice)
    if result is None:
        return []
    _load(trainer, out / RUNS / config.key() / MODEL)
    content = _draw(what, trainer, dataset, parts, title(result), images or IMAGES.get(what, 0))
    return replace_files(out / FIGURES, {f"{what}-{config.data}-{config.recipe}.png": content})


def title(result: RunResult) -> str:
    """Say what a run is and what it came to.

    Example:
        >>> config = RunConfig("bp-fc", "digits", "ab12", "mnist", 0, 1, 32, 1e-3, 9000, 10, 2000)
        >>> print(title(RunResult(config, 7, {"classifier": 0.5}, {}, {}, {}, [], 1.0)))
        bp-fc on digits: 1 epoch of 9,000 images, test accuracy 50.0 % (2,000 images)
    """
    from cfl_edge.lab.paper.figures.canvas import literal

    config, accuracy = result.config, chosen(result.last_test, "prediction") or 0.0
    epochs = f"{config.epochs} epoch{'s' if config.epochs != 1 else ''}"
    return (
        f"{config.recipe} on {literal(config.data, 30)}: {epochs} of {config.train_images:,} "
        f"images, test accuracy {100 * accuracy:.1f} % ({config.test_images:,} images)"
    )


def _require(module: str, package: str, what: str) -> None:
    try:
        importlib.import_module(module)
    except ImportError:
        raise UsageError(
            f"{what} needs {package}, which is not installed", hint="pip install 'cfl-edge[plots]'"
        ) from None


def _figure1(sources: Sequence[str], out: Path, on_notice: Notice) -> list[Path]:
    from cfl_edge.lab.paper.figures.canvas import literal
    from cfl_edge.lab.paper.figures.plots import correlation_png

    only = None
    if sources:
        dataset = DataSets(sources, [DATA_OF["figure1"]], on_notice).get(DATA_OF["figure1"])
        assert dataset is not None
        only = fingerprint(dataset)
    found = points(read_results(out).values(), only)
    line = correlate([p.zero_shot for p in found], [p.fine for p in found])
    data = sorted({p.config.data for p in found})
    epochs = _range([p.config.epochs for p in found])
    images = _range([p.config.train_images for p in found])
    text = f"{literal(', '.join(data), 40)}: {epochs} epochs of {images} images"
    content = correlation_png(found, line, text)
    return replace_files(out / FIGURES, {f"figure1-{data[0]}.png": content})


def _range(numbers: Sequence[int]) -> str:
    low, high = min(numbers), max(numbers)
    return f"{low:,}" if low == high else f"{low:,} to {high:,}"


def _check(what: str, trainer: Trainer, images: int | None) -> None:
    """Refuse what cannot be drawn, whatever the training comes to."""
    rule, pictures = trainer.rule, trainer.images
    available = len(pictures.x_test)
    if available == 0:
        raise DataError("the data has no test images", hint="x_test and y_test in the file")
    if what == "figure2":
        check_attention(rule, pictures)
    elif what == "figure10":
        check_embeddings(rule)
    else:
        check_features(rule)
        fewest = 2 * len(set(pictures.y_test.tolist()))
        if min(images or IMAGES[what], available) < fewest:
            name = "--images" if images is not None and images < fewest else "--test-images"
            raise UsageError(
                f"{name} is {min(images or IMAGES[what], available)}, expected {fewest} or more: "
                "two of each class",
                hint=f"leave {name} out",
            )


def _result(
    config: RunConfig,
    dataset: Dataset,
    parts: Split,
    out: Path,
    on_progress: Callable[[TrainProgress], None],
    on_notice: Notice,
) -> RunResult | None:
    """Return the result of a run whose weights are in its folder; None after an interruption."""
    folder = out / RUNS / config.key()
    result = train(config, dataset, parts, folder, on_progress=on_progress, on_notice=on_notice)
    if result is not None and config.key() not in read_results(out):
        append_result(out, result)
    return result


def _load(trainer: Trainer, path: Path) -> None:
    try:
        trainer.rule.load_state_dict(safetensors.torch.load_file(path))
    except (OSError, RuntimeError, safetensors.SafetensorError) as error:
        reason = " ".join(str(error).split())
        raise ModelDamagedError(
            f"{path} cannot be read: {reason}",
            hint=f"rm -r {path.parent}, and the run is trained again",
        ) from error


def _draw(
    what: str, trainer: Trainer, dataset: Dataset, parts: Split, text: str, images: int
) -> bytes:
    from cfl_edge.lab.paper.figures import plots

    rule, pictures = trainer.rule, trainer.images
    if what == "figure2":
        return plots.attention_png(attention(rule, pictures, images), dataset.class_names, text)
    if what == "figure10":
        return _matrices(trainer, dataset, text)
    # Balanced, and a smaller choice is part of every larger one: of those that were reported on.
    test = split(dataset, test_images=min(images, len(parts.test))).test
    x, labels, names = dataset.x_test[test], dataset.y_test[test], dataset.class_names
    layers = layer_features(check_features(rule), pictures, x.to(pictures.x_test.device))
    text += f"\nt-SNE of the mean features of {len(test):,} test images; silhouette of the features"
    if dataset.classes > MOST_CLASSES and dataset.coarse_of is not None:
        labels, names = dataset.coarse_of[labels], dataset.coarse_names
        text += "\nby coarse class"
    return plots.features_png([panel(h, labels) for h in layers], labels, names, text)


def _matrices(trainer: Trainer, dataset: Dataset, text: str) -> bytes:
    from cfl_edge.lab.paper.figures.plots import matrices_png

    similarity = cosine_similarities(check_embeddings(trainer.rule)).cpu()
    predicted = predict_all(trainer.rule, trainer.images)
    confusion = confusion_percent(trainer.images.y_test, predicted, dataset.classes).cpu()
    order, names = class_order(dataset)
    similarity, confusion = (m[order][:, order] for m in (similarity, confusion))
    if dataset.classes > MOST_CLASSES and dataset.coarse_of is not None:
        text += "\nordered by coarse class"
    return matrices_png(similarity, confusion, names, text)


def class_order(dataset: Dataset) -> tuple[Tensor, list[str]]:
    """Order classes for the rows of a matrix, and name them, or every so many where they are many.

    Returns:
        Numbers of the classes, and a name for each row; empty names are not shown. More than
        `MOST_CLASSES` are ordered by their coarse classes, whose names stand in their middle.
    """
    order, names = torch.arange(dataset.classes), list(dataset.class_names)
    if dataset.classes <= MOST_CLASSES:
        return order, names
    shown = [""] * dataset.classes
    if dataset.coarse_of is None:
        every = -(-dataset.classes // MOST_CLASSES)
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
