"""Verbs of a session that take back what was learned: frames, holds and imports."""

import copy
import itertools
import time
from dataclasses import replace

import numpy as np
from command_line import cfl_edge
from test_session import frame
from verb_room import PLAIN, Room, png

from cfl_edge.config.models import UndoSettings
from cfl_edge.errors import DataError
from cfl_edge.labels.frames import FrameLabels
from cfl_edge.learner import batch_learner
from cfl_edge.learner.journal import PAUSE_S
from cfl_edge.learner.learner import Learner
from cfl_edge.learner.saved import to_saved
from cfl_edge.learner.undo import undo
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
