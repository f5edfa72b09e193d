"""Prediction summed over sources: one matrix of label embeddings for all features together.

The joint features of the backbone and every layer give label embeddings in closed form, whose
scores are log likelihoods. Their sum treats the sources as independent. Sum and dot product
commute, so the result is one row per class on the concatenated features.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import final

import torch
import torch.nn.functional as F
from torch import Tensor

from cfl_edge.core.class_statistics import silenced

SCALE = 0.2
"""Makes log likelihoods of features that are not Gaussian probabilities, with endless samples.

With fewer, the covariance takes what it has seen for more certain than it is: `Factor.certainty`
times this is the factor (DECISIONS.md, "Probability").
"""


@final
class Readout:
    """One row of label embeddings for each class, on the features of all sources and a constant 1.

    Args:
        width: F.
        device: Where it lives.

    Attributes:
        matrix: Scaled, (Z, F). A class that is not known has a bias that rules it out.
        scale: As given to `renew` last.

    Example:
        >>> readout, known = Readout(2), torch.tensor([True, True])
        >>> readout.renew(torch.tensor([[2.0, 1.0], [0.0, 1.0]]), [], known, scale=0.1)
        >>> readout.matrix
        tensor([[ 0.1000,  0.0000],
                [-0.1000,  0.0000]])
        >>> readout.renew_some(torch.tensor([[4.0, 1.0]]), torch.tensor([0]), [], known)
        >>> readout.matrix[0]
        tensor([0.3000, 0.0000])
    """

    def __init__(self, width: int, device: torch.device | str = "cpu") -> None:
        self.matrix = torch.zeros(0, width, device=device)
        self._shared: Tensor | None = None  # (F,), of the last renewal; None for a loaded matrix
        self._bias = torch.zeros(0, device=device)  # of the first source, (Z,)
        self.scale = 1.0

    @property
    def is_renewed(self) -> bool:
        """Whether some rows can be renewed."""
        return self._shared is not None

    def renew(
        self, first: Tensor, others: Sequence[Tensor], known: Tensor, *, scale: float
    ) -> None:
        """Put the label embeddings of all sources together.

        Args:
            first: Of the first source, on its features and a constant 1, (Z, C_1 + 1).
            others: Of the other sources, each (Z, C_r + 1).
            known: Which classes have samples in all of them, bool (Z,).
            scale: Makes the summed log likelihoods probabilities.
        """
        self.scale = scale
        self._bias = first[:, -1].clone()
        bias = torch.stack([block[:, -1] for block in (first, *others)]).sum(dim=0)
        weights = [block[:, :-1] for block in (first, *others)]
        joined = torch.cat([*weights, bias[:, None]], dim=1)
        self._shared = (
            joined[known].mean(dim=0) if known.any() else joined.new_zeros(joined.shape[1])
        )
        joined -= self._shared  # what all classes share says nothing about the class
        joined *= scale
        self.matrix = silenced(joined, known)

    def renew_some(
        self, first: Tensor, places: Tensor, others: Sequence[Tensor], known: Tensor
    ) -> None:
        """Renew some rows of the first source, about what was shared before, and the others' whole.

        Args:
            first: Of some classes, (K, C_1 + 1).
            places: Which classes these are, (K,).
            others: As in `renew`.
            known: As in `renew`.
        """
        assert self._shared is not None
        width = first.shape[1] - 1
        self._bias = F.pad(self._bias, (0, len(known) - len(self._bias)))
        self._bias[places] = first[:, -1]
        self.matrix[places, :width] = self.scale * (first[:, :-1] - self._shared[:width])
        bias = self._bias.clone()
        for block in others:
            end = width + block.shape[1] - 1
            apart = block[:, :-1] - self._shared[width:end]
            self.matrix[:, width:end] = self.scale * apart
            bias += block[:, -1]
            width = end
        self.matrix[:, -1] = self.scale * (bias - self._shared[-1])
        self.matrix = silenced(self.matrix, known)
