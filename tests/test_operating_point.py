"""Intervals of shares, and the threshold that `evaluate --require` finds."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cfl_edge.errors import DataError, UsageError
from cfl_edge.frame.prediction import predict_label
from cfl_edge.loop.metrics import Confusion
from cfl_edge.loop.operating_point import (
    STOPPED,
    Requirement,
    Share,
    Threshold,
    accuracy_of,
    images_to_show,
    precision_of,
    read_requirement,
    recall_of,
)

CLASSES = ["bad", "good", "other"]


@pytest.mark.parametrize(
    ("count", "total", "low", "high"),
    # Newcombe, "Two-sided confidence intervals for the single proportion", 1998, Table I, method 3
    [
        (81, 263, 0.2553, 0.3662),
        (15, 148, 0.0624, 0.1605),
        (0, 20, 0.0, 0.1611),
        (1, 29, 0.0061, 0.1718),
    ],
)
def test_intervals_are_those_of_the_literature(count, total, low, high):
    assert Share(count, total).interval == (
        pytest.approx(low, abs=6e-5),
        pytest.approx(high, abs=6e-5),
    )
    other = Share(total - count, total).interval
    assert other == (pytest.approx(1 - high, abs=6e-5), pytest.approx(1 - low, abs=6e-5))


@pytest.mark.parametrize("recall", [0.5, 0.9, 0.95, 0.99, 0.999])
def test_images_that_show_a_recall(recall):
    images = images_to_show(recall)
    assert Share(images, images).interval[0] >= recall
    assert Share(images - 1, images - 1).interval[0] < recall


@pytest.mark.parametrize(
    ("recall", "told"),
    [
        (0.99, "; 381 that are all stopped would show 99 %"),
        (1.0, "; no number of images shows 100 %"),
    ],
)
def test_what_would_show_a_requirement(recall, told):
    threshold = Threshold(Requirement("bad", recall), CLASSES)
    threshold.of_class += [0.5, 0.9]
    assert threshold.point().lines()[-1].endswith(told)


def test_shares_of_a_confusion():
    confusion = Confusion()
    for true, said in ("aa", "ab", "ab", "bb", "bu", "cc"):
        confusion.add(true, said)
    assert accuracy_of(confusion) == Share(3, 6)
    assert recall_of(confusion, "a") == Share(1, 3)
    assert precision_of(confusion, "b") == Share(1, 3)
    assert (recall_of(confusion, "u"), precision_of(confusion, "x")) == (None, None)


SCORES = st.lists(st.sampled_from([0.0, 0.1, 0.25, 0.5, 0.75, 0.9, 1.0, STOPPED]), max_size=30)


@given(SCORES.filter(bool), SCORES, st.sampled_from([0.01, 0.3, 0.5, 0.9, 0.99, 1.0]))
def test_the_threshold_is_the_highest_that_stops_enough(of_class, of_others, recall):
    threshold = Threshold(Requirement("bad", recall), CLASSES)
    threshold.of_class += of_class
    threshold.of_others += of_others
    point = threshold.point()
    possible = sorted({min(1.0, score) for score in of_class})
    enough = [t for t in possible if sum(s >= t for s in of_class) >= recall * len(of_class)]
    assert point.threshold == max(enough)
    assert point.recall == Share(sum(s >= point.threshold for s in of_class), len(of_class))
    stopped = sum(s >= point.threshold for s in of_others)
    assert point.cost == (Share(stopped, len(of_others)) if of_others else None)


@given(st.lists(st.floats(1e-3, 1.0), min_size=1, max_size=20), st.floats(0.01, 1.0))
def test_the_threshold_that_is_shown_stops_what_is_promised(of_class, recall):
    threshold = Threshold(Requirement("bad", recall), CLASSES)
    threshold.of_class += of_class
    point = threshold.point()
    assert f"{point.threshold:.4f}" == f"{round(point.threshold, 4):.4f}"
    for shown in (round(point.threshold, 4), float(f"{point.threshold:.4g}")):
        assert threshold.at(shown).recall == point.recall
    assert point.recall.count >= recall * len(of_class) - 1e-6


def test_the_probability_of_the_class_counts_whatever_the_answer_is():
    threshold = Threshold(Requirement("good", 0.5), CLASSES)
    scores = np.log(np.array([0.6, 0.3, 0.1], np.float32))
    threshold.add("good", predict_label(scores, CLASSES))
    threshold.add("bad", predict_label(scores[[1, 0, 2]], CLASSES))
    threshold.add("bad", predict_label(scores, CLASSES, 0.97, reject=0.95))  # unknown: not passed
    assert threshold.of_class == [pytest.approx(0.3)]
    assert threshold.of_others == [pytest.approx(0.6), math.inf]


@pytest.mark.parametrize(
    "text", ["", "bad", "=0.9", "bad=", "bad=x", "bad=0", "bad=1.01", "bad=nan"]
)
def test_a_requirement_that_cannot_be_read(text):
    with pytest.raises(UsageError, match="expected CLASS=RECALL") as caught:
        read_requirement(text, CLASSES)
    assert caught.value.hint == "--require bad=0.99"


def test_a_class_name_may_hold_the_sign():
    assert read_requirement("a=b=0.5", ["a=b"]) == Requirement("a=b", 0.5)


def test_a_class_that_is_not_there():
    with pytest.raises(UsageError, match="has no class 'wrong'") as caught:
        read_requirement("wrong=0.9", CLASSES)
    assert caught.value.hint == "--require bad=0.9, or another of bad, good, other"
    with pytest.raises(DataError, match="no image of --data is labelled 'bad'"):
        Threshold(Requirement("bad", 0.9), CLASSES).point()
