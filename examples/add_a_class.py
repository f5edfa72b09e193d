"""Teach a few classes, then a new one from 20 frames, and print recall before and after.

Start it as it is, on rendered things, or on a folder with one subfolder per class:

    python examples/add_a_class.py
    python examples/add_a_class.py photos/ mug

Nothing is trained anew: a class is one more row of the label embeddings, and a small memory of past
samples keeps the others. Recall is of frames kept back: 10 of every 30 of a class, in a row.
"""

import sys
from collections import Counter

from cfl_edge.errors import CflEdgeError, DataError
from cfl_edge.learner.learner import Images, Learner, LearnerConfig
from cfl_edge.loop.metrics import Confusion
from cfl_edge.preprocess import to_model_input
from cfl_edge.stream.open import open_stream

NEW_FRAMES = 20
Samples = list[tuple[str, Images]]


def recall(learner: Learner, samples: Samples) -> dict[str, float]:
    """Return the fraction right of each class; of one that the learner never met, 0."""
    confusion = Confusion()
    for name, picture in samples:
        confusion.add(name, learner.classes[learner.predict(learner.encode(picture)).argmax()])
    return confusion.recall()


def main(stream: str = "demo:", new: str = "clock", *, config: LearnerConfig | None = None) -> None:
    """Teach every class of the stream but `new`, measure, teach `new`, measure again."""
    lessons, kept, seen = Samples(), Samples(), Counter[str]()
    with open_stream(stream, on_notice=print) as source:
        learner = Learner(config or LearnerConfig())
        for frame in source:
            if frame.label is not None:
                sample = (frame.label, to_model_input(frame.image, learner.image_px)[None])
                (lessons if seen[frame.label] % 30 < NEW_FRAMES else kept).append(sample)
                seen[frame.label] += 1
    if len(seen) < 2 or seen[new] <= NEW_FRAMES:
        raise DataError(f"{stream} has {dict(seen)}", hint=f"2 classes, over {NEW_FRAMES} of {new}")

    for name, picture in [sample for sample in lessons if sample[0] != new]:
        learner.learn(learner.encode(picture), [name])
    before = recall(learner, kept)
    for name, picture in [sample for sample in lessons if sample[0] == new][:NEW_FRAMES]:
        learner.learn(learner.encode(picture), [name])
    for name, after in recall(learner, kept).items():
        print(f"{name:12} recall {before[name]:4.0%} before, {after:4.0%} after {new}")


if __name__ == "__main__":
    try:
        main(*sys.argv[1:3])
    except CflEdgeError as error:
        sys.exit(f"error: {error}")
