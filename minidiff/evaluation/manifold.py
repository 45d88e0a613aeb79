"""Where two crowds lie: what of the drawn ones is realistic, and what of the real ones is ever drawn?

A crowd's manifold is the union of balls around its members, each out to its k-th nearest neighbour. Precision and recall:
Kynkaanniemi et al., "Improved precision and recall metric for assessing generative models" (NeurIPS 2019); density and
coverage, which one outlier cannot fool: Naeem et al., "Reliable fidelity and diversity metrics" (ICML 2020).
"""

import torch
from torch import Tensor

from minidiff.evaluation.intervals import Estimate, mean, share

K_PRECISION, K_DENSITY = 3, 5  # the papers' own


def radii(points: Tensor, k: int) -> Tensor:
    """The distance of each of points (N, D) to its k-th nearest other one, (N,). Raises ValueError unless 1 <= k < N."""
    if not 1 <= k < len(points):
        raise ValueError(f"k: expected from 1 to {len(points) - 1}, one less than the points, got {k}")
    return torch.cat([distances(rows, points).kthvalue(k + 1).values for rows in points.split(1000)])  # 1st: itself


def inside(points: Tensor, among: Tensor, radius: Tensor) -> Tensor:
    """In how many of the balls around `among` (M, D), of `radius` (M,), each of points (N, D) lies: (N,) long."""
    return torch.cat([(distances(rows, among) <= radius).sum(1) for rows in points.split(1000)])


def precision(real: Tensor, drawn: Tensor, k: int = K_PRECISION) -> Estimate:
    """The share of drawn features (M, D) on the manifold of real ones (N, D); with the two exchanged it is recall."""
    return share(inside(drawn, real, radii(real, k)) > 0)


def recall(real: Tensor, drawn: Tensor, k: int = K_PRECISION) -> Estimate:
    """The share of real features (N, D) on the manifold of drawn ones (M, D)."""
    return precision(drawn, real, k)


def density(real: Tensor, drawn: Tensor, k: int = K_DENSITY) -> Estimate:
    """In how many real balls a drawn one lies, divided by k: about 1 where both crowds are one, and not bounded by it."""
    return mean(inside(drawn, real, radii(real, k)).double() / k)


def coverage(real: Tensor, drawn: Tensor, k: int = K_DENSITY) -> Estimate:
    """The share of real ones with a drawn one in their ball; of two crowds of one kind see `expected_coverage`."""
    nearest = torch.cat([distances(rows, drawn).amin(1) for rows in real.split(1000)])
    return share(nearest <= radii(real, k))


def expected_coverage(n: int, m: int, k: int = K_DENSITY) -> float:
    """What `coverage` is on average for n real and m drawn ones of one distribution: 1 - (n-1)..(n-k) / (m+n-1)..(m+n-k)."""
    missed = 1.0
    for i in range(1, k + 1):
        missed *= (n - i) / (m + n - i)
    return 1 - missed


def spread(points: Tensor) -> float:
    """The mean distance between two of points (N, D); NaN for fewer than two."""
    n = len(points)
    return (
        sum(distances(rows, points).sum().item() for rows in points.split(1000)) / (n * (n - 1)) if n > 1 else torch.nan
    )


def distances(a: Tensor, b: Tensor) -> Tensor:
    """Euclidean, (N, M), exact where points coincide."""
    return torch.cdist(a.double(), b.double(), compute_mode="donot_use_mm_for_euclid_dist")
