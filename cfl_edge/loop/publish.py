"""`learn --publish`: the model as an ONNX file, written again and again while it learns.

The loop copies the layers and the label embeddings and asks torch about one image; a thread builds
the file, asks ONNX Runtime the same, and replaces the old file if both agree. torch computes in the
loop's thread alone.
"""

from __future__ import annotations

import os
import threading
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from cfl_edge.errors import CflEdgeError, ExportError, ModelWriteError, UsageError, quoted
from cfl_edge.model.opening import irregular
from cfl_edge.model.replacing import remove_leftovers, staged_files
from cfl_edge.notices import Notice, counted
from cfl_edge.onnx.metadata import IMAGE, MODEL_FILE

if TYPE_CHECKING:
    from cfl_edge.config.learn import LearnSettings
    from cfl_edge.learner.learner import Learner
    from cfl_edge.model.write_budget import WriteBudget
    from cfl_edge.onnx.export import Snapshot

LATER = "learning goes on, next try in {every_s:.0f} s"
EVERY_S = 60.0  # a file of 17 MB, flash memory in mind
State = tuple[tuple[str, ...], int]  # names of the classes, and frames learned ever


def check_publish(path: Path, memory_mib: float | None) -> None:
    """Refuse what can be refused before anything is loaded.

    Args:
        path: Of `--publish`.
        memory_mib: Of `--memory-mib`.

    Raises:
        UsageError: The path is no file that ends in .onnx, or no folder can be made for it, or
            memory is limited.

    Example:
        >>> check_publish(Path("pets.txt"), None)
        Traceback (most recent call last):
        cfl_edge.errors.UsageError: --publish is pets.txt, expected a file that ends in .onnx
          try: --publish pets.onnx
    """
    if path.suffix != ".onnx" or path.is_dir():
        name = path / MODEL_FILE if path.is_dir() else path.with_suffix(".onnx")
        raise UsageError(
            f"--publish is {path}, expected a file that ends in .onnx",
            hint=f"--publish {quoted(name)}",
        )
    target = Path(os.path.realpath(path))
    kind = "a link to itself" if target.is_symlink() else irregular(target)
    if kind is not None:
        raise UsageError(
            f"--publish {path} is {kind}, expected a file or a new one",
            hint=f"--publish {quoted(path.with_stem(f'{path.stem}-new'))}",
        )
    there = next(place for place in target.parents if os.path.lexists(place))
    if not there.is_dir():
        raise UsageError(
            f"--publish is {path}, but {there} is a file, expected a folder",
            hint=f"--publish {quoted(there.parent / path.name)}",
        )
    if memory_mib is not None:
        raise UsageError(
            f"--publish and --memory-mib {memory_mib:g}: a publication holds the model twice, "
            "which the limit does not count",
            hint="leave --memory-mib away, or export after learning",
        )


def open_publisher(
    learner: Learner, settings: LearnSettings, on_notice: Notice
) -> Publisher | None:
    """Return what publishes a learner; None without `--publish`.

    Args:
        learner: What is published.
        settings: Of the command.
        on_notice: Told when it takes long.

    Raises:
        UsageError: The learner has no label embeddings.
        ExportError: The network cannot be written as ONNX.
    """
    if settings.publish is None:
        return None
    if learner.algorithm.readout is None:
        raise UsageError(
            f"--publish with --learner {learner.config.learner}, which has no label embeddings to "
            "export",
            hint="learn with --learner cfl or --learner slda into another folder",
        )
    if learner.config.backbone.startswith("torchvision:"):
        on_notice("tracing the backbone for --publish, once; this may take a minute")
    remove_leftovers(Path(os.path.realpath(settings.publish)).parent)
    publisher = Publisher(learner, settings.publish, on_notice, every_s=settings.publish_seconds)
    try:
        publisher.build_once()
    except ExportError as error:
        raise ExportError(
            f"--publish cannot write --layers {learner.config.resolved_layers()}: {error.problem}",
            hint=f"{error.hint}, or leave --publish away",
        ) from error
    return publisher


