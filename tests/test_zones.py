"""Zones of one camera: a question each, one stream, one model folder below the folder for all."""

import shutil
import signal
import threading
from functools import partial

import numpy as np
import pytest
from command_line import cfl_edge
from PIL import Image
from scripted_camera import ignore
from test_session import Script, frames
from zone_scenes import COLOURS, FITS, HALVES, TWO, Teacher, scene, settings, teach, truth

from cfl_edge import Learner, OnnxModel
from cfl_edge.errors import ModelWriteError, StreamLostError
from cfl_edge.frame.prediction import predict_label
from cfl_edge.frame.preprocess import to_model_input
from cfl_edge.frame.region import View
from cfl_edge.learner import batch_learner
from cfl_edge.loop import learn as learn_module
from cfl_edge.loop.ask import ask
from cfl_edge.loop.learn import learn
from cfl_edge.loop.mailbox import Mailbox
from cfl_edge.loop.session import Predicting, Session, SessionOptions, play
from cfl_edge.model.store import Store


def test_zones_with_opposite_labels_learn_from_the_same_frames(stream, zones, tmp_path):
    teacher, learned = teach(stream, zones, tmp_path / "model", export=False)
    assert {name: one.summary.seen for name, one in learned.items()} == {"door": 24, "bin": 24}
    late = teacher.steps[len(teacher.steps) // 2 :]
    assert {step.prediction.label == truth(step.frame.index)[step.zone] for step in late} == {True}
    assert [step.zone for step in teacher.steps[:4]] == ["door", "bin", "door", "bin"]
    for zone in HALVES:
        network = Store(tmp_path / "model" / zone).load().manifest["network"]
        assert network["fit"] == FITS[zone]
    assert sorted(path.name for path in (tmp_path / "model").iterdir()) == ["bin", "door"]


def test_a_label_reaches_the_zone_that_it_names_whichever_is_asked(stream, zones, tmp_path):
    asked = []

    class Asking(Teacher):
        def _hold(self, zone, index):
            if (zone, index) == ("bin", 0):  # both have their mailboxes by now
                for label in ("door/on", "bin/off"):
                    asked.append(self.mailboxes["bin"].submit("label", {"label": label}))

    asking = Asking()
    learned = learn(
        settings(stream, zones, tmp_path / "model", learn_flagged=True, export=False),
        on_notice=ignore,
        on_step=ignore,
        watch=asking.watch,
    )
    assert [list(learned[zone].samples) for zone in HALVES] == [["on"], ["off"]]
    answers = [future.result() for future in asked]
    assert [(answer["zone"], answer["label"]) for answer in answers] == [
        ("door", "on"),
        ("bin", "off"),
    ]
    assert answers[0]["said"] == "door: label on"


def test_each_zone_is_a_model_as_any_other(taught):
    for zone in HALVES:
        listed = cfl_edge("classes", "list", taught / "model" / zone, "--json").summary
        assert set(listed["classes"]) == {"on", "off"}


def test_run_answers_for_each_zone(taught, stream):
    words = ("run", taught / "model", "--stream", stream, "--stable-frames", "1")
    result = cfl_edge(*words, "--json")
    seen = [event for event in result.events if event["event"] == "frame"]
    assert len(seen) == 48
    for event in seen:
        assert event["prediction"] == truth(event["frame"])[event["zone"]]
    assert {zone: one["seen"] for zone, one in result.summary["zones"].items()} == {
        "door": 24,
        "bin": 24,
    }
    states = {event["zone"] for event in result.events if event["event"] == "state"}
    assert states == {"door", "bin"}


def test_a_zone_that_is_not_run_is_told_of_with_what_it_lacks(taught, stream, tmp_path):
    model = shutil.copytree(taught / "model", tmp_path / "model")
    shutil.rmtree(model / "bin" / "onnx")
    Learner().save(model / "new")
    result = cfl_edge("run", model, "--stream", stream, "--max-frames", "2", "--json")
    assert list(result.summary["zones"]) == ["door"]
    without, untaught = (text for text in result.notices if "is not run" in text)
    assert without == (
        "zone bin has no ONNX file yet, and is not run: "
        f"cfl-edge export {model}/bin -o {model}/bin/onnx"
    )
    assert untaught.startswith("zone new has no class yet, and is not run: cfl-edge teach --model")
    assert cfl_edge("run", model / "door", "--stream", stream, "--json").summary["seen"] == 24


def test_a_zone_is_read_to_the_bit_as_its_crop_would_be(taught, stream, zones):
    learner = {zone: Learner.load(taught / "model" / zone) for zone in HALVES}
    onnx = {zone: OnnxModel(taught / "model" / zone / "onnx/model.onnx") for zone in HALVES}
    model = zones.parent / "again"
    shutil.copytree(taught / "model", model)
    teacher, _ = teach(stream, zones, model, label=lambda index: None, export=False)
    run = cfl_edge("run", taught / "model", "--stream", stream, "--json").events
    scores = {(one["zone"], one["frame"]): one["score"] for one in run if one["event"] == "frame"}
    for step in teacher.steps:
        crop = scene(**truth(step.frame.index), seed=step.frame.index)[:, HALVES[step.zone]]
        square = to_model_input(crop, 16, View(FITS[step.zone]))[None]
        one = learner[step.zone]
        np.testing.assert_array_equal(step.prediction.scores, one.predict(one.encode(square))[0])
        expected = predict_label(onnx[step.zone].scores(square)[0], onnx[step.zone].classes)
        assert scores[step.zone, step.frame.index] == expected.score


FOUR = "\n".join(f'[z{i}]\nregion = "{i * 30},0,30,80"' for i in range(4))


@pytest.fixture(scope="module")
def one_changes(tmp_path_factory):
    """Four zones side by side, of which the last changes in every frame."""
    folder = tmp_path_factory.mktemp("four")
    still = scene("on", "off", 7)
    for i in range(10):
        image = still.copy()
        image[:, 90:] = COLOURS["on" if i % 2 else "off"]
        Image.fromarray(image).save(folder / f"{i:03}.png")
    return folder


@pytest.fixture
def four(tmp_path):
    (tmp_path / "zones.toml").write_text(FOUR)
    return tmp_path / "zones.toml"


def test_of_four_zones_only_the_one_that_changes_costs_a_pass(
    one_changes, four, tmp_path, monkeypatch
):
    label = {f"z{i}": "on" for i in range(4)}
    teach(one_changes, four, tmp_path / "model", label=lambda index: label if index == 1 else None)
    passes = []
    encode, run = Learner.encode, OnnxModel._run
    monkeypatch.setattr(Learner, "encode", lambda *a: passes.append("learn") or encode(*a))
    monkeypatch.setattr(OnnxModel, "_run", lambda *a: passes.append("run") or run(*a))
    _, learned = teach(
        one_changes, four, tmp_path / "model", label=lambda index: None, look="motion", export=False
    )
    assert [one.summary.looked for one in learned.values()] == [1, 1, 1, 10]
    assert passes.count("learn") == 13
    before = len(passes)
    words = ("run", tmp_path / "model", "--stream", one_changes, "--look", "motion", "--no-watch")
    ran = cfl_edge(*words, "--json").summary["zones"]
    assert [one["looked"] for one in ran.values()] == [1, 1, 1, 10]
    trials = 4  # of each file, before it is used
    assert len(passes) - before <= 13 + trials


def test_the_backbone_is_opened_once(stream, zones, tmp_path, monkeypatch):
    opened = []
    really = batch_learner.frozen_network
    monkeypatch.setattr(batch_learner, "frozen_network", lambda *a: opened.append(a) or really(*a))
    teach(stream, zones, tmp_path / "model", export=False, max_frames=2)
    assert len(opened) == 1


class Says:
    """A model that says the same of everything."""

    classes = ("open",)

    def predict_batch(self, images, *, reject=None):
        return [predict_label(np.ones(1, np.float32), self.classes) for _ in images]


def zone_sessions(*names):
    return [Session(Predicting(Says()), SessionOptions(zone=name)) for name in names]


def test_each_frame_is_read_once_and_answered_for_each_zone():
    script, told, names = Script(*frames(3)), [], ("a", "b", "c")
    script.answer = lambda label, score: told.append(label)
    steps = [
        (step.frame.index, step.zone, script.read) for step in play(script, zone_sessions(*names))
    ]
    assert steps == [(i, name, i + 1) for i in range(3) for name in names]
    assert told == ["a/open", "b/open", "c/open"] * 3


def test_every_zone_is_served_between_frames_and_while_none_comes():
    served = []
    script = Script(lambda: script.on_wait(), *frames(1))
    sessions = zone_sessions("door", "bin")
    for session, name in zip(sessions, ("door", "bin"), strict=True):
        session.serve = partial(served.append, name)
    list(play(script, sessions))
    assert served == ["door", "bin"] * 2


def test_a_lost_source_costs_no_zone_what_it_learned(zones, tmp_path, monkeypatch):
    script = Script(*frames(6, labelled=False), StreamLostError("gone", hint="plug it in"))
    monkeypatch.setattr(learn_module, "open_learn_stream", lambda *_: script)
    (zones.parent / "zones.toml").write_text(TWO.replace("80", "16").replace("60", "8"))
    with pytest.raises(StreamLostError):
        teach("demo:", zones, tmp_path / "model", export=False)
    for zone in HALVES:
        assert (
            Learner.load(tmp_path / "model" / zone).frames_learned == 5
        )  # the label holds from the second on


@pytest.fixture
def full_door(monkeypatch):
    """No model of the zone `door` can be saved."""
    save = Store.save

    def full(store, *a, **k):
        if store.folder.name == "door":
            raise ModelWriteError("the disk is full", hint="free some space")
        return save(store, *a, **k)

    monkeypatch.setattr(Store, "save", full)


@pytest.mark.usefixtures("full_door")
def test_a_full_disk_of_one_zone_ends_all_and_the_others_are_saved(stream, zones, tmp_path):
    _, learned = teach(stream, zones, tmp_path / "model", export=False)
    assert isinstance(learned["door"].failed, ModelWriteError)
    assert "the disk is full" in learned["door"].failed.problem
    assert learned["bin"].failed is None
    assert (
        Learner.load(tmp_path / "model/bin").frames_learned == 23
    )  # the label holds from the second on
    assert not Store(tmp_path / "model/door").exists()


@pytest.mark.usefixtures("full_door")
def test_a_lost_source_does_not_hide_a_save_that_fails(zones, tmp_path, monkeypatch):
    script = Script(*frames(6, labelled=False), StreamLostError("gone", hint="plug it in"))
    monkeypatch.setattr(learn_module, "open_learn_stream", lambda *_: script)
    (zones.parent / "zones.toml").write_text(TWO.replace("80", "16").replace("60", "8"))
    _, learned = teach("demo:", zones, tmp_path / "model", export=False)
    assert "the disk is full" in learned["door"].failed.problem
    assert learned["bin"].failed is None
    assert Learner.load(tmp_path / "model/bin").frames_learned == 5


def test_a_signal_ends_all_zones_and_saves_them(stream, zones, tmp_path):
    def interrupt(step):
        if (step.zone, step.frame.index) == ("door", 7):
            signal.raise_signal(signal.SIGINT)

    before = signal.getsignal(signal.SIGINT)
    teacher, learned = teach(stream, zones, tmp_path / "model", on_step=interrupt, export=False)
    assert signal.getsignal(signal.SIGINT) is before
    assert {one.summary.interrupted for one in learned.values()} == {True}
    assert len(teacher.steps) <= 17
    for zone in HALVES:
        learner = Learner.load(tmp_path / "model" / zone)
        assert learner.frames_learned == len(teacher.of(zone)) - 1  # held from the second on


def test_a_second_start_resumes_every_zone(taught, stream, zones):
    model = zones.parent / "again"
    shutil.copytree(taught / "model", model)
    words = ("--zones", zones, "--model", model, "--label", "bin/off", "--no-export", "--json")
    result = cfl_edge("learn", "--stream", stream, *words, "--learn-flagged", "--max-frames", "4")
    ran = result.summary["zones"]
    assert ran["bin"]["samples"]["off"] > ran["door"]["samples"]["off"] > 0
    assert ran["door"]["learned"] == 0
    assert sum("resuming" in text for text in result.notices) == 2


def test_each_zone_can_be_asked_while_it_learns(stream, zones, tmp_path, monkeypatch):
    answers, threads, came, submit = {}, [], threading.Semaphore(0), Mailbox.submit

    def submit_and_tell(mailbox, verb, arguments):
        future = submit(mailbox, verb, arguments)
        if verb == "status":
            came.release()
        return future

    def ask_one(zone):
        answers[zone] = ask(tmp_path / "model" / zone, "status", {}, ignore)

    def ask_both(step):
        if (step.zone, step.frame.index) == ("bin", 3):
            threads.extend(threading.Thread(target=ask_one, args=[zone]) for zone in HALVES)
            for thread in threads:
                thread.start()
            for _ in threads:  # what has come by the next frame is answered before it
                assert came.acquire(timeout=60)

    monkeypatch.setattr(Mailbox, "submit", submit_and_tell)
    teach(stream, zones, tmp_path / "model", on_step=ask_both, export=False)
    for thread in threads:
        thread.join()
    assert {zone: answer["model"] for zone, answer in answers.items()} == {
        zone: str(tmp_path / "model" / zone) for zone in HALVES
    }
