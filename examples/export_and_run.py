"""Learn, export to ONNX, and predict with ONNX Runtime alone, without torch.

Start it as it is, or with a folder that holds one subfolder per class, and one for the ONNX files:

    python examples/export_and_run.py
    python examples/export_and_run.py photos/ out/

`OnnxModel` is all that a board needs if it only predicts. model.onnx also holds class names and
preprocessing, and other programs can read it with any ONNX runtime.
"""

import sys
from pathlib import Path

from cfl_edge import Learner, LearnerConfig, OnnxModel, open_stream
from cfl_edge.errors import CflEdgeError


def main(
    stream: str = "demo:?frames=300", out: str = "out/", *, config: LearnerConfig | None = None
) -> None:
    """Learn a stream that has labels, export, and predict the same frames."""
    frames = open_stream(stream, on_notice=print)
    learner = Learner(config)
    for frame in frames:
        learner.learn_one(frame.image, frame.label)
    exported = learner.export(out)
    print(f"wrote {exported.model}, at most {exported.max_difference:.1e} from torch")

    model = OnnxModel(Path(exported.model))
    right = []
    for frame in open_stream(stream, on_notice=print):
        prediction = model.predict_one(frame.image)
        right.append(prediction.label == frame.label)
        if len(right) == 1:
            print(f"first frame: {prediction.label}, {prediction.score:.0%}; it is {frame.label}")
    print(f"{len(model.classes)} classes, {sum(right)} of {len(right)} frames right")


if __name__ == "__main__":
    try:
        main(*sys.argv[1:3])
    except CflEdgeError as error:
        sys.exit(f"error: {error}")
