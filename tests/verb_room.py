"""A session on a script whose calls ask for verbs."""

import base64

import pytest
from encoded import encoded
from test_session import Script, frames, new_learner

from cfl_edge.labels.frames import FrameLabels
from cfl_edge.labels.ring import FrameRing
from cfl_edge.learner.journal import Base, Journal
from cfl_edge.learner.journalled import save_learner
from cfl_edge.learner.live import LiveModel
from cfl_edge.loop.checkpoints import Checkpoints
from cfl_edge.loop.learning import Learning
from cfl_edge.loop.pace import Pace
from cfl_edge.loop.publish import Publisher
from cfl_edge.loop.running import Running
from cfl_edge.loop.session import Session
from cfl_edge.loop.teaching import Teaching
from cfl_edge.loop.verbs import Verbs
from cfl_edge.model.store import Store


class Room:
    """A session on a script whose calls ask for verbs."""

    def __init__(self, folder, labels=None, *, delay_s=0.0, publish=None, on_notice=pytest.fail):
        self.folder, self.learner = folder, new_learner()
        self.learner.journal = Journal(1.0, bases=[Base(0, 0)])
        store = Store(folder, on_notice=on_notice)
        self.labels = labels or FrameLabels.none()
        self.teaching = Teaching(
            self.learner,
            self.labels,
            FrameRing(delay_s),
            learn_flagged=True,
            on_notice=pytest.fail,
        )
        self.checkpoints = Checkpoints(
            lambda: save_learner(store, self.learner), self.learner, every_s=1e6
        )
        self.publisher = publish and Publisher(self.learner, publish, [].append)
        self.learning = Learning(self.learner, self.teaching, Pace(False), self.checkpoints)
        self.session = Session(self.learning)
        self.running = running = Running(
            self.learner,
            self.teaching,
            self.checkpoints,
            self.session,
            self.publisher,
        )
        self.model = model = LiveModel(store, self.learner, self.checkpoints.save, [].append)
        self.verbs, self.answers = Verbs(model, running, on_notice=[].append), []

    def ask(self, verb, **arguments):
        """Return what asks for a verb once it is its turn."""
        return lambda: self.answers.append(self.verbs.do(verb, arguments))

    def refused(self, error, match, verb, **arguments):
        def ask():
            with pytest.raises(error, match=match):
                self.verbs.do(verb, arguments)

        return ask

    def run(self, *steps):
        for step in self.session.steps(Script(*steps)):
            self.checkpoints.save_if_due()
            assert step.frame.index == self.session.frames - 1
        return self.learning.summary(self.session)

    @property
    def samples(self):
        return self.learner.samples()


PLAIN = frames(20, labelled=False)


def png(image):
    return base64.b64encode(encoded(image, "PNG")).decode()
