"""In which order labelled images arrive: the protocols of `cfl-edge bench streams`.

A protocol depends on labels, objects and a seed alone, so every learner sees the same frames in the
same order.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Integers = npt.NDArray[np.int64]

RUN_FRAMES = 30  # of a block: a second before a camera
LEAST_RUNS = 3  # of a class with few images, so that it returns too
MOST_EVALUATIONS = 20  # of a stream with tasks: more would take longer than learning
EVALUATIONS_WITHOUT_TASKS = 10
FEW_FRAMES = (1, 2, 5, 10, 20)  # of each class, after which `few` is evaluated


@dataclass(frozen=True, eq=False)
class StreamOrder:
    """The frames of a stream.

    Args:
        frames: Numbers of the images in the order in which they arrive, (T,).
        task_ends: Frames after which each task ends, ascending, the last one T; empty for a stream
            that has no tasks.
        evaluated: Frames after which learners are evaluated, ascending, the last one T; empty to
            follow from the rest.
    """

    frames: Integers
    task_ends: tuple[int, ...] = ()
    evaluated: tuple[int, ...] = ()

    def evaluation_ends(self) -> list[int]:
        """Return the frames after which learners are evaluated, ascending, the last one T.

        `evaluated`, or the ends of at most 20 tasks, evenly chosen; ten even points without tasks.

        Example:
            >>> StreamOrder(np.arange(25)).evaluation_ends()
            [2, 5, 8, 10, 12, 15, 18, 20, 22, 25]
            >>> StreamOrder(np.arange(6), (2, 4, 6)).evaluation_ends()
            [2, 4, 6]
        """
        if self.evaluated:
            return list(self.evaluated)
        ends = np.array(self.task_ends)
        if len(ends) == 0:
            points = np.arange(1, EVALUATIONS_WITHOUT_TASKS + 1) / EVALUATIONS_WITHOUT_TASKS
            found = np.round(points * len(self.frames))
            return sorted({int(end) for end in found if end > 0})
        count = min(len(ends), MOST_EVALUATIONS)
        places = np.round(np.arange(1, count + 1) * len(ends) / count).astype(int) - 1
        return [int(end) for end in ends[places]]


def class_incremental(labels: Integers, *, classes_per_task: int = 1, seed: int = 0) -> StreamOrder:
    """Show class after class, or task after task of several classes; none returns.

    "Class-incremental learning" of van de Ven & Tolias, "Three scenarios for continual learning"
    (2019): the learner is not told the task of an image.

    Args:
        labels: Targets, (N,).
        classes_per_task: Classes that arrive together, mixed. The last task has the rest.
        seed: Of the order of the classes, and of the images within a task.

    Example:
        >>> order = class_incremental(np.array([0, 0, 1, 1, 2, 2]), classes_per_task=2)
        >>> order.task_ends
        (4, 6)
    """
    random = _random(seed, "class-incremental")
    classes = random.permutation(np.unique(labels))
    tasks = [
        random.permutation(
            np.flatnonzero(np.isin(labels, classes[first : first + classes_per_task]))
        )
        for first in range(0, len(classes), classes_per_task)
    ]
    ends = np.cumsum([len(task) for task in tasks])
    return StreamOrder(np.concatenate(tasks), tuple(int(end) for end in ends))


def shuffled(labels: Integers, *, epochs: int = 1, seed: int = 0) -> StreamOrder:
    """Show all images in random order, another one in each pass.

    Args:
        labels: Targets, (N,).
        epochs: Passes.
        seed: Of the order.

    Example:
        >>> sorted(shuffled(np.array([0, 1, 1]), epochs=2).frames.tolist())
        [0, 0, 1, 1, 2, 2]
    """
    random = _random(seed, "shuffled")
    return StreamOrder(np.concatenate([random.permutation(len(labels)) for _ in range(epochs)]))


def few(labels: Integers, *, seed: int = 0) -> StreamOrder:
    """Show one image of every class, then another one of each: evaluated after few of each.

    Images are drawn at random. The stream ends after the largest of 1, 2, 5, 10 and 20 images of a
    class that every class has.

    Args:
        labels: Targets, (N,).
        seed: Of the choice, and of the order within each round.

    Example:
        >>> order = few(np.array([0, 0, 0, 1, 1, 1]))
        >>> len(order.frames), order.evaluation_ends()
        (4, [2, 4])
    """
    random = _random(seed, "few")
    drawn = [random.permutation(np.flatnonzero(labels == z)) for z in np.unique(labels)]
    shown = [count for count in FEW_FRAMES if count <= min(map(len, drawn))]
    rounds = [random.permutation([each[i] for each in drawn]) for i in range(shown[-1])]
    ends = tuple(count * len(drawn) for count in shown)
    return StreamOrder(np.concatenate(rounds), evaluated=ends)


def blocks(labels: Integers, *, run_frames: int = RUN_FRAMES, seed: int = 0) -> StreamOrder:
    """Show each class several times, in runs of consecutive frames, as before a camera.

    The images of a class stay in their order, in a recording the order of time. In each round every
    class that has frames left appears once, in random order, and no class follows itself while
    there are others.

    Args:
        labels: Targets, (N,).
        run_frames: Frames of a run, about; fewer where a class would not return 3 times.
        seed: Of the order of the runs.

    Example:
        >>> labels = np.array([0] * 6 + [1] * 6)
        >>> labels[blocks(labels, run_frames=2).frames].reshape(6, 2)[:, 0].tolist()
        [1, 0, 1, 0, 1, 0]
    """
    random = _random(seed, "blocks")
    runs: dict[int, list[Integers]] = {}
    for number in np.unique(labels):
        places = np.flatnonzero(labels == number)
        count = min(len(places), max(LEAST_RUNS, round(len(places) / run_frames)))
        runs[int(number)] = list(np.array_split(places, count))
    frames, before = list[Integers](), -1
    while runs:
        turn = [int(number) for number in random.permutation(list(runs))]
        if turn[0] == before and len(turn) > 1:
            turn = [*turn[1:], before]
        for number in turn:
            frames.append(runs[number].pop(0))
            if not runs[number]:
                del runs[number]
        before = turn[-1]
    return StreamOrder(np.concatenate(frames))


def objects_in_turn(objects: Integers, *, seed: int = 0) -> StreamOrder:
    """Show object after object in random order, the images of each in their order.

    Args:
        objects: Object of each image, (N,).
        seed: Of the order of the objects.

    Example:
        >>> objects_in_turn(np.array([7, 3, 7, 3])).frames.tolist()
        [1, 3, 0, 2]
    """
    turn = _random(seed, "instances").permutation(np.unique(objects))
    return StreamOrder(np.concatenate([np.flatnonzero(objects == number) for number in turn]))


def held_out_objects(
    labels: Integers, objects: Integers, *, share: float, seed: int = 0
) -> npt.NDArray[np.bool_]:
    """Choose objects of each class to test on; return which images show them.

    Args:
        labels: Targets, (N,).
        objects: Object of each image, (N,); an object has one class.
        share: Of the objects of a class, at least one; a class of one object has none.
        seed: Of the choice.

    Returns:
        (N,)

    Example:
        >>> labels, objects = np.array([0, 0, 0, 1, 1]), np.array([1, 2, 2, 3, 4])
        >>> int(held_out_objects(labels, objects, share=0.5)[3:].sum())
        1
    """
    random, chosen = _random(seed, "objects"), list[int]()
    for number in np.unique(labels):
        of_class = np.unique(objects[labels == number])
        count = min(max(1, round(share * len(of_class))), len(of_class) - 1)
        chosen += random.permutation(of_class)[:count].tolist()
    return np.isin(objects, chosen)


def noisy_labels(labels: Integers, share: float, *, classes: int, seed: int = 0) -> Integers:
    """Replace a share of the labels by another class each, all others equally likely.

    Symmetric noise, as Patrini et al., "Making deep neural networks robust to label noise" (2017).

    Args:
        labels: Targets, (N,).
        share: From 0 to 1; rounded to a whole number of labels.
        classes: Z, at least 2.
        seed: Of the choice.

    Returns:
        A new array, (N,).

    Example:
        >>> noisy_labels(np.array([0, 0, 1, 1]), 0.5, classes=2).tolist()
        [0, 1, 0, 1]
    """
    random = _random(seed, "label-noise")
    wrong = random.permutation(len(labels))[: round(share * len(labels))]
    result = labels.copy()
    result[wrong] = (labels[wrong] + random.integers(1, classes, len(wrong))) % classes
    return result


def _random(seed: int, what: str) -> np.random.Generator:
    """Return a separate generator for each purpose, so that one does not shift another."""
    return np.random.default_rng([seed, *what.encode()])


def first_seen(labels: Sequence[int] | Integers) -> list[int]:
    """Return the classes in the order in which they first appear.

    Example:
        >>> first_seen([2, 2, 0, 2, 1])
        [2, 0, 1]
    """
    return list(dict.fromkeys(int(label) for label in labels))
