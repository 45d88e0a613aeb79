import pytest
import torch

from minidiff.nets.perceptual import perceptual, unit
from minidiff.nets.probe import Probe, ProbeConfig


@pytest.fixture
def probe():
    torch.manual_seed(0)
    return Probe(ProbeConfig(size=32, patch=2, widths=(16, 24, 32), numbers={"x": 1})).requires_grad_(False)


def test_two_layers_by_hand():
    """Vectors (3, 4) and (4, 3) become (0.6, 0.8) and (0.8, 0.6): 0.08 apart, wherever they differ."""

    def maps(images):
        return [images, 100 * images[..., :1]]  # loudness does not count

    a, b = torch.tensor([3.0, 4.0]), torch.tensor([4.0, 3.0])
    first = torch.stack([torch.stack([a, a], -1), torch.stack([a, a], -1)])[:, :, None]  # (2, 2, 1, 2)
    second = torch.stack([torch.stack([a, b], -1), torch.stack([b, a], -1)])[:, :, None]
    expected = [0.5 * 0.08, 0.5 * 0.08 + 0.08]  # the second layer sees the first column alone
    assert perceptual(maps, first, second).tolist() == pytest.approx(expected, rel=1e-5)


def test_zero_at_equality_and_symmetric(probe):
    a, b = torch.rand(2, 3, 3, 32, 32) * 2 - 1
    assert perceptual(probe.maps, a, a).tolist() == [0, 0, 0]
    assert torch.allclose(perceptual(probe.maps, a, b), perceptual(probe.maps, b, a))
    assert perceptual(probe.maps, a, b).min() > 0.01


def test_a_gradient_even_where_maps_are_zero():
    flat = torch.zeros(1, 2, 4, 4, requires_grad=True)
    perceptual(lambda images: [images.relu(), images], flat, torch.ones(1, 2, 4, 4)).sum().backward()
    assert flat.grad.isfinite().all()
    assert torch.allclose(unit(torch.randn(2, 8, 3, 5)).square().sum(1), torch.ones(2, 3, 5))


def test_maps_of_the_probe_are_those_on_the_way_to_its_answer(probe):
    images = torch.rand(2, 3, 32, 32, requires_grad=True)
    maps = probe.maps(images)
    assert [tuple(part.shape) for part in maps] == [(2, 16, 16, 16), (2, 24, 8, 8), (2, 32, 4, 4)]
    last = torch.nn.functional.silu(maps[-1]).flatten(1)
    assert torch.equal(probe.penultimate(last), probe.features(images))
    assert [part.shape[2:] for part in probe.maps(torch.rand(1, 3, 16, 64))] == [(8, 32), (4, 16), (2, 8)]
    perceptual(probe.maps, images, torch.zeros(2, 3, 32, 32)).sum().backward()
    assert images.grad.abs().max() > 0 and all(weight.grad is None for weight in probe.parameters())
