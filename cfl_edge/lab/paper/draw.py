"""Draw a figure of the paper, from a run that is done or is trained for it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import safetensors
import safetensors.torch

from cfl_edge.errors import DataError, ModelDamagedError, quoted, require
from cfl_edge.lab import canvas
from cfl_edge.lab.data.dataset import fingerprint
from cfl_edge.lab.paper.figures.attention import check_attention, draw_attention
from cfl_edge.lab.paper.figures.correlation import draw_correlation
from cfl_edge.lab.paper.figures.features import check_features, draw_features
from cfl_edge.lab.paper.figures.matrices import check_matrices, draw_matrices
from cfl_edge.lab.paper.options import ReproduceSettings, TrainOptions
from cfl_edge.lab.paper.plan import plan_run
from cfl_edge.lab.paper.reproduce import data_sets, paper_name
from cfl_edge.lab.paper.run import RunResult
from cfl_edge.lab.paper.table import chosen
from cfl_edge.lab.paper.train import run_in
from cfl_edge.lab.paper.trainer import Trainer
from cfl_edge.lab.paper.training_files import MODEL, RUNS, read_results
from cfl_edge.model.replacing import replace_files
from cfl_edge.notices import counted
from cfl_edge.view.reporter import Reporter

FOLDER = "figures"  # in the folder of a reproduction


@dataclass(frozen=True)
class RunFigure:
    """A figure that shows one run.

    Args:
        data: The paper's data set.
        images: Images that it shows by default; 0 where their number cannot be chosen.
        check: Refuses, before any training, a rule or a number of images that it cannot show.
        draw: Returns the PNG, given the trained rule, a title and the number of images.
        recipe: The system that it shows by default.
        needs_sklearn: Whether scikit-learn takes part.
    """

    data: str
    images: int
    check: Callable[[Trainer, int], None]
    draw: Callable[[Trainer, str, int], bytes]
    recipe: str = "cfl-conv512"
    needs_sklearn: bool = False


CORRELATION, CORRELATION_DATA = "figure1", "cifar100"
# The paper does not say how many images its t-SNE shows.
FEATURES = RunFigure("cifar10", 2000, check_features, draw_features, needs_sklearn=True)
RUN_FIGURES = {
    "figure2": RunFigure("cifar10", 6, check_attention, draw_attention),
    "figure3": RunFigure("cifar10", 3, check_attention, partial(draw_attention, of_class="horse")),
    "figure4": RunFigure("cifar10", 6, check_attention, partial(draw_attention, share_wrong=0.0)),
    "figure5": RunFigure("cifar10", 6, check_attention, partial(draw_attention, share_wrong=1.0)),
    "figure6": replace(FEATURES, data="mnist"),
    "figure7": FEATURES,
    "figure8": replace(FEATURES, recipe="cfl-conv512-feat-only"),
    "figure9": replace(FEATURES, recipe="cfl-conv512-batch-only"),
    "figure10": RunFigure("cifar10", 0, check_matrices, draw_matrices),
}


def draw_figure(settings: ReproduceSettings, reporter: Reporter) -> Path | None:
    """Draw a figure into `out/figures`; its run is one of those that `reproduce` leaves in `out`.

    Any data may stand in for the figure's own.

    | figure | shows | of |
    |---|---|---|
    | `figure1` | zero-shot against fine accuracy | all finished runs on CIFAR-100 in `out` |
    | `figure2` | where in an image each layer finds a label | CIFAR-10 |
    | `figure3` | the same for horses | CIFAR-10 |
    | `figure4` | the same for images that were recognised | CIFAR-10 |
    | `figure5` | the same for those that were not | CIFAR-10 |
    | `figure6` | t-SNE of each layer's features | MNIST |
    | `figure7` | the same | CIFAR-10 |
    | `figure8`, `figure9` | the same of L_feat alone and of L_batch alone | CIFAR-10 |
    | `figure10` | similarity of the label embeddings, confusion of the prediction | CIFAR-10 |

    Args:
        settings: One of these as `what`, the system (`figure1` shows all), the number of images,
            and the budget of the run.
        reporter: Told after every step of the training.

    Returns:
        The file; None after Ctrl-C, SIGTERM or SIGHUP, and the same call resumes the run.

    Raises:
        UsageError: A wrong option, a recipe that has nothing to show there, or scikit-learn is not
            installed.
        DataError: A source cannot be read; too few runs for `figure1`.
        ModelDamagedError: The weights of the run are damaged.
        ModelWriteError: Disk full, no permission.
    """
    what, out = settings.what, settings.out
    if what == CORRELATION:
        return _correlation(settings, reporter)
    figure = RUN_FIGURES[what]
    if figure.needs_sklearn:
        require("sklearn", what)
    images = settings.images or figure.images
    dataset = data_sets(settings.data, [figure.data], reporter.notice)[figure.data]
    options = TrainOptions.of(settings, seed=0)
    plan = plan_run(settings.recipe or figure.recipe, dataset, options, kind=paper_name(dataset))
    trainer = Trainer(plan)
    if len(trainer.images.x_test) == 0:
        raise DataError("the data has no test images", hint="x_test and y_test in the file")
    figure.check(trainer, images)  # before hours of training
    result = run_in(out, plan, reporter)
    if result is None:
        return None
    _load(trainer, out / RUNS / plan.config.key() / MODEL)
    content = figure.draw(trainer, title(result), images)
    return _write(out, f"{what}-{plan.config.data}-{plan.config.recipe}.png", content)


def title(result: RunResult) -> str:
    """Describe a run and its accuracy.

    Example:
        >>> from cfl_edge.lab.paper.run import RunConfig
        >>> config = RunConfig("bp-fc", "digits", "ab12", "mnist", 0, 1, 32, 1e-3, 9000, 10, 2000)
        >>> print(title(RunResult(config, 7, {"classifier": 0.5}, {}, {}, {}, [], 1.0)))
        bp-fc on digits: 1 epoch of 9,000 images, test accuracy 50.0 % (2,000 images)
    """
    config, accuracy = result.config, chosen(result.last_test, "prediction") or 0.0
    return (
        f"{config.recipe} on {canvas.literal(config.data, 30)}: "
        f"{counted(config.epochs, 'epoch')} of {config.train_images:,} images, "
        f"test accuracy {100 * accuracy:.1f} % "
        f"({config.test_images:,} images)"
    )


def _correlation(settings: ReproduceSettings, reporter: Reporter) -> Path:
    only = None
    if settings.data:
        sets = data_sets(settings.data, [CORRELATION_DATA], reporter.notice)
        only = fingerprint(sets[CORRELATION_DATA])
    data, content = draw_correlation(read_results(settings.out).values(), only)
    return _write(settings.out, f"{CORRELATION}-{data}.png", content)


def _write(out: Path, name: str, content: bytes) -> Path:
    (path,) = replace_files(out / FOLDER, {name: content})
    return path


def _load(trainer: Trainer, path: Path) -> None:
    try:
        trainer.rule.load_state_dict(safetensors.torch.load_file(path))
    except (OSError, RuntimeError, safetensors.SafetensorError) as error:
        reason = " ".join(str(error).split())
        raise ModelDamagedError(
            f"{path} cannot be read: {reason}",
            hint=f"rm -r {quoted(path.parent)}  # the run is then trained again",
        ) from error
