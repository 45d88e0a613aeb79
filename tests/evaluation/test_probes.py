"""What the probes are asked for, and how their answers are marked."""

import pytest
import torch

from minidiff.data.critters import Critters
from minidiff.data.factors import HATS
from minidiff.evaluation import probes
from minidiff.nets.probe import Probe


def test_targets_are_the_factors():
    critters = Critters("all", seed=1, size=32)
    targets = probes.targets_of(critters, torch.arange(6))
    factors = critters.factors(torch.arange(6))
    assert set(targets) == {*probes.NUMBERS, *probes.COLOURS, *probes.CLASSES}
    assert torch.equal(targets["tilt"], factors.tilt)
    assert torch.equal(targets["glasses"], factors.glasses.long())
    assert targets["coat"].shape == (6, 3)


def test_the_colour_of_a_hat_is_asked_only_where_there_is_one():
    factors = Critters("cat", seed=1, rates={"hat": 0.5}).factors(slice(0, 40))
    asked = probes.critters_targets(factors)["hat_colour"]
    assert ((asked > 0) == factors.hat).all() and 0 < (asked > 0).sum() < 40
    red = factors.replace(hat=True, hat_colour=HATS["red"])
    assert (probes.critters_targets(red)["hat_colour"] == 1 + list(HATS).index("red")).all()


def test_perfect_and_useless_answers():
    truth = {"x": torch.arange(10.0), "coat": torch.rand(10, 3), "hat": torch.tensor([0, 1] * 5)}
    assert probes.compare(truth, truth) == pytest.approx(
        {"x.r": 1, "x.r2": 1, "coat.r": 1, "coat.r2": 1, "hat.accuracy": 1}, abs=1e-5
    )
    mean = {"x": truth["x"].mean().expand(10), "hat": torch.zeros(10, dtype=torch.long)}
    figures = probes.compare(mean, truth)
    assert figures["x.r2"] == pytest.approx(0, abs=1e-6)
    assert figures["hat.accuracy"] == 0.5


def test_report_reads_every_picture_whatever_the_batch():
    critters, probe = Critters("all", length=12, seed=2, size=32), Probe(probes.critters_config(32))
    figures = probes.probe_report(probe, critters, batch=5)
    assert {"species.accuracy", "gaze_x.r", "background.r2"} <= figures.keys()
    wanted = probes.compare(probe.read(critters[:]), probes.targets_of(critters, torch.arange(12)))
    assert figures == pytest.approx(wanted, abs=1e-4, nan_ok=True)


def test_read_all_does_not_depend_on_the_batch():
    probe, images = Probe(probes.critters_config(32)), Critters("all", seed=2, size=32)[:7]
    one, other = probes.read_all(probe, images, batch=3), probes.read_all(probe, images)
    assert one["features"].shape == (7, 64)
    for name in one:
        assert torch.allclose(one[name].float(), other[name].float(), atol=1e-5), name
