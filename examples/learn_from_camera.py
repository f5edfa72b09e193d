"""Learn from a camera while it runs: every frame is predicted first, then learned.

Start it with the camera and the things that you have at hand; it asks for each in turn:

    python examples/learn_from_camera.py /dev/video0 mug pen
    python examples/learn_from_camera.py          # no camera: a rendered one, which has labels

The newest frame wins: frames that arrive while the learner is busy are dropped, so it never lags
behind. This is the plain loop, and saves nothing; `cfl-edge learn` also saves, resumes and exports.
"""

import sys

from cfl_edge import Learner, LearnerConfig, open_stream
from cfl_edge.errors import CflEdgeError

TURN = 50  # frames for which one thing is held in front of the camera


def main(
    stream: str = "demo:?frames=300",
    *names: str,
    frames: int = 300,
    config: LearnerConfig | None = None,
) -> None:
    """Predict and learn `frames` frames; without names, by the stream's own labels."""
    right: list[bool] = []
    with open_stream(stream, on_notice=print) as camera:
        print(camera.description())
        learner = Learner(config)
        for number, frame in enumerate(camera):
            label = names[number // TURN % len(names)] if names else frame.label
            if names and number % TURN == 0:
                input(f"hold the {label} in front of the camera and press Enter ")
                continue  # this frame was taken before that
            prediction = learner.predict_one(frame.image)
            learner.learn_one(frame.image, label)
            if label is not None:
                right.append(prediction.label == label)
            if number % 10 == 9:
                dropped = f"{camera.dropped} dropped"
                print(f"frame {number + 1}: sees {prediction.label}, is {label}, {dropped}")
            if number + 1 >= frames:
                break
    print(f"learned {learner.frames_learned} frames of {', '.join(learner.classes) or 'nothing'}")
    if right:
        print(f"accuracy {sum(right) / len(right):.0%}, predicted before learned")


if __name__ == "__main__":
    try:
        main(*sys.argv[1:])
    except CflEdgeError as error:
        sys.exit(f"error: {error}")
