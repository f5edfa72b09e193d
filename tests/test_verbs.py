"""What can be asked of a model: the same answers whether a session learns on it or nobody does."""

import base64
import gc
import io
import json
import math
import weakref

import numpy as np
import pytest
from command_line import assert_error, cfl_edge, contents
from lessons import Lesson, alternating, assert_alike, oracle
from PIL import Image

from cfl_edge.errors import CflEdgeError, DataError, ModelWriteError, SessionError, UsageError
from cfl_edge.labels.frames import FrameLabels
from cfl_edge.learner.algorithms.algorithm import Algorithm
from cfl_edge.learner.journalled import save_learner
from cfl_edge.learner.learner import Learner
from cfl_edge.learner.live import LiveModel
from cfl_edge.loop.checkpoints import Checkpoints
from cfl_edge.loop.label_delay import open_ring
from cfl_edge.loop.running import Running
from cfl_edge.loop.session import Predicting, Session
from cfl_edge.loop.teaching import FIRST_PICTURE, Teaching
from cfl_edge.loop.verb_arguments import VERBS
from cfl_edge.loop.verbs import Verbs
from cfl_edge.model import writing
from cfl_edge.model.changing import FolderModel
from cfl_edge.model.store import Store
from cfl_edge.region import View
from cfl_edge.stream.frame import cut_frame


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


@pytest.fixture(params=["unused", "in use"])
def how(request):
    return request.param


@pytest.fixture
def lesson(tmp_path, monkeypatch):
    return Lesson(tmp_path / "model", monkeypatch)


def test_classes_are_changed(lesson, how):
    asked = Asked(lesson, how, alternating(12))
    answer = asked.do("rename", name="left", to="aside")
    assert answer["said"] == "renamed left to aside"
    assert answer["classes"] == {"above": 6, "aside": 6}
    assert asked.do("add", name=" fox ")["classes"] == {"above": 6, "aside": 6, "fox": 0}
    merged = asked.do("merge", names=["above", "aside"], into="lit")
    assert (merged["said"], merged["classes"]) == (
        "merged above and aside into lit",
        {"lit": 12, "fox": 0},
    )
    assert sum(merged["replay"].values()) == 12
    assert asked.do("classes")["classes"] == {"lit": 12, "fox": 0}
    removed = asked.do("remove", name="fox")
    assert removed["classes"] == {"lit": 12}
    assert "gone: 'fox' and older checkpoints; no frame of it was learned" in removed["notices"]
    assert not any(text.startswith("stays: ") for text in removed["notices"])
    removed = asked.do("remove", name="lit")
    assert any(text.startswith("stays: ") for text in removed["notices"])


CHANGES = {
    "rename": {"name": "left", "to": "aside"},
    "add": {"name": "fox"},
    "undo": {"frames": 2},
    "relabel": {"label": "above", "last_s": 2},
    "region": {"region": "0,0,0.5,1"},
}


@pytest.mark.parametrize("verb", CHANGES)
def test_what_learned_before_a_change_takes_no_memory_after_it(verb, lesson):
    """A change comes with another learner; the collector may come to the old one very late."""
    asked = Asked(lesson, "in use", alternating(12))
    before = weakref.ref(asked.learner.algorithm)
    gc.collect()
    count = algorithms_alive()
    gc.disable()
    try:
        asked.verbs.do(verb, CHANGES[verb])
        assert before() is None
        assert algorithms_alive() == count
    finally:
        gc.enable()


def algorithms_alive():
    return sum(issubclass(type(one), Algorithm) for one in gc.get_objects())


def test_undo_leaves_what_would_have_been_learned_without(lesson, how):
    asked = Asked(lesson, how, alternating(20) + ["over"] * 6)
    answer = asked.do("undo", hold=True)
    assert answer["said"] == "undone 6 frames: over 6"
    assert answer["classes_gone"] == ["over"]
    assert_alike(asked.ended(), oracle(lesson, alternating(20)))


