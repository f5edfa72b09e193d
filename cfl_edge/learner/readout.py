"""Prediction summed over sources: one matrix of label embeddings for all features together.

The joint features of the backbone and every layer give label embeddings in closed form, whose
scores are log likelihoods. Their sum treats the sources as independent. Sum and dot product
commute, so the result is one row per class on the concatenated features.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from cfl_edge.core.factor import NEVER

TEMPERATURE = 0.07
"""Makes the summed log likelihoods probabilities.

The sources are not independent, and a covariance from few samples is too sure of itself: without it
the largest probability of a sample is near 1 whether right or wrong (DECISIONS.md, "Probability").
"""


def combine(blocks: Sequence[Tensor], known: Tensor) -> Tensor:
    """Put the label embeddings of all sources together.

    Args:
        blocks: Of each source, on its features and a constant 1, (Z, C_r + 1).
        known: Which classes have samples in all of them, bool (Z,).

    Returns:
        (Z, C_1 + C_2 + … + 1), tempered. A class that is not known gets a bias that rules it out.

    Example:
        >>> combine([torch.tensor([[2.0, 1.0], [0.0, 1.0]])], torch.tensor([True, True]))
        tensor([[ 0.0700,  0.0000],
                [-0.0700,  0.0000]])
    """
    weights = torch.cat([block[:, :-1] for block in blocks], dim=1)
    bias = torch.stack([block[:, -1] for block in blocks]).sum(dim=0)
    combined = torch.cat([weights, bias[:, None]], dim=1)
    if known.any():  # what all classes share says nothing about the class
        combined = TEMPERATURE * (combined - combined[known].mean(dim=0))
    combined[~known] = 0
    combined[~known, -1] = NEVER
    return combined
