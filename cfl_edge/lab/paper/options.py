"""The options of a training run, declared once for the command line and for Python."""

from __future__ import annotations

from typing import Annotated, Self

from pydantic import Field

from cfl_edge.config.settings import Option, Settings
from cfl_edge.defaults import DeviceName
from cfl_edge.lab.paper.run import Precision

TRAINING = "Training"
COUNT = Field(ge=1)
BY_RECIPE = "the recipe's"


class Budget(Settings):
    """How long and on how many images a run trains; None takes the recipe's value."""

    epochs: Annotated[
        int | None, COUNT, Option("Epochs of training.", TRAINING, default=BY_RECIPE)
    ] = None
    epochs_scale: Annotated[
        float, Field(gt=0), Option("Multiply the recipe's epochs by this.", TRAINING)
    ] = 1.0
    batch: Annotated[int | None, COUNT, Option("Batch size.", TRAINING, default=BY_RECIPE)] = None
    train_images: Annotated[
        int | None,
        COUNT,
        Option("Training images, balanced over the classes.", TRAINING, default="all"),
    ] = None
    test_images: Annotated[
        int | None,
        COUNT,
        Option("Test images, balanced over the classes.", TRAINING, default="all"),
    ] = None
    validation: Annotated[
        float,
        Field(ge=0, lt=1),
        Option("Share of the training images that selects the best epoch.", TRAINING),
    ] = 0.1
    device: Annotated[DeviceName, Option("Where the network runs.", TRAINING)] = "auto"
    precision: Annotated[
        Precision,
        Option("Matrix-multiply precision; bfloat16 is faster where supported.", TRAINING),
    ] = "float32"


class TrainOptions(Budget):
    """A budget and what else a single run may be told.

    Example:
        >>> TrainOptions.of(Budget(epochs=2), seed=7).seed
        7
    """

    learning_rate: Annotated[
        float | None,
        Field(gt=0),
        Option("Learning rate of the first step.", TRAINING, default=BY_RECIPE),
    ] = None
    seed: Annotated[
        int, Field(ge=0), Option("Random seed; the choice of images is always the same.", TRAINING)
    ] = 0

    @classmethod
    def of(cls, budget: Budget, seed: int) -> Self:
        """Return the options of one run within a budget."""
        return cls(seed=seed, **{name: getattr(budget, name) for name in Budget.model_fields})
