"""Marks of results that are known beforehand: the truth itself, the source itself, and answers made by hand."""

import pytest
import torch

from minidiff.data.critters import Critters, render
from minidiff.evaluation.intervals import Estimate
from minidiff.evaluation.studies.compare import choose
from minidiff.evaluation.studies.marks import FACTORS, CritterMarker, Mark, brightness, crowd_marks
from minidiff.evaluation.studies.points import Point


class Oracle:
    """A probe that knows the answers: what the factors say, whatever the picture."""

    def __init__(self, factors, **changes):
        self.factors, self.changes, self.mean = factors, changes, torch.zeros(1)

    def features(self, images):
        return images.flatten(1)[:, :8]

    def heads(self, features):
        return features, {}

    def answers(self, *_):
        return self.factors.tensors() | self.changes


@pytest.fixture
def scene():
    critters = Critters("cat", length=12, seed=2, size=16, rates={"glasses": 0.5, "hat": 0.5})
    factors = critters.factors(slice(None))
    return critters[:], factors, render(factors.replace(species="dog"), 16)


def marker(scene, **answers):
    images, factors, truth = scene
    probe = Oracle(factors.replace(species="dog"), **answers)
    return CritterMarker(images, factors, truth, truth.flatten(1)[:, :8], probe, target=1, seed=2)


def test_the_true_dogs_get_full_marks(scene):
    marks = {name: mark.estimate.value for name, mark in marker(scene).mark(scene[2]).items()}
    assert marks["success"] == marks["accessories"] == marks["kept"] == marks["pattern"] == 1
    assert marks["invented"] == 0
    assert all(marks[name] == pytest.approx(1) for name in FACTORS)
    assert marks["psnr_truth"] == float("inf")
    assert marks["frechet"] == pytest.approx(0, abs=1e-6)
    assert 5 < marks["psnr_source"] < 40


def test_the_verdict_is_part_of_the_marks(scene):
    judge = marker(scene)
    verdict, marks = judge.verdict(scene[0]), judge.mark(scene[0])
    assert set(verdict) == {judge.success, judge.criterion}
    assert all(marks[name] == mark for name, mark in verdict.items())


def test_a_world_without_hats_agrees_often_and_keeps_none(scene):
    factors, nobody = scene[1], torch.zeros(12, dtype=torch.long)
    marks = marker(scene, glasses=nobody, hat=nobody).mark(scene[0])
    bare = ~(factors.glasses | factors.hat)
    assert marks["accessories"].estimate.value == pytest.approx(bare.float().mean().item())
    assert marks["kept"].estimate.value == 0
    assert marks["kept"].estimate.n == int(factors.glasses.sum() + factors.hat.sum())


def test_gaze_is_the_mean_of_two_correlations(scene):
    factors = scene[1]
    marks = marker(scene, gaze_x=-factors.gaze_x).mark(scene[0])
    assert marks["gaze"].estimate.value == pytest.approx(0, abs=1e-6)
    assert marks["tilt"].estimate.value == pytest.approx(1)


def test_distances_do_not_depend_on_the_unit_of_the_features():
    crowd, other = torch.randn(50, 4, generator=torch.Generator().manual_seed(0)), torch.randn(30, 4) + 1
    near, far = crowd_marks(other, crowd), crowd_marks(1000 * other, 1000 * crowd)
    for name in ("frechet", "kernel"):
        assert near[name].estimate.value == pytest.approx(far[name].estimate.value, rel=1e-3)


def test_brightness_ignores_the_background():
    shoe = torch.full((2, 1, 8, 8), -1.0)
    shoe[0, :, :2], shoe[1, :, :7] = 0.0, 0.0
    assert brightness(shoe).tolist() == pytest.approx([0.5, 0.5])


def test_a_method_chooses_among_the_settings_that_qualify():
    def marks(success, nearness):
        return {name: Mark(Estimate(v, None, 9), "") for name, v in (("success", success), ("near", nearness))}

    weak, good, far = (Point("sdedit", strength, 1.0) for strength in (0.3, 0.5, 0.8))
    hopeless = Point("ddib", 0.3, 0.0), Point("ddib", 0.5, 0.0)
    tuning = {weak: marks(0.9, 30), good: marks(0.99, 20), far: marks(1.0, 15)}
    tuning |= {hopeless[0]: marks(0.4, 10), hopeless[1]: marks(0.4, 30)}
    assert choose(tuning, "success", "near", 0.98) == {"sdedit": good, "ddib": hopeless[1]}
