"""A lesson, and what is asked of its model, whether a session learns on it or nobody does."""

import json

import numpy as np
import pytest

from cfl_edge.labels.frames import FrameLabels
from cfl_edge.learner.journalled import save_learner
from cfl_edge.learner.live import LiveModel
from cfl_edge.loop.checkpoints import Checkpoints
from cfl_edge.loop.label_delay import open_ring
from cfl_edge.loop.running import Running
from cfl_edge.loop.session import Predicting, Session
from cfl_edge.loop.teaching import Teaching
from cfl_edge.loop.verbs import Verbs
from cfl_edge.model.changing import FolderModel
from cfl_edge.model.store import Store


class Asked:
    """A lesson, and the verbs of its model; `learner` is None where nobody learns."""

    def __init__(self, lesson, how, names, **run):
        self.lesson, self.learner = lesson, None
        learner = lesson.run(names, **run)
        self.notices = []
        if how == "unused":
            model = FolderModel(lesson.folder, self.notices.append)
            self.verbs = Verbs(model, on_notice=self.notices.append)
            return
        self.learner = learner
        store = Store(lesson.folder, on_notice=pytest.fail)
        checkpoints = Checkpoints(lambda: None, learner)
        labels = FrameLabels.none()
        self.teaching = Teaching(
            learner, labels, open_ring(labels), learn_flagged=True, on_notice=pytest.fail
        )
        session = Session(Predicting(learner))
        running = Running(learner, self.teaching, checkpoints, session)
        model = LiveModel(store, learner, checkpoints.save, self.notices.append)
        self.verbs = Verbs(model, running, on_notice=self.notices.append)

    def do(self, verb, **arguments):
        """Every answer is JSON, and says something; what learns is what was saved."""
        answer = self.verbs.do(verb, arguments)
        assert json.loads(json.dumps(answer)) == answer
        assert answer["said"]
        assert set(answer["notices"]) <= set(self.notices)
        saved = self.lesson.load()
        if self.learner is not None:
            assert self.learner.classes == saved.classes
            assert self.learner.samples() == saved.samples()
            assert self.learner.frames_learned == saved.frames_learned
            images = np.concatenate(self.lesson.images(["above", "left"] * 3, 77))
            scores = [each.predict(each.encode(images)) for each in (self.learner, saved)]
            assert (scores[0] == scores[1]).all()
        return answer

    def ended(self):
        """Return the model once its session has ended, as `learn` ends."""
        if self.learner is not None:
            self.learner.recalibrate()
            save_learner(Store(self.lesson.folder, on_notice=pytest.fail), self.learner)
        return self.lesson.load()
