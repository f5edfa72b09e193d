"""Rivals that `bench streams` runs beside the learners of `learn`.

They answer how far other ways would get. Nobody would teach a camera with them: `cfl` beats
`layer-bp` and `bp-replay`, which cost as much, `bp` and `last-layer-sgd` forget what does not come
again, `ncm` does what `imprint` does, `ranpac` cannot be exported, and a frame takes `bp-deep` tens
of times longer.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from cfl_edge.learners import LEARNERS, Declaration

_HERE = "cfl_edge.lab.learners"
_ROWS = "what the layers and the classifier weights of the other classes learned from it"
SLOW = "bp-deep"  # up to a second a frame: run where it is asked for by name

RIVALS: dict[str, Declaration] = {
    "imprint": Declaration(f"{_HERE}.imprinting:build", "nothing of it"),
    "last-layer-sgd": Declaration(
        f"{_HERE}.last_layer_sgd:LastLayer",
        "what the classifier weights of the other classes learned to be told from it",
    ),
    "bp": Declaration(f"{_HERE}.gradient:build_end_to_end", _ROWS, adapts_layers=True),
    "bp-replay": Declaration(
        f"{_HERE}.gradient:build_end_to_end", _ROWS, adapts_layers=True, replays=True
    ),
    "ranpac": Declaration(
        f"{_HERE}.ranpac:RandomProjection",
        "its share of the matrix that all classes share",
        covariance="read",
        exports=False,
    ),
    "layer-bp": Declaration(
        f"{_HERE}.gradient:build_layer_by_layer", _ROWS, adapts_layers=True, replays=True
    ),
    SLOW: Declaration(f"{_HERE}.deep:DeepBackpropagation", _ROWS, replays=True, exports=False),
}
MEASURED = {**LEARNERS, **RIVALS}


@contextmanager
def rivals() -> Iterator[None]:
    """Let `Learner` build the rivals as well, within the context.

    Example:
        >>> from cfl_edge.learner.config import LearnerConfig
        >>> with rivals():
        ...     LearnerConfig("ranpac").learner
        'ranpac'
    """
    LEARNERS.update(RIVALS)
    try:
        yield
    finally:
        for name in RIVALS:
            del LEARNERS[name]