def test_undo_reaches_behind_changes_of_classes(lesson, how):
    asked = Asked(lesson, how, alternating(16))
    asked.do("rename", name="left", to="aside")
    asked.do("add", name="fox")
    assert asked.do("undo", frames=4)["per_class"] == {"above": 2, "aside": 2}
    asked.do("merge", names=["above", "aside"], into="lit")
    answer = asked.do("undo", seconds=3 if how == "unused" else 4 + 3)  # by the clock
    assert (answer["per_class"], answer["samples"]) == ({"lit": 4}, {"lit": 8, "fox": 0})


def test_the_last_seconds_are_learned_again_with_the_right_label(lesson, how):
    names = alternating(16) + ["above"] * 4
    asked = Asked(lesson, how, names)
    answer = asked.do("relabel", label="right", last_s=3)
    assert answer["said"] == "4 frames learned again as right, instead of above 4"
    assert answer["moved"] == {"above": 4}
    assert answer["classes"] == {"above": 8, "left": 8, "right": 4}
    twin = Lesson(lesson.folder.with_name("twin"), pytest.MonkeyPatch())
    twin.now_s = lesson.now_s  # it has replaced the clock
    images = lesson.images(names, 0)
    learner = oracle(twin, [])
    for name, image in zip(alternating(16) + ["right"] * 4, images, strict=True):
        learner.learn(learner.encode(image), [name])
    learner.recalibrate()
    assert_alike(asked.ended(), learner)
    with pytest.raises(DataError, match="none of the last 4 frames was learned under another"):
        asked.do("relabel", label="right", last_s=3)


def test_a_correction_of_a_learner_at_work_leaves_steps_to_the_frames_that_come(lesson):
    """Whoever waits for it waits for the closed form: gradient steps go on between frames."""
    names = alternating(40) + ["above"] * 4
    asked = Asked(lesson, "in use", names)
    asked.verbs._model.again_s = -1.0  # no time for any
    before = asked.learner.algorithm.steps
    assert asked.do("relabel", label="right", last_s=3)["moved"] == {"above": 4}
    assert before > asked.learner.algorithm.steps == 0
    twin, images = Learner(lesson.config), lesson.images(names, 0)
    right = alternating(40) + ["right"] * 4
    for part in (slice(0, 32), slice(32, 40), slice(40, 44)):  # as they are read together
        encoded = twin.encode(np.concatenate(images[part]))
        twin.learn(encoded, right[part], budget_s=-1.0)
    twin.recalibrate(whole=False)
    assert_alike(lesson.load(), twin)
    for name, image in zip(right[-8:], images[-8:], strict=True):
        asked.learner.learn(asked.learner.encode(image), [name])
    assert asked.learner.algorithm.steps > 0


def test_a_class_is_split(lesson, how):
    asked = Asked(lesson, how, ["above"] * 10)
    answer = asked.do("split", name="above", into="left", frames=4)
    assert (answer["moved"], answer["stayed"]) == (4, 6)
    assert answer["said"] == "4 frames learned again as left; above has 6 left"


def test_onnx_files_are_written(lesson, how, tmp_path):
    asked = Asked(lesson, how, alternating(12))
    answer = asked.do("export", out=str(tmp_path / "out"))
    assert answer["model"] == str(tmp_path / "out" / "model.onnx")
    assert (tmp_path / "out" / "labels.txt").read_text() == "above\nleft\n"
    assert asked.do("export")["model"] == str(lesson.folder / "onnx" / "model.onnx")
    asked.do("rename", name="left", to="aside", onnx=str(tmp_path / "out"))
    assert (tmp_path / "out" / "labels.txt").read_text() == "above\naside\n"


def png(image):
    file = io.BytesIO()
    Image.fromarray(image).save(file, "PNG")
    return base64.b64encode(file.getvalue()).decode()


