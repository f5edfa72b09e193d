"""Verbs between the frames of a session: what is held, paused, past, and changed meanwhile."""

from dataclasses import replace

import numpy as np
from test_session import frame, frames, new_learner
from verb_room import PLAIN, Room, png

from cfl_edge.errors import DataError, UsageError
from cfl_edge.labels.frames import FrameLabels
from cfl_edge.learner.journal import Base, Journal
from cfl_edge.learner.suspects import Suspect
from cfl_edge.loop import teaching
from cfl_edge.loop.board_health import BoardHealth
from cfl_edge.loop.verbs import Verbs
from cfl_edge.model.store import Store


def test_a_label_holds_until_another_or_none(room):
    room.run(
        PLAIN[0],
        room.ask("label", label=" mug "),
        *PLAIN[1:4],
        room.ask("label", label="pen", frames=2),
        *PLAIN[4:8],
        room.ask("label", label="cup"),
        PLAIN[8],
        room.ask("unlabel"),
        PLAIN[9],
        room.ask("label", label="cup"),
        room.ask("label", label=None),
        PLAIN[10],
    )
    assert room.samples == {"mug": 3, "pen": 2, "cup": 1}
    said = [answer["said"] for answer in room.answers]
    assert said[:2] == ["label mug", "label pen for 2 frames"]


def test_a_held_label_counts_more_than_that_of_the_stream(tmp_path):
    room = Room(tmp_path / "model", FrameLabels.of_stream())
    room.run(
        *frames(4), room.ask("label", label="mug"), *frames(4), room.ask("unlabel"), *frames(2)
    )
    assert room.samples == {"above": 3, "left": 3, "mug": 4}


def test_nothing_is_learned_while_paused(tmp_path):
    room, before = Room(tmp_path / "model", FrameLabels.of_stream()), []

    def state():
        before.append(room.learner.algorithm.steps)

    room.run(
        *frames(10),
        room.ask("pause"),
        room.ask("label", label="mug"),
        state,
        *frames(8),
        state,
        room.ask("status"),
        room.ask("resume"),
        *frames(2),
    )
    assert room.samples == {"above": 5, "left": 5, "mug": 2}
    assert before[0] == before[1]
    assert room.answers[1]["said"] == "label mug; learning is paused"
    assert room.answers[2]["paused"] is True
    assert (room.answers[2]["seen"], room.answers[2]["label"]) == (18, "mug")


def test_what_somebody_corrects_or_imports_is_learned_while_paused_and_this_is_said(room):
    picture = png(PLAIN[3].image)
    room.run(
        room.ask("pause"),
        room.ask("label", label="held"),
        *PLAIN[:4],
        room.ask("label_frame", label="mug", frame=1),
        room.ask("label_picture", label="pen", picture=picture),
        room.ask("label_picture", label="pen", picture=picture, batch=1),
        room.ask("status"),
        room.ask("resume"),
        room.ask("label_frame", label="mug", frame=2),
    )
    assert room.samples == {"mug": 2, "pen": 2}
    assert [answer["said"] for answer in (room.answers[0], *room.answers[2:4])] == [
        "learning is paused; corrections and imported pictures are still learned",
        "frame 1 is mug: learned, and learning stays paused",
        "the picture is pen: learned, and learning stays paused",
    ]
    assert room.answers[5]["paused"] is True
    assert room.answers[7]["said"] == "frame 2 is mug"


def test_past_frames_are_labelled_and_relabelled(room):
    room.run(
        *PLAIN[:6],
        room.ask("label_frame", label="mug", frame=2),
        room.ask("label_frame", label="pen", seconds_ago=1),
        room.refused(DataError, "frame 2 is labelled mug", "label_frame", label="mug", frame=2),
        room.refused(DataError, "frame 9 is not in memory", "label_frame", label="a", frame=9),
        room.refused(UsageError, "expected one of", "label_frame", label="a"),
        room.ask("label_frame", label="cup", frame=2),  # no, that is a cup
        PLAIN[6],
    )
    assert [answer["frame"] for answer in room.answers] == [2, 4, 2]
    assert room.samples == {"pen": 1, "cup": 1}


def test_frames_that_were_taught_wrongly_are_learned_again(room):
    """The model is the one that never heard the wrong label, but for 8 bits a value."""
    room.run(
        room.ask("label", label="above"),
        *PLAIN[:6],
        room.ask("label", label="left"),
        *PLAIN[6:12],
        room.ask("relabel", label="left", frames=[1, 3, 5]),
        room.ask("relabel", label="above", frames=[6, 8, 10]),
        room.refused(DataError, "frame 40 cannot be", "relabel", label="x", frames=[1, 40]),
        room.refused(DataError, "none of the last", "relabel", label="left", frames=[1]),
    )
    other = new_learner()
    for i in range(12):
        other.learn(other.encode(PLAIN[i].image[None]), [("above", "left")[i % 2]])
    other.recalibrate()
    assert room.samples == other.samples() == {"above": 6, "left": 6}
    images = np.stack([frame(i).image for i in range(100, 120)])
    scores = [each.predict(each.encode(images)) for each in (room.learner, other)]
    assert (scores[0].argmax(1) == scores[1].argmax(1)).mean() >= 0.9
    assert [answer["moved"] for answer in room.answers[2:]] == [{"above": 3}, {"left": 3}]


