"""How far samples would lie had they not been learned: leave-one-out distances in closed form.

A sample that was learned lies too near: with fewer samples than directions its own class mean and
covariance fit it almost exactly. Taking it out again changes the mean of its class and, by one
rank, the covariance; Sherman and Morrison 1950 give the distance without it from one factor.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from cfl_edge.core.class_statistics import ClassStatistics
from cfl_edge.core.factor import Factor

CHUNK = 1 << 22  # numbers of (n, Z, Z) products at a time: 32 MiB
LARGEST_LEVERAGE = 0.9999  # beyond it, a sample is all that is known of its direction


@dataclass(frozen=True, eq=False)
class _Without:
    """Products of N samples and Z class means, as if each sample had not been learned.

    With u = x - mu_y and A = Sigma^-1, the class mean without m copies of x is mu_y - r u with
    r = m / (n_y - m), and the covariance is Sigma - k u u^T with k = (1 - alpha) / n * n_y r,
    so that its inverse is A + q A u u^T A with q = k / (1 - k u^T A u). How far the covariance is
    shrunk, and to which scale, stays as it is. Samples and means are taken about the mean of the
    means.

    Args:
        g: Of sample and means, (N, Z).
        of_means: Of the means with each other, with all samples, (Z, Z).
        of_u: Of u and the means, by the inverse with all samples, (N, Z).
        along: Of u and the moved means, by the same, (N, Z).
        moved: By how much of u each mean moves, (N, Z).
        q: (N,).
    """

    g: Tensor
    of_means: Tensor
    of_u: Tensor
    along: Tensor
    moved: Tensor
    q: Tensor

    @classmethod
    def of(
        cls,
        factor: Factor,
        statistics: ClassStatistics,
        x: Tensor,
        labels: Tensor,
        copies: Tensor | float = 1.0,
    ) -> _Without:
        """Take each sample (N, C) and its copies, (N,), out; its class, (N,), has others."""
        known, counts = statistics.counts > 0, statistics.counts.double()
        places = torch.cumsum(known, dim=0) - 1  # of a class among those that have samples
        y = places[labels]
        means = statistics.means[known]
        means, centre = means - means.mean(dim=0), means.mean(dim=0)
        classes, each = len(means), torch.arange(len(y), device=x.device)
        u = x - centre - means[y]
        solved = factor.solve(means).T  # (C, Z)
        of_means = (means @ solved).double()  # (Z, Z)
        of_u = (u @ solved).double()
        length = factor.lengths(u)  # u^T A u, (N,)
        n = counts[known][y]
        r = copies / (n - copies)
        moved = (r / classes)[:, None].repeat(1, classes)
        moved[each, y] -= r
        k = (1 - factor.alpha) / factor.samples * n * r
        q = k / (1 - (k * length).clamp(max=LARGEST_LEVERAGE))
        along = of_u + moved * length[:, None]
        x_along = length + of_u[each, y] + r / classes * length  # of u and x
        g = of_u + of_means[y] + moved * (length + of_u[each, y])[:, None]
        g = g + (r / classes)[:, None] * along + (q * x_along)[:, None] * along
        return cls(g, of_means, of_u, along, moved, q)


@torch.no_grad()
def held_out_distances(
    factor: Factor,
    statistics: ClassStatistics,
    x: Tensor,
    labels: Tensor,
    copies: Tensor | None = None,
) -> Tensor:
    """Return relative Mahalanobis distances of learned samples as if each were not learned.

    The distance of `cfl_edge.core.discriminant`: with g the products of x and P those of the class
    means, both about their mean, min_z (P_zz - 2 g_z) + g^T (Z I + P)^-1 g.

    Args:
        factor: Of the statistics.
        statistics: Of Z classes, `x` among their samples.
        x: (N, C).
        labels: Class indices, (N,).
        copies: How often each was learned, (N,), as in several passes; None for once.

    Returns:
        float64 (N,), nan for a sample whose class has no other, or where rounding leaves nothing.
    """
    copies = torch.ones(len(x)) if copies is None else copies
    copies = copies.to(x.device, torch.float64)
    distances = torch.full((len(x),), torch.nan, dtype=torch.float64, device=x.device)
    others = statistics.counts[labels] > copies
    if not others.any():
        return distances
    without = _Without.of(factor, statistics, x[others], labels[others], copies[others])
    classes = len(without.of_means)
    eye = classes * torch.eye(classes, dtype=torch.float64, device=x.device)
    found = []
    for part in torch.split(torch.arange(len(without.g)), max(1, CHUNK // classes**2)):
        m, a, b = without.moved[part], without.of_u[part], without.along[part]
        p = without.of_means + m[:, :, None] * a[:, None] + b[:, :, None] * m[:, None]
        p = p + without.q[part, None, None] * b[:, :, None] * b[:, None]
        g = without.g[part]
        solved, singular = torch.linalg.solve_ex(eye + p, g)
        quadratic = (g * solved).sum(dim=1).masked_fill(singular != 0, torch.nan)
        found.append((p.diagonal(dim1=1, dim2=2) - 2 * g).amin(dim=1) + quadratic)
    distances[others] = torch.cat(found)
    return distances


@torch.no_grad()
def held_out_scores(
    factor: Factor, statistics: ClassStatistics, shares: Tensor, x: Tensor, labels: Tensor
) -> Tensor:
    """Return log likelihoods of all classes, up to what they share, as if x were not learned.

    s_z g_z - s_z^2 P_zz / 2, with the products of `held_out_distances`, and without what is taken
    off the length of a mean.

    Args:
        factor: Of the statistics.
        statistics: Of Z classes, `x` among their samples.
        shares: s, how far each class mean is shrunk (`ShrunkenMeans.shares`), (Z,).
        x: (N, C).
        labels: Class indices, (N,), of classes that have more than one sample.

    Returns:
        float64 (N, Z), 0 for a class without samples.
    """
    known = statistics.counts > 0
    without = _Without.of(factor, statistics, x, labels)
    lengths = without.of_means.diagonal() + without.moved * (without.of_u + without.along)
    lengths = lengths + without.q[:, None] * without.along.square()
    scores = torch.zeros(len(x), len(known), dtype=torch.float64, device=x.device)
    s = shares[known]
    scores[:, known] = s * without.g - s.square() * lengths / 2
    return scores
