"""Training a rule on a data set: epochs, schedule, validation, all of it resumable."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from cfl_edge.lab.data.augment import (
    PADDING_PX,
    channel_statistics,
    crop_flip,
    draw_offsets,
    normalise,
)
from cfl_edge.lab.data.dataset import Dataset, Split
from cfl_edge.lab.paper.plan import Plan
from cfl_edge.lab.paper.run import Accuracies, Augmentation, Epoch
from cfl_edge.lab.rules.labelled_network import labelled_network_of
from cfl_edge.lab.rules.rule import GatheringRule, Rule

EVALUATION_BATCH = 500
GATHERED = 10_000  # training images for readouts in closed form: enough for 256 features


@dataclass
class TrainingState:
    """Progress of a run; with the tensors of rule and optimizers, all that a resumed run needs.

    Args:
        epochs: Those that are done.
        step: Steps of the current epoch that are done.
        loss_sums: Of the current epoch's steps, by layer.
        seconds: Spent on the current epoch.
        best: For each readout, the highest validation accuracy and its epoch.
    """

    epochs: list[Epoch] = field(default_factory=list)
    step: int = 0
    loss_sums: dict[str, float] = field(default_factory=dict)
    seconds: float = 0.0
    best: dict[str, tuple[float, int]] = field(default_factory=dict)


class Images:
    """The images of a split on a device, as bytes, and batches of them as normalised numbers.

    Args:
        dataset: All images.
        split: Which of them train, select and test.
        device: Where they are stored.
        augmentation: Of colour images; digits have no mirror images, and the published code
            augments colour images alone.
    """

    def __init__(
        self, dataset: Dataset, split: Split, device: str, augmentation: Augmentation = "crop-flip"
    ) -> None:
        self.x_train = dataset.x_train[split.train].to(device)
        self.y_train = dataset.y_train[split.train].to(device)
        self.x_validation = dataset.x_train[split.validation].to(device)
        self.y_validation = dataset.y_train[split.validation].to(device)
        self.x_test = dataset.x_test[split.test].to(device)
        self.y_test = dataset.y_test[split.test].to(device)
        self.mean, self.std = (t.to(device) for t in channel_statistics(self.x_train))
        self.augmented = dataset.input_shape[0] == 3 and augmentation != "none"
        self.padding = PADDING_PX if augmentation == "crop-flip" else 0

    def batch(self, indices: Tensor) -> tuple[Tensor, Tensor]:
        """Return augmented training images (N, C, H, W) and their labels (N,)."""
        x = self.x_train[indices]
        if self.augmented:
            x = crop_flip(x, draw_offsets(len(x), self.padding, device=x.device), self.padding)
        return normalise(x, self.mean, self.std), self.y_train[indices]

    def gathered(self) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield evenly chosen training images as `plain` does, with their labels (N,)."""
        every = -(-len(self.x_train) // GATHERED)
        labels = torch.split(self.y_train[::every], EVALUATION_BATCH)
        yield from zip(self.plain(self.x_train[::every]), labels, strict=True)

    def plain(self, x: Tensor) -> Iterator[Tensor]:
        """Yield images in batches for evaluation, normalised and nothing else."""
        for chunk in torch.split(x, EVALUATION_BATCH):
            yield normalise(chunk, self.mean, self.std)


def accuracies(
    score: Callable[[Tensor], dict[str, Tensor]], images: Images, x: Tensor, labels: Tensor
) -> Accuracies:
    """Return the share of images that each readout has right.

    Args:
        score: Returns the scores (N, Z) of each readout.
        images: Normalises.
        x: Images as bytes, (N, C, H, W).
        labels: Class indices, (N,).
    """
    right: dict[str, int] = {}
    for chunk, truth in zip(images.plain(x), torch.split(labels, EVALUATION_BATCH), strict=True):
        for name, scores in score(chunk).items():
            hits = int((scores.argmax(dim=1) == truth).sum())
            right[name] = right.get(name, 0) + hits
    return {name: hits / len(labels) for name, hits in right.items()}


@torch.no_grad()
def _re_estimate(rule: Rule[Any], batches: Iterable[tuple[Tensor, Tensor]]) -> None:
    """Replace running means and variances by those of images without augmentation.

    Running statistics lag behind weights that move, and augmented images have other ones. They take
    no part in learning: the steps of the run are the same.
    """
    model = labelled_network_of(rule)
    norms = [m for m in rule.modules() if isinstance(m, nn.BatchNorm2d)]
    if model is None or not norms:
        return
    rule.eval()  # dropout and the like are those of an evaluation
    usual = norms[0].momentum
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None  # the mean over all batches
        norm.train()
    for x, _ in batches:
        model.network(x)
    for norm in norms:
        norm.momentum = usual


class Trainer:
    """Takes a rule through its epochs, a step at a time.

    The rule has fresh weights, drawn by the run's seed.

    Args:
        plan: The run.
    """

    def __init__(self, plan: Plan) -> None:
        self.plan, self.config = plan, plan.config
        config, dataset = plan.config, plan.dataset
        recipe = plan.recipe
        torch.manual_seed(config.seed)
        self.rule = recipe.build(
            config.kind, dataset.input_shape, dataset.classes, learning_rate=config.learning_rate
        ).to(config.device)
        augmentation = config.options.get("augmentation", "crop-flip")
        self.images = Images(dataset, plan.split, config.device, augmentation)
        self.state = TrainingState()
        self.best_weights: dict[int, dict[str, Tensor]] = {}  # by epoch, of those in state.best
        self._rate_factor = recipe.schedule(config.kind).factor
        self._first_rates = [optimizer.learning_rate for optimizer in self.rule.optimizers]
        self._order: Tensor | None = None

    @property
    def steps(self) -> int:
        """Steps of an epoch; a rest smaller than a batch is left out, another rest each epoch."""
        return max(1, len(self.images.x_train) // self.config.batch)

    @property
    def is_done(self) -> bool:
        """Whether all epochs are over."""
        return len(self.state.epochs) >= self.config.epochs

    def step(self) -> Epoch | None:
        """Learn from one batch; return the epoch if this was its last step."""
        begin = time.monotonic()
        state = self.state
        done = len(state.epochs) + state.step / self.steps
        factor = self._rate_factor(done / self.config.epochs)
        for optimizer, rate in zip(self.rule.optimizers, self._first_rates, strict=True):
            optimizer.learning_rate = rate * factor
        if self._order is None:
            self._order = self._order_of_epoch(len(state.epochs))
        start = state.step * self.config.batch
        x, labels = self.images.batch(self._order[start : start + self.config.batch])
        reduced = self.config.precision == "bfloat16"
        # Without autocast's cache of weights: a rule may change them in the middle of its step.
        device = x.device.type
        with torch.autocast(device, torch.bfloat16, enabled=reduced, cache_enabled=False):
            losses = self.rule.learn(x, labels)
        for name, value in losses.items():
            state.loss_sums[name] = state.loss_sums.get(name, 0.0) + value
        state.step += 1
        state.seconds += time.monotonic() - begin
        return self._end_epoch() if state.step >= self.steps else None

    def losses(self) -> dict[str, float]:
        """Return the mean losses of the current epoch so far."""
        return {name: total / self.state.step for name, total in self.state.loss_sums.items()}

    def _order_of_epoch(self, number: int) -> Tensor:
        generator = torch.Generator().manual_seed(self.config.seed * 1_000_003 + number)
        order = torch.randperm(len(self.images.x_train), generator=generator)
        return order.to(self.images.x_train.device)

    def _end_epoch(self) -> Epoch:
        begin = time.monotonic()
        state, images = self.state, self.images
        validation: Accuracies = {}
        if self.config.options.get("batch_norm") == "re-estimated":
            _re_estimate(self.rule, images.gathered())
        if isinstance(self.rule, GatheringRule):
            self.rule.gather(images.gathered())
        if len(images.x_validation):
            validation = accuracies(
                self.rule.scores, images, images.x_validation, images.y_validation
            )
        number = len(state.epochs) + 1
        seconds = state.seconds + time.monotonic() - begin
        epoch = Epoch(number, self.losses(), validation, seconds)
        state.epochs.append(epoch)
        for name, accuracy in validation.items():
            if name not in state.best or accuracy > state.best[name][0]:
                state.best[name] = (accuracy, number)
        wanted = {best for _, best in state.best.values()}
        if number in wanted:
            weights = {name: value.clone() for name, value in self.rule.state_dict().items()}
            self.best_weights[number] = weights
        self.best_weights = {k: v for k, v in self.best_weights.items() if k in wanted}
        state.step, state.loss_sums, state.seconds = 0, {}, 0.0
        self._order = None
        return epoch

    def test(self) -> Accuracies:
        """Return the test accuracy of each readout with the weights as they are."""
        return accuracies(self.rule.scores, self.images, self.images.x_test, self.images.y_test)

    def test_best(self, after_last: Accuracies) -> Accuracies:
        """Return the test accuracy of each readout after its best epoch; the weights stay.

        Args:
            after_last: What `test` returned after the last epoch, which may be the best.
        """
        last = {name: value.clone() for name, value in self.rule.state_dict().items()}
        by_epoch = {len(self.state.epochs): after_last}
        for number in self.best_weights.keys() - by_epoch.keys():
            self.rule.load_state_dict(self.best_weights[number])
            by_epoch[number] = self.test()
        self.rule.load_state_dict(last)
        return {name: by_epoch[number][name] for name, (_, number) in self.state.best.items()}
