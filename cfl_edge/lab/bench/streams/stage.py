"""The streams of all runs: their images, what the backbone makes of them, and its time."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from typing import final

import torch

from cfl_edge.core.features import FrozenNetwork
from cfl_edge.lab.bench.streams.data import SeedData, choose, read_data, shown_name
from cfl_edge.lab.bench.streams.images import CACHE_BYTES, Images
from cfl_edge.lab.bench.streams.options import StreamSettings
from cfl_edge.lab.bench.streams.protocols import noisy_labels
from cfl_edge.lab.bench.streams.recall import TestImages
from cfl_edge.lab.bench.streams.run import Task
from cfl_edge.learner.config import LearnerConfig
from cfl_edge.notices import Notice
from cfl_edge.onnx.frozen import frozen_network

BACKBONE_SAMPLES = 20  # images whose median is the backbone's time


@final
class Stage:
    """The images of all runs, and what the backbone makes of them.

    Args:
        settings: The options.
        base: What all learners have in common.
        device: Where images and features live.
        on_notice: Told of what is unusual about the data.

    Raises:
        UsageError: There are fewer images than asked for.
        DataError: The data cannot be used.
        ModelNotFoundError: The backbone's weights are not installed.
    """

    def __init__(
        self, settings: StreamSettings, base: LearnerConfig, device: str, on_notice: Notice
    ) -> None:
        self.settings = settings
        image_px = base.resolved_image_px()
        self.dataset = dataset = read_data(settings, image_px, on_notice)
        backbone = frozen_network(
            base.backbone, base.statistics_mib, image_px, torch.device(device)
        )
        first = choose(self.dataset, settings, seed=0)
        train, test = len(first.train), len(first.test)
        # `few` draws other images with every seed.
        kept = train * settings.seeds if settings.protocol == "few" else train
        share = CACHE_BYTES * kept // (kept + test + len(first.unknown))
        self.train = Images(dataset.x_train, backbone, image_px, device, cache_bytes=share)
        rest = CACHE_BYTES - share
        self.test = Images(dataset.x_test, backbone, image_px, device, cache_bytes=rest)
        self.backbone_s = _backbone_seconds(
            backbone, self.train, first.train[:BACKBONE_SAMPLES].tolist()
        )
        self.about = {
            "data": shown_name(settings.data),
            "classes": dataset.classes - settings.unknown_classes,
            "train_images": train,
            "test_images": test,
            "unknown_images": len(first.unknown),
            "evaluated_on": _part(settings, first),
            "backbone": base.backbone,
            "layers": base.resolved_layers(),
            "image_px": image_px,
            "replay_mib": base.replay_mib,
            "statistics_mib": base.statistics_mib,
        }

    def task(self, seed: int, on_done: Callable[[int, int], None] = lambda *_: None) -> Task:
        """Return the stream of one seed; its images have passed the backbone if the cache has room.

        Args:
            seed: Of the stream.
            on_done: Called with the number of images that have passed, and the total.
        """
        settings, dataset = self.settings, self.dataset
        chosen = choose(self.dataset, settings, seed)
        labels = dataset.y_train.numpy()[chosen.train]
        test = self.train if chosen.test_is_train else self.test
        y_test = dataset.y_train if chosen.test_is_train else dataset.y_test
        self.train.fill(chosen.train.tolist(), on_done)
        test.fill([*chosen.test.tolist(), *chosen.unknown.tolist()], on_done)
        known = dataset.classes - settings.unknown_classes
        of_test = y_test.numpy()
        return Task(
            images=self.train,
            places=chosen.train,
            labels=labels,
            given=noisy_labels(labels, settings.label_noise, classes=known, seed=seed),
            order=chosen.order,
            test=TestImages(test, chosen.test, of_test[chosen.test], dataset.classes),
            unknown=TestImages(test, chosen.unknown, of_test[chosen.unknown], dataset.classes),
            backbone_s=self.backbone_s,
            realtime_hz=settings.realtime,
            delay_frames=settings.delay_frames(),
        )


def _part(settings: StreamSettings, chosen: SeedData) -> str:
    if settings.protocol == "instances":
        return "objects that are not in the stream"
    return "validation part of the training split" if chosen.test_is_train else "test split"


def _backbone_seconds(backbone: FrozenNetwork, images: Images, places: list[int]) -> float:
    """Return the median time of the backbone for one image; the first one warms it up."""
    taken = []
    for place in [places[0], *places]:
        image = images.images([place])
        begin = time.perf_counter()
        with torch.inference_mode():
            h0, _ = backbone(image)
            h0.flatten()[0].item()  # waits for the device
        taken.append(time.perf_counter() - begin)
    return statistics.median(taken[1:])