def test_forgotten_frames_can_be_taught_anew_and_others_keep_their_place(room):
    room.run(
        room.ask("label", label="above"),
        *PLAIN[:8],
        room.ask("unlabel"),
        room.ask("forget", frames=[2, 4]),
        room.refused(DataError, "frame 4 cannot be forgotten: not", "forget", frames=[4]),
        room.ask("relabel", label="left", frames=[3, 7]),  # whose places have moved
        room.ask("label_frame", label="left", frame=4),
    )
    assert room.answers[2]["said"] == "2 frames forgotten: above 2"
    assert room.samples == {"above": 4, "left": 3}
    labels = [entry.label for entry in room.learner.journal.entries(0, 7)]
    assert labels == [0, 0, 1, 0, 0, 1, 1]  # frames 0, 1, 3, 5, 6, 7 and 4 again


def test_accuracy_is_told_over_time(room):
    history = {"mug": [False] * 30 + [True] * 30, "pen": [True] * 7, "key": [True] * 4}
    for name, rights in history.items():
        for right in rights:
            room.teaching.taught.add(name, name if right else None)
    expected = {"mug": [0.0] * 6 + [1.0] * 6, "pen": [1.0], "key": []}
    assert room.teaching.taught.accuracy_over_time() == expected
    room.run(PLAIN[0], room.ask("label", label="mug"), PLAIN[1], room.ask("status"))
    (mug,) = room.answers[1]["classes"]
    assert mug["accuracy_over_time"][:5] == [0.0] * 5
    assert (room.answers[1]["publishes"], room.answers[1]["temperature_c"]) == (False, None)


def test_accuracy_is_not_of_frames_that_were_undone(tmp_path):
    """Else a summary would praise, or blame, what the model has forgotten."""
    short, long, none = (Room(tmp_path / name, FrameLabels.of_stream()) for name in "abc")
    expected = short.run(*frames(6))
    undone = long.run(*frames(10), long.ask("undo", frames=4), PLAIN[0])
    nothing = none.run(*frames(10), none.ask("undo", frames=10), PLAIN[0])
    assert 0 < expected.prequential_accuracy < 1
    for name in ("prequential_accuracy", "last_quarter_accuracy", "learned"):
        assert getattr(undone, name) == getattr(expected, name)
    assert long.teaching.taught.accuracy() == short.teaching.taught.accuracy()
    assert (nothing.learned, nothing.prequential_accuracy) == (0, None)
    assert none.teaching.accuracy.rolling is None


def test_the_board_is_as_hot_as_the_zone_nearest_to_its_limit(room, tmp_path):
    for number, (name, millidegrees) in enumerate([("cpu-thermal", 71400), ("gpu-thermal", 55000)]):
        zone = tmp_path / f"thermal_zone{number}"
        zone.mkdir()
        (zone / "type").write_text(name)
        (zone / "temp").write_text(str(millidegrees))
    board = BoardHealth(tmp_path, "no-such-command")
    room.verbs = Verbs(room.model, replace(room.running, board=board), on_notice=[].append)
    room.run(PLAIN[0], room.ask("status"))
    assert room.answers[0]["temperature_c"] == 71.4


def test_where_it_looks_is_said_of_the_newest_frame(room):
    room.verbs = Verbs(
        room.model, replace(room.running, newest=room.learning.newest), on_notice=[].append
    )
    room.run(
        room.refused(DataError, "No frame has come yet", "attention"),
        room.ask("label", label="mug"),
        *PLAIN[:2],
        room.ask("attention"),
        room.refused(DataError, "There is no class pen", "attention", label="pen"),
    )
    answer = room.answers[1]
    assert (answer["label"], [len(row) for row in answer["rows"]]) == ("mug", [6] * 6)


def test_suspects_are_searched_once_for_each_state(room, monkeypatch):
    calls = []

    def found(learner):
        calls.append(learner.frames_learned)
        return [Suspect((2, 3), "mug", "pen", 0.9), Suspect((99,), "mug", "pen", 0.8)]

    monkeypatch.setattr(teaching, "suspects", found)
    room.run(
        PLAIN[0],
        room.ask("label", label="mug"),
        *PLAIN[1:5],
        room.ask("suspects"),
        room.ask("suspects"),
        room.ask("rename", name="mug", to="cup"),
        room.ask("suspects"),
    )
    assert calls == [4, 4]
    run = {"frames": [2, 3], "label": "mug", "looks_like": "pen", "margin": 0.9}
    assert [answer["suspects"] for answer in room.answers if "suspects" in answer] == [[run]] * 3


