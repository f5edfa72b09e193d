"""Learn a folder that holds one subfolder per class, save the model, and ask it about the images.

Start it with a folder of your own, and a folder for the model:

    python examples/learn_from_folder.py photos/ runs/photos

Start it again to learn more. `cfl-edge learn --stream photos/ --labels-from dirs --order shuffled`
does the same, with checkpoints while it learns.
"""

import sys
from pathlib import Path

from cfl_edge import Learner, LearnerConfig, open_stream
from cfl_edge.errors import CflEdgeError
from cfl_edge.stream.options import StreamOptions


def main(
    folder: str = "photos/", model: str = "runs/photos", *, config: LearnerConfig | None = None
) -> None:
    """Learn the images in random order, save, and measure."""
    images = open_stream(folder, StreamOptions(order="shuffled"), on_notice=print)
    learner = Learner.load(model) if Path(model).exists() else Learner(config)
    for frame in images:
        learner.learn_one(frame.image, frame.label)
    learner.save(model)
    for name, count in learner.samples().items():
        print(f"learned {count} images of {name}")

    # These are images that it has seen: use another folder to learn what the model is worth.
    right = [
        learner.predict_one(frame.image).label == frame.label
        for frame in open_stream(folder, on_notice=print)
    ]
    print(f"accuracy {sum(right) / len(right):.0%} of {len(right)} images")


if __name__ == "__main__":
    try:
        main(*sys.argv[1:3])
    except CflEdgeError as error:
        sys.exit(f"error: {error}")
