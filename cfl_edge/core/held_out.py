"""How far samples would lie had they not been learned: leave-one-out distances in closed form.

A sample that was learned lies too near: with fewer samples than directions its own class mean and
covariance fit it almost exactly. Taking it out again changes the mean of its class and, by one
rank, the covariance; Sherman and Morrison 1950 give the distance without it from one factor.
"""

from __future__ import annotations

import torch
from torch import Tensor

from cfl_edge.core.class_statistics import ClassStatistics
from cfl_edge.core.factor import Factor

CHUNK = 1 << 22  # numbers of (n, Z, Z) products at a time: 32 MiB
LARGEST_LEVERAGE = 0.9999  # beyond it, a sample is all that is known of its direction


@torch.no_grad()
def held_out_distances(
    factor: Factor, statistics: ClassStatistics, x: Tensor, labels: Tensor
) -> Tensor:
    """Return relative Mahalanobis distances of learned samples as if each were not learned.

    With u = x - mu_y and A = Sigma^-1, the class mean without x is mu_y - u / (n_y - 1), and the
    covariance is Sigma - k u u^T with k = (1 - alpha) / n * n_y / (n_y - 1), so that its inverse is
    A + q A u u^T A with q = k / (1 - k u^T A u). What follows is the distance of
    `cfl_edge.core.discriminant` by these: with g the products of x and P those of the class means,
    both about their mean, min_z (P_zz - 2 g_z) + g^T (Z I + P)^-1 g. How far the covariance is
    shrunk, and to which scale, stays as it is.

    Args:
        factor: Of the statistics.
        statistics: Of Z classes, `x` among their samples.
        x: (N, C).
        labels: Class indices, (N,).

    Returns:
        float64 (N,), nan for a sample whose class has no other.
    """
    known, counts = statistics.counts > 0, statistics.counts.double()
    distances = torch.full((len(x),), torch.nan, dtype=torch.float64, device=x.device)
    others = counts[labels] >= 2
    if not others.any():
        return distances
    places = torch.cumsum(known, dim=0) - 1  # of a class among those that have samples
    y = places[labels[others]]
    means = statistics.means[known]
    means, centre = means - means.mean(dim=0), means.mean(dim=0)
    classes, each = len(means), torch.arange(len(y), device=x.device)
    u = x[others] - centre - means[y]
    solved = factor.solve(means).T  # (C, Z)
    of_means = (means @ solved).double()  # P, (Z, Z)
    of_u = (u @ solved).double()  # products of u and the class means, (N, Z)
    length = factor.lengths(u)  # u^T A u, (N,)
    n = counts[known][y]
    r = 1 / (n - 1)
    moved = (r / classes)[:, None].repeat(1, classes)  # by how much of u each mean moves, (N, Z)
    moved[each, y] -= r
    k = (1 - factor.alpha) / factor.samples * n * r
    q = k / (1 - (k * length).clamp(max=LARGEST_LEVERAGE))
    along = of_u + moved * length[:, None]  # products of u and the moved means
    x_along = length + of_u[each, y] + r / classes * length  # and of u and x
    g = of_u + of_means[y] + moved * (length + of_u[each, y])[:, None]
    g = g + (r / classes)[:, None] * along + (q * x_along)[:, None] * along
    eye = classes * torch.eye(classes, dtype=torch.float64, device=x.device)
    found = []
    for part in torch.split(each, max(1, CHUNK // classes**2)):
        m, a, b = moved[part], of_u[part], along[part]
        p = of_means + m[:, :, None] * a[:, None] + b[:, :, None] * m[:, None]
        p = p + q[part, None, None] * b[:, :, None] * b[:, None]
        quadratic = (g[part] * torch.linalg.solve(eye + p, g[part])).sum(dim=1)
        found.append((p.diagonal(dim1=1, dim2=2) - 2 * g[part]).amin(dim=1) + quadratic)
    distances[others] = torch.cat(found)
    return distances
