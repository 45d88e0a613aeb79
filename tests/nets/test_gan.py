"""The synthesis against its definition, item by item; truncation; what the mean style is."""

import dataclasses

import pytest
import torch
import torch.nn.functional as F

from minidiff.nets.gan import GANConfig, GANNetwork, Modulated

SMALL = GANConfig(3, 16, code=6, depth=2, widths=(16, 8), patch=2)


@pytest.fixture
def net():
    torch.manual_seed(0)
    return GANNetwork(SMALL).requires_grad_(False)


@pytest.mark.parametrize("kernel", [1, 3])
def test_modulation_scales_and_divides_the_weights_of_each_item(kernel):
    """Karras et al. (2020), equations 1 and 3, with weights made for each item."""
    torch.manual_seed(0)
    layer, x, w = Modulated(4, 5, kernel, 6).double(), torch.randn(3, 4, 8, 8).double(), torch.randn(3, 6).double()
    torch.nn.init.normal_(layer.bias)
    for item, style, found in zip(x, w, layer(x, w)):
        weight = layer.weight * layer.style(style)[:, None, None]
        weight = weight / (weight.square().sum((1, 2, 3), keepdim=True) + 1e-8).sqrt()
        y = F.conv2d(item[None], weight, layer.bias, padding=kernel // 2)
        torch.testing.assert_close(found, 2**0.5 * F.leaky_relu(y, 0.2)[0])


def test_shapes_and_size(net):
    assert net(torch.randn(2, 6)).shape == (2, 3, 16, 16)
    default = GANNetwork()
    assert default(torch.randn(1, 128)).shape == (1, 8, 8, 8)
    assert sum(weight.numel() for weight in default.parameters()) < 3e6
    with pytest.raises(ValueError, match=r"size: expected a multiple of 4 \(patch 2, 2 widths\), got 18"):
        GANNetwork(dataclasses.replace(SMALL, size=18))


def test_a_new_mapping_keeps_codes_apart():
    torch.manual_seed(0)
    net = GANNetwork().requires_grad_(False)
    styles = net.mapping(torch.randn(1000, 128))
    assert 0.7 < styles.std(0).mean() < 1.2
    assert 0.7 < net.see[0].style(styles).std(0).mean() < 1.3


def test_truncation_draws_styles_towards_their_mean(net):
    code = torch.randn(5000, 6, generator=torch.Generator().manual_seed(1))
    net.fit_center()
    error = net.mapping(code).std(0) / 5000**0.5
    assert ((net.mapping(code).mean(0) - net.center) / error).abs().max() < 5
    code = code[:4]
    assert torch.equal(net(code), net.synthesis(net.center + 1.0 * (net.mapping(code) - net.center)))
    average = net.synthesis(net.center[None])
    torch.testing.assert_close(net(code, psi=0.0), average.expand(4, -1, -1, -1))
    spread = [net(code, psi).std(0).mean().item() for psi in (0.0, 0.5, 1.0)]
    assert spread[0] < 1e-5 < spread[1] < spread[2]
    torch.testing.assert_close(net(code, 0.5), net.synthesis((net.center + net.mapping(code)) / 2))
