"""What a run will be, from a recipe, data and options."""

from __future__ import annotations

from dataclasses import dataclass

from cfl_edge.core.device import choose_device
from cfl_edge.errors import UsageError
from cfl_edge.lab.data.dataset import Dataset, Split, fingerprint, split
from cfl_edge.lab.paper.options import TrainOptions
from cfl_edge.lab.paper.recipes import batch_for, find_recipe, kind_of, scaled_rate
from cfl_edge.lab.paper.run import RunConfig


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
