"""Verbs between the frames of a session: what is held, paused, past, and changed meanwhile."""

import base64
import copy
import io
import time
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image
from test_session import Script, frame, frames, new_learner

from cfl_edge.errors import DataError, UsageError
from cfl_edge.labels.frames import FrameLabels
from cfl_edge.labels.ring import FrameRing
from cfl_edge.learner import batch_learner
from cfl_edge.learner.journal import Base, Journal
from cfl_edge.learner.journalled import open_journal, save_learner
from cfl_edge.learner.learner import Learner
from cfl_edge.learner.live import LiveModel
from cfl_edge.learner.saved import to_saved
from cfl_edge.learner.suspects import Suspect
from cfl_edge.loop import teaching
from cfl_edge.loop.board_health import BoardHealth
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

    def __init__(self, folder, labels=None, *, delay_s=0.0, publish=None):
        self.folder, self.learner = folder, new_learner()
        self.learner.journal = Journal(1.0, bases=[Base(0, 0)])
        store = Store(folder, on_notice=pytest.fail)
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


@pytest.fixture
def room(tmp_path):
    return Room(tmp_path / "model")


PLAIN = frames(20, labelled=False)


def png(image):
    file = io.BytesIO()
    Image.fromarray(image).save(file, "PNG")
    return base64.b64encode(file.getvalue()).decode()


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
        room.teaching._recent.extend((name, right) for right in rights)
    expected = {"mug": [0.0] * 6 + [1.0] * 6, "pen": [1.0], "key": []}
    assert room.teaching.accuracy_over_time() == expected
    room.run(PLAIN[0], room.ask("label", label="mug"), PLAIN[1], room.ask("status"))
    (mug,) = room.answers[1]["classes"]
    assert mug["accuracy_over_time"][:5] == [0.0] * 5
    assert (room.answers[1]["publishes"], room.answers[1]["temperature_c"]) == (False, None)


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
            "temperature_c", "publishes",
    }  # fmt: skip
    assert before["classes"] == [
        {"name": "mug", "samples": 3, "recent_accuracy": 2 / 3, "accuracy_over_time": []}
    ]
    assert (before["frames"], before["seen"], before["learned"]) == (3, 3, 3)
    assert before["unsaved_s"] > 0
    assert saved["said"] == f"saved {room.folder}, 3 frames learned"
    assert after["unsaved_s"] == 0
    assert before["memory_mib"] > 10


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
        room.refused(UsageError, "--reject reports", "label", label="unknown"),
        room.refused(UsageError, "--reject reports", "add", name="UnKnown"),
        PLAIN[0],
    )


def test_the_last_hold_is_undone_without_learning_anything_again(room):
    """To the bit: the copy that was made before it."""
    images, before = np.stack([frame(i).image for i in range(100, 120)]), []

    def remember():
        other = Learner.from_saved(copy.deepcopy(to_saved(room.learner)))
        other.recalibrate()
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
