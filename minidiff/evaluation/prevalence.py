"""How many are there really, when the judge errs? A rate corrected for the judge's misses and false alarms.

Of p members a judge finds q = p s + (1 - p)(1 - c), with s (sensitivity) and c (specificity) counted on pictures whose truth
is known; solved for p: Rogan & Gladen, "Estimating prevalence from the results of a screening test", American Journal of
Epidemiology 1978. The interval, which knows that q, s and c are all counts: Lang & Reiczigel, "Confidence limits for
prevalence of disease adjusted for estimated sensitivity and specificity", Preventive Veterinary Medicine 2014.
"""

import math
from typing import NamedTuple

from minidiff.evaluation.intervals import Estimate, Z


class Count(NamedTuple):
    """hits of n."""

    hits: int
    n: int


def corrected(found: Count, caught: Count, spared: Count) -> Estimate:
    """The share of members, within [0, 1], with its 95 % interval.

    found: read as members among those in question; caught: among true members (sensitivity); spared: read as others among
    true others (specificity). NaN where the judge tells members and others apart no better than chance.
    Raises ValueError for counts that are none.
    """
    for name, (hits, n) in {"found": found, "caught": caught, "spared": spared}.items():
        if not 0 <= hits <= n or n == 0:
            raise ValueError(f"{name}: expected hits from 0 to n, of n > 0, got {hits} of {n}")
    s, c = caught.hits / caught.n, spared.hits / spared.n
    if s + c <= 1:
        return Estimate(math.nan, None, found.n)
    value = min(1.0, max(0.0, (found.hits / found.n + c - 1) / (s + c - 1)))
    q, n = (found.hits + Z**2 / 2) / (found.n + Z**2), found.n + Z**2
    s, n_s = (caught.hits + 1) / (caught.n + 2), caught.n + 2
    c, n_c = (spared.hits + 1) / (spared.n + 2), spared.n + 2
    if s + c <= 1:
        return Estimate(value, None, found.n)
    p, var_s, var_c = (q + c - 1) / (s + c - 1), s * (1 - s) / n_s, c * (1 - c) / n_c
    half = Z * math.sqrt(q * (1 - q) / n + p**2 * var_s + (1 - p) ** 2 * var_c) / (s + c - 1)
    middle = p + 2 * Z**2 * (p * var_s - (1 - p) * var_c)
    low, high = (min(1.0, max(0.0, edge)) for edge in (middle - half, middle + half))
    return Estimate(value, (min(low, value), max(high, value)), found.n)
