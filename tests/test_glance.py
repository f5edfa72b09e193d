"""When a model looks, and that its last answer stands in between."""

import shutil
from functools import partial

import numpy as np
import onnx
import pytest
from command_line import SMALL, assert_error, cfl_edge, learn
from onnx_files import model as onnx_model
from page_session import until
from PIL import Image
from served_status import ask, serve

from cfl_edge import Frame, Learner, LearnerConfig, OnnxModel
from cfl_edge.frame.prediction import Prediction
from cfl_edge.frame.region import WHOLE_FRAME, View
from cfl_edge.labels.frames import FrameLabels
from cfl_edge.labels.ring import NotKeptError
from cfl_edge.learner.live import LiveModel
from cfl_edge.loop.checkpoints import Checkpoints
from cfl_edge.loop.glance import BURST_S, Glance
from cfl_edge.loop.label_delay import open_ring
from cfl_edge.loop.learning import Learning
from cfl_edge.loop.model_watch import WatchedModel
from cfl_edge.loop.pace import Pace
from cfl_edge.loop.running import Running
from cfl_edge.loop.session import Predicting, Session
from cfl_edge.loop.teaching import Teaching
from cfl_edge.loop.verbs import Verbs
from cfl_edge.model.store import Store
from cfl_edge.serve.http_status import Metrics, look_route
from cfl_edge.serve.status import Status

ROOM = np.random.default_rng(0).integers(60, 180, (90, 160, 3), np.uint8)
REGION = View.parse("pad", "80,0,80,90")


def noisy(image, seed, deviation=5):
    noise = np.random.default_rng(seed).normal(0, deviation, image.shape)
    return np.clip(image + noise, 0, 255).astype(np.uint8)


def with_thing(left, side=16):
    image = ROOM.copy()
    image[40 : 40 + side, left : left + side] = 250
    return image


class Looks:
    """A glance at images, and what it looked at."""

    def __init__(self, when, view=WHOLE_FRAME):
        self.model, self.view, self.asked = 0, view, []
        self.glance = Glance(when, lambda frame: (self.view, self.model))

    def at(self, *images, times_s=None, always=False):
        times_s = times_s or [0.0] * len(images)
        looked = []
        for image, time_s in zip(images, times_s, strict=True):
            frame = Frame(image, time_s, len(self.asked))
            self.glance.predict(frame, partial(self._ask, image), always=lambda: always)
            looked.append(self.glance.looked)
        return looked

    def _ask(self, image):
        self.asked.append(image)
        return Prediction(str(len(self.asked)), 1.0, None, np.ones(1, np.float32))


def test_noise_is_no_change_and_a_thing_is_one():
    looks = Looks("motion")
    assert looks.at(*(noisy(ROOM, seed) for seed in range(30))) == [True] + [False] * 29
    assert looks.at(noisy(with_thing(100), 31), noisy(with_thing(100), 32)) == [True, False]
    assert looks.at(noisy(ROOM, 33)) == [True]


def test_what_happens_outside_of_the_region_is_no_change():
    looks = Looks("motion", REGION)
    assert looks.at(ROOM, with_thing(10), with_thing(40), with_thing(100)) == [
        *(True, False, False),
        True,
    ]


def test_outside_of_a_polygon_nothing_counts():
    looks = Looks("motion", View.parse("pad", "80,0 160,0 160,30 80,30"))
    assert looks.at(ROOM, with_thing(100)) == [True, False]


def test_light_that_changes_slowly_is_seen_in_the_end():
    looks = Looks("motion")
    dusk = [np.clip(ROOM.astype(int) - i, 0, 255).astype(np.uint8) for i in range(40)]
    looked = looks.at(*dusk)
    assert 2 <= sum(looked) <= 10


def test_a_frame_of_another_size_is_looked_at_where_it_shows_something_else():
    looks = Looks("motion")
    assert looks.at(ROOM, np.full((40, 40, 3), 240, np.uint8)) == [True, True]


def test_every_so_many_seconds():
    looks = Looks(2.0)
    times_s = [0, 0.5, 1.9, 2.0, 3.9, 4.1, 0.0, 1.0]  # the last two are of another clip
    assert looks.at(*[ROOM] * 8, times_s=times_s) == [
        *(True, False, False, True, False, True),
        *(True, False),
    ]


