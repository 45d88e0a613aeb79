"""Layers that learn by the products of the fast path: torch's own are the truth, in value and in two orders of gradients."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from minidiff.fast import learning
from minidiff.fast.gradients import Attention, Convolution, Norm, columns, winograd
from minidiff.fast.learning import pictures, pixels, quick_layers
from minidiff.nets.pyramid import to_picture, to_vector
from minidiff.nets.unet import UNet, UNetConfig


def orders(function, parts, slope):
    """A function's value, the gradients of its parts, and what these change by."""
    parts = [part.clone().requires_grad_() for part in parts]
    y = function(*parts)
    first = torch.autograd.grad(y, parts, slope.to(y.dtype), create_graph=True)
    second = torch.autograd.grad(sum(each.square().sum() for each in first), parts, allow_unused=True)
    return [y, *first, *(each for each in second if each is not None)]


def assert_same(ours, truth):
    for one, other in zip(ours, truth, strict=True):
        assert (one - other).abs().max() < 1e-4 * other.abs().max()


@pytest.mark.parametrize("shape", [(4, 4), (8, 8), (7, 5), (16, 12), (1, 3)])
@pytest.mark.parametrize(("form", "stride"), [(winograd, 1), (columns, 1), (columns, 2)])
def test_values_and_gradients_are_those_of_a_convolution(form, stride, shape):
    torch.manual_seed(0)
    parts = torch.randn(3, 5, *shape), torch.randn(7, 5, 3, 3), torch.randn(7)
    truth = F.conv2d(*(part.double() for part in parts), padding=1, stride=stride)
    slope = torch.randn_like(truth)
    exact = orders(lambda *p: F.conv2d(*p, padding=1, stride=stride), [part.double() for part in parts], slope)
    ours = orders(lambda x, w, b: pictures(Convolution.apply(pixels(x), w, b, form, stride)), parts, slope)
    assert_same(ours, exact)


@pytest.mark.parametrize("silu", [True, False])
@pytest.mark.parametrize("own", [True, False])
def test_values_and_gradients_are_those_of_a_norm(silu, own):
    """`own`: each item has a scale and a shift of its own, as the noise level makes them."""
    torch.manual_seed(0)
    rows = (3, 12) if own else (12,)
    parts = torch.randn(3, 12, 4, 6) * 2 + 1, torch.randn(rows), torch.randn(rows)

    def plain(x, weight, bias):
        weight, bias = (part.view(-1, 12, 1, 1) for part in (weight, bias))
        y = F.group_norm(x, 4) * weight + bias
        return F.silu(y) if silu else y

    slope = torch.randn(3, 12, 4, 6)
    exact = orders(plain, [part.double() for part in parts], slope)
    ours = orders(lambda x, w, b: pictures(Norm.apply(pixels(x), w, b, 4, 1e-5, silu)), parts, slope)
    assert_same(ours, exact)
    x = parts[0].requires_grad_()  # without a second order it goes another way
    (first,) = torch.autograd.grad(pictures(Norm.apply(pixels(x), *parts[1:], 4, 1e-5, silu)), x, slope)
    assert_same([first], exact[1:2])


def test_values_and_gradients_are_those_of_attention():
    torch.manual_seed(0)
    qkv, slope = torch.randn(6, 4, 3, 8), torch.randn(6, 4, 8)  # 6 pixels, 4 heads

    def plain(qkv):
        q, k, v = qkv.unbind(2)
        share = torch.einsum("ihc,jhc->hij", q, k / 8**0.5).softmax(2)
        return torch.einsum("hij,jhc->ihc", share, v)

    exact = orders(plain, [qkv.double()], slope)
    assert_same(orders(Attention.apply, [qkv], slope), exact)
    qkv.requires_grad_()
    (first,) = torch.autograd.grad(Attention.apply(qkv), qkv, slope)
    assert_same([first], exact[1:2])


def lively(net):
    torch.manual_seed(0)
    for weight in net.parameters():
        nn.init.normal_(weight, std=0.05)
    return net


def slopes(net, *inputs):
    return torch.autograd.grad(net(*inputs).square().sum(), list(net.parameters()))


@pytest.mark.parametrize("items", [2, 30])  # few tiles by columns, many by Winograd's products
def test_a_network_is_taught_the_same_and_left_as_it_was(items, monkeypatch):
    net = lively(UNet(UNetConfig(in_channels=4, channels=(64, 96), attention=(False, True), time=32, context=8)))
    x, t, tokens = torch.randn(items, 4, 8, 8), torch.arange(items), torch.randn(items, 3, 8)
    called, convolve = [], learning.Convolution.apply
    monkeypatch.setattr(learning.Convolution, "apply", lambda *parts: called.append(parts[3]) or convolve(*parts))
    plain, truth = net(x, t, tokens), slopes(net, x, t, tokens)
    assert not called
    with quick_layers(net):
        quick = net(x, t, tokens)
        assert len(called) == 13 and (winograd in called) == (items == 30)
        assert set(net.state_dict()) == set(UNet(net.config).state_dict())
        for ours, other in zip(slopes(net, x, t, tokens), truth, strict=True):
            assert (ours - other).abs().max() < 2e-4 * other.abs().max() + 1e-4
        del called[:]
        net.double()(x.double(), t, tokens.double())
        assert not called
    net.float()(x, t, tokens)
    assert not called and not any("forward" in vars(layer) or "beside" in vars(layer) for layer in net.modules())
    torch.testing.assert_close(quick, plain, rtol=1e-3, atol=1e-4)


def test_pictures_that_grow_beyond_the_small_ones_and_back():
    """Shuffles, norms alone, and layers that get large pictures, in a chain."""
    net = lively(nn.Sequential(to_picture(8, 3, 48, 2, (64, 16)), to_vector(3, 48, 2, (16, 64, 32), 8)))
    x = torch.randn(3, 8)
    truth = [net(x), *slopes(net, x)]
    with quick_layers(net):
        ours = [net(x), *slopes(net, x)]
    for one, other in zip(ours, truth, strict=True):
        assert (one - other).abs().max() < 2e-4 * other.abs().max()
