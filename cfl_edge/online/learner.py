"""The learner of a stream: a frozen stem, layers that adapt, and classes that are rows.

`encode` and `predict` change nothing; `learn` is the one verb that does.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.backends import nnpack

from cfl_edge.core.class_statistics import ClassStatistics, with_constant
from cfl_edge.core.networks import Network, build_network, initial_embeddings
from cfl_edge.core.stems import Stem, build_stem
from cfl_edge.core.step_memory import step_memory
from cfl_edge.errors import DataError
from cfl_edge.online.features import Encoded, FeatureExtractor
from cfl_edge.online.learner_config import LearnerConfig
from cfl_edge.online.readout import combine
from cfl_edge.online.replay import Replay
from cfl_edge.online.trainer import Trainer

__all__ = ["Encoded", "Images", "Learner", "LearnerConfig"]

Images = npt.NDArray[np.uint8]

EXAMPLES = 16  # pictures kept, the newest of up to so many classes
EARLY_FRAMES = (1, 2, 4, 8)  # of a class: each of them changes its embedding much


class Learner:
    """Learn classes from labelled pictures, one after the other.

    Args:
        config: What it is made of.
        device: Where every tensor lives: "cpu" or "cuda".

    Raises:
        UsageError: A stem or layers that do not exist.
        ModelNotFoundError: The stem's weights are not installed.

    Example:
        >>> import numpy as np
        >>> learner = Learner(LearnerConfig(stem="none", layers="8,16", image_px=16))
        >>> dark, light = np.zeros((4, 16, 16, 3), np.uint8), np.full((4, 16, 16, 3), 255, np.uint8)
        >>> dark[:, :4], light[:, :4] = 90, 10
        >>> learner.learn(learner.encode(dark), ["night"] * 4)
        >>> learner.learn(learner.encode(light), ["day"] * 4)
        >>> [learner.classes[i] for i in learner.predict(learner.encode(light[:1])).argmax(1)]
        ['day']
    """

    def __init__(self, config: LearnerConfig, device: str = "cpu") -> None:
        self.config = config
        self.device = torch.device(device)
        self.image_px = config.resolved_image_px()
        self.classes: list[str] = []
        self.frames_learned = 0
        self.generator = torch.Generator().manual_seed(config.seed)
        # On x86 without AVX2 every convolution would warn that NNPACK does not work there.
        if not nnpack.is_available():  # type: ignore[no-untyped-call]
            nnpack.set_flags(False)  # type: ignore[no-untyped-call]

        self.stem: Stem = build_stem(config.stem).to(self.device)
        blank = torch.zeros(1, self.image_px, self.image_px, 3, dtype=torch.uint8)
        with torch.inference_mode():
            h0, final = self.stem(blank.to(self.device))
        self.network: Network = self._build_network(tuple(h0.shape[1:]))
        self.extractor = FeatureExtractor(self.stem, self.network)
        self.layer_source = 0 if final is None else 2  # sources before the first layer's
        channels = [] if final is None else [final.shape[1], h0.shape[1]]
        channels += self.network.channels
        self.statistics = [ClassStatistics(c, self.device) for c in channels]
        self.replay = Replay(
            h0.shape[1:],
            limit_mib=config.replay_mib,
            generator=self.generator,
            device=self.device,
        )
        self.trainer = Trainer(self.network, config, self.replay, self.generator, self.device)
        layers = step_memory(self.network, h0.shape[1:], config.batch, chunk=config.chunk)
        self.chunk = min(layer.chunk for layer in layers)  # of estimating statistics anew
        self.examples: dict[int, tuple[Tensor, int]] = {}  # pictures to check an export on
        self.readout = torch.zeros(0, sum(channels) + 1, device=self.device)
        self._since_refresh = 0

    def _build_network(self, shape: tuple[int, ...]) -> Network:
        with torch.random.fork_rng(devices=[]):  # the weights depend on the seed alone
            torch.manual_seed(self.config.seed)
            network = build_network(self.config.resolved_layers(), shape)
        return network.to(self.device).eval()

    @torch.inference_mode()
    def encode(self, images: Images) -> Encoded:
        """Run the stem and the layers.

        Args:
            images: uint8 (N, image_px, image_px, 3), as `to_model_input` makes them.

        Raises:
            DataError: Another shape or type.
        """
        expected = (self.image_px, self.image_px, 3)
        if images.dtype != np.uint8 or images.ndim != 4 or images.shape[1:] != expected:
            raise DataError(
                f"Pictures have shape {images.shape} and type {images.dtype}, expected "
                f"(N, {self.image_px}, {self.image_px}, 3) and uint8",
                hint="cfl_edge.preprocess.to_model_input(image, learner.image_px)",
            )
        pictures = torch.from_numpy(np.ascontiguousarray(images)).to(self.device)
        return Encoded(pictures, *self.extractor.sources(pictures))

    @torch.inference_mode()
    def predict(self, encoded: Encoded) -> npt.NDArray[np.float32]:
        """Return the score of every class, (N, Z): logits, whose softmax is a probability."""
        features = with_constant(torch.cat(encoded.features, dim=1))
        return (features @ self.readout.T).float().cpu().numpy()

    def learn(
        self, encoded: Encoded, labels: Sequence[str], *, budget_s: float | None = None
    ) -> None:
        """Learn labelled samples; a name that was never seen becomes a class.

        Args:
            encoded: N samples of `encode`.
            labels: N names.
            budget_s: Seconds that may be spent on gradient steps; what is left of one goes on in
                the next call of `learn` or `work`. Below 0, the label embeddings are not solved
                anew either, but for those of a new class. None takes every step whole, at once.

        Raises:
            DataError: An empty name, or another number of labels than of samples.
        """
        if len(labels) != len(encoded.h0):
            raise DataError(
                f"{len(labels)} labels for {len(encoded.h0)} samples, expected as many",
                hint="one label for each sample",
            )
        numbers = [self._number(label) for label in labels]
        index = torch.tensor(numbers, dtype=torch.long, device=self.device)
        for source, features in zip(self.statistics, encoded.features, strict=True):
            source.update(features, index)
        for picture, sample, number in zip(encoded.images, encoded.h0, numbers, strict=True):
            self.examples[number % EXAMPLES] = (picture.clone(), number)
            self.trainer.add(sample, number)
            if budget_s is None:
                self.work()
        self.frames_learned += len(numbers)
        self._since_refresh += len(numbers)
        samples, added = self.samples(), Counter(labels)
        early = any(
            samples[label] - count < frames <= samples[label]
            for label, count in added.items()
            for frames in EARLY_FRAMES
        )
        if early:
            self._since_refresh = self.config.refresh_frames
        due = self._since_refresh >= self.config.refresh_frames
        if due and (budget_s is None or budget_s >= 0 or len(self.readout) < len(self.classes)):
            self.refresh()
        elif budget_s is not None:
            self.work(budget_s)

    def work(self, budget_s: float | None = None, *, all_pending: bool = False) -> None:
        """Take the gradient steps that are due, or go on with the one that is under way.

        Args:
            budget_s: As in `learn`.
            all_pending: Do not wait for more new samples.
        """
        for pooled, numbers in self.trainer.work(budget_s, all_pending=all_pending):
            if not len(numbers):  # the new samples were counted when they came
                continue
            for source, h_mean in zip(self.statistics[self.layer_source :], pooled, strict=True):
                source.decay(STATISTICS_DECAY)
                source.update(h_mean, numbers)

    def warm_up(self) -> None:
        """Do once, changing nothing, what takes longer the first time than ever after.

        Libraries choose and build their code at the first picture and the first gradient step: a
        camera would drop frames meanwhile.
        """
        blank = np.zeros((1, self.image_px, self.image_px, 3), np.uint8)
        encoded = self.encode(blank)
        self.trainer.warm_up(encoded.h0.shape[1:])
        for source in self.statistics:
            spare = ClassStatistics(source.means.shape[1], self.device)
            spare.add_class()
            spare.embeddings()

    def samples(self) -> dict[str, int]:
        """Return how many frames of each class were learned."""
        counts = dict.fromkeys(self.classes, 0)
        for number, seen in enumerate(self.replay.seen):
            counts[self.classes[number]] += seen
        for _, number in self.trainer.pending:
            counts[self.classes[number]] += 1
        return counts

    def _number(self, label: str) -> int:
        if label in self.classes:
            return self.classes.index(label)
        if not label.strip():
            raise DataError(f"The label is {label!r}, expected a name", hint="--label mug")
        rows = self.trainer.embeddings.detach()
        row = initial_embeddings(1, rows.shape[1], self.generator).to(self.device)
        self.trainer.replace_embeddings(torch.cat([rows, row]))
        for source in self.statistics:
            source.add_class()
        self.replay.add_class()
        self.classes.append(label)
        return len(self.classes) - 1

    @torch.no_grad()
    def settle(self) -> None:
        """Take the pending step and estimate the layers' statistics anew from the replay memory.

        The layers have moved since their statistics were gathered; this brings both together. The
        learning loop calls it before it saves.
        """
        with torch.enable_grad():
            self.work(all_pending=True)
        if not len(self.replay):
            return
        fresh = [ClassStatistics(c, self.device) for c in self.network.channels]
        for source in fresh:
            for _ in self.classes:
                source.add_class()
        numbers = torch.tensor(self.replay.labels, device=self.device)
        for places in torch.split(torch.arange(len(self.replay), device=self.device), self.chunk):
            for source, h_mean in zip(fresh, self.network(self.replay.read(places)), strict=True):
                source.update(h_mean, numbers[places])
        self.statistics[self.layer_source :] = fresh
        self.refresh()

    @torch.no_grad()
    def refresh(self) -> None:
        """Solve the label embeddings of every source and combine them."""
        self.readout = combine(self.statistics)
        self._since_refresh = 0


STATISTICS_DECAY = 0.97  # a step; about the last 1,000 samples count, while the layers move
