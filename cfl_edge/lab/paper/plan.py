"""What a run will be: the options a user may set, and the run that follows from them."""

from __future__ import annotations

from dataclasses import dataclass

from cfl_edge.core.device import choose_device
from cfl_edge.errors import UsageError
from cfl_edge.lab.data.dataset import Dataset, Split, fingerprint, split
from cfl_edge.lab.paper.recipes import batch_for, find_recipe, kind_of, scaled_rate
from cfl_edge.lab.paper.run import Precision, RunConfig


@dataclass(frozen=True)
class TrainOptions:
    """The budget of a run; None takes the recipe's value.

    Args:
        epochs: Times through the training images.
        epochs_scale: Multiplies the recipe's epochs where `epochs` is None.
        batch: Samples in a step.
        learning_rate: At the first step.
        train_images: Number of training images, balanced over the classes; all if there are fewer.
        test_images: Number of test images, likewise.
        validation: Share of the training images that selects the best epoch.
        seed: Seed of everything random except the choice of images.
        device: `auto`, `cpu` or `cuda`.
        precision: Of the matrix products of a step, `float32` or `bfloat16`.
    """

    epochs: int | None = None
    epochs_scale: float = 1.0
    batch: int | None = None
    learning_rate: float | None = None
    train_images: int | None = None
    test_images: int | None = None
    validation: float = 0.1
    seed: int = 0
    device: str = "auto"
    precision: Precision = "float32"


@dataclass(frozen=True)
class Plan:
    """A run that can begin.

    Args:
        config: Everything that its result depends on.
        dataset: The images.
        split: Which of them train, select and test.
    """

    config: RunConfig
    dataset: Dataset
    split: Split


def plan_run(
    name: str, dataset: Dataset, options: TrainOptions, *, kind: str | None = None
) -> Plan:
    """Work out a run from a recipe, data and options.

    Args:
        name: Of the recipe.
        dataset: The images.
        options: What was asked for.
        kind: `mnist`, `cifar10` or `cifar100`; by default the one that the data resembles.

    Raises:
        UsageError: A wrong option.
    """
    recipe = find_recipe(name)
    for label, value in (
        ("--epochs", options.epochs),
        ("--epochs-scale", options.epochs_scale),
        ("--batch", options.batch),
        ("--learning-rate", options.learning_rate),
    ):
        if value is not None and value <= 0:
            raise UsageError(f"{label} is {value}, expected more than 0", hint=f"leave {label} out")
    parts = split(dataset, validation=options.validation)  # never more images than there are
    parts = split(
        dataset,
        validation=options.validation,
        train_images=_at_most(options.train_images, len(parts.train)),
        test_images=_at_most(options.test_images, len(parts.test)),
    )
    kind = kind or kind_of(dataset.input_shape[0], dataset.classes)
    schedule = recipe.schedule(kind)
    batch = options.batch or batch_for(recipe.batch, len(parts.train))
    if batch > len(parts.train):
        raise UsageError(
            f"--batch is {batch}, expected at most the {len(parts.train)} training images",
            hint=f"--batch {len(parts.train)}",
        )
    rate = options.learning_rate or scaled_rate(
        recipe.learning_rate or schedule.learning_rate, recipe.batch, batch
    )
    config = RunConfig(
        recipe=name,
        data=dataset.name,
        fingerprint=fingerprint(dataset),
        kind=kind,
        seed=options.seed,
        epochs=options.epochs or max(1, round(schedule.epochs * options.epochs_scale)),
        batch=batch,
        learning_rate=rate,
        train_images=len(parts.train),
        validation_images=len(parts.validation),
        test_images=len(parts.test),
        device=choose_device(options.device),
        precision=options.precision,
        recipe_options=recipe.described(kind),
    )
    return Plan(config, dataset, parts)


def _at_most(wanted: int | None, available: int) -> int | None:
    return None if wanted is None else min(wanted, available)
