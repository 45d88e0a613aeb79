"""The flow's volume against the Jacobian itself, its inverse to the last digits, its likelihood where it is known."""

import math

import pytest
import torch

from minidiff.nets.flow import LIMIT, FlowConfig, FlowNetwork, FlowStep

SMALL = FlowConfig(channels=2, steps=2, widths=(6, 6))


def awake(config=SMALL, std=0.3):
    """A flow none of whose parts does nothing, in float64."""
    torch.manual_seed(0)
    net = FlowNetwork(config).double()
    for weight in net.parameters():
        if not weight.any():
            torch.nn.init.normal_(weight, std=std)
    return net.requires_grad_(False)


def test_the_volume_is_that_of_the_jacobian():
    net, x = awake(), torch.randn(2, 2, 4, 6, dtype=torch.float64)
    _, logdet = net(x)
    for item, expected in zip(x, logdet):
        jacobian = torch.autograd.functional.jacobian(lambda y: net(y[None])[0].flatten(), item)
        sign, found = torch.linalg.slogdet(jacobian.flatten(1))
        assert abs(sign) == 1 and found.item() == pytest.approx(expected.item(), abs=1e-9)
    assert logdet.abs().min() > 0.1


@pytest.mark.parametrize(("dtype", "bound"), [(torch.float64, 1e-12), (torch.float32, 1e-4)])
def test_the_inverse_is_exact(dtype, bound):
    """For a flow that stretches little: errors grow as it does (Behrmann et al., AISTATS 2021)."""
    net = awake(FlowConfig(channels=4, steps=4, widths=(16, 16)), std=0.1).to(dtype)
    x = torch.randn(3, 4, 8, 8, dtype=dtype)
    code, logdet = net(x)
    assert (code - x).abs().max() > 0.5 and logdet.abs().min() > 1
    assert (net.inverse(code) - x).abs().max() < bound
    assert (net(net.inverse(x))[0] - x).abs().max() < bound


def test_a_step_mixes_by_a_rotation_and_keeps_half_of_what_it_mixed():
    torch.manual_seed(0)
    step = FlowStep(6, 8).double()
    rotation = step.rotation()
    torch.testing.assert_close(rotation @ rotation.T, torch.eye(6, dtype=torch.float64))
    assert torch.linalg.det(rotation).item() == pytest.approx(1)
    x = torch.randn(2, 6, 4, 4, dtype=torch.float64)
    y, logdet = step(x)  # new: it couples nothing
    torch.testing.assert_close(y.square().sum(1), x.square().sum(1))
    assert logdet.tolist() == [0, 0]
    torch.nn.init.normal_(step.network[-1].weight, std=100.0)
    log_scale, _ = step.coupling(y[:, :3])
    assert log_scale.abs().max() <= LIMIT and torch.equal(step(x)[0][:, :3], y[:, :3])


def test_the_likelihood_of_a_scaled_gaussian():
    """With log scale a and shift b in one step, and nothing else, x ~ N(-b, e^-2a)."""
    net = FlowNetwork(SMALL).double()
    torch.nn.init.constant_(net.fine[0].log_scale, 0.4)
    torch.nn.init.constant_(net.fine[0].shift, -1.5)
    x = torch.randn(5, 2, 4, 4, dtype=torch.float64)
    expected = torch.distributions.Normal(1.5, torch.tensor(-0.4).exp()).log_prob(x)
    torch.testing.assert_close(net.nats(x), -expected.flatten(1).sum(1), rtol=1e-6, atol=1e-6)


def test_it_learns_a_bent_distribution():
    """x_2 = (x_1^2 - 1) / 2 + 0.1 n: the best flow without couplings has 1.25 nats a number, as x_2 has variance 0.51."""

    def draw(count):
        x_1, n = torch.randn(2, count, 1, 2, 2)
        return torch.cat([x_1, (x_1.square() - 1) / 2 + 0.1 * n], dim=1)

    torch.manual_seed(0)
    net = FlowNetwork(FlowConfig(channels=2, steps=2, widths=(16, 16)))
    adam = torch.optim.Adam(net.parameters(), 1e-2)
    for _ in range(150):
        adam.zero_grad()
        net.nats(draw(32)).mean().backward()
        adam.step()
    gaussian = 0.5 * (1 + math.log(2 * math.pi))  # nats of a standard normal number, and of n but for log 0.1
    best = gaussian + 0.5 * math.log(0.1)  # 0.27
    assert best - 0.1 < net.nats(draw(500)).mean().item() / 8 < gaussian + 0.25 * math.log(0.51) - 0.2


def test_every_place_sees_every_other():
    net, x = awake(FlowConfig(channels=4, steps=4, widths=(8, 8))), torch.randn(1, 4, 8, 8, dtype=torch.float64)
    moved = x.clone()
    moved[0, :, 0, 0] += 1
    change = (net(moved)[0] - net(x)[0]).abs().sum(1)[0]
    assert change[-1, -1] > 0 and (net.inverse(moved) - net.inverse(x)).abs().sum(1)[0, -1, -1] > 0


def test_bad_input():
    for x in (torch.zeros(1, 3, 4, 4), torch.zeros(1, 2, 5, 4), torch.zeros(2, 4, 4)):
        for way in (FlowNetwork(SMALL), FlowNetwork(SMALL).inverse):
            with pytest.raises(ValueError, match=r"x: expected \(B, 2, H, W\), H and W even, got"):
                way(x)
    with pytest.raises(ValueError, match="channels: expected an even number, .* got 3"):
        FlowConfig(channels=3)
    assert sum(weight.numel() for weight in FlowNetwork().parameters()) < 3e6
