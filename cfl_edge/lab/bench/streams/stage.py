"""The streams of all runs: their pictures, what the stem makes of them, and its time."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from typing import final

import torch

from cfl_edge.core.backbones import build_stem
from cfl_edge.lab.bench.streams.data import SeedData, choose, read_data, shown_name
from cfl_edge.lab.bench.streams.options import StreamOptions
from cfl_edge.lab.bench.streams.pictures import CACHE_BYTES, Pictures
from cfl_edge.lab.bench.streams.protocols import noisy_labels
from cfl_edge.lab.bench.streams.recall import TestPictures
from cfl_edge.lab.bench.streams.run import Task
from cfl_edge.learner.config import LearnerConfig
from cfl_edge.stream.source import Notice

STEM_SAMPLES = 20  # pictures whose median is the stem's time


@final
class Stage:
    """The pictures of all runs, and what the stem makes of them.

    Args:
        options: What was asked for.
        base: What all learners have in common.
        device: Where they live.
        on_notice: Told of what is odd about the data.

    Raises:
        UsageError: There are not as many pictures as asked for.
        DataError: The data cannot be used.
        ModelNotFoundError: The stem's weights are not installed.
    """

    def __init__(
        self, options: StreamOptions, base: LearnerConfig, device: str, on_notice: Notice
    ) -> None:
        self.options = options
        image_px = base.resolved_image_px()
        self.data = read_data(options, image_px, on_notice)
        dataset = self.data.dataset
        stem = build_stem(base.stem).to(device)
        first = choose(self.data, options, seed=0)
        train, test = len(first.train), len(first.test)
        kept = CACHE_BYTES * train // (train + test + len(first.unknown))
        self.train = Pictures(dataset.x_train, stem, image_px, device, cache_bytes=kept)
        self.test = Pictures(dataset.x_test, stem, image_px, device, cache_bytes=CACHE_BYTES - kept)
        self.stem_s = _stem_seconds(stem, self.train, first.train[:STEM_SAMPLES].tolist())
        self.about = {
            "data": shown_name(options.data),
            "classes": dataset.classes - options.unknown_classes,
            "train_images": train,
            "test_images": test,
            "unknown_images": len(first.unknown),
            "evaluated_on": _part(options, first),
            "stem": base.stem,
            "layers": base.resolved_layers(),
            "image_px": image_px,
            "replay_mib": base.replay_mib,
        }

    def task(self, seed: int, on_done: Callable[[int, int], None] = lambda *_: None) -> Task:
        """Return the stream of one seed, its pictures through the stem as far as they are kept.

        Args:
            seed: Of the stream.
            on_done: Called with the number of pictures that passed the stem, and the total.
        """
        options, dataset = self.options, self.data.dataset
        chosen = choose(self.data, options, seed)
        labels = dataset.y_train.numpy()[chosen.train]
        test = self.train if chosen.test_is_train else self.test
        y_test = dataset.y_train if chosen.test_is_train else dataset.y_test
        self.train.fill(chosen.train.tolist(), on_done)
        test.fill([*chosen.test.tolist(), *chosen.unknown.tolist()], on_done)
        known = dataset.classes - options.unknown_classes
        of_test = y_test.numpy()
        return Task(
            pictures=self.train,
            places=chosen.train,
            labels=labels,
            given=noisy_labels(labels, options.label_noise, classes=known, seed=seed),
            order=chosen.order,
            test=TestPictures(test, chosen.test, of_test[chosen.test], dataset.classes),
            unknown=TestPictures(test, chosen.unknown, of_test[chosen.unknown], dataset.classes),
            stem_s=self.stem_s,
            realtime_hz=options.realtime_hz,
            delay_frames=options.delay_frames(),
        )


def _part(options: StreamOptions, chosen: SeedData) -> str:
    if options.protocol == "instances":
        return "objects that are not in the stream"
    return "validation part of the training split" if chosen.test_is_train else "test split"


def _stem_seconds(stem: torch.nn.Module, pictures: Pictures, places: list[int]) -> float:
    """Return the usual time of the stem for one picture; the first one warms it up."""
    taken = []
    for place in [places[0], *places]:
        images = pictures.images([place])
        begin = time.perf_counter()
        with torch.inference_mode():
            h0, _ = stem(images)
            h0.flatten()[0].item()  # waits for the device
        taken.append(time.perf_counter() - begin)
    return statistics.median(taken[1:])
