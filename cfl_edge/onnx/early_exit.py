"""Prediction that stops at the first layer that is sure. ONNX Runtime and onnx; no torch.

The file is cut into stages, one for each source of features in the order of computing. After each,
the sum of the scores so far is asked whether the best class leads the second by a margin.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import numpy.typing as npt

from cfl_edge.errors import ModelError, UsageError
from cfl_edge.onnx.exits import ExitTable
from cfl_edge.onnx.metadata import LABEL_EMBEDDINGS
from cfl_edge.onnx.sources import source_tensors
from cfl_edge.onnx.stages import cut_graph

if TYPE_CHECKING:
    import onnxruntime

Scores = npt.NDArray[np.float32]

WHOLE = "whole network"  # the exit at its end


class Reached(NamedTuple):
    """The scores of one image after a stage.

    Args:
        scores: (Z,), logits.
        margin: Of `margin_of` them.
        seconds: Processor time of the stage in this thread.
    """

    scores: Scores
    margin: float
    seconds: float


def check_margin(margin: float | None, reject: float | None) -> None:
    """Refuse what `--early-exit` cannot be.

    Raises:
        UsageError: It is no share, or goes with `--reject`.

    Example:
        >>> check_margin(1.5, None)
        Traceback (most recent call last):
        cfl_edge.errors.UsageError: --early-exit is 1.5, expected 0 to 1
          try: --early-exit 0.5
    """
    if margin is None:
        return
    if not 0 <= margin <= 1:  # also when it is NaN
        raise UsageError(f"--early-exit is {margin:g}, expected 0 to 1", hint="--early-exit 0.5")
    if reject is not None:
        raise UsageError(
            f"--early-exit {margin:g} with --reject {reject:g}: how far an image lies from all "
            "classes is only known after the last layer",
            hint="leave one of the two away",
        )


def margin_of(scores: Scores) -> float:
    """Return how far the most probable class leads the second, 0 to 1.

    Park et al., "Big/Little Deep Neural Network for Ultra Low Power Inference", 2015, decide by it
    whether a small network's answer stands. Entropy (Teerapittayanon et al., "BranchyNet", 2016)
    and the largest probability (Huang et al., "Multi-Scale Dense Networks", 2018) are the others
    in use; of two classes all three say the same.

    Args:
        scores: (Z,), logits.

    Example:
        >>> margin_of(np.log(np.array([0.7, 0.1, 0.2])))
        0.5
    """
    if len(scores) < 2:
        return 1.0
    odds = np.exp(scores - scores.max())
    second, first = np.partition(odds, -2)[-2:]
    return float((first - second) / odds.sum())


class Stages:
    """A file as stages, each in a session of its own.

    Args:
        path: The file.
        table: Of its sources.
        open_session: Makes a session of a serialised model.

    Attributes:
        names: Of the exits in the order of computing, the whole network last.

    Raises:
        ModelError: The file's graph and table are not of one another.
    """

    def __init__(
        self,
        path: Path,
        table: ExitTable,
        open_session: Callable[[bytes], onnxruntime.InferenceSession],
    ) -> None:
        import onnx
        from onnx import numpy_helper

        model = onnx.load(path, load_external_data=False)
        tensors = source_tensors(model.graph)
        (embeddings,) = [
            numpy_helper.to_array(tensor)
            for tensor in model.graph.initializer
            if tensor.name == LABEL_EMBEDDINGS
        ]
        if len(tensors) != len(table.names) or len(embeddings) != sum(table.channels) + 1:
            raise ModelError(
                f"{path} joins {len(tensors)} sources of {len(embeddings)} features, its metadata "
                f"promises {len(table.names)} of {sum(table.channels) + 1}",
                hint=f"cfl-edge export DIR -o {path.parent}",
            )
        rows = table.rows(embeddings)
        early = table.order[:-1]
        self._tensors = [tensors[number] for number in early]
        self._rows = [(rows[number], table.biases[number]) for number in early]
        self._sources = len(table.names)
        self.names = (*(table.names[number] for number in early), WHOLE)
        self._input = model.graph.input[0].name
        parts = cut_graph(model, [*self._tensors, model.graph.output[0].name])
        self._sessions = [open_session(part.SerializeToString()) for part in parts]
        self._reads = [[node.name for node in one.get_inputs()] for one in self._sessions]
        self._writes = [[node.name for node in one.get_outputs()] for one in self._sessions]

    def run(self, image: npt.NDArray[np.uint8], margin: float) -> list[Reached]:
        """Return what each stage says, up to the one that is sure, or to the end.

        The sources seen so far stand for all: their summed scores are multiplied by the number of
        all over the number of those seen, without which an early sum is never sure.

        Args:
            image: uint8 RGB, (1, size_px, size_px, 3).
            margin: Of the probabilities, 0 to 1, that a stage must reach to be the last; 1 takes
                all of them.
        """
        known: dict[str, npt.NDArray[np.generic]] = {self._input: np.ascontiguousarray(image)}
        summed = np.float32(0)
        reached: list[Reached] = []
        for number, session in enumerate(self._sessions):
            start_s = time.thread_time()
            found = session.run(None, {name: known[name] for name in self._reads[number]})
            known.update(zip(self._writes[number], found, strict=True))
            if number < len(self._rows):
                rows, bias = self._rows[number]
                summed = summed + found[0][0] @ rows + bias
                scores = summed * np.float32(self._sources / (number + 1))  # (Z,)
            else:
                scores = found[0][0]
            sure = margin_of(scores)
            reached.append(Reached(scores, sure, time.thread_time() - start_s))
            if margin < 1 and sure >= margin:
                break
        return reached
