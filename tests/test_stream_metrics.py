"""Metrics of streams against their definitions, written out slowly."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from cfl_edge.lab.bench.streams import stream_metrics as metrics
from cfl_edge.lab.tables import cell, mean_and_spread

NAN = math.nan

# Three classes one after the other, the last evaluation after the third.
R = np.array([[0.9, NAN, NAN], [0.6, 0.8, NAN], [0.7, 0.5, 1.0]])
COUNTS = np.array([10, 20, 10])


def test_by_hand():
    assert metrics.accuracy_of_seen(R, COUNTS) == pytest.approx([0.9, 22 / 30, 27 / 40])
    assert metrics.average_incremental_accuracy(R, COUNTS) == pytest.approx(
        (0.9 + 22 / 30 + 27 / 40) / 3
    )
    assert metrics.single_head_forgetting(R) == pytest.approx(((0.9 - 0.7) + (0.8 - 0.5)) / 2)
    assert metrics.backward_transfer(R) == pytest.approx(((0.7 - 0.9) + (0.5 - 0.8)) / 2)
    second = 0.9 - 0.6
    third = (0.6 * 10 + 0.8 * 20) / 30 - (0.7 * 10 + 0.5 * 20) / 30
    assert metrics.old_drop(R, COUNTS, [1, 2, 3]) == pytest.approx((second + third) / 2)


def test_forgetting_is_from_the_best_and_transfer_from_the_first():
    recalls = np.array([[0.5, NAN], [0.9, 0.3], [0.7, 0.3]])
    assert metrics.single_head_forgetting(recalls) == pytest.approx((0.2 + 0.0) / 2)
    assert metrics.backward_transfer(recalls) == pytest.approx((0.2 + 0.0) / 2)


@given(
    arrays.arrays(float, st.tuples(st.integers(1, 6), st.integers(1, 5)), elements=st.floats(0, 1)),
    st.data(),
)
def test_definitions_written_out(recalls, data):
    rows, classes = recalls.shape
    begins = [data.draw(st.integers(0, rows)) for _ in range(classes)]  # `rows`: never seen
    counts = np.array([data.draw(st.integers(0, 9)) for _ in range(classes)])
    for z, begin in enumerate(begins):
        recalls[: rows if counts[z] == 0 else begin, z] = NAN
    known = [z for z, begin in enumerate(begins) if begin < rows - 1 and counts[z]]

    falls = [max(recalls[begins[z] : -1, z]) - recalls[-1, z] for z in known]
    changes = [recalls[-1, z] - recalls[begins[z], z] for z in known]
    expected = sum(falls) / len(falls) if falls else None
    assert metrics.single_head_forgetting(recalls) == pytest.approx(expected, abs=1e-9)
    expected = sum(changes) / len(changes) if changes else None
    assert metrics.backward_transfer(recalls) == pytest.approx(expected, abs=1e-9)

    accuracies = []
    for t in range(rows):
        seen = [z for z in range(classes) if begins[z] <= t and counts[z]]
        if seen:
            right = sum(recalls[t, z] * counts[z] for z in seen)
            accuracies.append(right / sum(counts[z] for z in seen))
    expected = sum(accuracies) / len(accuracies) if accuracies else None
    average = metrics.average_incremental_accuracy(recalls, counts)
    assert average == pytest.approx(expected, abs=1e-9)


def test_nothing_seen_twice_is_not_known():
    once = np.array([[0.9, 0.8]])
    assert metrics.single_head_forgetting(once) is None
    assert metrics.backward_transfer(once) is None
    assert metrics.forgetting(once, once) is None
    assert metrics.old_drop(once, np.array([5, 5]), [1]) is None


def test_tasks_weigh_their_classes_by_test_images():
    tasks = metrics.by_task(R, COUNTS, np.array([0, 0, 1]))
    assert tasks[1:, 0] == pytest.approx([(6 + 16) / 30, (7 + 10) / 30])
    assert np.isnan(tasks[0]).all()  # one class of the first task was not there yet
    assert tasks[2, 1] == 1.0
    without = metrics.by_task(R, np.array([10, 0, 10]), np.array([0, 1, 2]))
    assert np.isnan(without[:, 1]).all()


def test_a_drop_between_thinned_evaluations_is_shared_by_the_tasks():
    thinned = R[[0, 2]]
    assert metrics.old_drop(thinned, COUNTS, [1, 3]) == pytest.approx((0.9 - 0.7) / 2)


def test_the_same_rivals_leave_out_confusion_by_later_classes():
    then = np.array([[1.0, NAN], [0.6, 1.0]])
    assert metrics.forgetting(then, then) == 0
    now = np.array([[0.7, NAN], [0.6, 1.0]])
    assert metrics.forgetting(then, now) == pytest.approx(0.3)
    assert metrics.single_head_forgetting(then) == pytest.approx(0.4)
    later = np.array([[1.0, NAN], [0.6, 0.9], [0.9, 0.9]])
    now = np.array([[1.0, NAN], [0.9, 0.7], [0.9, 0.7]])
    assert metrics.forgetting(later, now) == pytest.approx((0.0 + 0.2) / 2)  # from the first on


def test_median_until_a_class_is_recalled():
    assert metrics.median_reached([1, 2, 50]) == 2
    assert metrics.median_reached([1, 2, None]) == 2
    assert metrics.median_reached([1, None, None]) is None
    assert metrics.median_reached([1, 1, None, None]) is None
    assert metrics.median_reached([]) is None


def test_a_step_every_few_frames_is_in_the_usual_time():
    seconds = [0.0, 0.0, 0.0, 0.08] * 12
    seconds[5] = 9.0  # one that waited for something else
    assert metrics.window_median_ms(seconds, 16) == pytest.approx(20)
    assert metrics.window_median_ms([0.01, 0.03], 16) == pytest.approx(20)
    assert metrics.window_median_ms([], 16) is None


def test_mean_and_spread_over_seeds():
    assert mean_and_spread([]) == (None, None)
    assert cell([0.004, -0.004], 1) == "0.0 ± 0.0"
    assert cell([3.0, None], 0) == "-"
    assert cell([60.0, 62.0, 64.0], 1) == "62.0 ± 2.0"
