"""The equations of the predictive forward-forward algorithm: states, goodness, local updates.

Ororbia and Mali 2023, "The Predictive Forward-Forward Algorithm" (arXiv 2301.01452), in the form of
the published code where it differs from the paper. S samples, J units below, I units above. No
function sends anything through more than one matrix, and the derivative of a ReLU is taken as 1.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

NORM_EPS = 1e-8  # of the published code
CLIP = 1.0  # largest entry of an update, of the published code


def normalised(state: Tensor) -> Tensor:
    """Scale each sample to length 1, so that no goodness is handed on; zeros stay zeros.

    Args:
        state: (S, I).

    Example:
        >>> normalised(torch.tensor([[3., 4.], [0., 0.]]))
        tensor([[0.6000, 0.8000],
                [0.0000, 0.0000]])
    """
    return F.normalize(state, dim=1, eps=NORM_EPS)


def competition(state: Tensor, lateral: Tensor) -> Tensor:
    """Return what each unit takes from the others of its group, and gives itself.

    Within a group of E units that is z ReLU(M), with -ReLU(M) at i = j: a unit excites itself.

    Args:
        state: z, (S, I).
        lateral: M, one square matrix a group, (I / E, E, E).

    Returns:
        (S, I), to be subtracted from what drives the units.
    """
    groups = state.view(len(state), *lateral.shape[:2]).transpose(0, 1)  # (I / E, S, E)
    return (groups @ (lateral.relu() * _sign(lateral))).transpose(0, 1).reshape(state.shape)


def next_state(state: Tensor, drive: Tensor, keep: float) -> Tensor:
    """Mix the old state with the rectified drive: keep z + (1 - keep) ReLU(drive).

    Args:
        state: z of the step before, (S, I).
        drive: Bottom-up plus top-down minus lateral plus bias and noise, (S, I).
        keep: alpha; 0 forgets the old state.
    """
    return torch.lerp(drive.relu(), state, keep)


def goodness(state: Tensor) -> Tensor:
    """Sum the squares of each sample's units: (S,). Right labels have little of it here."""
    return state.square().sum(dim=1)


def goodness_loss(state: Tensor, positive: Tensor, threshold: float) -> Tensor:
    """Cross entropy of sigmoid(theta - goodness) as the probability that a sample is positive.

    The published code has the sign flipped against Hinton (2022): positives learn to be quiet.

    Args:
        state: z, (S, I).
        positive: 1 for images with their label, 0 for those with a wrong one, (S,).
        threshold: theta.

    Returns:
        (S,).

    Example:
        >>> quiet, loud = torch.zeros(1, 4), 3 * torch.ones(1, 4)
        >>> goodness_loss(quiet, torch.ones(1), 3.0) < goodness_loss(loud, torch.ones(1), 3.0)
        tensor([True])
    """
    logit = threshold - goodness(state)
    return F.binary_cross_entropy_with_logits(logit, positive, reduction="none")


def goodness_delta(state: Tensor, positive: Tensor, threshold: float, keep: float) -> Tensor:
    """Return the derivative of the mean goodness loss by the drive of `next_state`.

    The derivative of the ReLU is taken as 1: a unit whose drive is negative but whose old state is
    not yet gone still learns.

    Args:
        state: z after the step, (S, I).
        positive: As in `goodness_loss`, (S,).
        threshold: theta.
        keep: alpha.

    Returns:
        (S, I).
    """
    surplus = positive - (threshold - goodness(state)).sigmoid()  # (S,)
    return state * (2 * (1 - keep) / len(state) * surplus)[:, None]


def synapse_update(below: Tensor, delta: Tensor) -> Tensor:
    """Return the gradient of a matrix from what stands on its two sides: below^T delta, clipped.

    Args:
        below: What the matrix was multiplied with, (S, J).
        delta: Derivative by the product, (S, I).
    """
    product = (below.T @ delta).to(below.dtype)  # with autocast, of half the precision
    return product.clamp_(-CLIP, CLIP)


def lateral_update(state: Tensor, delta: Tensor, lateral: Tensor) -> Tensor:
    """Return the gradient of M: of `competition`, which was subtracted from the drive; clipped.

    Args:
        state: z of the step before, (S, I).
        delta: Derivative by the drive, (S, I).
        lateral: M, (I / E, E, E); an entry below 0 is without effect and does not learn.
    """
    groups = (len(state), *lateral.shape[:2])
    below = state.view(groups).permute(1, 2, 0)  # (I / E, E, S)
    product = below @ delta.view(groups).transpose(0, 1)  # (I / E, E, E)
    return (-product * _sign(lateral) * (lateral > 0)).clamp_(-CLIP, CLIP)


def prediction_delta(prediction: Tensor, state: Tensor) -> Tensor:
    """Return the derivative of the squared error, summed over units, mean over samples.

    Args:
        prediction: What the generative circuit expects of the layer, (S, I).
        state: What the layer's state is, (S, I); it is not changed by the error.
    """
    return (prediction - state) * (2 / len(state))


def _sign(lateral: Tensor) -> Tensor:
    """Return -1 on the diagonal, (E, E), and 1 elsewhere."""
    return 1 - 2 * torch.eye(lateral.shape[-1], device=lateral.device, dtype=lateral.dtype)
