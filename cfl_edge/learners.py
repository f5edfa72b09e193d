"""Every learner, and what others must know of it without building it; torch-free.

A new learner is a module with an `Algorithm`, and an entry here (`docs/learners.md`).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from cfl_edge.errors import UsageError

_HERE = "cfl_edge.learner.algorithms"
_COVARIANCE = "its share of the covariance that all classes share"


@dataclass(frozen=True)
class Merged:
    """How models of several boards become one.

    Args:
        learner: Of the merged model.
        sums: What the names of the statistics that add up begin with.
        needs_backbone: Whether they do so on a backbone alone.
    """

    learner: str
    sums: str
    needs_backbone: bool = False


@dataclass(frozen=True)
class Declaration:
    """What a learner does, needs and leaves behind.

    Args:
        build: `module:name` of the `Algorithm`, or of a function that returns it.
        adapts_layers: Whether layers on the backbone learn.
        replays: Whether it stores past samples.
        covariance: Which covariance it solves: none, that of the backbone's pooled features, or
            that of its joint features (without a backbone that of the layers).
        probable: Whether the softmax of its scores is a probability. That of most is near 1 whether
            right or wrong, so that it says nothing against a label.
        exports: Whether its scores are one matrix product, which an ONNX file can hold.
        what_stays: What a removed class leaves behind.
        pooled_scale: How it reads the backbone's pooled features by default, see `scale_pooled`.
        layer_power: Power of the layers' features that predictions read by default, see `Network`.
        merges: How models are merged; None where the weights do not follow from sums over samples.
    """

    build: str
    what_stays: str
    adapts_layers: bool = False
    replays: bool = False
    covariance: Literal["none", "read", "joint"] = "none"
    probable: bool = False
    exports: bool = True
    pooled_scale: Literal["raw", "unit"] = "raw"
    layer_power: float = 1.0
    merges: Merged | None = None


LEARNERS: dict[str, Declaration] = {
    "cfl": Declaration(
        f"{_HERE}.contrastive:ContrastiveAlgorithm",
        f"{_COVARIANCE}, and what the layers and the other classes learned from it",
        adapts_layers=True,
        replays=True,
        covariance="joint",
        probable=True,
        pooled_scale="unit",
        layer_power=0.7,  # DECISIONS.md, "Power of the layers' features"
        merges=Merged("joint", "joint.", needs_backbone=True),
    ),
    "joint": Declaration(
        f"{_HERE}.joint:JointAlgorithm",
        _COVARIANCE,
        covariance="joint",
        probable=True,
        pooled_scale="unit",
        merges=Merged("joint", "joint."),
    ),
    "slda": Declaration(
        f"{_HERE}.slda:StreamingDiscriminant",
        _COVARIANCE,
        covariance="read",
        merges=Merged("slda", "statistics.0."),
    ),
    "ncm": Declaration(
        f"{_HERE}.class_means:ClassMeans", "nothing of it", merges=Merged("ncm", "statistics.0.")
    ),
    "knn": Declaration(
        f"{_HERE}.knn:NearestNeighbours", "nothing of it", replays=True, exports=False
    ),
}


def declaration(name: str) -> Declaration:
    """Return what is declared of a learner.

    Raises:
        UsageError: There is none of this name.

    Example:
        >>> declaration("slda").what_stays
        'its share of the covariance that all classes share'
    """
    if name not in LEARNERS:
        raise UsageError(
            f"--learner is {name!r}, expected one of {', '.join(LEARNERS)}", hint="--learner cfl"
        )
    return LEARNERS[name]