class Publisher:
    """Writes a learner's file when a class is new, and now and then while it learns.

    Args:
        learner: What is published; read in the loop's thread alone.
        path: The file; its folder is created if need be.
        on_notice: Told of the first failure, and of the next success.
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
        path: Path,
        on_notice: Notice,
        *,
        every_s: float = EVERY_S,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        from cfl_edge.learner.export import backbone_on_cpu

        self._learner, self._path, self._on_notice = learner, path, on_notice
        self._backbone = backbone_on_cpu(learner)
        self._every_s, self._clock = every_s, clock
        self._writing: _Writing | None = None
        self._done: State | None = None
        self._next_s = float("-inf")
        self._failing = False
        self.published, self.written = 0, 0
        self.budget: WriteBudget | None = None

    def build_once(self) -> None:
        """Build the graph before anything is learned: a trace of a backbone is then remembered.

        Raises:
            ExportError: The network cannot be written as ONNX.
        """
        from cfl_edge.core.features import FeatureExtractor
        from cfl_edge.onnx.graph import Classifier, model_graph

        learner = self._learner
        extractor = FeatureExtractor(self._backbone, learner.network, learner.extractor.scale)
        model_graph(extractor, learner.image_px, Classifier(np.zeros((1, 1), np.float32), ("",)))

    def after_frame(self) -> None:
        """Begin a publication where one is due, and note the end of the last; never waits."""
        if self._writing is not None:
            if self._writing.is_alive():
                return
            self._note(self._writing)
        if self._is_due():
            self._begin()

    def finish(self) -> CflEdgeError | None:
        """Publish what is not published yet, wait for it, and return why that failed if it did."""
        if self._writing is not None:
            self._wait_for(self._writing, "trying once more")
        if not self._learner.examples or self._done == self._state():
            return None
        writing = self._begin()
        self._wait_for(writing, None)
        if (error := writing.error) is None:
            return None
        hint = f"learn again with --publish {quoted(self._path)}"
        if isinstance(error, CflEdgeError):
            hint = f"{error.hint}; then {hint}"
        return ModelWriteError(f"{self._failure(error)}; the model itself is saved", hint=hint)

    def publish(self) -> Path:
        """Publish what is learned now, wait for it, and return the file.

        Raises:
            ExportError: Nothing was learned yet, or ONNX Runtime disagrees. No file changed.
            ModelWriteError: Disk full, no permission. No file changed.
        """
        if self._writing is not None:
            self._wait_for(self._writing)
        writing = self._begin()
        self._wait_for(writing)
        if writing.error is not None:
            raise writing.error
        return self._path

    def forget(self) -> None:
        """Publish again: what was published has been changed, not only continued."""
        if self._done is not None:
            self._done = self._done[0], -1

    def _wait_for(self, writing: _Writing, then: str | None = LATER) -> None:
        if writing.is_alive():
            writing.join()
        self._note(writing, then)

    def _failure(self, error: Exception) -> str:
        reason = error.problem if isinstance(error, CflEdgeError) else f"{error!r}"
        return f"--publish {self._path} failed: {reason.rstrip('.')}"

    def _state(self) -> State:
        return tuple(self._learner.classes), self._learner.frames_learned

    def _is_due(self) -> bool:
        state = self._state()
        if not self._learner.examples or state == self._done:
            return False
        has_new_class = self._done is None or self._done[0] != state[0]
        if not (has_new_class and not self._failing) and self._clock() < self._next_s:
            return False
        return self.budget is None or self.budget.allows()

    def _begin(self) -> _Writing:
        from cfl_edge.learner.export import snapshot_learner

        self._writing = writing = _Writing(self._path, self._state())
        try:
            writing.begin(snapshot_learner(self._learner, self._backbone, images=1))
        except Exception as error:  # not all is finite, or no thread is left: learning goes on
            writing.error = error
        return writing

    def _note(self, writing: _Writing, then: str | None = LATER) -> None:
        self._writing = None
        self._next_s = self._clock() + self._every_s
        written = writing.written.total()
        self.written += written
        if self.budget is not None and written:
            self.budget.note(written)
        if writing.error is None:
            if self._failing or self._done is None:
                classes = counted(len(writing.state[0]), "class", "classes")
                self._on_notice(f"published {self._path}: {classes}")
            self._done, self._failing = writing.state, False
            self.published += 1
            return
        if not self._failing and then is not None:
            then = then.format(every_s=self._every_s)
            self._on_notice(f"{self._failure(writing.error)}; {then}")
        self._failing = True


class _Writing(threading.Thread):
    def __init__(self, path: Path, state: State) -> None:
        super().__init__(name="publish", daemon=True)
        self._path, self.state = path, state
        self.written: Counter[str] = Counter()
        self.error: Exception | None = None

    def begin(self, snapshot: Snapshot) -> None:
        self._snapshot = snapshot
        self.start()

    def run(self) -> None:
        try:
            write_snapshot(self._snapshot, self._path, written=self.written)
        except Exception as error:  # whatever it is, learning goes on
            self.error = error


def write_snapshot(snapshot: Snapshot, path: Path, *, written: Counter[str] | None = None) -> None:
    """Write a snapshot as one ONNX file, if ONNX Runtime says of its images what torch says.

    Args:
        snapshot: What to write.
        path: Replaced whole; its folder is created if need be.
        written: Adds up the bytes, also those of a write that fails.

    Raises:
        ExportError: They disagree. No file changed.
        ModelWriteError: Disk full, no permission. No file changed.
    """
    from cfl_edge.onnx.export import agree, model_parts

    target = Path(os.path.realpath(path))  # where a link leads
    contents = {target.name: model_parts(snapshot)}
    with staged_files(target.parent, contents, written=written) as (written_file,):
        agree(snapshot, {IMAGE: written_file})
