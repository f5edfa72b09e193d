"""Verbs between the frames of a session that take back, rename and merge what was learned."""

import copy
import itertools
import time
from dataclasses import replace

import numpy as np
import pytest
from command_line import cfl_edge
from test_session import Script, frame, frames
from verb_room import PLAIN, Room, png

from cfl_edge.config.models import UndoSettings
from cfl_edge.errors import DataError
from cfl_edge.labels.frames import FrameLabels
from cfl_edge.labels.hold import HEARTBEAT_S
from cfl_edge.labels.ring import FrameRing
from cfl_edge.learner import batch_learner
from cfl_edge.learner.journal import PAUSE_S
from cfl_edge.learner.journalled import open_journal
from cfl_edge.learner.learner import Learner
from cfl_edge.learner.saved import to_saved
from cfl_edge.learner.undo import undo
from cfl_edge.loop.learning import Learning
from cfl_edge.loop.pace import Pace
from cfl_edge.loop.session import Session
from cfl_edge.model.changing import FolderModel
from cfl_edge.model.store import Store


def test_undo_frees_its_frames_and_lets_go_of_the_label(room):
    summary = room.run(
        room.ask("label", label="above"),
        *PLAIN[:3],
        room.ask("label", label="left"),
        *PLAIN[3:6],
        room.ask("undo", hold=True),
        PLAIN[6],
        room.ask("label_frame", label="above", frame=4),
    )
    undone = room.answers[2]
    assert undone["per_class"] == {"left": 3}
    assert undone["said"] == "undone 3 frames: left 3; left is not held any more"
    assert room.samples == {"above": 4}
    assert summary.learned == 4  # 7 in all
    assert summary.steps >= 0


def test_undo_of_frames_whose_class_was_renamed_meanwhile(room):
    room.run(
        room.ask("label", label="above"),
        *PLAIN[:4],
        room.ask("rename", name="above", to="over"),
        *PLAIN[4:8],
        room.ask("undo", frames=6),
        room.ask("status"),
    )
    assert room.answers[2]["per_class"] == {"over": 6}
    assert [(c["name"], c["samples"]) for c in room.answers[3]["classes"]] == [("over", 2)]


def test_a_held_label_follows_its_class_and_ends_with_it(room):
    room.run(
        room.ask("label", label="mug"),
        *PLAIN[:2],
        room.ask("rename", name="mug", to="cup"),
        *PLAIN[2:4],
        room.ask("add", name="glass"),
        room.ask("merge", names=["cup", "glass"], into="vessel"),
        *PLAIN[4:6],
        room.ask("remove", name="vessel"),
        *PLAIN[6:8],
        room.ask("label", label="vessel"),
        PLAIN[8],
    )
    assert room.answers[4]["said"] == "removed vessel; it is not held any more"
    assert room.samples == {"vessel": 1}


def beat(room):
    return room.ask("label", label="mug", seconds=HEARTBEAT_S)


def test_heartbeats_follow_their_class_and_bring_back_none_that_is_gone(room, monkeypatch):
    """Somebody else renames, merges and removes it while a button of it is held."""
    clock_s = [100.0]
    monkeypatch.setattr(room.teaching.hold, "_clock", lambda: clock_s[0])

    def later():  # the change takes as long, and heartbeats wait
        clock_s[0] += 5.0

    late = room.refused(DataError, "removed while it was held", "label", label="mug", seconds=1)
    room.run(
        beat(room),
        PLAIN[0],
        later,
        room.ask("rename", name="mug", to="cup"),
        beat(room),
        PLAIN[1],
        room.ask("add", name="glass"),
        later,
        room.ask("merge", names=["cup", "glass"], into="glass"),
        beat(room),
        PLAIN[2],
        room.ask("status"),
        later,
        room.ask("remove", name="glass"),
        late,
        PLAIN[3],
        late,
        PLAIN[4],
    )
    called = [answer["label"] for answer in room.answers if "label" in answer]
    assert called == ["mug", "cup", "glass", "glass"]
    assert [(c["name"], c["samples"]) for c in room.answers[6]["classes"]] == [("glass", 3)]
    assert room.samples == {}


@pytest.mark.parametrize("let_go", ["unlabel", "undo", "wait"])
def test_a_new_hold_of_an_old_name_makes_a_new_class(room, monkeypatch, let_go):
    monkeypatch.setattr(room.teaching.hold, "_clock", lambda: clock_s[0])
    clock_s = [100.0]
    gone = {
        "unlabel": room.ask("unlabel"),
        "undo": room.ask("undo", frames=1),
        "wait": lambda: clock_s.append(clock_s.pop() + HEARTBEAT_S),
    }[let_go]
    room.run(
        beat(room),
        *PLAIN[:2],
        room.ask("rename", name="mug", to="cup"),
        gone,
        beat(room),
        PLAIN[2],
    )
    assert room.samples == {"cup": 1 if let_go == "undo" else 2, "mug": 1}


