"""Prediction summed over layers: one matrix of label embeddings for all features together.

Each source of features (the backbone's pooled features, the backbone's intermediate features, every
layer) gives label embeddings in closed form, whose scores are log likelihoods. Their sum treats the
sources as independent. Sum and dot product commute, so the result is one row per class on the
concatenated features.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from cfl_edge.core.class_statistics import NEVER, ClassStatistics

TEMPERATURE = 0.07
"""Makes the summed log likelihoods probabilities.

The sources are not independent, and a covariance from few samples is too sure of itself: without it
the largest probability of a sample is near 1 whether right or wrong (DECISIONS.md, "Probability").
"""


def combine(sources: Sequence[ClassStatistics]) -> Tensor:
    """Compute the label embeddings on the concatenation of all sources' features and a constant 1.

    Args:
        sources: Statistics of each source, all of the same Z classes.

    Returns:
        (Z, C_1 + C_2 + … + 1). A class without samples gets a bias that rules it out.
    """
    known = torch.stack([source.counts > 0 for source in sources]).all(dim=0)
    rows = [source.embeddings() for source in sources]  # (Z, C_r + 1) each
    weights = torch.cat([block[:, :-1] for block in rows], dim=1)
    bias = torch.stack([block[:, -1] for block in rows]).sum(dim=0)
    combined = torch.cat([weights, bias[:, None]], dim=1)
    if known.any():  # what all classes share says nothing about the class
        combined = TEMPERATURE * (combined - combined[known].mean(dim=0))
    combined[~known] = 0
    combined[~known, -1] = NEVER
    return combined