def test_a_burst_looks_at_every_frame(monkeypatch):
    now_s = [0.0]
    monkeypatch.setattr("cfl_edge.loop.glance.time.monotonic", lambda: now_s[0])
    looks = Looks("motion")
    assert looks.at(ROOM, ROOM) == [True, False]
    looks.glance.burst()
    assert looks.at(ROOM, ROOM) == [True, True]
    now_s[0] = BURST_S
    assert looks.at(ROOM) == [False]


def test_another_model_and_what_is_to_be_learned_are_looked_at():
    looks = Looks("motion")
    looks.at(ROOM)
    looks.model = 1
    assert looks.at(ROOM, ROOM) == [True, False]
    looks.view = View("crop")
    assert looks.at(ROOM) == [True]
    assert looks.at(ROOM, always=True) == [True]
    looks.glance.forget()
    assert looks.at(ROOM, ROOM) == [True, False]


class Teacher:
    """A learner that counts the passes of its network, and the session's work with it."""

    def __init__(self, when="motion"):
        config = LearnerConfig(backbone="none", layers="8,16", image_px=16, learner="slda")
        self.learner, self.passes = Learner(config), 0
        encode, self.learner.encode = self.learner.encode, self._encode
        self._encode_really = encode
        labels = FrameLabels.none()
        labels.looks_back = True
        self.teaching = Teaching(
            self.learner, labels, open_ring(labels), learn_flagged=True, on_notice=pytest.fail
        )
        glance = Glance(when, lambda frame: (self.learner.view, self.learner.frames_learned))
        self.glance, self.frames = glance, 0
        checkpoints = Checkpoints(lambda: None, self.learner)
        self.work = Learning(self.learner, self.teaching, Pace(False), checkpoints, glance)
        self.running = Running(
            self.learner, self.teaching, checkpoints, Session(self.work), glance=glance
        )

    def _encode(self, images):
        self.passes += 1
        return self._encode_really(images)

    def see(self, image, label=None):
        """Return answer, lesson and passes of the network."""
        self.teaching.hold.set(label)
        frame, before = Frame(image, float(self.frames), self.frames), self.passes
        self.frames += 1
        (prediction,) = self.work.predict([frame], None)
        lesson = self.work.learn(frame, prediction, 0.0)
        return prediction, lesson, self.passes - before


def test_learning_costs_no_pass_where_nothing_changes():
    teacher = Teacher()
    for _ in range(3):
        for image, label in ((ROOM, "empty"), (with_thing(100, 60), "full")):
            _, lesson, passes = teacher.see(image, label)
            assert (lesson.learned, lesson.looked, passes) == (True, True, 1)
    answers = [teacher.see(noisy(ROOM, seed, 2)) for seed in range(5)]
    assert [passes for _, _, passes in answers] == [1, 0, 0, 0, 0]
    assert {prediction.label for prediction, _, _ in answers} == {"empty"}
    assert [lesson.looked for _, lesson, _ in answers] == [True] + [False] * 4
    prediction, _, passes = teacher.see(with_thing(100, 60))
    assert (prediction.label, passes) == ("full", 1)


def test_a_held_label_teaches_each_frame_of_a_scene_that_stands_still():
    teacher = Teacher()
    lessons = [teacher.see(ROOM, "empty")[1] for _ in range(3)]
    assert [lesson.learned for lesson in lessons] == [True] * 3
    assert teacher.see(ROOM)[2] == 1  # what was learned may have changed the answer
    assert teacher.see(ROOM)[2] == 0


def test_a_frame_that_looks_the_same_can_be_labelled_afterwards():
    teacher = Teacher()
    for _ in range(3):
        teacher.see(ROOM)
    assert teacher.teaching.teach_past("empty", frame=2) == (2, True)
    assert teacher.learner.samples() == {"empty": 1}


def test_with_seconds_only_what_was_looked_at_can():
    teacher = Teacher(when=60.0)
    teacher.see(ROOM)
    teacher.see(with_thing(100))
    with pytest.raises(NotKeptError):
        teacher.teaching.teach_past("full", frame=1)
    assert teacher.teaching.teach_past("empty", frame=0) == (0, True)


def test_a_class_that_was_renamed_has_its_new_name_at_once(tmp_path):
    teacher = Teacher()
    teacher.see(ROOM, "empty")
    teacher.see(with_thing(100, 60), "full")
    assert teacher.see(ROOM)[0].label == "empty"
    store = Store(tmp_path / "model", on_notice=pytest.fail)
    model = LiveModel(store, teacher.learner, lambda save: save(), lambda text: None)
    verbs = Verbs(model, teacher.running, on_notice=lambda text: None)
    verbs.do("rename", {"name": "empty", "to": "bare"})
    assert teacher.see(ROOM)[0].label == "bare"
    assert teacher.see(ROOM)[1].looked is False
    assert verbs.do("look", {})["seconds"] == BURST_S
    assert teacher.see(ROOM)[1].looked is True


