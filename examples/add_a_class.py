"""Teach a few classes, then a new one from 20 frames, and print recall before and after.

Start it as it is, on rendered things, or on a folder with one subfolder per class:

    python examples/add_a_class.py
    python examples/add_a_class.py photos/ mug

Nothing is trained again: a class is one more row of the label embeddings, and a small memory of
past samples preserves the others. Recall is measured on frames that are not taught: 10 of every 30
of a class, in a row.
"""

import sys
from collections import defaultdict

from cfl_edge import Frame, Learner, LearnerConfig, open_stream
from cfl_edge.errors import CflEdgeError, DataError

NEW_FRAMES = 20


def recall(learner: Learner, frames: list[Frame]) -> float:
    """Return the fraction of frames of one class that are recognised."""
    right = [learner.predict_one(frame.image).label == frame.label for frame in frames]
    return sum(right) / len(right)


def main(stream: str = "demo:", new: str = "clock", *, config: LearnerConfig | None = None) -> None:
    """Teach every class of the stream but `new`, measure, teach `new`, measure again."""
    classes: dict[str, list[Frame]] = defaultdict(list)
    for frame in open_stream(stream, on_notice=print):
        if frame.label is not None:
            classes[frame.label].append(frame)
    counts = {name: len(frames) for name, frames in classes.items()}
    if len(counts) < 2 or new not in counts or min(counts.values()) <= NEW_FRAMES:
        raise DataError(f"{stream} has {counts}", hint=f"{new} and others, over {NEW_FRAMES} each")

    learner = Learner(config)
    taught = {name: [f for i, f in enumerate(classes[name]) if i % 30 < 20] for name in classes}
    tested = {name: [f for i, f in enumerate(classes[name]) if i % 30 >= 20] for name in classes}
    for frame in (frame for name in classes if name != new for frame in taught[name]):
        learner.learn_one(frame.image, frame.label)
    before = {name: recall(learner, tested[name]) for name in classes}
    for frame in taught[new][:NEW_FRAMES]:
        learner.learn_one(frame.image, frame.label)
    for name in classes:
        after = recall(learner, tested[name])
        print(f"{name:12} recall {before[name]:4.0%} before, {after:4.0%} after {new}")


if __name__ == "__main__":
    try:
        main(*sys.argv[1:3])
    except CflEdgeError as error:
        sys.exit(f"error: {error}")
