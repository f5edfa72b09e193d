"""Lessons that undo takes back, and what is left when they never were."""

import learner_checks
import numpy as np
import pytest

from cfl_edge.config.models import UndoSettings
from cfl_edge.config.settings import load
from cfl_edge.learner import undo as undo_module
from cfl_edge.learner.journalled import open_journal, save_learner
from cfl_edge.learner.learner import Learner, LearnerConfig
from cfl_edge.model.changing import FolderModel
from cfl_edge.model.store import Store
from cfl_edge.notices import log_notice

CONFIG = LearnerConfig(backbone="none", layers="4,8", image_px=16, replay_mib=0.1, batch=8)


def undo(folder, *, on_notice=log_notice, **options):
    settings = load(UndoSettings, {"model": folder, **options}, command="undo")
    return undo_module.undo(FolderModel(folder, on_notice), settings, on_notice=on_notice)


CLOCKED = "batch_learner joint_discriminant live rewind time_left trainer algorithms.recalibration"


class Lesson:
    """A stream of easy images whose clock ticks once a frame.

    It stands for the module `time` of the learner; all others have their own.
    """

    def __init__(self, folder, monkeypatch, config=CONFIG):
        self.folder, self.config = folder, config
        self.now_s = 1000.0  # of the clock
        for module in CLOCKED.split():
            monkeypatch.setattr(f"cfl_edge.learner.{module}.time", self)

    def monotonic(self):
        return self.now_s

    def images(self, names, seed):
        learner = type("Size", (), {"image_px": 16})
        kinds = {"above": 0, "left": 1, "over": 0, "right": 1}
        return [
            learner_checks.pictures(learner, kinds[name], 1, seed * 1000 + i)
            for i, name in enumerate(names)
        ]

    def run(self, names, *, seed=0, save_every=None):
        """One run of `learn`: go on, learn, save."""
        store = Store(self.folder, on_notice=pytest.fail)
        saved = store.load() if store.exists() else None
        learner = Learner.from_saved(saved, config=self.config) if saved else Learner(self.config)
        learner.journal = open_journal(saved, learner, pytest.fail)
        for i, (name, image) in enumerate(zip(names, self.images(names, seed), strict=True)):
            self.now_s += 1
            learner.learn(learner.encode(image), [name])
            due = learner.journal is not None and learner.journal.base_is_due
            if due or (save_every and i % save_every == save_every - 1):
                save_learner(store, learner)
        learner.recalibrate()
        save_learner(store, learner)
        return learner

    def load(self):
        return Learner.from_saved(Store(self.folder, on_notice=pytest.fail).load())


def alternating(count, names=("above", "left")):
    return [names[i % len(names)] for i in range(count)]


def oracle(lesson, names, seed=0):
    """Learn what is to be left, and nothing else."""
    learner = Learner(lesson.config)
    for name, image in zip(names, lesson.images(names, seed), strict=True):
        learner.learn(learner.encode(image), [name])
    learner.recalibrate()
    return learner


def assert_alike(learner, other, tolerance=0.02):
    """The same but for the rounding to 8 bits."""
    assert learner.classes == other.classes
    assert learner.samples() == other.samples()
    assert learner.frames_learned == other.frames_learned
    states = [each.algorithm.state.groups()["state"] for each in (learner, other)]
    for name, value in states[1].items():
        if name.endswith(".counts"):
            assert (states[0][name] == value).all()
        if name.endswith(".means"):
            apart = (states[0][name] - value).norm() / value.norm()
            assert apart < tolerance, (name, apart)
    size = type("Size", (), {"image_px": 16})
    held_out = np.concatenate([learner_checks.pictures(size, kind, 20, 777) for kind in (0, 1)])
    scores = [each.predict(each.encode(held_out)) for each in (learner, other)]
    assert np.abs(scores[0] - scores[1]).max() < tolerance * np.abs(scores[1]).max()
