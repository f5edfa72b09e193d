"""What `run --early-exit` wins and costs: one pass over labelled images, a table of margins."""

from __future__ import annotations

import time
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import numpy as np
import numpy.typing as npt

from cfl_edge.errors import DataError
from cfl_edge.onnx.inference import OnnxModel
from cfl_edge.preprocess import to_model_input
from cfl_edge.stream.open import open_stream
from cfl_edge.stream.source import Notice, log_notice

MARGINS = (0.0, 0.3, 0.5, 0.7, 0.8, 0.9, 0.95, 1.0)
IMAGES = 1000  # an image takes milliseconds, twice


@dataclass(frozen=True, slots=True)
class MarginRow:
    """What comes of one margin.

    Args:
        margin: Of the two best probabilities.
        exits: Share of the images that stop at each exit, 0 to 1.
        accuracy: Fraction right, 0 to 1.
        agreement: Fraction answered as by the whole network.
        time_ratio: Time of an image over that of the whole network in one piece: medians of the
            stages, weighed with the shares.
    """

    margin: float
    exits: dict[str, float]
    accuracy: float
    agreement: float
    time_ratio: float


@dataclass(frozen=True, slots=True)
class ExitBench:
    """Everything measured.

    Args:
        samples: Labelled images.
        accuracy: Of the whole network, 0 to 1.
        whole_ms: Median processor time of the whole network in one piece, one thread.
        stage_ms: Median time of each stage.
        exit_accuracy: Fraction right if every image stopped there.
        rows: One a margin.
    """

    samples: int
    accuracy: float
    whole_ms: float
    stage_ms: dict[str, float]
    exit_accuracy: dict[str, float]
    rows: list[MarginRow]


def bench_exits(
    model: Path, data: str, *, max_frames: int = IMAGES, on_notice: Notice = log_notice
) -> ExitBench:
    """Let every stage and the whole network answer labelled images, in turn, with one thread.

    Args:
        model: An exported file.
        data: Folder with one subfolder per class, or another stream with labels.
        max_frames: At most so many images, spread over all where their number is known.
        on_notice: Called with what the user should know.

    Raises:
        ModelError: The file cannot be used, or does not know its layers one by one.
        StreamError: No such folder.
        DataError: Not one image in it has a label.
    """
    network = OnnxModel(model, threads=1, early_exit=1.0)
    numbers = {name: number for number, name in enumerate(network.classes)}
    truth, answers, margins, seconds, whole_s, foreign = [], [], [], [], [], set()
    with open_stream(data, on_notice=on_notice) as stream:
        total = stream.total
        every = -(-total // max_frames) if total else 1
        for frame in islice(stream, 0, every * max_frames, every):
            if frame.label is None:
                continue
            if frame.label not in numbers:
                foreign.add(frame.label)
            picture = to_model_input(frame.image, network.size_px)
            start_s = time.thread_time()
            network.scores(picture[None])
            whole_s.append(time.thread_time() - start_s)
            reached = network.stages(picture)
            truth.append(numbers.get(frame.label, -1))
            answers.append([int(stage.scores.argmax()) for stage in reached])
            margins.append([stage.margin for stage in reached])
            seconds.append([stage.seconds for stage in reached])
    if not truth:
        raise DataError(
            f"{data} holds no image with a label, expected one subfolder per class",
            hint=f"ls {data}",
        )
    if foreign:
        on_notice(f"the model does not know {', '.join(sorted(foreign))}: these count as wrong")
    right = np.array(answers) == np.array(truth)[:, None]  # (N, exits)
    stage_s = np.median(np.array(seconds), axis=0)
    whole = float(np.median(whole_s))
    names = network.exits
    return ExitBench(
        samples=len(truth),
        accuracy=float(right[:, -1].mean()),
        whole_ms=1e3 * whole,
        stage_ms=dict(zip(names, (1e3 * stage_s).tolist(), strict=True)),
        exit_accuracy=dict(zip(names, right.mean(axis=0).tolist(), strict=True)),
        rows=[
            margin_row(margin, names, np.array(margins), np.array(answers), right, stage_s / whole)
            for margin in MARGINS
        ],
    )


def margin_row(
    margin: float,
    names: tuple[str, ...],
    margins: npt.NDArray[np.float64],
    answers: npt.NDArray[np.int64],
    right: npt.NDArray[np.bool_],
    times: npt.NDArray[np.float64],
) -> MarginRow:
    """Say what comes of one margin.

    Args:
        margin: 0 to 1; 1 never stops early.
        names: Of E exits.
        margins: Of each image at each exit, (N, E).
        answers: Class numbers, (N, E).
        right: Which of them are, (N, E).
        times: Of each stage, over that of the whole network, (E,).

    Example:
        >>> row = margin_row(
        ...     0.5, ("a", "b"), np.array([[0.6, 0.9], [0.4, 0.9]]), np.array([[0, 1], [1, 1]]),
        ...     np.array([[False, True], [True, True]]), np.array([0.5, 0.7]),
        ... )
        >>> row.exits, row.accuracy, row.time_ratio
        ({'a': 0.5, 'b': 0.5}, 0.5, 0.85)
    """
    images, exits = margins.shape
    stops = (margins >= margin) & (margin < 1)  # (N, E)
    stops[:, -1] = True
    place = stops.argmax(axis=1)  # (N,): the first
    rows = np.arange(images)
    shares = np.bincount(place, minlength=exits) / images
    return MarginRow(
        margin=margin,
        exits=dict(zip(names, shares.tolist(), strict=True)),
        accuracy=float(right[rows, place].mean()),
        agreement=float((answers[rows, place] == answers[:, -1]).mean()),
        time_ratio=float(shares @ np.cumsum(times)) if margin < 1 else 1.0,  # 1: in one piece
    )
