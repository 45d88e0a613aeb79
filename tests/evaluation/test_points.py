"""Operating points: what they cost, and that running one is the package's own `translate`."""

import pytest
import torch

from minidiff.cycle import translate
from minidiff.data.critters import Critters
from minidiff.evaluation.studies.points import Point, points, run_all, work


def test_every_method_at_every_strength():
    chosen = points((0.5, 1.0), (0.1, 1.0), (1.0,))
    assert len(chosen) == 2 * 2 + 2 + 2
    assert {point.eta for point in chosen if point.method == "ddib"} == {0.0}
    assert chosen[0].path == "cyclediffusion/strength 0.5/eta 0.1"
    refined = points((0.5, 1.0), (0.1,), (1.0,), refines=(0.0, 0.1))
    assert {point.method for point in refined if point.refine} == {"cyclediffusion", "ddib"}
    assert refined[2].path == "cyclediffusion/strength 0.5/eta 0.1/refine 0.1" and refined[2].calls(50) == 55
    assert chosen[0].title == "CycleDiffusion, strength 0.5, eta 0.1"


@pytest.mark.parametrize(
    "method, eta, refine",
    [("cyclediffusion", 0.5, 0.0), ("cyclediffusion", 0.5, 0.25), ("sdedit", 1.0, 0), ("ddib", 0.0, 0)],
)
def test_running_a_point_is_translate_and_counts_its_calls(tiny_load, method, eta, refine):
    cat, dog = tiny_load("critters-cat"), tiny_load("critters-doggy")
    images, point = Critters("cat", seed=2, size=32)[:3], Point(method, 0.75, eta, refine)
    ((_, outcome),) = run_all(cat, dog, images, [point], steps=4, batch=2)
    wanted = translate(cat, dog, images, method, strength=0.75, eta=eta, refine=refine, steps=4).clamp(-1, 1)
    assert torch.allclose(outcome.images, wanted, atol=1e-5)
    assert outcome.calls == point.calls(4) == (3 if method == "sdedit" else 6) + (1 if refine else 0)
    assert outcome.seconds > 0
    assert not cat.denoiser._forward_hooks


def test_refinements_share_the_work_before_them(tiny_load):
    cat, dog = tiny_load("critters-cat"), tiny_load("critters-doggy")
    chosen, calls = points((0.5, 1.0), (0.1, 1.0), (1.0,), refines=(0.0, 0.25, 0.5)), []
    outcomes = dict(run_all(cat, dog, Critters("cat", seed=2, size=32)[:2], chosen, steps=4, done=calls.append))
    assert sum(calls) == 2 * work(chosen, 4) < 2 * sum(point.calls(4) for point in chosen)
    assert all(outcome.calls == point.calls(4) for point, outcome in outcomes.items())
    refined, plain = (Point("cyclediffusion", 1.0, 0.1, refine) for refine in (0.5, 0.0))
    assert outcomes[refined].seconds > outcomes[plain].seconds
