"""Verbs that cannot be done: the model stays as it is, and the error says what to do."""

import math

import pytest
from asked_verbs import Asked
from command_line import assert_error, cfl_edge, contents
from lessons import alternating

from cfl_edge.errors import CflEdgeError, DataError, ModelWriteError, SessionError, UsageError
from cfl_edge.loop.verb_arguments import VERBS
from cfl_edge.loop.verbs import Verbs
from cfl_edge.model import writing
from cfl_edge.model.changing import FolderModel


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
