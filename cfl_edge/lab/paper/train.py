"""Train a recipe of the paper on labelled images."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch

import cfl_edge
from cfl_edge.core.allocator import keep_freed_memory
from cfl_edge.core.device import choose_device
from cfl_edge.errors import UsageError
from cfl_edge.lab.data.dataset import Dataset, Split, fingerprint, split
from cfl_edge.lab.machine import cores, cpu_model, torch_facts
from cfl_edge.lab.paper.recipes import (
    batch_for,
    find_recipe,
    kind_of,
    scaled_rate,
)
from cfl_edge.lab.paper.run import Accuracies, Precision, RunConfig, RunResult
from cfl_edge.lab.paper.trainer import Images, Trainer, accuracies
from cfl_edge.lab.paper.training_files import (
    claim,
    load_checkpoint,
    load_result,
    save_checkpoint,
    save_result,
)
from cfl_edge.lab.paper.zero_shot import coarse_scores
from cfl_edge.lab.rules.labelled_network import LabelledNetwork
from cfl_edge.lab.rules.rule import Rule
from cfl_edge.loop.interrupts import Interrupts
from cfl_edge.model.lock import ModelLock
from cfl_edge.stream.source import Notice, log_notice

CHECKPOINT_S = 60.0  # between two checkpoints: what an interruption costs at most


@dataclass(frozen=True)
class TrainOptions:
    """What a run may be told; None takes the recipe's.

    Args:
        epochs: Times through the training images.
        epochs_scale: Multiplies the recipe's epochs where `epochs` is None.
        batch: Samples in a step.
        learning_rate: At the first step.
        train_images: How many images to learn from, balanced over the classes; all if there are
            fewer.
        test_images: How many to report on, likewise.
        validation: Share of the training images that select the best epoch.
        seed: Of everything random but the choice of images.
        device: `auto`, `cpu` or `cuda`.
        precision: `float32`, or `bfloat16` for the products of a step.
        options: Of the rule, for trials.
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
    options: dict[str, Any] = field(default_factory=dict)


@dataclass
class TrainProgress:
    """Where a run is.

    Args:
        recipe: Its name.
        epoch: The current one, from 1.
        epochs: How many there are.
        step: Steps done of the current epoch.
        steps: How many it has.
        losses: Mean of the epoch so far, by layer.
        validation: Accuracies after the epoch before, by readout.
        ended: Whether the epoch has just ended.
    """

    recipe: str
    epoch: int
    epochs: int
    step: int
    steps: int
    losses: dict[str, float]
    validation: Accuracies
    ended: bool


