"""A run: everything that its result depends on, and its result."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

from cfl_edge.pipe import plain

Accuracies = dict[str, float]  # by readout
Precision = Literal["float32", "bfloat16"]
Augmentation = Literal["crop-flip", "flip", "none"]


@dataclass(frozen=True)
class RunConfig:
    """What a run is: the same configuration and machine give the same bits.

    Args:
        recipe: Name in `RECIPES`.
        data: Name of the data set.
        fingerprint: Of its bytes.
        kind: `mnist`, `cifar10` or `cifar100`: the part of Tables 4 and 5 that is used.
        seed: Of everything random but the choice of images.
        epochs: Times through the training images.
        batch: Samples in a step.
        learning_rate: At the first step.
        train_images: Images that are learned.
        validation_images: Images that the best epoch is chosen on.
        test_images: Images of the reported accuracies.
        device: `cpu` or `cuda`.
        precision: `float32`, or `bfloat16` for the products of a step; weights, optimizer state and
            evaluation are in float32 either way.
        options: What differs from the recipe: `batch_loss`, `feature_loss`, `classifier_start`,
            `fc_loss`, `augmentation`, `batch_norm`.
        recipe_options: The recipe's own as they were: a recipe that has changed is another run.
    """

    recipe: str
    data: str
    fingerprint: str
    kind: str
    seed: int
    epochs: int
    batch: int
    learning_rate: float
    train_images: int
    validation_images: int
    test_images: int
    device: str = "cpu"
    precision: Precision = "float32"
    options: dict[str, Any] = field(default_factory=dict)
    recipe_options: dict[str, Any] = field(default_factory=dict)

    def key(self) -> str:
        """Return a name for the run's files: readable, and different for different runs.

        Example:
            >>> config = RunConfig("bp-fc", "digits", "ab12", "mnist", 0, 2, 32, 1e-3, 90, 10, 20)
            >>> config.key()[:-8]
            'digits-bp-fc-seed0-'
        """
        text = json.dumps(asdict(self), sort_keys=True, default=str)
        digest = hashlib.sha256(text.encode()).hexdigest()[:8]
        return f"{self.data}-{self.recipe}-seed{self.seed}-{digest}"


@dataclass
class Epoch:
    """The result of an epoch.

    Args:
        number: From 1.
        losses: Mean loss of each layer over the epoch's steps, before each update.
        validation: Accuracy of each readout on the validation images; empty without any.
        seconds: Of the whole epoch.
    """

    number: int
    losses: dict[str, float]
    validation: Accuracies
    seconds: float


@dataclass
class RunResult:
    """The result of a run.

    Args:
        config: What it was.
        parameters: Numbers that it learned.
        last_test: Test accuracy of each readout after the last epoch.
        best_epoch: For each readout, the epoch of the highest validation accuracy.
        best_test: For each readout, the test accuracy after that epoch.
        coarse_test: Accuracy of each readout on coarse classes whose embeddings are means of fine
            ones (zero-shot), after the last epoch; empty where there are none.
        curve: Every epoch.
        seconds: Of training and evaluation.
        machine: `cpu, cores, threads, gpu, torch, cfl_edge`.
        classifier_parameters: Those of f^L, which rows without f^L do not count.
    """

    config: RunConfig
    parameters: int
    last_test: Accuracies
    best_epoch: dict[str, int]
    best_test: Accuracies
    coarse_test: Accuracies
    curve: list[Epoch]
    seconds: float
    machine: dict[str, Any] = field(default_factory=dict)
    classifier_parameters: int = 0

    def to_json(self) -> str:
        """Return the run as a line of JSON."""
        fields = plain(asdict(self) | {"config": {}})
        fields["config"] = asdict(self.config)  # to the last digit: it is what a run is found by
        return json.dumps(fields, allow_nan=False)

    @classmethod
    def from_json(cls, line: str) -> RunResult:
        """Read what `to_json` wrote.

        Raises:
            ValueError: It is something else.

        Example:
            >>> config = RunConfig("bp-fc", "digits", "ab12", "mnist", 0, 2, 32, 1e-3, 90, 10, 20)
            >>> result = RunResult(config, 7, {"classifier": 0.5}, {}, {}, {}, [], 1.0)
            >>> RunResult.from_json(result.to_json()) == result
            True
        """
        try:
            fields = json.loads(line)
            fields["config"] = RunConfig(**fields["config"])
            fields["curve"] = [Epoch(**epoch) for epoch in fields["curve"]]
            return cls(**fields)
        except (TypeError, KeyError) as error:
            raise ValueError(f"not a run: {error}") from error
