"""Train a system on a CUDA device for as many epochs as fit a time; print one line of JSON.

`gpu_train.py DATA RECIPE SECONDS [--eager]`: images stay on the device as bytes, weights are
channels last, products in bfloat16, and a step is one CUDA graph unless `--eager`. The learning
rate has the schedule of Table 5 over the epochs that fit; two epochs are timed beforehand.
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from cfl_edge.lab.data.dataset import Dataset
from cfl_edge.lab.data.npz import read_npz
from cfl_edge.lab.paper.options import TrainOptions
from cfl_edge.lab.paper.plan import plan_run
from cfl_edge.lab.paper.trainer import Trainer
from cfl_edge.lab.rules.rule import Rule

WARM_UP = 3  # steps before a capture: optimizer states exist then, and cuDNN has chosen
TIMED = 2  # epochs; the last one counts
MAX_EPOCHS = 500  # the paper's, for CIFAR-10
RESERVE_S = 8.0  # for the test images, twice, and the best weights


class CapturedStep:
    """A rule's update as one CUDA graph, so that its hundreds of kernels start with one call.

    The first steps run as usual, on a stream of their own, as capturing asks for. A learning rate
    is part of a graph, so the next one is captured where the schedule changes it.

    Args:
        rule: Its `update` must not wait for the device; that of CFL and BP does not.
    """

    def __init__(self, rule: Rule[Any]) -> None:
        self._update, self._optimizers = rule.update, rule.optimizers
        self._steps = 0
        self._rates: list[float] = []
        self._graph: torch.cuda.CUDAGraph | None = None

    def __call__(self, x: Tensor, labels: Tensor) -> dict[str, Tensor]:
        """Do what `Rule.update` does."""
        self._steps += 1
        if self._steps <= WARM_UP:
            stream, current = torch.cuda.Stream(), torch.cuda.current_stream()
            stream.wait_stream(current)
            with torch.cuda.stream(stream):
                losses = self._update(x, labels)
            current.wait_stream(stream)
            return losses
        rates = [optimizer.learning_rate for optimizer in self._optimizers]
        if self._graph is None or rates != self._rates:
            self._rates, self._x, self._labels = rates, x.clone(), labels.clone()
            self._graph = torch.cuda.CUDAGraph()
            with torch.cuda.graph(self._graph):  # records, computes nothing
                self._losses = self._update(self._x, self._labels)
        self._x.copy_(x)
        self._labels.copy_(labels)
        self._graph.replay()
        return self._losses


def trainer_of(
    dataset: Dataset, recipe: str, epochs: int, device: str, *, captured: bool
) -> Trainer:
    """Return the trainer of a run on a device."""
    options = TrainOptions(epochs=epochs, validation=0.04, device=device, precision="bfloat16")
    trainer = Trainer(plan_run(recipe, dataset, options))
    trainer.rule.to(memory_format=torch.channels_last)
    if captured:
        trainer.rule.update = CapturedStep(trainer.rule)  # type: ignore[method-assign]
    return trainer


def timed_epoch_s(trainer: Trainer) -> float:
    """Return how long an epoch takes, its validation included."""
    begin = time.monotonic()
    while len(trainer.state.epochs) < TIMED:
        if trainer.step() is not None and len(trainer.state.epochs) < TIMED:
            begin = time.monotonic()
    return time.monotonic() - begin


def train_within(
    dataset: Dataset, recipe: str, limit_s: float, device: str, *, captured: bool
) -> dict[str, Any]:
    """Train for as many epochs as fit, and return what is known of the run; errors in %.

    Args:
        dataset: All of it is trained on but 4 %, which select the best epoch.
        recipe: Name in `RECIPES`.
        limit_s: Of everything.
        device: `cuda`, or `cpu` in tests.
        captured: Whether a step is one CUDA graph.
    """
    begin = time.monotonic()
    epoch_s = timed_epoch_s(trainer_of(dataset, recipe, MAX_EPOCHS, device, captured=captured))
    left_s = limit_s - RESERVE_S - (time.monotonic() - begin)
    epochs = min(MAX_EPOCHS, max(1, int(0.95 * left_s / epoch_s)))
    trainer = trainer_of(dataset, recipe, epochs, device, captured=captured)
    if device == "cuda":
        torch.cuda.reset_peak_memory_stats()
    while not trainer.is_done and time.monotonic() - begin < limit_s - RESERVE_S / 2:
        trainer.step()
    last = trainer.test()
    best = trainer.test_best(last) if trainer.is_done else {}
    config = trainer.config
    return {
        "recipe": recipe,
        "captured": captured,
        "epochs": len(trainer.state.epochs),
        "epochs_planned": epochs,
        "train_images": config.train_images,
        "batch": config.batch,
        "learning_rate": config.learning_rate,
        "precision": config.precision,
        "epoch_s": epoch_s,
        "step_ms": 1e3 * epoch_s / trainer.steps,
        "peak_bytes": torch.cuda.max_memory_allocated() if device == "cuda" else None,
        "error": {name: 100 * (1 - value) for name, value in last.items()},
        "best_error": {name: 100 * (1 - value) for name, value in best.items()},
        "validation_error": [
            100 * (1 - list(epoch.validation.values())[-1]) for epoch in trainer.state.epochs
        ],
        "seconds": time.monotonic() - begin,
    }


def main() -> None:
    """Train what the command line says."""
    data, recipe, limit_s, *more = sys.argv[1:]
    begin = time.monotonic()
    torch.backends.cudnn.benchmark = True
    dataset = read_npz(Path(data))
    left_s = float(limit_s) - (time.monotonic() - begin)
    captured = "--eager" not in more
    result = train_within(dataset, recipe, left_s, "cuda", captured=captured)
    print(json.dumps(result), flush=True)


if __name__ == "__main__":
    main()
