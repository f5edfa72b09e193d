"""What follows a class that is renamed, merged or removed while a session learns."""

import numpy as np
import pytest
from test_session import frame, frames
from verb_room import PLAIN, Room

from cfl_edge.errors import DataError
from cfl_edge.labels.frames import FrameLabels
from cfl_edge.labels.hold import HEARTBEAT_S
from cfl_edge.learner import batch_learner
from cfl_edge.learner.learner import Learner
from cfl_edge.model.store import Store


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