def test_a_picture_is_learned_as_a_frame_would_be(lesson):
    asked = Asked(lesson, "in use", alternating(12))
    (image,) = lesson.images(["left"], 5)[0]
    answer = asked.verbs.do("label_picture", {"label": "left", "picture": png(image)})
    assert (answer["said"], answer["learned"]) == ("the picture is left", True)
    assert answer["frame"] == FIRST_PICTURE  # a number as frames have: it can be forgotten
    twin = oracle(Lesson(lesson.folder.with_name("twin"), pytest.MonkeyPatch()), [])
    for name, one in zip(alternating(12), lesson.images(alternating(12), 0), strict=True):
        twin.learn(twin.encode(one), [name])
    twin.recalibrate()
    twin.learn(twin.encode(image[None]), ["left"])
    assert asked.learner.samples() == twin.samples()
    images = np.concatenate(lesson.images(["above", "left"], 9))
    scores = [one.predict(one.encode(images)) for one in (asked.learner, twin)]
    np.testing.assert_allclose(scores[0], scores[1], rtol=1e-4, atol=1e-4)


def test_one_of_several_pictures_is_forgotten_as_a_frame_would_be(lesson):
    asked = Asked(lesson, "in use", alternating(12))
    numbers = [
        asked.verbs.do("label_picture", {"label": "left", "picture": png(image)})["frame"]
        for (image,) in lesson.images(["left"] * 3, 5)
    ]
    asked.verbs.do("forget", {"frames": numbers[1:2]})
    assert asked.learner.samples() == {"above": 6, "left": 8}
    with pytest.raises(DataError, match="cannot be forgotten: not learned"):
        asked.verbs.do("forget", {"frames": numbers[1:2]})
    asked.verbs.do("relabel", {"label": "above", "frames": numbers[2:]})
    assert asked.learner.samples() == {"above": 7, "left": 7}


@pytest.mark.parametrize("fit", ["pad", "crop", "stretch"])
def test_a_picture_becomes_a_square_as_frames_do_and_none_of_it_is_another_region(lesson, fit):
    asked = Asked(lesson, "in use", alternating(12))
    asked.learner.view = View.parse(fit, "0,0,0.5,0.5")
    picture = np.random.default_rng(0).integers(0, 256, (40, 90, 3), np.uint8)
    read, encode = [], asked.learner.encode
    asked.learner.encode = lambda images: encode(read.append(images) or images)
    asked.verbs.do("label_picture", {"label": "left", "picture": png(picture)})
    expected = cut_frame(picture, asked.learner.image_px, View(fit)).square
    np.testing.assert_array_equal(read[0], expected[None])


@pytest.mark.parametrize("picture", ["", "x", "eA==", "iVBORw0KGgo="])
def test_what_is_no_picture(lesson, picture):
    asked = Asked(lesson, "in use", alternating(12))
    with pytest.raises(DataError, match="picture cannot be read"):
        asked.verbs.do("label_picture", {"label": "left", "picture": picture})
    assert asked.learner.samples() == {"above": 6, "left": 6}


def test_heartbeats_of_a_hold_are_told_once(lesson):
    asked = Asked(lesson, "in use", alternating(4))
    for label in ("mug", "mug", "mug", "pen"):
        assert "news" not in asked.verbs.do("label", {"label": label, "seconds": 1})
    assert asked.notices == [
        "label mug",
        "mug is not held any more: 0 frames learned",
        "label pen",
    ]


