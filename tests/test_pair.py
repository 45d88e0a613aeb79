"""Both sides of an edit in one call: the same pictures as one after the other, for every sampler that draws noise."""

import pytest
import torch

from minidiff import cycle
from minidiff.classifier_free import Guided
from minidiff.conditioning import Condition
from minidiff.cycle import translate, translate_one
from minidiff.denoiser import Denoiser
from minidiff.generators import Identity, LatentDiffusion
from minidiff.nets.unet import UNet, UNetConfig
from minidiff.pair import Pair, pair
from minidiff.schedule import linear

SHAPE = (2, 4, 6)
SEEDS = torch.arange(3)


@pytest.fixture
def model():
    torch.manual_seed(0)
    net = UNet(UNetConfig(in_channels=2, channels=(32, 32), attention=(True, True), time=16, context=6))
    for weight in net.parameters():
        torch.nn.init.normal_(weight, std=0.1)
    return LatentDiffusion(
        Identity(None), Denoiser(net.eval().requires_grad_(False), linear()), SHAPE, steps=6, eta=0.5
    )


def told(model, seed, scale=1.0, interval=(0.0, 1.0), length=4):
    tokens, null = torch.randn(2, 3, length, 6, generator=torch.Generator().manual_seed(seed))
    return model.replace(denoiser=Guided(model.denoiser, Condition(tokens), Condition(null[:1]), scale, interval))


def images():
    return torch.randn(3, *SHAPE, generator=torch.Generator().manual_seed(5))


@pytest.mark.parametrize("sampler", ["ddim", "ddpm", "dpm++2m_sde", "euler_ancestral"])
@pytest.mark.parametrize(
    "scales", [(1.0, 1.0), (1.0, 3.0), (2.0, 1.0), (3.0, 2.0), (1.0, torch.tensor([1.0, 2.0, 3.0]))]
)
def test_as_one_after_the_other(model, sampler, scales):
    model = model.replace(sampler=sampler, eta=0.5) if sampler == "ddim" else model.replace(sampler=sampler)
    source, target = told(model, 1, scales[0]), told(model, 2, scales[1], interval=(0.2, 0.8), length=5)
    plain = translate_one(source, target, images(), SEEDS, "cyclediffusion", 0.0, "posterior")
    for fast in (False, "columns"):
        for batch in (3, 2):
            both = translate(source, target, images(), seeds=SEEDS, batch=batch, fast=fast)
            torch.testing.assert_close(both, plain, rtol=1e-4, atol=1e-4 * plain.abs().max().item())
    edit_friendly = translate_one(source, target, images(), SEEDS, "cyclediffusion", 0.0, "independent")
    both = translate(source, target, images(), seeds=SEEDS, trajectory="independent")
    torch.testing.assert_close(both, edit_friendly, rtol=1e-4, atol=1e-4 * edit_friendly.abs().max().item())


def test_one_call_a_step(model, monkeypatch):
    calls = []
    model.denoiser.net.register_forward_hook(lambda net, inputs, output: calls.append(len(inputs[0])))
    translate(told(model, 1), told(model, 2, 3.0), images(), seeds=SEEDS)
    assert calls == [9] * model.steps  # the source, the target and its null, for three pictures
    calls.clear()
    monkeypatch.setattr(cycle, "pair", lambda *sides: None)
    translate(told(model, 1), told(model, 2, 3.0), images(), seeds=SEEDS)
    assert calls == [3] * model.steps + [6] * model.steps


def test_only_sides_of_one_network_that_are_told_no_pictures(model):
    other = model.replace(denoiser=Denoiser(model.denoiser.net, linear()))
    assert isinstance(pair(told(model, 1), told(model, 2)).denoiser, Pair)
    assert pair(model, told(model, 2)) is None and pair(told(model, 1), told(other, 2)) is None
    drawn = Guided(model.denoiser, Condition(torch.randn(1, 4, 6), None, torch.randn(1, 3, 4, 6)))
    assert pair(told(model, 1), model.replace(denoiser=drawn)) is None


def test_an_unknown_trajectory_is_refused(model):
    with pytest.raises(ValueError, match="trajectory: expected one of posterior, independent, got 'straight'"):
        translate(told(model, 1), told(model, 2), images(), trajectory="straight")
