"""The head that a configuration asks for."""

from __future__ import annotations

from cfl_edge.errors import UsageError
from cfl_edge.online.heads.class_means import IMPRINTING, NEAREST_MEAN, ClassMeansHead
from cfl_edge.online.heads.contrastive import ContrastiveHead
from cfl_edge.online.heads.head import Head, HeadInputs
from cfl_edge.online.heads.knn import NearestNeighboursHead
from cfl_edge.online.heads.slda import StreamingDiscriminantHead


def build_head(inputs: HeadInputs) -> Head:
    """Build the head that `LearnerConfig.head` names."""
    name = inputs.config.head
    if name == "slda":
        return StreamingDiscriminantHead(inputs)
    if name == "ncm":
        return ClassMeansHead(inputs, NEAREST_MEAN)
    if name == "imprint":
        return ClassMeansHead(inputs, IMPRINTING)
    if name == "knn":
        return NearestNeighboursHead(inputs)
    if name == "cfl":
        return ContrastiveHead(inputs)
    raise UsageError(f"--head is {name!r}, which is not built yet", hint="--head slda")
