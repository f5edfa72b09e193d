"""A frozen backbone, layers that adapt, and classes that come one by one: learning in batches.

An image is encoded once, predicted, then learned. Predicting changes nothing.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, final

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.backends import nnpack

from cfl_edge.core.features import Encoded, FeatureExtractor, FrozenNetwork
from cfl_edge.core.networks import Network, build_network
from cfl_edge.errors import DataError
from cfl_edge.frame.frame import Shown, cut_frame
from cfl_edge.frame.prediction import Prediction, predict_label, softmax
from cfl_edge.learner.algorithms.algorithm import Algorithm, AlgorithmInputs, build_algorithm
from cfl_edge.learner.config import LearnerConfig
from cfl_edge.learner.conflicts import excluded_classes
from cfl_edge.learner.journal import Journal
from cfl_edge.learner.journal_entries import Arrays, to_entries
from cfl_edge.learners import declaration
from cfl_edge.model.last_stream import ORIGIN
from cfl_edge.names import check_name
from cfl_edge.onnx.frozen import frozen_network

Images = npt.NDArray[np.uint8]

ORIGIN_BYTES = 6  # no two of a million models have the same
EXAMPLES = 16  # the newest image of up to this many classes


@final
class Examples(dict[int, tuple[Tensor, int]]):
    """Images and their classes, to check an export on.

    Args:
        device: Where they live.
    """

    def __init__(self, device: torch.device) -> None:
        super().__init__()
        self.device = device

    def add(self, image: Tensor, target: int) -> None:
        """Store the newest image of a class, uint8 (H, W, 3)."""
        self[target % EXAMPLES] = (image.to(self.device), target)

    def samples(self) -> dict[str, Tensor]:
        """Return images and classes as tensors, to be stored."""
        images, targets = zip(*self.values(), strict=True) if self else ((), ())
        labels = {"labels": torch.tensor(targets, dtype=torch.long)}
        return {**labels, "images": torch.stack(images)} if images else labels

    def put_samples(self, tensors: Mapping[str, Tensor]) -> None:
        """Take back what `samples` returned."""
        self.clear()
        for i, target in enumerate(tensors["labels"].tolist()):
            self.add(tensors["images"][i], target)


class BatchLearner:
    """What `Learner` does with batches of images: encode, predict, learn.

    Args:
        config: What it consists of; None for the defaults.
        device: Where every tensor lives: "cpu" or "cuda".
        weights: Shapes of the saved weights that are to be loaded, by name: compared before the
            memory for other ones is taken. None for a new network.
        backbone: Of another learner of this configuration and device, which is shared; None for
            its own.

    Attributes:
        classes: Class names, in the order of the scores.
        view: What of a frame it looks at.
        frames_learned: How many images were learned.
        counters: JSON values that are saved with it, such as how many runs have learned.

    Raises:
        UsageError: A backbone or layers that do not exist.
        ValueError: The layers have other weights than `weights`.
        ModelNotFoundError: The weights of the backbone are not installed.
    """

    def __init__(
        self,
        config: LearnerConfig | None = None,
        device: str = "cpu",
        *,
        weights: Mapping[str, tuple[int, ...]] | None = None,
        backbone: FrozenNetwork | None = None,
    ) -> None:
        config = config or LearnerConfig()
        self.config = config
        self.device = torch.device(device)
        self.image_px = config.resolved_image_px()
        self.view = config.view()
        self.classes: list[str] = []
        self.frames_learned = 0
        self.counters: dict[str, Any] = {"runs": 1, ORIGIN: secrets.token_hex(ORIGIN_BYTES)}
        self.generator = torch.Generator().manual_seed(config.seed)
        # On x86 without AVX2 every convolution would warn that NNPACK does not work there.
        if not nnpack.is_available():  # type: ignore[no-untyped-call]
            nnpack.set_flags(False)  # type: ignore[no-untyped-call]

        self.backbone = backbone or frozen_network(
            config.backbone, config.statistics_mib, self.image_px, self.device
        )
        self.config = replace(config, backbone=self.backbone.name)  # with all that it reads
        blank = torch.zeros(1, self.image_px, self.image_px, 3, dtype=torch.uint8)
        with torch.inference_mode():
            h0, final = self.backbone(blank.to(self.device))
        self.network: Network = self._build_network(tuple(h0.shape[1:]), weights)
        scale = declaration(config.learner).pooled_scale
        self.extractor = FeatureExtractor(self.backbone, self.network, scale)
        channels = [source.shape[1] for source in self.extractor.frozen(final)]
        self.algorithm: Algorithm = build_algorithm(
            AlgorithmInputs(
                config,
                self.network,
                tuple(h0.shape[1:]),
                channels + self.network.channels,
                len(channels),
                self.generator,
                self.device,
            )
        )
        self.examples = Examples(self.device)
        self.algorithm.state.samples("examples.", self.examples)
        self.journal: Journal | None = None  # what `cfl-edge undo` needs: for who saves to set
        self.checkpoint: Path | None = None  # that a program loaded it from, or saved it as
        self._has_pooled = final is not None

    def predict_batch(
        self, images: Sequence[Shown], *, reject: float | None = None
    ) -> list[Prediction]:
        """Say what is in images or frames of any size, all at once; see `predict_one`."""
        square = [cut_frame(image, self.image_px, self.view).square for image in images]
        return self.predict_encoded(self.encode(np.stack(square)), reject=reject) if square else []

    def predict_encoded(self, encoded: Encoded, *, reject: float | None = None) -> list[Prediction]:
        """Say what N encoded samples show; see `predict_one`."""
        scores, distances = self.predict(encoded), self.distances(encoded)  # (N, Z), (N,)
        unknown = self.algorithm.novelty.scores(distances)  # (N,)
        return [
            predict_label(row, self.classes, float(u), reject=reject, distance=float(d))
            for row, u, d in zip(scores, unknown, distances, strict=True)
        ]

    def _build_network(
        self, shape: tuple[int, ...], weights: Mapping[str, tuple[int, ...]] | None
    ) -> Network:
        if weights is not None:
            with torch.device("meta"):  # shapes alone, no memory
                state = build_network(self.config.resolved_layers(), shape).state_dict()
            if {name: tuple(value.shape) for name, value in state.items()} != weights:
                layers = self.config.resolved_layers()
                raise ValueError(f"the saved weights are not those of --layers {layers}")
        with torch.random.fork_rng(devices=[]):  # the weights depend on the seed alone
            torch.manual_seed(self.config.seed)
            network = build_network(self.config.resolved_layers(), shape)
        network.power = declaration(self.config.learner).layer_power
        return network.to(self.device).eval()

    @torch.inference_mode()
    def encode(self, images: Images) -> Encoded:
        """Run the backbone and the layers.

        Args:
            images: uint8 (N, image_px, image_px, 3), as `to_model_input` makes them.

        Raises:
            DataError: Another shape or type.
        """
        expected = (self.image_px, self.image_px, 3)
        if images.dtype != np.uint8 or images.ndim != 4 or images.shape[1:] != expected:
            raise DataError(
                f"Images have shape {images.shape} and type {images.dtype}, expected "
                f"(N, {self.image_px}, {self.image_px}, 3) and uint8",
                hint="to_model_input(image, learner.image_px, learner.view) of "
                "cfl_edge.frame.preprocess",
            )
        pixels = torch.from_numpy(np.ascontiguousarray(images)).to(self.device)
        return self.encode_backbone(pixels, *self.backbone(pixels))

    @torch.inference_mode()
    def encode_backbone(self, images: Tensor, h0: Tensor, final: Tensor | None) -> Encoded:
        """Run the layers on what the backbone returned: `encode` without the backbone.

        Args:
            images: uint8 (N, image_px, image_px, 3).
            h0: The backbone's output, (N, C, H, W).
            final: What predictions read of it, (N, C_E + D); None without a network.
        """
        return Encoded(images, h0, self.extractor.from_backbone(h0, final))

    @torch.inference_mode()
    def predict(self, encoded: Encoded) -> npt.NDArray[np.float32]:
        """Return the score of every class, (N, Z): logits, whose softmax is a probability."""
        return self.algorithm.scores(encoded).float().cpu().numpy()

    @torch.inference_mode()
    def distances(self, encoded: Encoded) -> npt.NDArray[np.float32]:
        """Return how far samples lie from every class, (N,): what ranks them as unknown.

        The algorithm chooses the measure. nan where no class is known.
        """
        if not self.classes:
            return np.full(len(encoded.h0), np.nan, np.float32)
        return self.algorithm.distances(encoded).float().cpu().numpy()

    def learn(
        self, encoded: Encoded, labels: Sequence[str], *, budget_s: float | None = None
    ) -> None:
        """Learn labelled samples; a name that was never seen becomes a class.

        Args:
            encoded: N samples of `encode`.
            labels: N names.
            budget_s: Seconds that may be spent on gradient steps; what is left of one goes on in
                the next call of `learn` or `work`. Below 0, the label embeddings are not
                solved again either, except for a new class. None takes every step whole, at once.

        Raises:
            DataError: A name that no class can have, or another number of labels than of samples.
        """
        one = isinstance(labels, str)
        if wrong := [labels] if one else [x for x in labels if not isinstance(x, str)]:
            raise DataError(
                f"A label is {wrong[0]!r} ({type(wrong[0]).__name__}), expected "
                + ("a list of names" if one else "a name"),
                hint='learner.learn(encoded, ["mug"]), or learner.learn_one(image, "mug")',
            )
        if len(labels) != len(encoded.h0):
            raise DataError(
                f"{len(labels)} labels for {len(encoded.h0)} samples, expected as many",
                hint="one label for each sample",
            )
        names = [
            check_name(name, source="the label", kind=DataError, is_new=name not in self.classes)
            for name in labels
        ]
        targets = [self._target(name) for name in names]
        for image, target in zip(encoded.images, targets, strict=True):
            self.examples.add(image.clone(), target)
        index = torch.tensor(targets, dtype=torch.long, device=self.device)
        entries = list(self.entries_of(encoded)) if self.journal is not None else []
        self.algorithm.learn(encoded, index, budget_s)
        self.frames_learned += len(targets)
        if self.journal is not None:  # at once: a journal of other frames begins anew when loaded
            for target, entry in zip(targets, entries, strict=True):
                self.journal.add(target, entry, time_s=time.monotonic())

    def entries_of(self, encoded: Encoded) -> Iterator[Arrays]:
        """Yield what the journal stores of each sample."""
        read = torch.cat(encoded.features[:2], dim=1) if self._has_pooled else None
        yield from to_entries(encoded.h0, read)

    def blank_entry(self) -> Arrays:
        """Return what the journal would store of a frame of zeros."""
        inputs = self.algorithm.inputs
        read = torch.zeros(1, sum(inputs.channels[:2])) if self._has_pooled else None
        return next(to_entries(torch.zeros(1, *inputs.h0_shape), read))

    def work(self, budget_s: float | None = None, *, all_pending: bool = False) -> None:
        """Take the gradient steps that are due, or go on with the one that is under way.

        Args:
            budget_s: As in `learn`.
            all_pending: Do not wait for more new samples.
        """
        self.algorithm.work(budget_s, all_pending=all_pending)

    def warm_up(self) -> None:
        """Do once, changing nothing, what takes longer the first time than ever after.

        Libraries choose and build their code at the first image and the first gradient step: a
        camera would drop frames meanwhile.
        """
        self.encode(np.zeros((1, self.image_px, self.image_px, 3), np.uint8))
        self.algorithm.warm_up()

    def recalibrate(self, *, whole: bool = True) -> None:
        """Bring everything in line with the layers as they are now.

        The layers have moved since their statistics were gathered; this brings both together. The
        learning loop calls it at its end.

        Args:
            whole: Else the label embeddings alone, as what learns on will bring the rest.
        """
        self.algorithm.recalibrate(whole=whole)

    def become(self, other: BatchLearner) -> None:
        """Take over everything of another learner, which must not be used any more.

        Args:
            other: What was built from a state of this one. The counters of this one stay where
                they have the same name.
        """
        counters = self.counters  # others hold it
        for name, value in other.counters.items():
            counters.setdefault(name, value)
        vars(self).update(vars(other))
        self.counters = counters

    def samples(self) -> dict[str, int]:
        """Return how many frames of each class were learned."""
        return dict(zip(self.classes, self.algorithm.seen, strict=True))

    def excluded(self, prediction: Prediction) -> frozenset[str]:
        """Return the classes that a confident prediction rules out: labels that contradict it.

        Args:
            prediction: Of a sample that is not learned yet. Nothing is ruled out where the
                algorithm gives no probabilities.
        """
        if not declaration(self.config.learner).probable or not len(prediction.scores):
            return frozenset()
        return excluded_classes(softmax(prediction.scores), self.classes, self.samples())

    def _target(self, label: str) -> int:
        if label in self.classes:
            return self.classes.index(label)
        try:
            self.classes.append(label)
            self.algorithm.state.add_class()
        except BaseException:  # Ctrl-C as well
            del self.classes[len(self.algorithm.seen) :]
            raise
        return len(self.classes) - 1
