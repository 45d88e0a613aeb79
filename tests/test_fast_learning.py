"""Convolutions that learn by Winograd's products: torch's own are the truth, in value and in two orders of gradients."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from minidiff.fast import learning
from minidiff.fast.learning import convolution, quick_layers
from minidiff.nets.unet import UNet, UNetConfig


@pytest.mark.parametrize("side", learning.SIDES)
def test_values_and_gradients_are_those_of_a_convolution(side):
    torch.manual_seed(0)
    x, weight, bias = torch.randn(3, 5, side, side), torch.randn(7, 5, 3, 3), torch.randn(7)
    slope, found = torch.randn(3, 7, side, side), []
    for function in (convolution, lambda *parts: F.conv2d(*parts, padding=1)):
        parts = [part.clone().requires_grad_() for part in (x, weight, bias)]
        y = function(*parts)
        first = torch.autograd.grad(y, parts, slope, create_graph=True)
        second = torch.autograd.grad(sum(each.square().sum() for each in first), parts[:2])
        found.append((y, *first, *second))
    for ours, truth in zip(*found, strict=True):
        assert (ours - truth).abs().max() < 1e-4 * truth.abs().max()


def test_a_network_is_taught_the_same_and_left_as_it_was(monkeypatch):
    torch.manual_seed(0)
    net = UNet(UNetConfig(in_channels=4, channels=(64, 96), attention=(False, True), time=32))
    for weight in net.parameters():
        nn.init.normal_(weight, std=0.05)
    x, t, called = torch.randn(2, 4, 8, 8), torch.tensor([3, 500]), []
    monkeypatch.setattr(learning, "convolution", lambda *parts: called.append(1) or convolution(*parts))
    plain = net(x, t)
    slopes = torch.autograd.grad(plain.square().sum(), list(net.parameters()))
    assert not called
    with quick_layers(net):
        quick = net(x, t)
        assert len(called) == 10 and set(net.state_dict()) == set(UNet(net.config).state_dict())
        for ours, truth in zip(torch.autograd.grad(quick.square().sum(), list(net.parameters())), slopes):
            assert (ours - truth).abs().max() < 2e-4 * truth.abs().max() + 1e-4
        net(torch.randn(1, 4, 12, 16), t[:1])  # sides that it does not take
        net.double()(x.double(), t)
        assert len(called) == 10
    net.float()(x, t)
    assert len(called) == 10
    torch.testing.assert_close(quick, plain, rtol=1e-3, atol=1e-4)
