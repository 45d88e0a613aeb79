"""A corrected rate against the perfect judge, against its own definition, and by how often it covers the truth."""

import math

import pytest
import torch

from minidiff.evaluation.intervals import wilson
from minidiff.evaluation.prevalence import Count, corrected


def test_a_perfect_judge_needs_no_correction():
    estimate, plain = corrected(Count(20, 1000), Count(10**7, 10**7), Count(10**7, 10**7)), wilson(20, 1000)
    assert estimate.value == pytest.approx(plain.value) and estimate.n == 1000
    assert estimate.interval == pytest.approx(plain.interval, abs=5e-4)


def test_false_alarms_are_taken_off_and_misses_made_up_for():
    p, s, c = 0.1, 0.9, 0.98
    found = round(100_000 * (p * s + (1 - p) * (1 - c)))
    estimate = corrected(Count(found, 100_000), Count(900, 1000), Count(980, 1000))
    assert estimate.value == pytest.approx(p, abs=1e-4)
    unsure = corrected(Count(found, 100_000), Count(90, 100), Count(98, 100))
    low, high = estimate.interval
    assert unsure.interval[1] - unsure.interval[0] > 2 * (high - low)  # what is not known of the judge counts


def test_nothing_but_false_alarms_is_nothing():
    estimate = corrected(Count(36, 1000), Count(950, 1000), Count(960, 1000))
    assert estimate.value == 0 == estimate.interval[0] < estimate.interval[1] < 0.05


def test_a_judge_who_guesses_says_nothing():
    assert math.isnan(corrected(Count(5, 10), Count(1, 10), Count(9, 10)).value)
    with pytest.raises(ValueError, match="caught: expected hits from 0 to n, of n > 0, got 0 of 0"):
        corrected(Count(5, 10), Count(0, 0), Count(9, 10))


def test_the_interval_covers_the_truth():
    torch.manual_seed(0)
    p, s, c, trials = 0.02, 0.93, 0.995, 400
    q = p * s + (1 - p) * (1 - c)
    hits = {q: 5000, s: 1000, c: 5000}
    draws = {rate: torch.distributions.Binomial(n, torch.tensor(rate)).sample((trials,)) for rate, n in hits.items()}
    covered = 0
    for found, caught, spared in zip(*(draws[rate].int().tolist() for rate in (q, s, c))):
        low, high = corrected(Count(found, 5000), Count(caught, 1000), Count(spared, 5000)).interval
        covered += low <= p <= high
    assert 0.92 <= covered / trials <= 0.99
