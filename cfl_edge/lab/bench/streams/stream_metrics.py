"""What a learner did on a stream, as pure functions of a matrix of recalls.

The matrix R has a row for each of T evaluations, in order, and a column for each of Z classes:
R[t, z] is the fraction of the test images of class z that is recognised, and nan before the stream
has shown the class or without a test image of it. Where several classes make up a task, `by_task`
makes columns of tasks first.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
Integers = npt.NDArray[np.int64]

RECALLED = 0.8  # the recall at which a new class counts as learned


def accuracy_of_seen(recalls: Floats, counts: Integers) -> Floats:
    """Return the accuracy on the test images of all classes seen so far, at each evaluation.

    Args:
        recalls: R, (T, Z).
        counts: Test images of each class, (Z,).

    Returns:
        (T,); nan if no class that was seen has a test image.

    Example:
        >>> accuracy_of_seen(np.array([[1.0, np.nan], [0.5, 1.0]]), np.array([30, 10])).tolist()
        [1.0, 0.625]
    """
    weights = np.where(np.isnan(recalls), 0, counts)  # (T, Z)
    total = weights.sum(axis=1)
    right = (np.nan_to_num(recalls) * weights).sum(axis=1)
    return np.where(total > 0, right / np.maximum(total, 1), np.nan)


def average_incremental_accuracy(recalls: Floats, counts: Integers) -> float | None:
    """Return the mean of `accuracy_of_seen` over the evaluations.

    Rebuffi et al., "iCaRL: Incremental classifier and representation learning" (CVPR 2017). The
    first evaluation counts; streams without tasks are evaluated at even points.

    Example:
        >>> average_incremental_accuracy(np.array([[1.0, np.nan], [0.5, 0.5]]), np.array([5, 5]))
        0.75
    """
    return _mean(accuracy_of_seen(recalls, counts))


def by_task(recalls: Floats, counts: Integers, task_of: Integers) -> Floats:
    """Return the accuracy on the test images of each task at each evaluation.

    Args:
        recalls: R, (T, Z).
        counts: Test images of each class, (Z,).
        task_of: Number of the task that each class belongs to, (Z,).

    Returns:
        (T, J) for J tasks; nan until all classes of the task were seen.

    Example:
        >>> recalls = np.array([[0.5, 1.0, np.nan], [0.5, 0.5, 0.2]])
        >>> by_task(recalls, np.array([10, 10, 5]), np.array([0, 0, 1])).tolist()
        [[0.75, nan], [0.5, 0.2]]
    """
    columns = []
    for task in np.unique(task_of):
        members = (task_of == task) & (counts > 0)
        if members.any():
            columns.append(recalls[:, members] @ (counts[members] / counts[members].sum()))
        else:
            columns.append(np.full(len(recalls), np.nan))
    return np.stack(columns, axis=1)


def forgetting(then: Floats, now: Floats) -> float | None:
    """Return by how much recall has fallen since a class was learned, among the same rivals.

    Mean over j of then[l, j] - now[l, j], where l is the first evaluation after class j was seen.
    That each class is harder to recognise among more classes does not count as forgetting: only the
    classes known at evaluation l compete. This is the forgetting of task-aware evaluation carried
    over to streams without tasks; a learner whose knowledge of a class never changes has 0. (The
    usual measure, in which later classes compete too, is `single_head_forgetting`.)

    Args:
        then: R, (T, Z).
        now: Recalls at the end of the stream, (T, Z); in row l only the classes that had been seen
            at evaluation l compete.

    Returns:
        A fraction, negative where classes have become better; None where nothing was seen before
        the last evaluation.

    Example:
        >>> then = np.array([[1.0, np.nan], [0.7, 1.0]])
        >>> forgetting(then, now=np.array([[0.9, np.nan], [0.7, 1.0]]))
        0.1
    """
    return _mean(_first_known(then - now))


def single_head_forgetting(recalls: Floats) -> float | None:
    """Return by how much each class or task has fallen from its best recall, among all classes.

    F = mean over j of (max over l < T of R[l, j]) - R[T, j], over all that were seen before the
    last evaluation: Chaudhry et al., "Riemannian walk for incremental learning" (ECCV 2018),
    Eq. 3 and below it. Among more classes each is harder to recognise, so a learner that forgets
    nothing has more than 0. Negative where early classes have become better.

    Args:
        recalls: R, (T, Z), or of tasks, (T, J).

    Returns:
        A fraction; None where nothing was seen twice.

    Example:
        >>> single_head_forgetting(np.array([[0.9, np.nan], [0.7, 1.0]]))
        0.2
    """
    before = recalls[:-1]
    known = ~np.isnan(before).all(axis=0) if len(before) else np.zeros(recalls.shape[1], bool)
    if not known.any():
        return None
    return _mean(np.nanmax(before[:, known], axis=0) - recalls[-1, known])


def backward_transfer(recalls: Floats) -> float | None:
    """Return the mean change of each class or task since it was learned.

    BWT = mean over i < T of R[T, i] - R[i, i]: Lopez-Paz & Ranzato, "Gradient episodic memory for
    continual learning" (NIPS 2017), Eq. 3. R[i, i] is the first evaluation after it was seen.

    Args:
        recalls: R, (T, Z), or of tasks, (T, J).

    Returns:
        A fraction, negative where knowledge was lost; None where nothing was seen twice.

    Example:
        >>> backward_transfer(np.array([[0.9, np.nan], [0.7, 1.0]]))
        -0.2
    """
    return _mean(recalls[-1] - _first_known(recalls))


def old_drop(recalls: Floats, counts: Integers, tasks: Sequence[int]) -> float | None:
    """Return by how much the accuracy on the classes known before falls with each new task.

    Args:
        recalls: R, (T, Z).
        counts: Test images of each class, (Z,).
        tasks: Number of finished tasks at each evaluation, ascending, (T,). Several tasks between
            two evaluations share the fall.

    Returns:
        The mean over the tasks after the first evaluation; None without any.

    Example:
        >>> recalls = np.array([[1.0, np.nan, np.nan], [0.8, 1.0, np.nan], [0.7, 0.9, 1.0]])
        >>> old_drop(recalls, np.array([5, 5, 5]), [1, 2, 3])
        0.15
    """
    falls, spans = [], []
    for t in range(1, len(recalls)):
        old = np.where(np.isnan(recalls[t - 1]), 0, counts)
        if old.sum():
            before, after = (np.nan_to_num(recalls[i]) @ old / old.sum() for i in (t - 1, t))
            falls.append(before - after)
            spans.append(tasks[t] - tasks[t - 1])
    return round(float(sum(falls) / sum(spans)), 12) if sum(spans) else None


def median_reached(reached: Sequence[float | None]) -> float | None:
    """Return the median over classes of the frames, or seconds, until a class is recalled.

    Args:
        reached: Learned frames of each class until then (or seconds); None for never.

    Returns:
        None if half of the classes or more never were, or without classes.

    Example:
        >>> median_reached([1, 5, None]), median_reached([1, None])
        (5, None)
    """
    if not reached:
        return None
    median = statistics.median(math.inf if frames is None else frames for frames in reached)
    return None if math.isinf(median) else median


def window_median_ms(seconds: Sequence[float], window: int) -> float | None:
    """Return the typical time of a frame in milliseconds, its share of rarer work included.

    A gradient step is taken every few frames, so the median frame has none. Therefore this is the
    median over windows of the mean in each.

    Args:
        seconds: Of each frame.
        window: Frames. An incomplete last window does not count, unless it is the only one.

    Example:
        >>> window_median_ms([0.001, 0.003, 0.001, 0.003, 0.5], 2)
        2.0
    """
    if not seconds:
        return None
    values = np.array(seconds)
    whole = len(values) // window * window
    means = values[:whole].reshape(-1, window).mean(axis=1) if whole else values.mean(keepdims=True)
    return round(float(np.median(means)) * 1000, 9)


def _first_known(recalls: Floats) -> Floats:
    """Return each column's first value before the last row; nan where there is none, (Z,)."""
    first = np.full(recalls.shape[1], np.nan)
    for row in recalls[-2::-1]:  # from the last but one up
        first = np.where(np.isnan(row), first, row)
    return first


def _mean(values: Floats) -> float | None:
    known = values[~np.isnan(values)]
    return round(float(known.mean()), 12) if len(known) else None