def test_what_the_stream_calls_by_an_old_name_follows_too(tmp_path):
    room = Room(tmp_path / "model", FrameLabels.of_stream())
    room.run(
        *frames(4),
        room.ask("rename", name="left", to="aside"),
        *frames(4),
        room.ask("rename", name="aside", to="beside"),
        *frames(2),
        room.ask("remove", name="above"),
        *frames(4),
        room.ask("add", name="above"),
        *frames(2),
    )
    assert room.samples == {"beside": 8, "above": 1}


def test_frames_that_wait_for_their_label_follow_too(tmp_path):
    room = Room(tmp_path / "model", FrameLabels.of_stream(), delay_s=5.0)
    room.run(
        *frames(8),
        room.ask("rename", name="left", to="aside"),
        room.ask("remove", name="above"),
        *frames(8)[4:],
    )
    assert set(room.samples) == {"aside"}


def test_everything_goes_on_after_a_change(room):
    """The learner at work is the saved one, and learns on as that would."""
    saved = []
    room.run(
        room.ask("label", label="above"),
        *PLAIN[:9],
        room.ask("label", label="left"),
        *PLAIN[9:14],
        room.ask("rename", name="left", to="aside"),
        lambda: saved.append(Learner.from_saved(Store(room.folder).load())),
        *PLAIN[14:20],
    )
    (other,) = saved
    for one in PLAIN[14:20]:
        other.learn(other.encode(one.image[None]), ["aside"])
    other.recalibrate()
    assert other.samples() == room.samples
    images = np.stack([frame(i).image for i in range(100, 120)])
    assert (room.learner.predict(room.learner.encode(images)) ==
            other.predict(other.encode(images))).all()  # fmt: skip


def test_the_last_hold_is_undone_without_learning_anything_again(room):
    """To the bit: the copy that was made before it."""
    images, before = np.stack([frame(i).image for i in range(100, 120)]), []

    def remember():
        other = Learner.from_saved(copy.deepcopy(to_saved(room.learner)))
        other.recalibrate(whole=False)
        before.append(other.predict(other.encode(images)))

    def compare():
        before.append(room.learner.predict(room.learner.encode(images)))

    room.teaching.on_hold = room.model.remember
    room.run(
        room.ask("label", label="above"),
        *PLAIN[:6],
        room.ask("label", label="left"),
        *PLAIN[6:9],
        room.ask("unlabel"),
        lambda: setattr(room.teaching, "_began_s", 0.0),  # some seconds pass
        remember,
        room.ask("label", label="above"),
        *PLAIN[9:14],
        room.ask("undo", hold=True),
        compare,
        room.ask("undo", hold=True),
    )
    undone = room.answers[4:]
    assert [answer["per_class"] for answer in undone] == [{"above": 5}, {"left": 3}]
    assert [answer["notices"] for answer in undone] == [[], ["relearning 6 earlier frames"]]
    saved = Learner.from_saved(Store(room.folder).load())
    assert saved.samples() == room.samples == {"above": 6}
    assert (before[0] == before[1]).all()


def imported(room, batch, *names):
    """Return what asks for a picture of each name, as an import does."""
    picture = png(PLAIN[0].image)
    return [room.ask("label_picture", label=n, picture=picture, batch=batch) for n in names]


def test_an_import_is_undone_as_a_whole_and_alone(room, monkeypatch):
    """However long it takes, and whatever came just before it."""
    later_s = time.monotonic() + 100
    clock = itertools.count(later_s, 1.5 * PAUSE_S)  # each picture takes longer than a pause
    room.teaching.on_hold = room.model.remember
    room.run(
        PLAIN[0],
        room.ask("label", label="mug"),
        *PLAIN[1:4],
        room.ask("unlabel"),
        PLAIN[4],
        lambda: monkeypatch.setattr(batch_learner.time, "monotonic", clock.__next__),
        *imported(room, 1, "mug", "mug", "pen"),
        *imported(room, 2, "pen", "cup", "mug", "cup"),
        monkeypatch.undo,
        *(room.ask("undo", hold=True) for _ in range(3)),
    )
    undone = [answer["per_class"] for answer in room.answers[-3:]]
    assert undone == [{"mug": 1, "pen": 1, "cup": 2}, {"mug": 2, "pen": 1}, {"mug": 3}]
    assert room.samples == {}


