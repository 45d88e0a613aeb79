"""No figure without its doubt: means, shares and correlations, each with its 95 % interval.

Shares: Wilson, JASA 1927, which stays inside [0, 1] at the ends; correlations: Fisher, Metron 1921 (z = artanh r).
"""

import math
from typing import NamedTuple

from torch import Tensor

from minidiff.evaluation.probes import columns_correlation

Z = 1.959964  # the normal quantile of 95 %


class Estimate(NamedTuple):
    """A measured value, its 95 % interval (None where there is none) and the number of pictures behind it."""

    value: float
    interval: tuple[float, float] | None
    n: int


def mean(values: Tensor) -> Estimate:
    """The mean of values (B,), by the normal approximation."""
    value, n = values.double().mean().item(), len(values)
    if n < 2 or not math.isfinite(value):
        return Estimate(value, None, n)
    half = Z * values.double().std().item() / math.sqrt(n)
    return Estimate(value, (value - half, value + half), n)


def share(hits: Tensor) -> Estimate:
    """How often a bool tensor (B,) is true; NaN when there was nothing to count."""
    n = hits.numel()
    return wilson(int(hits.sum()), n)


def wilson(successes: int, n: int) -> Estimate:
    """successes / n with Wilson's score interval."""
    if not 0 <= successes <= n:
        raise ValueError(f"successes: expected 0 to n = {n}, got {successes}")
    if n == 0:
        return Estimate(math.nan, None, 0)
    p, shrink = successes / n, 1 + Z**2 / n
    centre = (p + Z**2 / (2 * n)) / shrink
    half = Z * math.sqrt(p * (1 - p) / n + Z**2 / (4 * n**2)) / shrink
    return Estimate(p, (max(0.0, centre - half), min(1.0, centre + half)), n)


def correlation(a: Tensor, b: Tensor) -> Estimate:
    """Pearson's r of a and b, (B,) or (B, D): the mean over columns, with the interval of one column of that r.

    NaN where a column does not vary at all.
    """
    if a.shape != b.shape:
        raise ValueError(f"a, b: expected one shape, got {tuple(a.shape)} and {tuple(b.shape)}")
    a, b = (value.double().reshape(len(value), -1) for value in (a, b))
    r, n = columns_correlation(a, b).mean().item(), len(a)
    if n < 4 or not abs(r) < 1:  # z has no finite spread there
        return Estimate(r, None, n)
    z, half = math.atanh(r), Z / math.sqrt(n - 3)
    return Estimate(r, (math.tanh(z - half), math.tanh(z + half)), n)
