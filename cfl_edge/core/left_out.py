"""What samples would be taken for had their whole run not been learned: in closed form.

The frames of a camera resemble their neighbours. Left out alone, a frame with a wrong label is
still vouched for by the frames before and after it, which have the same wrong label; so a run of
them is left out together. A ridge regression on the labels gives what remains without it: with the
hat matrix H = K (K + lambda I)^-1 the residuals of a run r that was left out are
(I - H_rr)^-1 (Y_r - (H Y)_r) (Allen, "The relationship between variable selection and data
augmentation and a method for prediction", 1974, for a single sample).
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

RIDGE = 1.0  # times the mean square of a centred sample: DECISIONS.md, "Possibly mislabelled"
ALIKE = 0.5  # cosine of two neighbours, centred, of one run; frames of one hold have 0.97 and more


@torch.no_grad()
def runs_of(x: Tensor, labels: Tensor) -> Tensor:
    """Return which run each sample is of: neighbours that are alike and have one label.

    Args:
        x: In the order in which they came, (N, C).
        labels: Class indices, (N,).

    Returns:
        int64 (N,), from 0 on.

    Example:
        >>> x = torch.tensor([[1.0, 0.0], [1.1, 0.0], [-1.0, 0.1], [-1.0, 0.0]])
        >>> runs_of(x, torch.tensor([0, 0, 0, 1]))
        tensor([0, 0, 1, 2])
    """
    directions = F.normalize(x - x.mean(dim=0), dim=1)
    alike = (directions[1:] * directions[:-1]).sum(dim=1) > ALIKE
    begins = ~alike | (labels[1:] != labels[:-1])
    return F.pad(begins.long().cumsum(dim=0), (1, 0))


@torch.no_grad()
def left_out_shares(x: Tensor, labels: Tensor, runs: Tensor, classes: int) -> Tensor:
    """Return how much of each class a sample has, as if its run had not been learned.

    Args:
        x: (N, C).
        labels: Class indices, (N,).
        runs: Which run each is of, (N,).
        classes: Z.

    Returns:
        float64 (N, Z): near 1 for the class that it is of, near 0 for others.
    """
    x = x - x.mean(dim=0)
    products = (x @ x.T).double()  # (N, N)
    scale = products.diagonal().mean().clamp(min=torch.finfo(torch.float32).tiny)
    products += scale  # a constant beside the features, so that classes need not be balanced
    eye = torch.eye(len(x), dtype=torch.float64, device=x.device)
    hat = torch.linalg.solve(products + RIDGE * scale * eye, products)
    targets = F.one_hot(labels, classes).double()  # (N, Z)
    residuals, shares = targets - hat @ targets, torch.empty_like(targets)
    for run in torch.unique(runs):
        i = (runs == run).nonzero().flatten()
        inner = eye[: len(i), : len(i)] - hat[i][:, i]
        shares[i] = targets[i] - torch.linalg.solve(inner, residuals[i])
    return shares
