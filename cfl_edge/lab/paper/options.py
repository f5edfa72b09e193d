"""The options of `train` and `reproduce`, declared once for the command line and for Python."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Literal, Self, get_args

from pydantic import Field, NonNegativeInt, PositiveFloat

from cfl_edge.config.settings import Device, Option, Settings
from cfl_edge.lab.paper.run import Augmentation, Precision

COUNT, SHARE = Field(ge=1), Field(ge=0, lt=1)
BY_RECIPE = "the recipe's"
DATA = "FILE.npz, a folder of images, mnist, fashionmnist, cifar10 or cifar100"
What = Literal[
    "table1", "table2", "table3", "table6", "figure1", "figure2", "figure3", "figure4", "figure5",
    "figure6", "figure7", "figure8", "figure9", "figure10",
]  # fmt: skip


class Budget(Settings):
    """How long and on how many images a run trains; None takes the recipe's value."""

    epochs: Annotated[
        int | None, COUNT, Option("Epochs of training.", panel="Training", default=BY_RECIPE)
    ] = None
    epochs_scale: Annotated[PositiveFloat, Option("Multiply the recipe's epochs by this.")] = 1.0
    batch: Annotated[int | None, COUNT, Option("Batch size.", default=BY_RECIPE)] = None
    train_images: Annotated[
        int | None, COUNT, Option("Training images, balanced over the classes.", default="all")
    ] = None
    test_images: Annotated[
        int | None, COUNT, Option("Test images, balanced over the classes.", default="all")
    ] = None
    validation: Annotated[
        float, SHARE, Option("Share of the training images that selects the best epoch.")
    ] = 0.1
    device: Device = "auto"
    precision: Annotated[
        Precision, Option("Matrix-multiply precision; bfloat16 is faster where supported.")
    ] = "float32"

    batch_loss: Annotated[
        Literal["printed", "bounded"] | None,
        Option(
            "Form of the batch loss of L_total-B (Eq. 4): as printed, without a least value, or "
            "bounded by the positive in its denominator, as in InfoNCE.",
            default=BY_RECIPE,
        ),
    ] = None
    feature_loss: Annotated[
        Literal["printed", "no_self", "usual"] | None,  # as in `core/losses.py`, which loads torch
        Option(
            "Form of the feature loss (Eq. 9): as printed, without the sample itself among its "
            "positives, or the usual supervised contrastive loss.",
            default=BY_RECIPE,
        ),
    ] = None
    classifier_start: Annotated[
        Literal["embeddings", "drawn"] | None,
        Option(
            "Where f^L starts: at the label embeddings, or as torch draws it.", default=BY_RECIPE
        ),
    ] = None
    fc_loss: Annotated[
        Literal["layer-norm", "relu"] | None,
        Option(
            "What the loss of a fully connected layer reads: the output of its LayerNorm (Table 4 "
            "as printed), or of its ReLU.",
            default=BY_RECIPE,
        ),
    ] = None
    augmentation: Annotated[
        Literal[Augmentation, "source"],
        Option("Of colour images; source takes that of the method's own paper."),
    ] = "crop-flip"
    batch_norm: Annotated[
        Literal["running", "re-estimated"] | None,
        Option(
            "Statistics of BatchNorm in evaluations: running means of training, or re-estimated "
            "on training images without augmentation.",
            default="running",
        ),
    ] = None


class TrainOptions(Budget):
    """A budget and what else a single run may be told.

    Example:
        >>> TrainOptions.of(Budget(epochs=2), seed=7).seed
        7
    """

    learning_rate: Annotated[
        PositiveFloat | None, Option("Learning rate of the first step.", default=BY_RECIPE)
    ] = None
    seed: Annotated[
        NonNegativeInt, Option("Random seed; the choice of images is always the same.")
    ] = 0

    @classmethod
    def of(cls, budget: Budget, seed: int, own: Mapping[str, str] | None = None) -> Self:
        """Return the options of one run within a budget, those of a row's own before the others."""
        asked = {name: getattr(budget, name) for name in Budget.model_fields}
        return cls.model_validate({**asked, **(own or {}), "seed": seed})


class TrainSettings(TrainOptions):
    """Every option of `cfl-edge train`."""

    recipe: Annotated[
        str,
        Option(
            "The system: cfl-conv256, bp-conv256, cfl-plus-conv512, …",
            panel="Options",
            example="cfl-conv256",
        ),
    ]
    data: Annotated[str, Option(f"{DATA}.", metavar="DATA", example="cifar10")]
    out: Annotated[
        Path | None, Option("Folder of the run.", default="runs/train/…", metavar="DIR")
    ] = None


class ReproduceSettings(Budget):
    """Every option of `cfl-edge reproduce`."""

    what: Annotated[
        What,
        Option(
            f"What to reproduce: {', '.join(get_args(What))}.", positional=True, example="table1"
        ),
    ]
    data: Annotated[
        list[str],
        Option(
            f"{DATA}; may be repeated.",
            panel="Options",
            metavar="DATA",
            default="torchvision's data sets",
        ),
    ] = Field(default_factory=list)
    rows: Annotated[
        str | None,
        Option("Pattern of rows, such as 'cifar10/cfl-conv256*'.", default="all", metavar="ROWS"),
    ] = None
    seeds: Annotated[int, COUNT, Option("Runs of each row, with seeds from 0.")] = 1
    recipe: Annotated[
        str | None,
        Option(
            "The system that a figure shows.",
            default="cfl-conv512, in figures 8 and 9 that of one loss",
        ),
    ] = None
    images: Annotated[
        int | None, COUNT, Option("Images in a figure.", default="6, 3 in figure 3, 2000 for t-SNE")
    ] = None
    out: Annotated[Path, Option("Folder of runs and results.", metavar="DIR")] = Path(
        "runs/reproduce"
    )