@pytest.mark.parametrize(
    ("verb", "arguments", "error", "message"),
    [
        ("fly", {}, UsageError, "no verb fly"),
        ("__init__", {}, UsageError, "no verb __init__"),
        ("add", {}, UsageError, "add: name is missing"),
        ("add", {"name": 3}, UsageError, "add: name is 3, expected text"),
        ("add", {"name": " "}, UsageError, "is empty"),
        ("add", {"name": "a\nb"}, UsageError, "control characters"),
        ("add", {"name": "a" * 65}, UsageError, "65 characters"),
        ("add", {"name": "left"}, DataError, "has a class 'left' already"),
        ("add", {"name": "fox", "color": "red"}, UsageError, "add takes no color"),
        ("rename", {"name": "cat", "to": "dog"}, DataError, "no class 'cat'"),
        ("rename", {"name": "left", "to": "above"}, DataError, "has a class 'above' already"),
        ("merge", {"names": ["left"], "into": "x"}, DataError, "expected at least 2"),
        ("merge", {"names": "left", "into": "x"}, UsageError, 'names is "left", expected a list'),
        ("remove", {"name": "cat"}, DataError, "no class 'cat'"),
        ("undo", {}, UsageError, "none of"),
        ("undo", {"frames": 1, "hold": True}, UsageError, "frames and hold"),
        ("undo", {"frames": 0}, UsageError, "undo: frames is 0, expected more than 0"),
        ("undo", {"frames": True}, UsageError, "frames is true, expected a whole number"),
        ("undo", {"seconds": float("nan")}, UsageError, "NaN, expected a finite number"),
        ("undo", {"seconds": 1e300}, UsageError, r"1e\+300, expected at most"),
        ("undo", {"frames": 99}, DataError, "the journal reaches back 12 frames"),
        ("relabel", {"label": "left"}, UsageError, "relabel was given none of them"),
        ("relabel", {"label": "left", "last_s": 1, "frames": [1]}, UsageError, "frames and last_s"),
        (
            "relabel",
            {"label": "left", "frames": []},
            UsageError,
            r"is \[\], expected at least 1 of them",
        ),
        (
            "relabel",
            {"label": "left", "frames": [-1]},
            UsageError,
            "frames.0 is -1, expected at least 0",
        ),
        ("split", {"name": "left", "into": "above", "frames": 2}, DataError, "already"),
        ("export", {"out": "\0"}, UsageError, "expected a file or folder"),
    ],
)
def test_what_cannot_be_done_changes_nothing(lesson, how, verb, arguments, error, message):
    asked = Asked(lesson, how, alternating(12))
    before = contents(lesson.folder)
    with pytest.raises(error, match=message) as raised:
        asked.do(verb, **arguments)
    assert raised.value.hint
    assert contents(lesson.folder) == before
    assert asked.do("classes")["classes"] == {"above": 6, "left": 6}


@pytest.mark.parametrize(
    ("verb", "arguments", "problem"),
    [
        ("label", {}, "label is missing"),
        ("label", {"name": "mug"}, "label is missing"),
        ("label", {"label": "mug", "second": 3}, "takes no second"),
        ("label", {"label": 3}, "label: label is 3, expected text"),
        ("label", {"label": ["mug"]}, r'label is \["mug"\], expected text'),
        ("label", {"label": " "}, "is empty"),
        ("label", {"label": "x" * 65}, "65 characters"),
        ("label", {"label": "a\nb"}, "control characters"),
        ("label", {"label": "\ud800"}, "is not UTF-8"),
        ("label", {"label": "mug", "seconds": 0}, "seconds is 0, expected more than 0"),
        ("label", {"label": "mug", "seconds": -1}, "seconds is -1, expected more than 0"),
        ("label", {"label": "mug", "seconds": "3"}, 'seconds is "3", expected a number'),
        ("label", {"label": "mug", "seconds": True}, "seconds is true, expected a number"),
        (
            "label",
            {"label": "mug", "seconds": math.nan},
            "seconds is NaN, expected a finite number",
        ),
        (
            "label",
            {"label": "mug", "seconds": math.inf},
            "seconds is Infinity, expected a finite number",
        ),
        ("label", {"label": "mug", "seconds": 10**400}, "seconds is 10{63}…, expected a"),
        ("label_frame", {"label": "mug", "frame": -1}, "frame is -1, expected at least 0"),
        ("label_frame", {"label": "mug", "frame": True}, "frame is true, expected a whole number"),
        ("label_frame", {"label": "mug", "frame": 1.5}, "frame is 1.5, expected a whole number"),
        (
            "label_frame",
            {"label": "mug", "seconds_ago": -1},
            "seconds_ago is -1, expected at least 0",
        ),
        (
            "label_frame",
            {"label": "mug", "seconds_ago": "2"},
            'seconds_ago is "2", expected a number',
        ),
        ("label_frame", {"label": None, "frame": 1}, "label is null, expected text"),
    ],
)
def test_labels_are_checked_before_anything_else(verb, arguments, problem):
    with pytest.raises(UsageError, match=problem):
        VERBS[verb].of(verb, arguments)


