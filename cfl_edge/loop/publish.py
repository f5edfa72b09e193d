"""The model that learns, written as an ONNX file again and again while it learns.

The loop copies what has changed (weights of the layers, label embeddings) and what torch says of
one image; a thread fills a graph with it, asks ONNX Runtime the same, and replaces the file whole
if both agree. torch runs in the loop's thread alone.
"""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from cfl_edge.core.class_statistics import with_constant
from cfl_edge.core.distances import DistanceRows
from cfl_edge.errors import CflEdgeError
from cfl_edge.learner.learner import Learner
from cfl_edge.loop.progress import Progress
from cfl_edge.loop.publish_base import Base, network_weights, run_graph
from cfl_edge.model.tensors import network_digest
from cfl_edge.model.write_budget import WriteBudget
from cfl_edge.model.writing import replace_files
from cfl_edge.onnx.classes import as_embeddings, set_metadata
from cfl_edge.onnx.export import agreement, distance_agreement, distance_terms
from cfl_edge.onnx.graph import append_head
from cfl_edge.onnx.metadata import NETWORK_DIGEST, to_metadata
from cfl_edge.onnx.patch import with_weights
from cfl_edge.stream.source import Notice

EVERY_S = 60.0  # a file of 17 MB, flash memory in mind


@dataclass(frozen=True, eq=False)
class Snapshot:
    """A learner at one moment; shares no memory with it.

    Args:
        weights: Of the layers.
        embeddings: float32 (F, Z).
        distances: Of a second output; None for none.
        classes: Z names.
        size_px: Side of the input in pixels.
        extra: More metadata.
        image: uint8 (1, size_px, size_px, 3).
        scores: What torch says of it, (1, Z).
        distance: The two terms of how far torch says it lies from all classes, (2, 1); None
            without `distances`.
        frames_learned: Ever.
    """

    weights: dict[str, npt.NDArray[Any]]
    embeddings: npt.NDArray[np.float32]
    distances: DistanceRows | None
    classes: tuple[str, ...]
    size_px: int
    extra: dict[str, str]
    image: npt.NDArray[np.uint8]
    scores: npt.NDArray[np.float32]
    distance: npt.NDArray[np.float32] | None
    frames_learned: int


def take_snapshot(learner: Learner, extra: dict[str, str]) -> Snapshot:
    """Copy what a publication needs: the time of a prediction and a few milliseconds.

    Args:
        learner: With label embeddings and at least one image in `examples`.
        extra: More metadata.
    """
    readout = learner.algorithm.readout
    assert readout is not None
    image = next(iter(learner.examples.values()))[0].cpu().numpy()[None].copy()
    encoded = learner.encode(image)
    features = with_constant(torch.cat(encoded.features, dim=1)).cpu().numpy()  # (1, F)
    rows = learner.algorithm.distance_rows()
    return Snapshot(
        weights=network_weights(learner),
        embeddings=np.ascontiguousarray(readout.detach().T.cpu().numpy()).copy(),
        distances=rows and DistanceRows(rows.nearest.cpu().clone(), rows.total.cpu().clone()),
        classes=tuple(learner.classes),
        size_px=learner.image_px,
        extra={"cfl_edge.backbone": learner.config.backbone, **extra},
        image=image,
        scores=learner.predict(encoded),
        distance=distance_terms(features, rows),
        frames_learned=learner.frames_learned,
    )


def write_snapshot(
    base: Base, snapshot: Snapshot, path: Path, *, written: Counter[str] | None = None
) -> None:
    """Write a snapshot as an ONNX file, if ONNX Runtime says of its image what torch says.

    Args:
        base: Of the same network.
        snapshot: What to write.
        path: Replaced whole; its folder is created if need be.
        written: Adds up the bytes, also those of a write that fails.

    Raises:
        ExportError: They disagree. No file changed.
        ModelWriteError: Disk full, no permission. No file changed.
    """
    model = with_weights(base.graph, base.places, snapshot.weights)
    append_head(model, as_embeddings(snapshot.embeddings, snapshot.classes), snapshot.distances)
    extra = {**snapshot.extra, NETWORK_DIGEST: network_digest(snapshot.weights)}
    set_metadata(model, to_metadata(snapshot.classes, snapshot.size_px, extra))
    content: bytes = model.SerializeToString()
    del model
    outputs = run_graph(content, snapshot.image)
    agreement(snapshot.scores, outputs[0])
    if snapshot.distance is not None:
        distance_agreement(snapshot.distance, outputs[1])
    replace_files(path.parent, {path.name: content}, written=written)