def test_frames_that_the_journal_has_no_more_are_named(room):
    entry_bytes = 16 * 16 * 3 + 100
    room.learner.journal = Journal(8 * entry_bytes / 2**20, bases=[Base(0, 0)])
    room.run(
        room.ask("label", label="mug"),
        *PLAIN[:20],
        room.refused(DataError, "frames 0, 1 cannot be relabelled: too old", "relabel",
                     label="pen", frames=[0, 1]),
    )  # fmt: skip


def test_save_and_status(room):
    room.run(
        room.ask("label", label="mug"),
        *PLAIN[:3],
        room.ask("status"),
        room.ask("save"),
        room.ask("status"),
    )
    before, saved, after = room.answers[1:]
    assert before.keys() == {
        "said", "notices", "classes", "label", "paused", "frames", "seen", "learned", "dropped",
        "damaged", "fps", "steps", "model", "unsaved_s", "memory_mib",
            "temperature_c", "publishes", "advice", "verdict",
    }  # fmt: skip
    assert before["classes"] == [
        {"name": "mug", "samples": 3, "recent_accuracy": 2 / 3, "accuracy_over_time": []}
    ]
    assert (before["advice"], before["verdict"]) == ({"mug": "show more of it"}, "")
    assert (before["frames"], before["seen"], before["learned"]) == (3, 3, 3)
    assert before["unsaved_s"] > 0
    assert saved["said"] == f"saved {room.folder}, 3 frames learned"
    assert after["unsaved_s"] == 0
    assert before["memory_mib"] > 10


def test_an_export_saves_what_was_never_saved(room):
    room.run(
        room.ask("label", label="mug"),
        *PLAIN[:3],
        room.ask("export"),
        lambda: room.answers.append(Store(room.folder).load()),
        *PLAIN[3:4],
        room.ask("export"),
        lambda: room.answers.append(Store(room.folder).numbers()),
    )
    assert room.answers[2].manifest["counters"]["frames_learned"] == 3
    assert room.answers[4] == [1]  # one that was saved is saved when that is due


def test_publish(tmp_path):
    room = Room(tmp_path / "model", publish=tmp_path / "out.onnx")
    room.run(room.ask("label", label="mug"), *PLAIN[:3], room.ask("publish"))
    assert room.answers[1]["published"] == str(tmp_path / "out.onnx")
    assert (tmp_path / "out.onnx").exists()
    without = Room(tmp_path / "other")
    without.run(without.refused(UsageError, "without --publish", "publish"), PLAIN[0])


def test_no_class_is_called_unknown(tmp_path):
    room = Room(tmp_path / "model")
    room.run(
        room.refused(UsageError, "which is no name for a class", "label", label="unknown"),
        room.refused(UsageError, "which is no name for a class", "add", name="UnKnown"),
        PLAIN[0],
    )


def test_a_frame_that_was_withheld_can_be_labelled_anew(tmp_path):
    room = Room(tmp_path / "model")
    room.teaching._learn_flagged = False
    room.teaching._told = {"dark"}
    dark = replace(PLAIN[1], image=np.zeros_like(PLAIN[1].image))
    room.run(
        room.ask("label", label="mug"),
        PLAIN[0],
        dark,
        room.ask("unlabel"),
        room.ask("label_frame", label="pen", frame=1),
        PLAIN[2],
    )
    assert room.teaching.withheld == 2
    assert room.answers[2]["said"] == "frame 1 is pen: not learned, it has a flag"
    assert room.samples == {"mug": 1}


def test_a_hold_is_told_when_it_begins_and_when_it_ends(tmp_path):
    """Whether it is let go of, runs out, or another one begins; its heartbeats are no news."""
    told, clock = [], [5.0]
    room = Room(tmp_path / "model")
    room.verbs._on_notice = told.append
    room.teaching.hold._clock = lambda: clock[0]
    room.session.serve = room.verbs.follow_hold
    beat = room.ask("label", label="mug", seconds=1)

    def silence():
        clock[0] += 2

    room.run(
        *(beat, PLAIN[0], beat, PLAIN[1], beat, PLAIN[2]),
        silence,
        *PLAIN[3:5],
        *(beat, PLAIN[5], room.ask("unlabel"), PLAIN[6], room.ask("unlabel")),
        *(beat, PLAIN[7], room.ask("label", label="pen", seconds=5), PLAIN[8]),
    )
    assert told == [
        "label mug",
        "mug is not held any more: 3 frames learned",
        "label mug",
        "mug is not held any more: 1 frame learned",
        "label mug",
        "mug is not held any more: 1 frame learned",
        "label pen for 5 s",
    ]