@pytest.mark.parametrize(
    ("verb", "arguments"),
    [
        ("rename", {"name": "left", "to": "aside"}),
        ("merge", {"names": ["left", "above"], "into": "lit"}),
        ("remove", {"name": "left"}),
        ("undo", {"frames": 4}),
        ("relabel", {"label": "fox", "last_s": 3}),
        ("split", {"name": "left", "into": "fox", "frames": 4}),
    ],
)
def test_a_full_disk_changes_nothing(lesson, how, verb, arguments, monkeypatch):
    asked = Asked(lesson, how, alternating(12))
    before = contents(lesson.folder)

    def full(_descriptor):
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(writing.os, "fsync", full)
        with pytest.raises(ModelWriteError, match="is intact"):
            asked.do(verb, **arguments)
    assert contents(lesson.folder) == before
    assert asked.do("classes")["classes"] == {"above": 6, "left": 6}
    asked.do(verb, **arguments)  # it can be given again


@pytest.mark.parametrize("verb", ["label", "unlabel", "pause", "resume", "save", "status"])
def test_what_needs_a_session(lesson, verb):
    asked = Asked(lesson, "unused", alternating(4))
    arguments = {"label": "mug"} if verb == "label" else {}
    with pytest.raises(SessionError, match=f"{verb} needs a session, and nobody learns"):
        asked.verbs.do(verb, arguments)


def test_every_verb_has_a_method():
    assert all(callable(getattr(Verbs, verb)) for verb in VERBS)


def test_no_verb_needs_a_model_to_refuse(tmp_path):
    verbs = Verbs(FolderModel(tmp_path / "none"), on_notice=pytest.fail)
    for verb, arguments in (("undo", {"frames": 1}), ("add", {"name": "x"}), ("classes", {})):
        with pytest.raises(CflEdgeError, match="does not exist"):
            verbs.do(verb, arguments)
    assert not (tmp_path / "none").exists()


def test_the_watchdog_is_fed_while_frames_are_learned_again(lesson):
    asked, fed = Asked(lesson, "in use", alternating(12), save_every=4), []
    asked.verbs._model.alive = lambda: fed.append(1)
    asked.do("undo", frames=2)
    assert len(fed) == 2  # from the checkpoint of 8 to 10
    asked.do("relabel", label="fox", last_s=2 + 1)
    assert len(fed) == 2 + 2  # the last two of 10, from the same checkpoint


@pytest.mark.parametrize(
    ("verb", "arguments"),
    [
        ("undo", {}),
        ("undo", {"seconds": 1.0, "hold": True}),
        ("split", {"name": "above", "into": "over"}),
        ("split", {"name": "above", "into": "over", "seconds": 1.0, "frames": 2}),
        ("region", {"region": "9"}),
        ("region", {}),
    ],
)
def test_a_program_is_not_told_of_options_of_the_command_line(lesson, verb, arguments):
    asked = Asked(lesson, "in use", alternating(4))
    with pytest.raises(UsageError) as caught:
        asked.verbs.do(verb, arguments)
    assert "--" not in f"{caught.value}"


def test_classes_split_speaks_of_its_options(lesson):
    lesson.run(alternating(4))
    result = cfl_edge("classes", "split", lesson.folder, "above", "--into", "far")
    assert_error(result, 2, "split was given none of --seconds, --frames and --hold")
    command = f"cfl-edge classes split {lesson.folder} above --into far --seconds 30"
    assert f"try: {command}" in result.err
