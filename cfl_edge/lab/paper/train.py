"""Train a recipe of the paper on labelled images."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from cfl_edge.core.allocator import keep_freed_memory
from cfl_edge.defaults import VERSION
from cfl_edge.lab.machine import cores, cpu_model, torch_facts
from cfl_edge.lab.paper.plan import Plan
from cfl_edge.lab.paper.run import Accuracies, Epoch, RunResult
from cfl_edge.lab.paper.trainer import Trainer, accuracies
from cfl_edge.lab.paper.training_files import (
    RUNS,
    append_result,
    claim,
    load_checkpoint,
    load_result,
    read_results,
    require_free,
    save_checkpoint,
    save_result,
)
from cfl_edge.lab.rules.labelled_network import labelled_network_of
from cfl_edge.lab.rules.rule import Rule
from cfl_edge.loop.interrupts import Interrupts
from cfl_edge.model.lock import ModelLock
from cfl_edge.view.reporter import Reporter

CHECKPOINT_S = 60.0  # between two checkpoints at least: what an interruption costs
CHECKPOINT_SHARE = 0.05  # of the time, at most: hundreds of MB on a slow disk or a busy machine


def train(plan: Plan, out: Path, reporter: Reporter) -> RunResult | None:
    """Train, test, and write the weights and the result into a folder.

    A second call with the same configuration resumes an interrupted run, with the same bits as if
    it had not been interrupted, and returns the stored result of a finished one.

    Args:
        plan: The run, of `plan_run`.
        out: The folder.
        reporter: Told after every step and every epoch.

    Returns:
        The result, or None after Ctrl-C, SIGTERM or SIGHUP: the folder then holds a checkpoint.

    Raises:
        UsageError: The folder holds another run, or other files.
        ModelDamagedError: The checkpoint is damaged.
        ModelLockedError: Another process is at the same run.
        ModelWriteError: Disk full, no permission.
    """
    require_free(out)
    with ModelLock(out):
        claim(out, plan.config)
        finished = load_result(out)
        if finished is not None:
            reporter.notice(f"{out} is done: its result is shown")
            return finished
        trainer = _run(plan, out, reporter)
        if trainer is None:
            return None
        result = _result(trainer)
        save_result(out, trainer, result)
        return result


def run_in(out: Path, plan: Plan, reporter: Reporter) -> RunResult | None:
    """Train in the run's own folder, and add the result to the others.

    Args:
        out: Folder of the reproduction.
        plan: The run.
        reporter: Told after every step.

    Returns:
        The result; None after Ctrl-C, SIGTERM or SIGHUP.

    Raises:
        ModelLockedError: Another process is at the same run.
        ModelWriteError: Disk full, no permission.
    """
    key = plan.config.key()
    result = train(plan, out / RUNS / key, reporter)
    if result is not None and key not in read_results(out):
        append_result(out, result)
    return result


def _run(plan: Plan, out: Path, reporter: Reporter) -> Trainer | None:
    """Take all steps that are left; None after an interruption."""
    keep_freed_memory()
    trainer = Trainer(plan)
    if load_checkpoint(out, trainer):
        done = len(trainer.state.epochs)
        reporter.notice(f"{out} resumes after {done} epochs and {trainer.state.step} steps")
    saved, pause_s = time.monotonic(), CHECKPOINT_S
    with Interrupts() as interrupts:
        while not trainer.is_done:
            epoch = trainer.step()
            _tell(trainer, epoch, reporter)
            if interrupts.requested:
                save_checkpoint(out, trainer)
                reporter.notice(f"interrupted: run the same command again to resume from {out}")
                return None
            if (begin := time.monotonic()) - saved >= pause_s:
                save_checkpoint(out, trainer)
                saved = time.monotonic()
                pause_s = max(CHECKPOINT_S, (saved - begin) / CHECKPOINT_SHARE)
    return trainer


def _tell(trainer: Trainer, ended: Epoch | None, reporter: Reporter) -> None:
    """Show a step as a bar, and tell programs of the end of an epoch."""
    config, epochs = trainer.config, trainer.state.epochs
    steps = len(epochs) * trainer.steps + trainer.state.step
    number, losses = len(epochs) + 1, trainer.losses()
    if ended is not None:
        number, losses = ended.number, ended.losses
        told = {"epoch": number, "losses": losses, "validation": ended.validation}
        reporter.event("epoch", {"recipe": config.recipe, "epochs": config.epochs, **told})
    figures = [f"epoch {number}/{config.epochs}"]
    figures.append(" ".join(["loss", *(f"{value:.2f}" for value in losses.values())]))
    if epochs and epochs[-1].validation:
        shares = (f"{name} {100 * value:.1f}" for name, value in epochs[-1].validation.items())
        figures.append(f"validation % {', '.join(shares)}")
    reporter.bar(config.recipe, steps, config.epochs * trainer.steps, "  ".join(figures))


def _result(trainer: Trainer) -> RunResult:
    begin = time.monotonic()
    images, coarse_of = trainer.images, trainer.plan.dataset.coarse_of
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
            "cfl_edge": VERSION,
        },
        classifier_parameters=_classifier_parameters(trainer.rule),
    )


def _classifier_parameters(rule: Rule[Any]) -> int:
    model = labelled_network_of(rule)
    if model is None or model.classifier is None:
        return 0
    return sum(p.numel() for p in model.classifier.parameters())


@torch.no_grad()
def coarse_scores(rule: Rule[Any], x: Tensor, coarse_of: Tensor) -> dict[str, Tensor]:
    """Score the coarse classes at every layer of a rule that has label embeddings (section 4.4).

    They were never labels: their embeddings are the means of those of their fine classes.

    Args:
        rule: One of CFL, or of BP with label embeddings; another gives no scores.
        x: Normalised images, (N, C, H, W).
        coarse_of: Coarse class of each fine class, (Z,).

    Returns:
        Scores by readout, (N, Z_coarse).
    """
    model, loss = labelled_network_of(rule), getattr(rule, "loss", None)
    if model is None or model.embeddings is None or loss is None:
        return {}
    rule.eval()
    coarse_of, fine = coarse_of.to(x.device), model.embeddings
    counts = coarse_of.bincount()
    rows = fine.new_zeros(len(counts), fine.shape[1]).index_add_(0, coarse_of, fine)
    return model.scores_and_features(x, loss, rows / counts[:, None])[0]
