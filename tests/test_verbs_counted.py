"""How many frames and steps a session says it learned, after some were taken back."""

from dataclasses import replace

import pytest
from test_session import Script, frame
from verb_room import PLAIN, Room, png

from cfl_edge.labels.ring import FrameRing
from cfl_edge.learner.journalled import open_journal
from cfl_edge.learner.learner import Learner
from cfl_edge.loop.learning import Learning
from cfl_edge.loop.pace import Pace
from cfl_edge.loop.session import Session
from cfl_edge.model.store import Store


def test_what_is_told_to_be_learned_is_what_the_model_has_now(room):
    """The panel and the page say it after each frame, `status` when it is asked."""
    told = []

    def steps(*script):
        for step in room.session.steps(Script(*script)):
            told.append(step.lesson.learned_frames)

    steps(
        room.ask("label", label="mug"),
        *PLAIN[:3],
        room.ask("label", label="pen"),
        *PLAIN[3:7],
        room.ask("undo", frames=2),
        room.ask("status"),
        PLAIN[7],
        room.ask("remove", name="mug"),
        room.ask("status"),
        PLAIN[8],
    )
    assert told[5:] == [6, 7, 5, 2]
    after_undo, after_remove = (answer for answer in room.answers if "fps" in answer)
    assert (after_undo["learned"], after_undo["said"]) == (5, "2 classes, 5 frames learned")
    assert (after_remove["learned"], after_remove["said"]) == (2, "1 class, 2 frames learned")


def test_the_summary_has_the_steps_that_the_model_has(room):
    summary = room.run(
        room.ask("label", label="above"),
        *PLAIN[:6],
        room.ask("label", label="left"),
        *PLAIN[6:14],
        room.ask("undo", frames=7),
        room.ask("label", label="above"),
        *PLAIN[14:18],
        room.ask("relabel", label="left", frames=[14, 15]),
        room.ask("region", region="0,0,0.5,0.5"),
        PLAIN[18],
    )
    manifest = Store(room.folder).load().manifest
    assert summary.steps == manifest["counters"]["gradient_steps"] > 0
    assert summary.layer_steps == [summary.steps] * 2


def test_steps_of_earlier_sessions_that_are_undone_count_for_no_session(room):
    above, left = room.ask("label", label="above"), room.ask("label", label="left")
    room.run(above, *PLAIN[:4], left, *PLAIN[4:12])
    steps = [room.learner.algorithm.steps]

    def note():
        steps.append(room.learner.algorithm.steps)

    later = Learning(room.learner, room.teaching, Pace(False), room.checkpoints)
    session = Session(later)
    list(session.steps(Script(room.ask("undo", frames=6), note, left, *PLAIN[12:20])))
    summary, now = later.summary(session), room.learner.algorithm.steps
    assert steps[0] > steps[1]
    assert summary.steps == now - steps[1] > 0
    assert summary.layer_steps == [summary.steps] * 2


def test_what_earlier_sessions_learned_and_is_undone_counts_for_no_session(room):
    room.run(room.ask("label", label="mug"), *PLAIN[:6], room.ask("unlabel"), PLAIN[6])
    store = Store(room.folder)
    later = Room(room.folder)
    later.learner.become(Learner.from_saved(store.load()))
    later.learner.journal = open_journal(store.load(), later.learner, pytest.fail)
    later.teaching = later.teaching.__class__(
        later.learner,
        later.labels,
        FrameRing(0.0),
        learn_flagged=True,
        on_notice=pytest.fail,
    )
    assert later.teaching.learned == 0
    later.verbs._maybe_running = replace(later.verbs._maybe_running, teaching=later.teaching)
    later.verbs.do("undo", {"frames": 4})
    assert later.teaching.learned == 0
    later.verbs.do("label_picture", {"label": "mug", "picture": png(frame(3).image)})
    assert later.teaching.learned == 1
    assert later.samples == {"mug": 3}
