"""What other boards taught, in the answers of a board that learns.

`cfl-edge fleet sync` puts the sum of the other boards beside the model. A thread adds it to what
this board has learned and solves the classifier of both; the loop then swaps it in between two
frames, with the gate and the way back of `run --watch` (`model_watch`). What is saved, undone and
sent to others stays the board's own.
"""

from __future__ import annotations

import gc
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, final

from cfl_edge.errors import CflEdgeError
from cfl_edge.fleet.agreement import require_same_plan
from cfl_edge.fleet.contribution import KEY, SUMMED, contribution, read_again
from cfl_edge.fleet.pool import Pool
from cfl_edge.fleet.shared import OTHERS
from cfl_edge.frame.prediction import Prediction
from cfl_edge.loop.model_watch import WatchedModel
from cfl_edge.model.checkpoint import Saved
from cfl_edge.model.store import FLEET_FOLDER, Store
from cfl_edge.notices import Notice

if TYPE_CHECKING:
    from cfl_edge.core.features import Encoded
    from cfl_edge.learner.learner import Learner

SLICE_S = 0.0  # of renewing a factor, in one frame: one slice


@final
class Joined:
    """The classifier of all boards, which goes on with the frames of this one.

    Args:
        path: Folder of the sum of the others.
        own: The learner of this board; its contribution is copied here.

    Attributes:
        path: As given.
        classes: Names, in the order of the scores.
    """

    def __init__(self, path: Path, own: Learner) -> None:
        from cfl_edge.learner.saved import to_saved

        self.path = path
        self._own = own
        found = contribution(to_saved(own), "here", "this board")
        state = {name: array.copy() for name, array in found.tensors["state"].items()}
        self._copy = Saved(found.manifest, {**found.tensors, "state": state})
        self._learner: Learner | None = None
        self._waiting: list[tuple[Encoded, str]] = []

    def solve(self, notice: Notice) -> None:
        """Add the sum of the others, and solve; in any thread.

        Raises:
            ModelError: It cannot be read.
            DataError: It does not fit this board.
        """
        from cfl_edge.fleet.solved import solved

        gc.collect()  # learners of earlier sums have cycles, and 28 MiB each
        others = read_again(Store(self.path, on_notice=notice).load(), str(self.path))
        require_same_plan(self._copy, others)
        pool = Pool(boards=2)
        pool.add(self._copy)
        pool.add(others)
        self._learner = solved(
            pool, self._copy, list(others.manifest[KEY].get(SUMMED, ())), self._own
        )

    @property
    def learner(self) -> Learner:
        """What answers."""
        assert self._learner is not None
        return self._learner

    @property
    def classes(self) -> Sequence[str]:
        """Class names, in the order of the scores."""
        return self.learner.classes

    def learned(self, encoded: Encoded, label: str) -> None:
        """Take note of a frame that this board has learned since; it counts from the next on."""
        self._waiting.append((encoded, label))

    def predict_one(self, encoded: Encoded, *, reject: float | None = None) -> Prediction:
        """Say what an encoded frame shows."""
        while self._waiting:
            waiting, label = self._waiting.pop(0)
            self.learner.learn(self._read(waiting), [label], budget_s=SLICE_S)
        (prediction,) = self.learner.predict_encoded(self._read(encoded), reject=reject)
        return prediction

    def _read(self, encoded: Encoded) -> Encoded:
        """Leave out the layers that only this board has."""
        from cfl_edge.core.features import Encoded

        sources = len(self.learner.algorithm.inputs.channels)
        return Encoded(encoded.images, encoded.h0, encoded.features[:sources])


@final
class Alone:
    """The learner of this board without others.

    Args:
        path: For errors.
        learner: The learner.
    """

    def __init__(self, path: Path, learner: Learner) -> None:
        self.path, self.learner = path, learner

    @property
    def classes(self) -> Sequence[str]:
        """Class names, in the order of the scores."""
        return self.learner.classes

    def predict_one(self, encoded: Encoded, *, reject: float | None = None) -> Prediction:
        """Say what an encoded frame shows."""
        (prediction,) = self.learner.predict_encoded(encoded, reject=reject)
        return prediction


@final
class Fleet:
    """Answers with what all boards have learned, as soon as there are others.

    Args:
        model: The model folder.
        learner: Of this board.
        on_notice: Called with what happened.
    """

    def __init__(self, model: Path, learner: Learner, on_notice: Notice) -> None:
        self._own, self._on_notice = learner, on_notice
        self._path = model / FLEET_FOLDER / OTHERS
        self._algorithm = learner.algorithm
        self._next: Joined | None = None  # while it is being solved
        self._refused: CflEdgeError | None = None  # why this board's own part cannot be added
        self._newest: Encoded | None = None  # frame, that what is solved is tried on
        self._alone = Alone(self._path, learner)
        self._watch: WatchedModel[Alone | Joined] = WatchedModel(
            self._path, self._solved, on_notice, without=self._alone
        )
        self._watch.before_load = self._begin

    @property
    def learner(self) -> Learner:
        """The learner that answers: its classes and counts are of all boards."""
        return self._watch.model.learner

    def predict(self, encoded: Encoded, reject: float | None) -> Prediction:
        """Say what a frame shows, after a look for news of the others."""
        self._newest = encoded
        if self._algorithm is not self._own.algorithm:
            self._renew()
        prediction: Prediction = self._watch.predict_one(encoded, reject=reject)
        if isinstance(self._watch.model, Joined):
            self.learner.work(SLICE_S)
        return prediction

    def version(self) -> int:
        """Look for news of the others; return a number that only the same classifier has."""
        return 0 if self._newest is None else self._watch.version(self._newest)

    def learned(self, encoded: Encoded, label: str) -> None:
        """Take note of a frame that this board has just learned."""
        if not self._watch.is_loading:
            self._next = None  # in service by now, or dropped: it would keep every frame
        for model in {self._next, *self._watch.models}:
            if isinstance(model, Joined):
                model.learned(encoded, label)

    def close(self) -> None:
        """End what is being solved."""
        self._watch.close()

    def _begin(self) -> None:
        self._next = self._refused = None
        try:
            self._next = Joined(self._path, self._own)
        except CflEdgeError as error:  # whoever loads tells of it, and learning goes on
            self._refused = error

    def _solved(self, _path: Path, _encoded: Encoded) -> Joined:
        if self._refused is not None:
            raise self._refused
        assert self._next is not None
        self._next.solve(self._on_notice)
        return self._next

    def _renew(self) -> None:
        """Follow a change of what this board has learned: undo, a class removed or renamed."""
        self._algorithm = self._own.algorithm
        model: Alone | Joined = self._alone
        if isinstance(self._watch.model, Joined):
            try:
                model = Joined(self._path, self._own)
                model.solve(self._on_notice)
            except CflEdgeError as error:
                self._on_notice(f"{self._path} cannot be used: {error.problem}")
                model = self._alone
        self._watch.put(model)
