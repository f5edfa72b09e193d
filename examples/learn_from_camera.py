"""Learn from a camera while it runs: every frame is predicted first, then learned.

Start it with the camera and the things that you have at hand; it asks for each in turn:

    python examples/learn_from_camera.py /dev/video0 mug pen
    python examples/learn_from_camera.py          # no camera: a rendered one, which knows its names

The newest frame wins: what the learner is too slow for is dropped, so it never lags behind. This is
the loop in the open, with nothing saved; `cfl-edge learn` also saves, resumes and exports.
"""

import sys

from cfl_edge.errors import CflEdgeError
from cfl_edge.learner.learner import Learner, LearnerConfig
from cfl_edge.loop.metrics import Prequential
from cfl_edge.preprocess import to_model_input
from cfl_edge.stream.open import open_stream

TURN = 50  # frames for which one thing is held before the camera


def main(
    stream: str = "demo:?frames=300",
    *names: str,
    frames: int = 300,
    config: LearnerConfig | None = None,
) -> None:
    """Predict and learn `frames` frames; without names, by the stream's own labels."""
    accuracy = Prequential()
    with open_stream(stream, on_notice=print) as camera:
        print(camera.description())
        learner = Learner(config or LearnerConfig())
        for number, frame in enumerate(camera):
            label = names[number // TURN % len(names)] if names else frame.label
            if names and number % TURN == 0:
                input(f"hold the {label} before the camera and press Enter ")
                continue  # this frame is from before
            encoded = learner.encode(to_model_input(frame.image, learner.image_px)[None])
            guess = learner.classes[learner.predict(encoded).argmax()] if learner.classes else None
            if label is not None:
                accuracy.add(guess == label)
                learner.learn(encoded, [label])
            if number % 10 == 9:
                print(f"frame {number + 1}: said {guess}, is {label}, {camera.dropped} dropped")
            if number + 1 >= frames:
                break
    print(f"learned {learner.frames_learned} frames of {', '.join(learner.classes) or 'nothing'}")
    if accuracy.overall is not None:
        print(f"accuracy {accuracy.overall:.0%}, predicted before learned")


if __name__ == "__main__":
    try:
        main(*sys.argv[1:])
    except CflEdgeError as error:
        sys.exit(f"error: {error}")