def plan_run(
    name: str, dataset: Dataset, options: TrainOptions, *, kind: str | None = None
) -> tuple[RunConfig, Split]:
    """Work out what a run is.

    Args:
        name: Of the recipe.
        dataset: The images.
        options: What was asked for.
        kind: `mnist`, `cifar10` or `cifar100`; by default what the data is most like.

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
        options=options.options,
        recipe_options=recipe.described(kind),
    )
    return config, parts


def _at_most(wanted: int | None, available: int) -> int | None:
    return None if wanted is None else min(wanted, available)


def train(
    config: RunConfig,
    dataset: Dataset,
    parts: Split,
    out: Path,
    *,
    on_progress: Callable[[TrainProgress], None] = lambda _: None,
    on_notice: Notice = log_notice,
) -> RunResult | None:
    """Train, test, and write the weights and the result into a folder.

    A second call with the same configuration goes on where the first was interrupted, to the same
    bits, and returns the result of a run that is done.

    Args:
        config: The run, of `plan_run`.
        dataset: The images.
        parts: Which of them train, select and test.
        out: The folder.
        on_progress: Called after every step.
        on_notice: Called with what happens on the way.

    Returns:
        The result, or None after Ctrl-C or SIGTERM: a checkpoint is in the folder then.

    Raises:
        UsageError: The folder holds another run.
        ModelDamagedError: The checkpoint is damaged.
        ModelLockedError: Another process is at the same run.
        ModelWriteError: Disk full, no permission.
    """
    with ModelLock(out):
        return _train(config, dataset, parts, out, on_progress, on_notice)


def _train(
    config: RunConfig,
    dataset: Dataset,
    parts: Split,
    out: Path,
    on_progress: Callable[[TrainProgress], None],
    on_notice: Notice,
) -> RunResult | None:
    claim(out, config)
    finished = load_result(out)
    if finished is not None:
        on_notice(f"{out} is done: its result is shown")
        return finished
    keep_freed_memory()
    trainer = new_trainer(config, dataset, parts)
    if load_checkpoint(out, trainer):
        done = len(trainer.state.epochs)
        on_notice(f"{out} goes on after {done} epochs and {trainer.state.step} steps")
    saved = time.monotonic()
    with Interrupts() as interrupts:
        while not trainer.is_done:
            epoch = trainer.step()
            on_progress(_progress(trainer, ended=epoch is not None))
            if interrupts.requested:
                save_checkpoint(out, trainer)
                on_notice(f"interrupted: the same command goes on from {out}")
                return None
            if time.monotonic() - saved >= CHECKPOINT_S:
                save_checkpoint(out, trainer)
                saved = time.monotonic()
    result = _result(trainer, dataset)
    save_result(out, trainer, result)
    return result


def new_trainer(config: RunConfig, dataset: Dataset, parts: Split) -> Trainer:
    """Build the rule of a run with fresh weights, and its trainer."""
    recipe = find_recipe(config.recipe)
    recipe = replace(recipe, options={**recipe.options, **config.options})
    torch.manual_seed(config.seed)
    rule = recipe.build(
        config.kind, dataset.input_shape, dataset.classes, learning_rate=config.learning_rate
    ).to(config.device)
    factor = recipe.schedule(config.kind).factor
    return Trainer(rule, config, factor, Images(dataset, parts, config.device))


def _progress(trainer: Trainer, *, ended: bool) -> TrainProgress:
    epochs = trainer.state.epochs
    number = len(epochs) if ended else len(epochs) + 1
    return TrainProgress(
        trainer.config.recipe,
        number,
        trainer.config.epochs,
        trainer.steps if ended else trainer.state.step,
        trainer.steps,
        epochs[-1].losses if ended else trainer.losses(),
        epochs[-1].validation if epochs else {},
        ended,
    )


def _result(trainer: Trainer, dataset: Dataset) -> RunResult:
    begin = time.monotonic()
    images, coarse_of = trainer.images, dataset.coarse_of
    coarse: Accuracies = {}
    if coarse_of is not None:
        coarse = accuracies(
            lambda x: coarse_scores(trainer.rule, x, coarse_of),
            images,
            images.x_test,
            coarse_of.to(images.y_test.device)[images.y_test],
        )
    epochs = trainer.state.epochs
    last = trainer.test()
    return RunResult(
        trainer.config,
        trainer.rule.parameter_count(),
        last_test=last,
        best_epoch={name: number for name, (_, number) in trainer.state.best.items()},
        best_test=trainer.test_best(last),
        coarse_test=coarse,
        curve=epochs,
        seconds=sum(epoch.seconds for epoch in epochs) + time.monotonic() - begin,
        machine={
            "cpu": cpu_model(),
            "cores": cores(),
            "threads": torch.get_num_threads(),
            **torch_facts(trainer.config.device),
            "cfl_edge": cfl_edge.__version__,
        },
        classifier_parameters=_classifier_parameters(trainer.rule),
    )


def _classifier_parameters(rule: Rule) -> int:
    model = getattr(rule, "model", None)
    if not isinstance(model, LabelledNetwork) or model.classifier is None:
        return 0
    return sum(p.numel() for p in model.classifier.parameters())
