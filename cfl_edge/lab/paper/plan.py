"""What a run will be, from a recipe, data and options."""

from __future__ import annotations

from dataclasses import dataclass

from cfl_edge.core.device import choose_device
from cfl_edge.errors import UsageError
from cfl_edge.lab.data.dataset import Dataset, Split, fingerprint, split
from cfl_edge.lab.paper.options import TrainOptions
from cfl_edge.lab.paper.recipes import Recipe, batch_for, find_recipe, kind_of, scaled_rate
from cfl_edge.lab.paper.run import RunConfig

COLOURS = 3  # channels of an image that is augmented


@dataclass(frozen=True)
class Plan:
    """A run that can begin.

    Args:
        config: Everything that its result depends on.
        dataset: The images.
        split: Which of them train, select and test.
        recipe: With what was asked to differ from it.
    """

    config: RunConfig
    dataset: Dataset
    split: Split
    recipe: Recipe


def plan_run(
    name: str,
    dataset: Dataset,
    options: TrainOptions,
    *,
    kind: str | None = None,
    strict: bool = True,
) -> Plan:
    """Work out a run from a recipe, data and options.

    Args:
        name: Of the recipe.
        dataset: The images.
        options: What was asked for.
        kind: `mnist`, `cifar10` or `cifar100`; by default the one that the data resembles.
        strict: Refuse an option that the recipe does not have; False leaves it out, as for the rows
            of a table.

    Raises:
        UsageError: A wrong option.
    """
    recipe = find_recipe(name)
    changes = _changes(name, recipe, options, strict=strict)
    wanted = recipe.augmentation if options.augmentation == "source" else options.augmentation
    if wanted != "crop-flip" and dataset.input_shape[0] == COLOURS:  # digits are never augmented
        changes["augmentation"] = wanted
    recipe = recipe.changed(changes)
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
        options=changes,
        recipe_options=recipe.described(kind),
    )
    return Plan(config, dataset, parts, recipe)


def _changes(name: str, recipe: Recipe, options: TrainOptions, *, strict: bool) -> dict[str, str]:
    """Return what is to differ from the recipe, by the name of the option.

    What is asked for and is so already makes no other run.
    """
    changes: dict[str, str] = {}
    for key in ("batch_loss", "feature_loss", "classifier_start", "fc_loss", "batch_norm"):
        value, own = getattr(options, key), recipe.own(key)
        if value is None or value == own:
            continue
        if own is not None:
            changes[key] = value
        elif strict:
            option = f"--{key.replace('_', '-')}"
            raise UsageError(
                f"{option} is {value}, which changes nothing of {name}", hint=f"omit {option}"
            )
    return changes


def _at_most(wanted: int | None, available: int) -> int | None:
    return None if wanted is None else min(wanted, available)
