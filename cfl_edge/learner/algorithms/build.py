"""The algorithm that a configuration asks for."""

from __future__ import annotations

from collections.abc import Callable

from cfl_edge.learner.algorithms.algorithm import Algorithm, AlgorithmInputs
from cfl_edge.learner.algorithms.backpropagation import END_TO_END, LAYER_BY_LAYER
from cfl_edge.learner.algorithms.class_means import IMPRINTING, NEAREST_MEAN, ClassMeansAlgorithm
from cfl_edge.learner.algorithms.contrastive import ContrastiveAlgorithm
from cfl_edge.learner.algorithms.gradient import GradientAlgorithm
from cfl_edge.learner.algorithms.knn import NearestNeighboursAlgorithm
from cfl_edge.learner.algorithms.last_layer_sgd import LastLayerAlgorithm
from cfl_edge.learner.algorithms.slda import StreamingDiscriminantAlgorithm

BUILDERS: dict[str, Callable[[AlgorithmInputs], Algorithm]] = {
    "cfl": ContrastiveAlgorithm,
    "slda": StreamingDiscriminantAlgorithm,
    "ncm": lambda inputs: ClassMeansAlgorithm(inputs, NEAREST_MEAN),
    "imprint": lambda inputs: ClassMeansAlgorithm(inputs, IMPRINTING),
    "knn": NearestNeighboursAlgorithm,
    "last-layer-sgd": LastLayerAlgorithm,
    "bp": lambda inputs: GradientAlgorithm(inputs, END_TO_END, replays=False),
    "bp-replay": lambda inputs: GradientAlgorithm(inputs, END_TO_END, replays=True),
    "layer-bp": lambda inputs: GradientAlgorithm(inputs, LAYER_BY_LAYER, replays=True),
}


def build_algorithm(inputs: AlgorithmInputs) -> Algorithm:
    """Build the algorithm that `LearnerConfig.learner` names."""
    return BUILDERS[inputs.config.learner](inputs)
