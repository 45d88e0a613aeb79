import pytest
import torch

from minidiff.nets.discriminator import Discriminator, adaptive_weight, displeasure, hinge


@pytest.mark.parametrize(("images", "answers"), [((2, 3, 64, 64), (2, 1, 16, 16)), ((1, 1, 16, 40), (1, 1, 4, 10))])
def test_one_answer_per_patch(images, answers):
    assert Discriminator(images[1])(torch.rand(images)).shape == answers


def test_an_answer_sees_24_pixels_of_its_own_picture():
    torch.manual_seed(0)
    images = torch.randn(2, 3, 64, 64, requires_grad=True)
    Discriminator()(images)[0, 0, 8, 5].backward()
    seen = images.grad.abs().sum(1) > 0  # (2, 64, 64)
    rows, columns = seen[0].any(1).nonzero().flatten(), seen[0].any(0).nonzero().flatten()
    assert (rows.min(), rows.max()) == (32 - 10, 35 + 10) and (columns.min(), columns.max()) == (20 - 10, 23 + 10)
    assert not seen[1].any()


def test_hinge_by_hand():
    real = torch.tensor([[2.0, 0.5], [1.0, 1.0]])[:, None, None]  # (2, 1, 1, 2)
    fake = torch.tensor([[-3.0, 0.0], [-1.0, -1.0]])[:, None, None]
    # First item: real 0 and 0.5, fake 0 and 1; half of the sum of the means. Second: nothing left to learn.
    assert hinge(real, fake).tolist() == [0.5 * (0.25 + 0.5), 0.0]


def test_displeasure_teaches_the_pictures_alone():
    torch.manual_seed(0)
    discriminator, pictures = Discriminator(1, 8), torch.randn(2, 1, 8, 8, requires_grad=True)
    loss = displeasure(discriminator, pictures)
    assert torch.allclose(loss, -discriminator(pictures).mean((1, 2, 3)))
    loss.sum().backward()
    assert pictures.grad.abs().max() > 0 and all(weight.grad is None for weight in discriminator.parameters())


def test_adaptive_weight_in_closed_form():
    last = torch.tensor([3.0, 4.0], requires_grad=True)
    nll, g = last.square().sum(), 0.5 * last.sum()  # gradients (6, 8) and (0.5, 0.5)
    weight = adaptive_weight(nll, g, last)
    assert weight.item() == pytest.approx(10 / (0.5**0.5 + 1e-4), rel=1e-6) and not weight.requires_grad
    (nll + weight * g).backward()  # the graph is still there
    assert last.grad.tolist() == pytest.approx([6 + 0.5 * weight.item(), 8 + 0.5 * weight.item()])


@pytest.mark.parametrize(("strength", "expected"), [(0.0, 1e4), (1e-9, 1e4), (1e9, 1e-8)])
def test_adaptive_weight_has_a_limit(strength, expected):
    last = torch.tensor([3.0, 4.0], requires_grad=True)
    weight = adaptive_weight(last.square().sum(), strength * last[0], last)
    assert weight.item() == pytest.approx(expected, rel=1e-5)


def test_it_learns_to_tell_sharp_from_blurred():
    torch.manual_seed(0)
    discriminator, real = Discriminator(1, 8), torch.randn(16, 1, 16, 16)
    fake = torch.nn.functional.avg_pool2d(real, 3, 1, 1)
    optimizer = torch.optim.Adam(discriminator.parameters(), 3e-3)
    for _ in range(60):
        loss = hinge(discriminator(real), discriminator(fake)).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert loss < 0.1 and discriminator(real).mean() > 0.5 > -0.5 > discriminator(fake).mean()
