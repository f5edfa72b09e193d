"""What a session does in addition where it has a learner: teach, keep pace, save."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import replace
from typing import final

from cfl_edge.core.allocator import drop_idle_code, return_freed_memory
from cfl_edge.core.features import Encoded
from cfl_edge.frame.frame import Frame, cut_frame
from cfl_edge.frame.prediction import Prediction
from cfl_edge.frame.preprocess import Cut
from cfl_edge.frame.step import Lesson, Summary
from cfl_edge.learner.learner import Learner
from cfl_edge.loop.checkpoints import Checkpoints
from cfl_edge.loop.fleet import Fleet
from cfl_edge.loop.glance import Glance
from cfl_edge.loop.interrupts import Interrupts
from cfl_edge.loop.label_delay import Seen
from cfl_edge.loop.metrics import PeakMemory
from cfl_edge.loop.pace import Pace
from cfl_edge.loop.quality import QualityGate
from cfl_edge.loop.session import Session, Work
from cfl_edge.loop.teaching import Teaching
from cfl_edge.stream.source import Stream


@final
class Learning(Work):
    """Predict every frame, then learn from it if it has a label.

    Args:
        learner: Changed by what it learns.
        teaching: Says which frame is learned, and with which label.
        pace: Says how long learning may take.
        checkpoints: Saves the learner.
        glance: Says which frames the model looks at; None for all. A frame with a label is looked
            at in any case.
        fleet: Answers with what other boards have learned as well; None for this one alone.
    """

    def __init__(
        self,
        learner: Learner,
        teaching: Teaching,
        pace: Pace,
        checkpoints: Checkpoints,
        glance: Glance | None = None,
        fleet: Fleet | None = None,
    ) -> None:
        self._learner, self._teaching, self._fleet = learner, teaching, fleet
        self._pace, self._checkpoints = pace, checkpoints
        self._glance = glance or Glance("every", lambda frame: (learner.view, None))
        self._gate = QualityGate()
        self._newest: tuple[Cut, Encoded] | None = None  # of the frame, and what became of it
        self._seen: Seen | None = None  # at the last look
        self._memory = PeakMemory()
        self._steps_before = learner.algorithm.steps  # of earlier runs

    def begin(self, stream: Stream) -> None:
        """Warm up, where frames would be dropped meanwhile; memory is measured from here."""
        if stream.live:
            self._learner.warm_up()
        self._memory = PeakMemory()

    def predict(self, frames: Sequence[Frame], reject: float | None) -> list[Prediction]:
        """Encode and predict one frame, where the model looks; learning needs it encoded."""
        (frame,) = frames

        def ask() -> Prediction:
            cut = cut_frame(frame, self._learner.image_px, self._learner.view)
            encoded = self._learner.encode(cut.square[None])
            self._newest = cut, encoded
            if self._fleet is not None:
                return self._fleet.predict(encoded, reject)
            return self._learner.predict_encoded(encoded, reject=reject)[0]

        return [self._glance.predict(frame, ask, always=lambda: self._teaching.is_taught(frame))]

    def learn(self, frame: Frame, prediction: Prediction, began_s: float) -> Lesson:
        """Teach the frames whose labels are known now; where there are none, complete steps."""
        assert self._newest is not None
        cut, encoded = self._newest
        teaching, learner, glance = self._teaching, self._learner, self._glance
        self._pace.begin(frame, began_s)
        self._steps()
        answering = learner if self._fleet is None else self._fleet.learner
        learned_before, kept = teaching.learned, None
        if glance.looked:
            excluded, quality = answering.excluded(prediction), self._gate.check(cut.content)
            self._seen = Seen(encoded, prediction.label, excluded, quality, frame.name)
            kept = teaching.take(frame, self._seen, self._pace.budget_s)
        else:
            same = self._seen if glance.is_same else None
            seen = same and replace(same, name=frame.name)
            teaching.pass_over(frame, seen, self._pace.budget_s)
        learned = teaching.learned > learned_before
        is_free = not learned and not teaching.hold.paused
        if is_free and (budget_s := self._pace.budget_s()) is not None:
            learner.work(budget_s)
        return Lesson(
            label=kept.label if kept else None,
            learned=learned,
            learned_frames=teaching.learned,
            rolling_accuracy=teaching.accuracy.rolling,
            prequential_accuracy=teaching.accuracy.overall,
            samples=learner.samples(),
            classes=tuple(answering.classes),
            flags=teaching.flags(kept) if kept else (),
            flagged=dict(teaching.flagged),
            waiting=teaching.waiting,
            looked=glance.looked,
        )

    def newest(self) -> Encoded | None:
        """Return the newest frame that the model looked at; None before the first."""
        return None if self._newest is None else self._newest[1]

    def between_frames(self) -> None:
        """Save where a checkpoint is due, and give a hot board a rest."""
        self._checkpoints.save_if_due()
        if rest_s := self._pace.rest_s():
            time.sleep(rest_s)

    def finish(self, interrupts: Interrupts, *, lost: bool) -> None:
        """Teach what waits, and save: without any frame, the next start is free to choose anew."""
        teaching = self._teaching
        # What waits is learned in any case; whoever asked for an end does not wait for steps.
        teaching.finish(lambda: 0.0 if interrupts.requested else self._pace.given_s)
        if lost:
            if teaching.learned:
                self._checkpoints.save()
            return
        return_freed_memory()  # what saving and the export take must not add to learning's peak
        drop_idle_code()
        if teaching.learned and not interrupts.requested:
            self._learner.recalibrate()
        if self._newest is not None:
            self._checkpoints.save()

    def _steps(self) -> int:
        """Return the gradient steps of this run, without those that a verb has taken back."""
        steps = self._learner.algorithm.steps
        self._steps_before = min(self._steps_before, steps)  # an undo may go behind this run
        return steps - self._steps_before

    def summary(self, session: Session) -> Summary:
        """Return what the run did."""
        teaching = self._teaching
        steps, updates = self._steps(), self._learner.algorithm.layer_steps
        under_way = [count - min(updates) for count in updates]  # each step updates a layer once
        return Summary(
            **session.totals(),
            learned=teaching.learned,
            withheld=teaching.withheld,
            flagged=dict(teaching.flagged),
            let_go=teaching.let_go,
            prequential_accuracy=teaching.accuracy.overall,
            last_quarter_accuracy=teaching.accuracy.last_quarter,
            classes=list(self._learner.classes),
            growth_mib=self._memory.growth_mib,
            steps=steps,
            steps_per_s=steps / session.seconds if session.seconds else 0.0,
            layer_steps=[steps + count for count in under_way],
            layers_gain=self._learner.algorithm.gain,
            interrupted=session.interrupted,
        )
