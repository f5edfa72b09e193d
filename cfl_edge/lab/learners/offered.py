"""Rivals that `bench streams` runs beside the learners of `learn`.

They answer how far other ways would get; nobody would teach a camera with them: none can be
exported but `layer-bp`, which `cfl` beats, and a frame takes `bp-deep` tens of times longer.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from cfl_edge.learners import LEARNERS, Declaration

_HERE = "cfl_edge.lab.learners"
_ROWS = "what layers and classifier weights learned from it"
SLOW = "bp-deep"  # up to a second a frame: run where it is asked for by name

RIVALS: dict[str, Declaration] = {
    "ranpac": Declaration(
        f"{_HERE}.ranpac:build",
        "its share of the matrix that all classes share",
        covariance="read",
        exports=False,
    ),
    "layer-bp": Declaration(f"{_HERE}.layer_by_layer:build", _ROWS, step="layer", replays=True),
    SLOW: Declaration(f"{_HERE}.deep:build", _ROWS, replays=True, exports=False),
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
