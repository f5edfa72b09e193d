"""Learn a folder that holds one subfolder per class, then ask the model about it.

Start it with a folder of your own, and the folder that the model is to live in:

    python examples/learn_from_folder.py photos/ runs/photos

It does what `cfl-edge learn` and `cfl-edge evaluate` do. A second start goes on learning.
"""

import sys
from pathlib import Path
from typing import Any

from cfl_edge.config import EvaluateSettings, load_settings
from cfl_edge.errors import CflEdgeError
from cfl_edge.loop.evaluate import evaluate
from cfl_edge.loop.learn import learn


def main(stream: str = "photos/", model: str = "runs/photos", **options: Any) -> None:
    """Learn and evaluate.

    Args:
        stream: Address of the folder.
        model: The model folder.
        options: More settings of `cfl_edge.config.LearnSettings`.
    """
    settings = load_settings(
        None,
        stream=stream,
        model=Path(model),
        labels_from="dirs",
        order="shuffled",
        export=False,
        **options,
    )
    learned = learn(settings, on_notice=print)
    for name, frames in learned.samples.items():
        print(f"learned {frames} images of {name}")

    # On the images it has seen: give `evaluate` another folder to know what it is worth.
    confusion = evaluate(
        EvaluateSettings(model=settings.model, data=stream), on_notice=print
    ).confusion
    print(f"accuracy {confusion.accuracy:.0%} of {confusion.samples} images")


if __name__ == "__main__":
    try:
        main(*sys.argv[1:3])
    except CflEdgeError as error:
        sys.exit(f"error: {error}")
