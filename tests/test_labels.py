"""Label sources that need neither terminal nor port, and the one place that checks names."""

from pathlib import Path

import numpy as np
import pytest
from command_line import SMALL, assert_error, cfl_edge, write_images

from cfl_edge.errors import DataError, UsageError
from cfl_edge.frame.frame import Frame
from cfl_edge.frame.prediction import predict_label
from cfl_edge.labels.frames import FrameLabels
from cfl_edge.labels.open import open_labels
from cfl_edge.labels.source import LabelOptions
from cfl_edge.names import check_name


def frame(label: str | None = None) -> Frame:
    return Frame(np.zeros((2, 3, 3), np.uint8), timestamp_s=0.0, index=0, label=label)


@pytest.mark.parametrize("name", ["mug", "Café", "鍵", "می‌روم", "a b/c: d", "[red]", "x" * 64])
def test_good_names_pass(name: str) -> None:
    assert check_name(f"  {name}\t") == name


@pytest.mark.parametrize(
    ("name", "problem"),
    [
        ("", "is empty"),
        (" \t\n", "is empty"),
        ("x" * 65, "has 65 characters, expected at most 64"),
        ("a\nb", "holds control characters"),
        ("a\x1b[2Jb", "'a\\x1b[2Jb' holds control characters"),
        ("a\x85b", "holds control characters"),
        ("a\u202eb", "holds control characters"),
        ("a\u2028b", "holds control characters"),
        ("ab\u034f", r"'ab\u034f' holds control characters"),  # shows nothing: looks like ab
        ("\u3164", "holds control characters"),
        ("\u0301", "begins with a mark that stands on no letter"),
        (b"caf\xe9".decode("utf-8", "surrogateescape"), "'caf\\udce9' is not UTF-8"),
    ],
)
def test_bad_names_are_refused(name: str, problem: str) -> None:
    with pytest.raises(UsageError) as caught:
        check_name(name, source="--label")
    assert caught.value.problem.startswith("--label ")
    assert problem in caught.value.problem
    assert caught.value.problem.isprintable()
    assert caught.value.hint


def test_fixed() -> None:
    with open_labels(label=" mug ", labels_from=None) as labels:
        assert isinstance(labels, FrameLabels)
        assert labels.label(frame("pen")) == "mug"
        assert "mug" in labels.waiting


def test_fixed_with_a_bad_name() -> None:
    with pytest.raises(UsageError, match="--label is empty"):
        open_labels(label="", labels_from=None)


def test_stream() -> None:
    with open_labels(label=None, labels_from="dirs") as labels:
        assert isinstance(labels, FrameLabels)
        assert labels.label(frame("pen")) == "pen"
        assert labels.label(frame()) is None
        assert labels.waiting == ""
        with pytest.raises(DataError, match="the class folder 'a"):
            labels.label(frame("a\x07b"))


def test_none() -> None:
    with open_labels(label=None, labels_from=None, options=LabelOptions(["mug"])) as labels:
        assert isinstance(labels, FrameLabels)
        assert labels.label(frame("pen")) is None


def test_programs_label_any_frame_and_past_ones() -> None:
    with open_labels(label=None, labels_from="http") as labels:
        assert labels.label(frame("pen")) is None  # the session has what they say
        assert (labels.looks_back, labels.with_frame) == (True, False)
        assert "/api/v1/label" in labels.waiting
    assert not open_labels(label=None, labels_from=None).looks_back


def test_both_options() -> None:
    with pytest.raises(UsageError, match="--label mug and --labels-from keys are both given"):
        open_labels(label="mug", labels_from="keys")


@pytest.mark.parametrize("name", [" unknown ", "Unknown", "UNKNOWN"])
@pytest.mark.parametrize("kind", ["dirs", "serial"])
def test_a_frame_is_not_labelled_unknown_which_reject_answers(kind: str, name: str) -> None:
    labels = open_labels(label=None, labels_from=kind)
    with pytest.raises(DataError, match=f"is {name.strip()!r}, which is no name for a class"):
        labels.label(frame(name))


@pytest.mark.parametrize("source", ["--label", "a folder"])
def test_learn_refuses_a_class_unknown(tmp_path: Path, source: str) -> None:
    data = write_images(tmp_path / "data", count=2)
    (data / "left").rename(data / "unknown")
    how = ["--label", "unknown"] if source == "--label" else ["--labels-from", "dirs"]
    options = ["--stream", data, "--model", tmp_path / "m", *how, *SMALL]
    result = cfl_edge("learn", *options)
    assert_error(
        result, 2 if source == "--label" else 4, "is 'unknown', which is no name for a class"
    )


def test_a_model_with_a_class_unknown_does_not_reject_in_python_either() -> None:
    scores = np.array([0.0, 2.0], np.float32)
    assert predict_label(scores, ["mug", "unknown"]).label == "unknown"
    with pytest.raises(UsageError, match="has a class 'unknown', which --reject reports"):
        predict_label(scores, ["mug", "unknown"], 0.5, reject=0.95)
