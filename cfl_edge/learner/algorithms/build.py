"""The head that a configuration asks for."""

from __future__ import annotations

from collections.abc import Callable

from cfl_edge.learner.algorithms.algorithm import Head, HeadInputs
from cfl_edge.learner.algorithms.backpropagation import END_TO_END, LAYER_BY_LAYER
from cfl_edge.learner.algorithms.class_means import IMPRINTING, NEAREST_MEAN, ClassMeansHead
from cfl_edge.learner.algorithms.contrastive import ContrastiveHead
from cfl_edge.learner.algorithms.gradient import GradientHead
from cfl_edge.learner.algorithms.knn import NearestNeighboursHead
from cfl_edge.learner.algorithms.last_layer_sgd import LastLayerHead
from cfl_edge.learner.algorithms.slda import StreamingDiscriminantHead

BUILDERS: dict[str, Callable[[HeadInputs], Head]] = {
    "cfl": ContrastiveHead,
    "slda": StreamingDiscriminantHead,
    "ncm": lambda inputs: ClassMeansHead(inputs, NEAREST_MEAN),
    "imprint": lambda inputs: ClassMeansHead(inputs, IMPRINTING),
    "knn": NearestNeighboursHead,
    "last-layer-sgd": LastLayerHead,
    "bp": lambda inputs: GradientHead(inputs, END_TO_END, replays=False),
    "bp-replay": lambda inputs: GradientHead(inputs, END_TO_END, replays=True),
    "layer-bp": lambda inputs: GradientHead(inputs, LAYER_BY_LAYER, replays=True),
}


def build_head(inputs: HeadInputs) -> Head:
    """Build the head that `LearnerConfig.head` names."""
    return BUILDERS[inputs.config.head](inputs)
