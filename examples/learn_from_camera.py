"""Learn from a camera while it runs: every frame is predicted first, then learned.

Hold a mug before the camera and start it; then something else, with its name:

    python examples/learn_from_camera.py /dev/video0 mug
    python examples/learn_from_camera.py          # no camera: a rendered one, which knows its names

The newest frame wins: what the learner is too slow for is dropped, so it never lags behind. This is
the loop in the open, with nothing saved; `cfl-edge learn` also saves, resumes and exports.
"""

import sys

from cfl_edge.errors import CflEdgeError
from cfl_edge.online.learner import Learner, LearnerConfig
from cfl_edge.online.metrics import Prequential
from cfl_edge.preprocess import to_model_input
from cfl_edge.stream.open import open_stream


def main(
    stream: str = "demo:?frames=300",
    name: str | None = None,
    *,
    frames: int = 300,
    config: LearnerConfig | None = None,
) -> None:
    """Predict and learn.

    Args:
        stream: Address of the camera.
        name: What it sees; None takes the stream's own labels.
        frames: Frames to stop after: a camera never ends.
        config: Of the learner; None is the default, with a pretrained stem.
    """
    accuracy = Prequential()
    with open_stream(stream, on_notice=print) as camera:
        print(camera.description())
        learner = Learner(config or LearnerConfig())
        for number, frame in enumerate(camera, start=1):
            encoded = learner.encode(to_model_input(frame.image, learner.image_px)[None])
            guess = learner.classes[learner.predict(encoded).argmax()] if learner.classes else None
            if (label := name or frame.label) is not None:
                accuracy.add(guess == label)
                learner.learn(encoded, [label])
            if number % 20 == 0:
                print(f"frame {number}: said {guess}, is {label}, {camera.dropped} dropped")
            if number >= frames:
                break
    print(f"learned {learner.frames_learned} frames of {', '.join(learner.classes) or 'nothing'}")
    if accuracy.overall is not None:
        print(f"accuracy {accuracy.overall:.0%}, predicted before learned")


if __name__ == "__main__":
    try:
        main(*sys.argv[1:3])
    except CflEdgeError as error:
        sys.exit(f"error: {error}")