class Publisher:
    """Writes a learner's file when a class is new, and now and then while it learns.

    Args:
        learner: What is published; read in the loop's thread alone.
        base: Its graph.
        path: The file.
        on_notice: Told of the first failure, and of the next success.
        extra: Returns more metadata, at the moment of a snapshot.
        every_s: Seconds between two files as long as no class is new, and after a failure.
        clock: Gives seconds that never go back.

    Attributes:
        budget: Of the bytes that it may write before `finish`; None for as many as it likes.
        published: Files written.
        written: Bytes written, those of failed tries among them.
    """

    def __init__(
        self,
        learner: Learner,
        base: Base,
        path: Path,
        on_notice: Notice,
        *,
        extra: Callable[[], dict[str, str]] = dict,
        every_s: float = EVERY_S,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._learner, self._base, self._path = learner, base, path
        self._on_notice, self._extra = on_notice, extra
        self._every_s, self._clock = every_s, clock
        self._writing: _Writing | None = None
        self._done: Snapshot | None = None
        self._next_s = float("-inf")
        self._failing = False
        self.published, self.written = 0, 0
        self.budget: WriteBudget | None = None

    def after_frame(self) -> None:
        """Begin a publication where one is due, and note the end of the last; never waits."""
        if self._writing is not None:
            if self._writing.is_alive():
                return
            self._note(self._writing)
        if self._is_due():
            self._begin()

    def after(self, then: Callable[[Progress], None]) -> Callable[[Progress], None]:
        """Return an `on_progress` that publishes what is due after it has gone on to `then`."""

        def tell(progress: Progress) -> None:
            then(progress)
            self.after_frame()

        return tell

    def finish(self) -> None:
        """Publish what is not published yet, and wait for it."""
        if self._writing is not None:
            self._writing.join()
            self._note(self._writing)
        if self._is_news():
            writing = self._begin()
            writing.join()
            self._note(writing)

    def _is_news(self) -> bool:
        learner, done = self._learner, self._done
        if not learner.examples:
            return False
        return done is None or (
            done.frames_learned != learner.frames_learned or done.classes != tuple(learner.classes)
        )

    def _is_due(self) -> bool:
        if not self._is_news():
            return False
        has_new_class = self._done is None or self._done.classes != tuple(self._learner.classes)
        if not (has_new_class and not self._failing) and self._clock() < self._next_s:
            return False
        return self.budget is None or self.budget.allows()

    def _begin(self) -> _Writing:
        snapshot = take_snapshot(self._learner, self._extra())
        self._writing = _Writing(self._base, snapshot, self._path)
        self._writing.start()
        return self._writing

    def _note(self, writing: _Writing) -> None:
        self._writing = None
        self._next_s = self._clock() + self._every_s
        written = writing.written.total()
        self.written += written
        if self.budget is not None and written:
            self.budget.note(written)
        if writing.error is None:
            if self._failing or self._done is None:
                self._on_notice(f"published {self._path}: {len(writing.snapshot.classes)} classes")
            self._done, self._failing = writing.snapshot, False
            self.published += 1
            return
        if not self._failing:
            error = writing.error
            reason = error.problem if isinstance(error, CflEdgeError) else f"{error!r}"
            self._on_notice(
                f"--publish {self._path} failed: {reason}; learning goes on, next try in "
                f"{self._every_s:.0f} s"
            )
        self._failing = True


class _Writing(threading.Thread):
    def __init__(self, base: Base, snapshot: Snapshot, path: Path) -> None:
        super().__init__(name="publish", daemon=True)
        self._base, self._path = base, path
        self.snapshot = snapshot
        self.written: Counter[str] = Counter()
        self.error: Exception | None = None

    def run(self) -> None:
        try:
            write_snapshot(self._base, self.snapshot, self._path, written=self.written)
        except Exception as error:  # whatever it is, learning goes on
            self.error = error
