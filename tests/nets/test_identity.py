import math

import pytest
import torch
import torch.nn.functional as F

from minidiff.nets.identity import Acquaintances, IdentityConfig, IdentityNet, angular_margin

SMALL = IdentityConfig(channels=1, size=16, patch=2, widths=(8, 16), features=4)


def test_unit_vectors_that_do_not_depend_on_the_batch():
    torch.manual_seed(0)
    net, images = IdentityNet(SMALL), torch.rand(5, 1, 16, 16) * 2 - 1
    vectors = net(images)
    assert vectors.shape == (5, 4)
    torch.testing.assert_close(vectors.norm(dim=1), torch.ones(5))
    torch.testing.assert_close(net(images[2:4]), vectors[2:4])
    assert (vectors[0] - vectors[1]).abs().max() > 1e-3


def test_another_shape_is_refused():
    with pytest.raises(ValueError, match=r"images: this identity network sees \(B, 1, 16, 16\), got \(2, 3, 16, 16\)"):
        IdentityNet(SMALL)(torch.zeros(2, 3, 16, 16))
    with pytest.raises(ValueError, match=r"size: expected a multiple of 4 \(patch 2, 2 widths\), got 18"):
        IdentityConfig(size=18, patch=2, widths=(8, 16))


def test_the_margin_by_hand():
    """Angles of 60 and 90 degrees and a margin of 30: the right one counts as 90, cos 0, or as 120, cos -1/2."""
    cosines = torch.tensor([[0.5, 0.0], [0.5, 0.0]])
    loss = angular_margin(cosines, torch.tensor([0, 1]), math.pi / 6, scale=2.0)
    assert loss.tolist() == pytest.approx([math.log(2), math.log(1 + math.exp(2 * 1.0))], abs=1e-5)


def test_without_a_margin_it_is_a_softmax_of_cosines():
    cosines, who = torch.rand(6, 5) * 1.8 - 0.9, torch.arange(6) % 5
    plain = F.cross_entropy(7 * cosines, who, reduction="none")
    torch.testing.assert_close(angular_margin(cosines, who, 0.0, 7.0), plain, atol=1e-5, rtol=1e-4)


def test_the_loss_never_falls_as_the_angle_grows_and_has_a_slope_everywhere():
    cosines = torch.stack([torch.linspace(1, -1, 400), torch.zeros(400)], dim=1).requires_grad_()
    loss = angular_margin(cosines, torch.zeros(400, dtype=torch.long), 0.5, 10.0)
    assert loss.diff().min() >= -1e-5 and loss[-1] > loss[0] + 5
    (slope,) = torch.autograd.grad(loss.sum(), cosines)
    assert slope.isfinite().all()


def test_it_learns_three_individuals_to_beyond_the_margin():
    torch.manual_seed(0)
    who = torch.arange(24) % 3
    images = 0.3 * torch.randn(24, 1, 16, 16) + torch.linspace(-0.6, 0.6, 3)[who, None, None, None]
    training = Acquaintances(IdentityNet(SMALL), 3)
    torch.testing.assert_close(training.centers.norm(dim=1), torch.ones(3))
    optimizer = torch.optim.AdamW(training.parameters(), 1e-2)
    for _ in range(60):
        loss = angular_margin(training(images), who, 0.3, 10.0).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    cosines = training(images)
    assert cosines.shape == (24, 3) and cosines.abs().max() <= 1 + 1e-5
    right = cosines.gather(1, who[:, None]).acos()
    wrong = cosines.scatter(1, who[:, None], -1.0).amax(1, keepdim=True).acos()
    assert ((right + 0.3) < wrong).float().mean() > 0.9