@pytest.fixture(scope="module")
def still(tmp_path_factory):
    """A clip as a folder: nothing happens, a thing comes, stays, and goes."""
    folder = tmp_path_factory.mktemp("still")
    scenes = [ROOM] * 5 + [with_thing(100, 60)] * 4 + [ROOM] * 3
    for i, scene in enumerate(scenes):
        Image.fromarray(scene).save(folder / f"{i:02}.png")
    return folder


@pytest.fixture(scope="module")
def model(still, tmp_path_factory):
    folder = tmp_path_factory.mktemp("taught")
    for i, (name, image) in enumerate([("empty", ROOM), ("full", with_thing(100, 60))] * 4):
        (folder / "data" / name).mkdir(parents=True, exist_ok=True)
        Image.fromarray(noisy(image, i, 2)).save(folder / "data" / name / f"{i}.png")
    assert (
        learn(
            folder / "data",
            folder / "model",
            "--epochs",
            "3",
            "--learner",
            "slda",
            "--learn-flagged",
            *SMALL,
        ).code
        == 0
    )
    assert cfl_edge("export", folder / "model", "-o", folder / "onnx").code == 0
    return folder


def test_run_says_what_it_looked_at_and_answers_the_same(model, still):
    words = ("run", model / "onnx/model.onnx", "--stream", still, "--json")
    every, motion = cfl_edge(*words), cfl_edge(*words, "--look", "motion")
    looked = [event["looked"] for event in motion.events if event["event"] == "frame"]
    assert [i for i, one in enumerate(looked) if one] == [0, 5, 9]
    assert (motion.summary["looked"], motion.summary["seen"]) == (3, 12)
    assert every.summary["looked"] == 12
    answers = [
        [event["prediction"] for event in result.events if event["event"] == "frame"]
        for result in (every, motion)
    ]
    assert answers[0] == answers[1] == ["empty"] * 5 + ["full"] * 4 + ["empty"] * 3


def test_learn_has_it_too(model, still, tmp_path):
    shutil.copytree(model / "model", tmp_path / "model")
    words = ("--stream", still, "--model", tmp_path / "model", "--no-export", "--json")
    result = cfl_edge("learn", *words, "--look", "motion")
    assert (result.summary["looked"], result.summary["seen"]) == (3, 12)


@pytest.mark.parametrize("value", ["never", "0", "-1", "nan", "inf", ""])
@pytest.mark.parametrize("command", ["learn", "run"])
def test_what_is_no_time_to_look(command, value, tmp_path):
    given = [tmp_path / "model.onnx"] if command == "run" else []
    result = cfl_edge(command, *given, "--stream", "demo:", "--look", value)
    assert_error(result, 2, f"--look is '{value}', expected 'every' or 'motion' or")
    assert "try: --look motion" in result.err


def test_a_model_file_that_changes_is_followed_where_nothing_moves(tmp_path, monkeypatch):
    path, now_s = tmp_path / "model.onnx", [0.0]
    onnx.save(onnx_model(names=["a", "b"]), path)
    monkeypatch.setattr("cfl_edge.loop.file_watch.monotonic", lambda: now_s[0])
    watched = WatchedModel(path, lambda path, _: OnnxModel(path), lambda text: None)
    glance = Glance("motion", lambda frame: (watched.model.view, watched.version(frame)))
    work, frame = Predicting(watched, glance), Frame(ROOM, 0.0, 0)

    def answer():
        now_s[0] += 10
        return work.predict([frame], None)[0].label

    assert answer() in ("a", "b")
    assert answer() in ("a", "b")
    assert not glance.looked
    onnx.save(onnx_model(names=["c", "d"]), tmp_path / "new.onnx")
    (tmp_path / "new.onnx").replace(path)
    until(lambda: answer() in ("c", "d"), 20)
    watched.close()


def test_a_request_asks_for_a_burst():
    status, bursts = Status(), []
    route = look_route(lambda: bursts.append(1))
    with serve(status, Metrics(status), more=[route]) as server:
        assert ask(server, "/look", "POST")[0] == 200
        assert ask(server, "/look")[0] == 405
        assert ask(server, "/look", "POST", {"Origin": "http://elsewhere.example"})[0] == 403
    assert bursts == [1]