def test_a_label_is_one_hold_until_it_is_let_go_however_seldom_frames_come(room, monkeypatch):
    later_s = time.monotonic() + 100
    clock = itertools.count(later_s, 1.5 * PAUSE_S)  # each frame takes longer than a pause
    held = room.ask("label", label="mug")
    room.run(
        lambda: monkeypatch.setattr(batch_learner.time, "monotonic", clock.__next__),
        held,
        *PLAIN[:3],
        room.ask("unlabel"),
        held,  # pressed again before the next frame
        *PLAIN[3:5],
        held,  # a heartbeat
        *PLAIN[5:7],
        room.ask("undo", hold=True),
        held,
        PLAIN[7],
        room.ask("unlabel"),
        PLAIN[8],
        monkeypatch.undo,
        *(room.ask("undo", hold=True) for _ in range(2)),
    )
    undone = [answer["per_class"] for answer in room.answers if "per_class" in answer]
    assert undone == [{"mug": 4}, {"mug": 1}, {"mug": 3}]
    assert room.samples == {}


def test_a_hold_is_undone_as_a_whole_after_the_session(tmp_path, monkeypatch):
    clock = itertools.count(time.monotonic() + 100, 1.5 * PAUSE_S)
    room = Room(tmp_path / "model", FrameLabels.of_stream())
    above = [replace(frame, label="above") for frame in PLAIN[:6]]
    above[2] = PLAIN[2]  # nobody holds a button
    with monkeypatch.context() as slow:
        slow.setattr(batch_learner.time, "monotonic", clock.__next__)
        room.run(*above, room.ask("save"))
    undone = cfl_edge("undo", room.folder, "--hold", "--json").summary
    assert undone["per_class"] == {"above": 3}
    assert cfl_edge("undo", room.folder, "--hold", "--json").summary["per_class"] == {"above": 2}


def test_a_hold_amid_an_import_is_undone_by_itself(room):
    room.run(
        *imported(room, 1, "cup", "pen"),
        room.ask("label", label="mug"),
        *PLAIN[:3],
        room.ask("unlabel"),
        *imported(room, 1, "pen", "cup"),
        room.ask("save"),
        *(room.ask("undo", hold=True) for _ in range(3)),
    )
    undone = [answer["per_class"] for answer in room.answers[-3:]]
    assert undone == [{"cup": 1, "pen": 1}, {"mug": 3}, {"cup": 1, "pen": 1}]


def test_an_import_of_an_earlier_session_is_undone_as_a_whole(room):
    room.run(PLAIN[0], *imported(room, 1, "mug", "pen", "mug"))
    room.checkpoints.save()
    folder = FolderModel(room.folder, [].append)
    undone = undo(folder, UndoSettings(model=room.folder, hold=True), on_notice=[].append)
    assert undone.per_class == {"mug": 2, "pen": 1}


def test_no_verb_loads_the_backbone_again(room, monkeypatch):
    monkeypatch.setattr(batch_learner, "frozen_network", lambda *_: pytest.fail("loaded again"))
    room.run(
        room.ask("label", label="above"),
        *PLAIN[:6],
        room.ask("rename", name="above", to="over"),
        room.ask("relabel", label="left", frames=[1, 2]),
        room.ask("undo", frames=6),  # from a model that has learned nothing
        PLAIN[6],
    )
    assert room.samples == {}
    assert len(room.answers) == 4


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


def test_seconds_are_those_of_the_clock_while_a_session_runs(room, monkeypatch):
    """Whoever says "the last 10 seconds" means those until now, not those of learning."""
    clock = [100.0]
    monkeypatch.setattr(time, "monotonic", lambda: clock[0])

    def ticks(seconds):
        def tick():
            clock[0] += seconds

        return tick

    def second(one):
        return [one, ticks(1)]

    room.run(
        room.ask("label", label="mug"),
        *(part for one in PLAIN[:6] for part in second(one)),
        room.ask("unlabel"),
        ticks(60),
        PLAIN[6],
        room.refused(DataError, "learned nothing in the last 10 s: its last", "undo", seconds=10),
        room.refused(
            DataError, "learned nothing in the last 10 s", "relabel", label="x", last_s=10
        ),
        room.ask("undo", seconds=63.5),
        PLAIN[7],
    )
    assert room.answers[-1]["per_class"] == {"mug": 3}
    assert room.samples == {"mug": 3}
