"""Precision, recall, density and coverage of crowds whose answers are known."""

import math

import pytest
import torch

from minidiff.evaluation.manifold import coverage, density, expected_coverage, precision, radii, recall, spread
from minidiff.seeds import normal


def crowd(seed, count=600, dim=4):
    return normal(torch.arange(count) + seed, (dim,), "crowd", torch.float64)


def test_on_a_line_by_hand():
    real, drawn = torch.tensor([[0.0], [1.0], [3.0], [10.0]]), torch.tensor([[0.5], [4.0], [30.0]])
    assert radii(real, 1).tolist() == [1, 1, 2, 7] and radii(real, 2).tolist() == [3, 2, 3, 9]
    assert precision(real, drawn, k=1).value == pytest.approx(2 / 3)  # 30 lies in no ball
    assert recall(real, drawn, k=1).value == 1  # the balls of drawn ones reach 3.5 and 26 far
    assert density(real, drawn, k=1).value == pytest.approx((2 + 2 + 0) / 3)
    assert coverage(real, drawn, k=1).value == 1
    assert coverage(real, drawn[2:], k=1).value == 0
    assert spread(drawn) == pytest.approx((3.5 + 26 + 29.5) / 3) and math.isnan(spread(drawn[:1]))


def test_of_one_crowd_with_itself():
    real = crowd(0)
    for measure in (precision, recall, coverage):
        assert measure(real, real).value == 1


def test_two_crowds_of_one_kind():
    real, drawn = crowd(0, 1500), crowd(50_000, 1500)
    assert density(real, drawn).value == pytest.approx(1, abs=0.08)
    assert coverage(real, drawn).value == pytest.approx(expected_coverage(1500, 1500), abs=0.02)
    assert expected_coverage(10**6, 10**6, 5) == pytest.approx(1 - 2**-5, abs=1e-4)
    assert expected_coverage(4, 2, 1) == pytest.approx(1 - 3 / 5)


def test_a_crowd_that_misses_half_is_precise_and_recalls_half():
    real = crowd(0)
    real[::2] += 20
    drawn = crowd(50_000)
    assert precision(real, drawn).value > 0.85
    assert recall(real, drawn).value < 0.5 and coverage(real, drawn).value < 0.52
    with pytest.raises(ValueError, match="k: expected from 1 to 1"):
        radii(real[:2], 2)
