"""Intervals against published numbers, against scipy, and by how often they cover the truth."""

import math

import pytest
import torch

from minidiff.evaluation import intervals
from minidiff.seeds import normal, uniform


def test_wilson_agrees_with_scipy():
    stats = pytest.importorskip("scipy.stats")
    for successes, n in ((0, 10), (3, 10), (498, 500), (500, 500)):
        wanted = stats.binomtest(successes, n).proportion_ci(method="wilson")
        assert intervals.wilson(successes, n).interval == pytest.approx((wanted.low, wanted.high), abs=1e-6)


def test_pearson_agrees_with_scipy():
    stats = pytest.importorskip("scipy.stats")
    a = normal(torch.arange(60), (), "a", torch.float64)
    b = 0.6 * a + normal(torch.arange(60), (), "b", torch.float64)
    wanted = stats.pearsonr(a.numpy(), b.numpy())
    ours = intervals.correlation(a, b)
    assert ours.value == pytest.approx(wanted.statistic)
    assert ours.interval == pytest.approx(tuple(wanted.confidence_interval(0.95)), abs=1e-6)


def test_correlation_of_colours_is_the_mean_over_channels():
    a = normal(torch.arange(50), (3,), "a")
    b = torch.stack([a[:, 0], -a[:, 1], a[:, 2]], dim=1)
    assert intervals.correlation(a, b).value == pytest.approx(1 / 3, abs=1e-6)


def test_mean_covers_the_truth_19_times_in_20():
    covered = 0
    for i in range(400):
        low, high = intervals.mean(uniform(torch.arange(50) + 1000 * i, (), "u")).interval
        covered += low < 0.5 < high
    assert 0.91 < covered / 400 < 0.98


def test_what_has_no_interval_says_so():
    assert intervals.mean(torch.tensor([3.0])) == (3.0, None, 1)
    assert intervals.mean(torch.tensor([math.inf, 1.0])).interval is None
    assert math.isnan(intervals.share(torch.zeros(0, dtype=torch.bool)).value)
    assert math.isnan(intervals.correlation(torch.ones(5), torch.arange(5.0)).value)
    exact = intervals.correlation(torch.arange(8.0), torch.arange(8.0))
    assert exact.value == pytest.approx(1)
    with pytest.raises(ValueError, match="successes"):
        intervals.wilson(3, 2)
