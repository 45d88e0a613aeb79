"""The game in closed form: who learns what from it, and how slopes are measured."""

import pytest
import torch
from torch import nn

from minidiff.nets.critic import Critic, duel, slope


class Linear(nn.Module):
    """Answers weight . x: its slope is |weight|^2 everywhere."""

    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.tensor([1.0, -2.0]))

    def forward(self, x):
        return x.flatten(1) @ self.weight


def test_the_losses_by_hand():
    critic = Linear()
    real, made = (
        torch.tensor([[3.0, 1.0], [0.0, 0.0]])[..., None, None],
        torch.tensor([[0.0, 0.0], [2.0, 0.0]])[..., None, None],
    )
    margin = torch.tensor([1.0, -2.0])  # answer to the real one less that to the made one
    pleas, lesson = duel(critic, real, made, gamma=0.6)
    torch.testing.assert_close(pleas, (1 + margin.exp()).log())
    torch.testing.assert_close(lesson, (1 + (-margin).exp()).log() + 0.3 * (5 + 5))  # |weight|^2 = 5 at both


def test_each_player_learns_from_its_own_loss():
    torch.manual_seed(0)
    critic, real = Critic(2, 8, 2, (4, 8)), torch.randn(3, 2, 8, 8)
    made = torch.randn(3, 2, 8, 8, requires_grad=True)
    for block in critic.blocks:
        nn.init.normal_(block.conv2.weight, std=0.1)
    pleas, lesson = duel(critic, real, made, gamma=1.0)
    (wish,) = torch.autograd.grad(pleas.sum(), made, retain_graph=True)
    assert (wish.flatten(1).norm(dim=1) > 0).all()
    assert torch.autograd.grad(lesson.sum(), made, retain_graph=True, allow_unused=True) == (None,)
    weights = list(critic.parameters())
    assert all(
        gradient is None for gradient in torch.autograd.grad(pleas.sum(), weights, retain_graph=True, allow_unused=True)
    )
    lessons = torch.autograd.grad(lesson.sum(), weights, allow_unused=True)
    assert all(gradient is not None for gradient in lessons[:-1])  # the last bias moves real and made alike
    after = critic(made - 0.01 * wish)
    assert (after > critic(made)).all()  # following the wish, what is made looks more real


def test_slope_is_differentiable():
    x = torch.tensor([[1.0, 2.0], [0.5, 0.0]], requires_grad=True)
    weight = torch.tensor(3.0, requires_grad=True)
    found = slope(weight * x.square().sum(1), x)  # (2 w x)^2
    torch.testing.assert_close(found, 36 * x.square().sum(1))
    found.sum().backward()
    torch.testing.assert_close(weight.grad, 8 * 3 * x.square().sum())


@torch.no_grad()
def test_a_critic_judges_items_alone_and_hears_what_it_is_told():
    torch.manual_seed(0)
    critic, x = Critic(4, 8, 1, (4, 8), time=6), torch.randn(3, 2, 8, 8)
    for block in critic.blocks:
        nn.init.normal_(block.conv2.weight, std=0.1)
    beside, t = torch.randn(3, 2, 8, 8), torch.tensor([0, 500, 999])
    answers = critic(x, beside, t)
    assert answers.shape == (3,)
    torch.testing.assert_close(critic(x[1:2], beside[1:2], t[1:2]), answers[1:2])
    assert (critic(x, beside, t.flip(0))[[0, 2]] != answers[[0, 2]]).all() and (critic(x, -beside, t) != answers).all()


def test_it_learns_to_tell_sharp_from_blurred():
    torch.manual_seed(0)
    critic, real = Critic(1, 16, 2, (8, 16)), torch.randn(16, 1, 16, 16)
    made = torch.nn.functional.avg_pool2d(real, 3, 1, 1)
    optimizer = torch.optim.Adam(critic.parameters(), 3e-3)
    for _ in range(40):
        loss = duel(critic, real, made, gamma=0.01)[1].mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert (critic(real) - critic(made)).min() > 1


def test_sizes_that_cannot_be_halved_are_refused():
    with pytest.raises(ValueError, match=r"size: expected a multiple of 4 \(patch 2, 2 widths\), got 10"):
        Critic(3, 10, 2, (4, 8))
