"""Verification of individuals against counts by hand."""

import math

import pytest
import torch

from minidiff.data.critters import Critters
from minidiff.evaluation.identities import equal_error_rate, identity_report, pairs, true_rate, vectors, verification

SAME, DIFFERENT = torch.tensor([0.9, 0.3, 0.8, 0.7]), torch.tensor([0.5, 0.1, 0.75, 0.0, 0.2])


def test_error_rates_by_hand():
    """From 0.7 on: one of four true pairs is missed, one of five false ones accepted; no other threshold does better."""
    assert equal_error_rate(SAME, DIFFERENT) == pytest.approx(0.25)
    assert equal_error_rate(SAME + 1, DIFFERENT) == 0 and equal_error_rate(DIFFERENT - 9, SAME) == 1
    assert [true_rate(SAME, DIFFERENT, rate) for rate in (0.0, 0.2, 0.4, 0.6)] == [0.5, 0.75, 1.0, 1.0]


def test_the_equal_error_rate_of_two_gaussians():
    """Two means d apart with variance 1: the threshold lies between, and both err by Phi(-d / 2)."""
    draws = torch.randn(2, 40_000, generator=torch.Generator().manual_seed(0))
    expected = 0.5 * math.erfc(1 / math.sqrt(2))
    assert equal_error_rate(draws[0] + 2, draws[1]) == pytest.approx(expected, abs=4 * math.sqrt(expected / 40_000))


def test_every_pair_once():
    same, different = pairs(torch.eye(3)[[0, 1, 0, 2]], torch.tensor([7, 8, 7, 8]))
    assert same.tolist() == [1, 0] and different.tolist() == [0, 0, 0, 0]


def test_figures_and_what_cannot_be_judged():
    figures = verification(SAME, DIFFERENT)
    assert figures["median_cosine_of_one_individual"] == pytest.approx(0.7)  # of an even number, the lower one
    assert figures["median_cosine_of_two_individuals"] == pytest.approx(0.2)
    assert figures["true_rate_at_false_rate_0.01"] == 0.5
    with pytest.raises(ValueError, match="pairs: expected some of one individual and some of two, got 0 and 5"):
        verification(SAME[:0], DIFFERENT)
    with pytest.raises(ValueError, match=r"false_rate: expected a number in \[0, 1\), got 1"):
        true_rate(SAME, DIFFERENT, 1)


def test_the_report_looks_at_all_pictures_clear_and_rough(tiny_load):
    network, pictures = tiny_load("critters-identity"), Critters(length=12, size=32, individuals=3)
    clear, rough = vectors(network, pictures), vectors(network, pictures, rough=True)
    torch.testing.assert_close(vectors(network, pictures, batch=5), clear)
    torch.testing.assert_close(vectors(network, pictures, batch=5, rough=True), rough)
    assert (clear - rough).abs().max() > 1e-4
    report, who = identity_report(network, pictures), pictures.factors(slice(12)).individual
    assert report["equal_error_rate"] == pytest.approx(equal_error_rate(*pairs(clear, who)))
    assert report["equal_error_rate_of_rough_pictures"] == pytest.approx(equal_error_rate(*pairs(rough, who)))
    assert (report["individuals"], report["pictures"]) == (3, 12)
