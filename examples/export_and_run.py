"""Learn, export to ONNX, and predict with ONNX Runtime alone, without torch.

Start it as it is, or with a folder that holds one subfolder per class, and one for the model:

    python examples/export_and_run.py
    python examples/export_and_run.py photos/ runs/photos

The second half, `OnnxModel`, is all that a board needs which only predicts: model.onnx holds class
names and preprocessing too, and other programs read it with any ONNX runtime.
"""

import sys
from pathlib import Path
from typing import Any

from cfl_edge.cli.commands.export import export
from cfl_edge.config import load_settings
from cfl_edge.errors import CflEdgeError
from cfl_edge.loop.learn import learn
from cfl_edge.onnx.inference import OnnxModel
from cfl_edge.stream.open import open_stream


def main(stream: str = "demo:?frames=300", model: str = "runs/example", **options: Any) -> None:
    """Learn and save, export, predict the same frames.

    Args:
        stream: Address of a stream that brings labels.
        model: The model folder.
        options: More settings of `cfl_edge.config.LearnSettings`.
    """
    settings = load_settings(
        None, stream=stream, model=Path(model), labels_from="dirs", export=False, **options
    )
    learn(settings, on_notice=print)

    exported = export(settings.model, settings.model / "onnx")
    print(f"wrote {exported.model}, at most {exported.max_difference:.1e} from torch")

    network = OnnxModel(exported.model)
    right = frames = 0
    with open_stream(stream, on_notice=print) as source:
        for frame in source:
            said = network.predict_one(frame.image)
            right += said.label == frame.label
            frames += 1
            if frames == 1:
                print(f"first frame: {said.label} with {said.score:.0%}, is {frame.label}")
    print(f"{len(network.classes)} classes, {right} of {frames} frames right")


if __name__ == "__main__":
    try:
        main(*sys.argv[1:3])
    except CflEdgeError as error:
        sys.exit(f"error: {error}")
