import pytest
import torch

from minidiff.nets.unet import UNet, UNetConfig

SMALL = UNetConfig(in_channels=2, channels=(32, 64), attention=(False, True), time=16)


@pytest.mark.parametrize(
    ("config", "shape"),
    [
        (UNetConfig(), (2, 8, 8, 8)),
        (SMALL, (1, 2, 4, 10)),
        (UNetConfig(in_channels=3, channels=(32,), attention=(True,)), (1, 3, 5, 7)),
        (UNetConfig(in_channels=1, channels=(32, 32, 64), attention=(False, True, True)), (1, 1, 8, 16)),
        (UNetConfig(in_channels=3, channels=(32, 64), attention=(False, True), patch=4), (2, 3, 16, 8)),
    ],
)
def test_shape_out_is_shape_in_and_a_new_network_says_zero(config, shape):
    out = UNet(config)(torch.randn(shape), torch.arange(shape[0]))
    assert out.shape == shape and torch.equal(out, torch.zeros(shape))


def test_other_channels_out():
    net = UNet(UNetConfig(in_channels=5, out_channels=2, channels=(32,), attention=(False,)))
    assert net(torch.randn(1, 5, 4, 4), torch.tensor([0])).shape == (1, 2, 4, 4)


def awake(config: UNetConfig) -> UNet:
    """A network none of whose layers is zero, so that everything can have an effect."""
    torch.manual_seed(0)
    net = UNet(config)
    for weight in net.parameters():
        torch.nn.init.normal_(weight, std=0.1)
    return net


@torch.no_grad()
def test_time_matters_and_items_do_not_mix():
    net, x = awake(SMALL), torch.randn(3, 2, 8, 8)
    t = torch.tensor([0, 500, 999])
    out = net(x, t)
    assert torch.allclose(out[1:2], net(x[1:2], t[1:2]), atol=1e-4)
    assert torch.allclose(out, net(x, t.float()), atol=1e-6)
    assert not torch.allclose(out[1:2], net(x[1:2], torch.tensor([501])), atol=1e-4)


@torch.no_grad()
def test_every_place_sees_every_other():
    net, x = awake(SMALL), torch.randn(1, 2, 16, 16)
    moved = x.clone()
    moved[0, 0, 0, 0] += 10
    change = (net(moved, torch.tensor([5])) - net(x, torch.tensor([5]))).abs()
    assert change[0, :, -1, -1].max() > 0


def test_every_weight_gets_a_gradient():
    net = awake(SMALL)
    net(torch.randn(2, 2, 8, 8), torch.tensor([1, 2])).square().mean().backward()
    assert all(weight.grad is not None and weight.grad.abs().sum() > 0 for weight in net.parameters())


def test_one_batch_can_be_learned_by_heart():
    torch.manual_seed(0)
    net, x, y = UNet(SMALL), torch.randn(4, 2, 8, 8), torch.randn(4, 2, 8, 8)
    optimizer = torch.optim.AdamW(net.parameters(), 3e-3)
    for _ in range(60):
        loss = (net(x, torch.arange(4)) - y).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert loss < 0.05


@pytest.mark.parametrize("shape", [(1, 3, 8, 8), (1, 2, 7, 8), (2, 8, 8)])
def test_inputs_that_do_not_fit_are_refused(shape):
    with pytest.raises(ValueError, match=r"x: expected \(B, 2, H, W\) with H and W multiples of 2"):
        UNet(SMALL)(torch.zeros(shape), torch.zeros(1))


def test_other_bad_input():
    with pytest.raises(ValueError, match=r"t: expected one time per item, shape \(2,\), got \(1,\)"):
        UNet(SMALL)(torch.zeros(2, 2, 8, 8), torch.zeros(1))
    with pytest.raises(ValueError, match="attention: expected one flag for each of channels"):
        UNetConfig(channels=(32, 64), attention=(True,))
    with pytest.raises(ValueError, match="patch: expected a side of at least 1, got 0"):
        UNetConfig(patch=0)
    with pytest.raises(ValueError, match="maps: a network that sees patches takes none, got 3 and patch 2"):
        UNetConfig(maps=3, patch=2)
