"""Weight imprinting on frozen features: a class is the direction of the mean of its features."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor

from cfl_edge.learner.algorithms.algorithm import Algorithm, AlgorithmInputs
from cfl_edge.learner.algorithms.class_means import ClassMeans, RunningMeans

# Makes the probabilities as sure as they are right: least cross entropy on CIFAR-10. The cosine
# alone would say nearly the same of all classes.
SCALE = 32.0


def imprinted_rows(running: RunningMeans) -> Tensor:
    """Score by the cosine with the class's weight, a mean of normalised features normalised again.

    Qi, Brown, Lowe, "Low-Shot Learning with Imprinted Weights", 2018, Eq. 4 to 6. A sample's own
    length changes no prediction: in its place stands the root mean square length of all samples,
    so that the score is one dot product.

    Returns:
        (Z, C + 1), a bias of 0.
    """
    scale = SCALE / running.mean_square() ** 0.5
    return F.pad(scale * F.normalize(running.means, dim=1), (0, 1))


def build(inputs: AlgorithmInputs) -> Algorithm:
    """Build `imprint`."""
    return ClassMeans(inputs, imprinted_rows, F.normalize)
