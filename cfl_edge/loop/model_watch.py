"""Hot reload: a new model is loaded beside the old one, tried, and swapped in between frames.

The loop only checks the file (once a second) and swaps one reference; loading and the trial on a
frame happen in a thread. The old model stays in memory until the new one has predicted some frames,
and takes over again, within the same frame, if that fails.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Generic, TypeVar, final

import numpy as np

from cfl_edge.errors import CflEdgeError, ModelNotFoundError, exported_near, nearest_export, quoted
from cfl_edge.frame.frame import Image
from cfl_edge.frame.prediction import Prediction
from cfl_edge.loop.file_watch import POLL_S, FileWatch, Stamp, stamp_of
from cfl_edge.notices import Notice, counted, first_of
from cfl_edge.onnx.model_trial import Answering, predict_checked
from cfl_edge.onnx.trial import end_children

TRIAL_FRAMES = 30  # a second of a camera; two models are in memory meanwhile
CLOSE_S = 2.0  # that the end waits for a model that is being loaded

M = TypeVar("M", bound=Answering[Any])
Load = Callable[[Path, Any], M]
# What the first model is tried on: no frame was seen yet.
NOISE: Image = np.random.default_rng(0).integers(0, 256, (48, 64, 3), np.uint8)


@final
class WatchedModel(Generic[M]):
    """Predicts with the newest usable version of a file or folder.

    Args:
        path: The `.onnx` file.
        load: Loads it, once it was tried on an image; called in a thread.
        on_notice: Called, by the loop, with what happened.
        watch: Whether to reload the file when it changes.
        wait: Whether to wait for the file if it is not there yet.
        without: Is in service while there is no file; None to wait for one.

    Attributes:
        model: The model in service.
        before_load: Called, by the loop, before each load; None for nothing.
        swaps: How often a new model took over.
        failures: Updates that could not be used, at once or after a few frames.

    Raises:
        ModelError: The file cannot be used at the start.
    """

    def __init__(
        self,
        path: Path,
        load: Load[M],
        on_notice: Notice,
        *,
        watch: bool = True,
        wait: bool = True,
        without: M | None = None,
    ) -> None:
        self._watches = watch
        self._watch = FileWatch(path)  # before loading: a change meanwhile counts as new
        self._load = load
        self._on_notice = on_notice
        self._without = without
        if without is None:
            self._find_file(wait)
            self.model = load(path, NOISE)
        else:
            self.model, self._watch.handled = without, None
        self.before_load: Callable[[], None] | None = None
        self.swaps = self.failures = 0
        self._before: M | None = None
        self._trial = 0
        self._loading: _Loading[M] | None = None
        self._told_gone = False

    @property
    def models(self) -> list[M]:
        """The model in service, and the one that may take over again."""
        return [self.model] if self._before is None else [self.model, self._before]

    @property
    def is_loading(self) -> bool:
        """Whether one is being loaded that may take over."""
        return self._loading is not None

    def put(self, model: M) -> None:
        """Put a model into service at once; what is being loaded or on trial is dropped."""
        self.model, self._before, self._loading = model, None, None
        self.swaps += 1

    def predict_one(self, image: Any, *, reject: float | None = None) -> Prediction:
        """Predict one image, after a check for a new file.

        Args:
            image: What the model takes: uint8 RGB, shape (H, W, 3), or a frame.
            reject: As in `OnnxModel.predict_one`.
        """
        self.version(image)
        if self._before is None:
            return self.model.predict_one(image, reject=reject)
        try:
            prediction = predict_checked(self.model, image, reject=reject)
        except Exception as error:  # whatever a runtime raises: the old model takes over again
            self.model, self._before = self._before, None
            self._fail(error, "back to the previous model")
            return self.model.predict_one(image, reject=reject)
        self._trial -= 1
        if not self._trial:
            self._before = None
        return prediction

    def version(self, image: Any) -> int:
        """Check for a new file; return a number that another model in service does not have.

        Args:
            image: What a new model is tried on.
        """
        if self._watches:
            self._follow(image)
        return self.swaps + self.failures

    @property
    def classes(self) -> Sequence[str]:
        """Class names of the model in service."""
        return self.model.classes

    def predict_batch(
        self, images: Sequence[Any], *, reject: float | None = None
    ) -> list[Prediction]:
        """Predict images one by one, as `predict_one` does."""
        return [self.predict_one(image, reject=reject) for image in images]

    def close(self) -> None:
        """End a trial, and wait for a model that is loaded: a runtime amid that may crash."""
        if self._loading is not None:
            end_children()
            self._loading.join(CLOSE_S)

    def _find_file(self, wait: bool) -> None:
        """Wait for a publisher to write a missing file, where that may be; else it is an error."""
        path, watch = self._watch.path, self._watch
        if os.path.lexists(path):
            return
        if path.suffix != ".onnx":
            raise ModelNotFoundError(
                f"{path} does not exist, expected an ONNX file, or a name that ends in .onnx to "
                "wait for",
                hint=exported_near(path),
            )
        if not wait:
            raise ModelNotFoundError(
                f"{path} does not exist",
                hint=f"{exported_near(path)}; with --watch it waits for learn --publish",
            )
        near = nearest_export(path)
        self._on_notice(
            f"{path} does not exist yet: waiting for learn --publish {quoted(path)} to write it"
            + (f"; if that is a typing error: {near} is there" if near else "")
        )
        while (stamp := watch.changed()) is None:
            time.sleep(POLL_S)
        watch.handled = stamp

    def _follow(self, image: Any) -> None:
        if self._loading is not None:
            if not self._loading.is_alive():
                self._take(self._loading)
                self._loading = None
            return
        stamp = self._watch.changed()
        if stamp is not None:
            if self.before_load is not None:
                self.before_load()
            self._loading = _Loading(self._load, self._watch.path, stamp, image)
            self._loading.start()
        if self._watch.gone and not self._told_gone:
            self._tell_gone()
        self._told_gone = self._watch.gone

    def _tell_gone(self) -> None:
        if self._without is None:
            self._on_notice(f"{self._watch.path} is gone; the model in memory stays in service")
        elif self.model is not self._without:
            self.put(self._without)
            self._watch.handled = None  # what comes back may be the same
            self._on_notice(f"{self._watch.path} is gone; what it brought is not in service now")

    def _take(self, loading: _Loading[M]) -> None:
        if stamp_of(self._watch.path) != loading.stamp:
            return  # written again while it was read: the next check finds it
        self._watch.handled = loading.stamp
        if loading.model is None:
            self._fail(loading.error, "keeping the previous model")
            return
        old, new = self.model, loading.model
        self.model, self._before, self._trial = new, old, TRIAL_FRAMES
        self.swaps += 1
        self._on_notice(
            f"{self._watch.path} has changed: now in service, {_difference(old, new)}, loaded in "
            f"{loading.seconds:.1f} s"
        )

    def _fail(self, error: BaseException | None, what_now: str) -> None:
        self.failures += 1
        reason = error.problem if isinstance(error, CflEdgeError) else f"{error!r}"
        self._on_notice(
            f"{self._watch.path} has changed, but cannot be used: {reason}; {what_now}, next try "
            "when the file changes again"
        )


class _Loading(threading.Thread, Generic[M]):
    """Loads and tries one version of the file, beside the loop."""

    def __init__(self, load: Load[M], path: Path, stamp: Stamp, image: Any) -> None:
        super().__init__(name="model-loading", daemon=True)
        self._make, self._path, self._image = load, path, image
        self.stamp = stamp
        self.model: M | None = None
        self.error: Exception | None = None
        self.seconds = 0.0

    def run(self) -> None:
        """Load, predict the canary frame, note what happened."""
        start_s = time.monotonic()
        try:
            model = self._make(self._path, self._image)
            predict_checked(model, self._image)
            self.model = model
        except Exception as error:  # an unknown file: whatever it raises, the old model stays
            self.error = error
        self.seconds = time.monotonic() - start_s


def _difference(old: Answering[Any], new: Answering[Any]) -> str:
    """Summarise which classes are new and which are gone."""
    words = [counted(len(new.classes), "class", "classes")]
    for what, here, there in (("new", new, old), ("gone", old, new)):
        known = set(there.classes)
        names = [name for name in here.classes if name not in known]
        if names:
            words.append(f"{what}: {first_of(names)}")
    return ", ".join(words)
